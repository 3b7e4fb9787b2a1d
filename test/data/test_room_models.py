"""Furniture meshes: exact hits, the converter of libraries, the cache, placement, determinism, split."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from gld_ros.data.rooms import RenderConfig, render_depth, render_scene, render_view
from gld_ros.data.rooms.layout import LayoutConfig, random_room
from gld_ros.data.rooms.meshes import build, hit_mesh, join
from gld_ros.data.rooms.motion import look_at
from gld_ros.data.rooms.render import textures_of
from gld_ros.data.rooms.scene import SceneBuilder
from gld_ros.data.rooms.shards import write_shards
from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera

TOOLS = Path(__file__).parents[2] / "tools"
SQUARES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
CATALOG = "\n".join(
    f"{key}#{number}={value}"
    for number, (name, category, size) in enumerate(
        (("Chair", "Office", (40, 50, 90)), ("Cupboard", "Bedroom", (120, 50, 180)), ("Cup", "Kitchen", (10, 8, 12)),
         ("Car", "Vehicles", (180, 400, 150))), 1)
    for key, value in {
        "id": f"x#{name}", "name": name, "category": category, "model": "/x/cube.obj", "width": size[0],
        "depth": size[1], "height": size[2], "creator": "Ann", "doorOrWindow": "false",
    }.items()
)  # fmt: skip


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("furniture_models", TOOLS / "furniture_models.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["furniture_models"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["furniture_models"]


def write_library(path: Path, material: str = "", alpha: int = 255) -> Path:
    """A library with one cube: y is up, and its +z side, the front, has a red picture."""
    points = [f"v {x} {y} {z}" for x in (0, 2) for y in (0, 6) for z in (0, 4)]
    lines = ["mtllib cube.mtl", *points, "vt 0 0", "vt 1 0", "vt 1 1", "vt 0 1"]
    for square in SQUARES:
        lines.append("usemtl " + ("front" if set(square) == {1, 3, 5, 7} else "body"))
        lines.append("f " + " ".join(f"{p + 1}/{k + 1}" for k, p in enumerate(square)))
    image = np.full((8, 8, 4), (0, 0, 255, alpha), np.uint8)
    with zipfile.ZipFile(path, "w") as library:
        library.writestr("PluginFurnitureCatalog.properties", CATALOG)
        library.writestr("x/cube.obj", "\n".join(lines))
        library.writestr("x/cube.mtl", f"newmtl body\nKd 0 0.8 0\n{material}\nnewmtl front\nKd 1 1 1\nmap_Kd red.png\n")
        library.writestr("x/red.png", cv2.imencode(".png", image)[1].tobytes())
    return path


@pytest.fixture(scope="module")
def cache(tool, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("furniture")
    models = list(tool.models_of(write_library(folder / "Scopia.sh3f")))
    for model in models:
        model.is_test = model.name == "x#Cup"
    np.savez(folder / "furniture.npz", **tool.pack(models))
    return folder / "furniture.npz"


def config(cache: Path, **more) -> RenderConfig:
    return RenderConfig(texture_size=32, furniture=str(cache), layout=LayoutConfig(models=1.0), **more)


def camera_at(position, target):
    k = np.array([[60.0, 0, 24], [0, 60.0, 18], [0, 0, 1]])
    return Camera(49, 37, k, look_at(np.array(position, float), np.array(target, float)))


def test_tree_finds_what_brute_force_finds():
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.8, 0.8, (300, 1, 3)) + rng.uniform(-0.2, 0.2, (300, 3, 3))
    rest = np.ones((300, 3, 3)), np.zeros((300, 3, 2)), np.zeros(300)
    whole = build(corners, *rest)
    single = join([build(corners[i : i + 1], *(r[i : i + 1] for r in rest)) for i in range(300)])
    hits = 0
    for _ in range(200):
        o = rng.uniform(-1.5, 1.5, 3)
        d = rng.uniform(-0.7, 0.7, 3) - o
        fast, _ = hit_mesh(*whole[:6], 0, *o, *d, 1e-4, 1e30)
        slow = min(hit_mesh(*single[:6], i, *o, *d, 1e-4, 1e30)[0] for i in range(300))
        assert fast == pytest.approx(slow, rel=1e-6)
        hits += fast < 1e30
    assert 50 < hits < 200


def test_library_is_read_with_size_place_front_and_credit(tool, cache):
    models = list(tool.models_of(cache.with_name("Scopia.sh3f")))
    assert [(m.name, m.place) for m in models] == [("x#Chair", "floor"), ("x#Cupboard", "wall"), ("x#Cup", "top")]
    chair = models[0]
    assert chair.size_m == (0.4, 0.5, 0.9)
    assert np.abs(chair.corners).max((0, 1)) == pytest.approx([1, 1, 1])
    front = [i for i, image in enumerate(chair.pictures) if image is not None]
    assert chair.corners[np.isin(chair.part, front)][..., 1] == pytest.approx(-1)  # towards -y
    assert (chair.pictures[front[0]] == (255, 0, 0)).all()
    outward = (chair.normals * chair.corners).sum(-1)
    assert outward.min() > 0.99  # a cube's edges stay sharp
    assert chair.credit == "Chair by Ann (Scopia, CC-BY 3.0)"


@pytest.mark.parametrize("change", [{"material": "d 0.1"}, {"alpha": 0}])
def test_glass_and_cut_out_models_are_left_out(tool, tmp_path, change):
    assert list(tool.models_of(write_library(tmp_path / "Scopia.sh3f", **change))) == []


def test_many_triangles_are_merged(tool, monkeypatch):
    side = np.linspace(0, 1, 60)
    points = np.array([(x, y, 0.1 * np.sin(9 * x)) for x in side for y in side])
    square = np.array([(i * 60 + j, i * 60 + j + 1, i * 60 + j + 61) for i in range(59) for j in range(59)])
    points, faces, rows = tool.reduce(points, square, np.zeros(len(square), int))
    assert 200 < len(faces) <= tool.MOST_TRIANGLES < len(square)
    assert len(rows) == len(faces)
    monkeypatch.setattr(tool, "MOST_TRIANGLES", 20)
    assert tool.reduce(points, faces, np.zeros(len(faces), int)) is None  # nothing of its shape would be left


def test_model_fills_its_box_and_shows_its_colours(cache):
    textures = textures_of(config(cache))
    builder = SceneBuilder(textures, np.random.default_rng(0), (4.0, 3.0, 2.5), model_share=1.0)
    builder.material("plain")
    with builder.at(2.0, 1.5, np.pi / 2):  # -y of the model looks to +x
        builder.model(int(textures.models.places["wall"][0]), (1.2, 0.5, 1.8))
    builder.light((3.5, 1.5, 2.2), (0.1, 0, 0), (0, -0.1, 0), (20, 20, 20), bulb=True)
    scene = builder.pack()
    front, back = camera_at((3.5, 1.5, 1.0), (0, 1.5, 1.0)), camera_at((0.5, 1.5, 1.0), (4, 1.5, 1.0))
    assert render_depth(scene, front)[18, 24] == pytest.approx(1.25, abs=1e-4)
    assert render_depth(scene, camera_at((2.0, 0.2, 1.0), (2, 3, 1.0)))[18, 24] == pytest.approx(0.7, abs=1e-4)
    for bounces in (0, 1):
        red, green = (render_view(scene, c, 2, bounces)[0][18, 24] for c in (front, back))
        assert red[0] > 3 * red[1]
        assert green[1] > 3 * green[0]


def test_rooms_hold_models_of_their_split_and_repeat(cache):
    for split, sizes in (("train", 2), ("test", 1)):
        textures = textures_of(config(cache, photo_split=split))
        assert len(textures.models.size_m) == sizes
        rooms = [random_room(seed, textures, LayoutConfig(models=1.0)) for seed in range(4)]
        assert any(len(room.meshes.root) for room in rooms)
    a, b = (render_scene(2, 2, 32, 24, config(cache)) for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a.rgb + a.depth, b.rgb + b.depth, strict=True))


def test_share_of_models_is_obeyed(cache):
    textures = textures_of(config(cache))
    assert len(random_room(1, textures, LayoutConfig(models=0.0)).meshes.root) == 0


def test_dataset_with_models_is_another_one(cache, tmp_path):
    write_shards(tmp_path, 0, 1, 1, 16, 16, config(cache))
    with pytest.raises(GldError, match="another configuration"):
        write_shards(tmp_path, 0, 1, 1, 16, 16, RenderConfig(texture_size=32))


def test_missing_or_wrong_cache_is_said(tmp_path):
    with pytest.raises(GldError, match="fetch_assets --furniture"):
        render_scene(1, 1, 16, 12, config(tmp_path / "none.npz"))
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    with pytest.raises(GldError, match="not a furniture cache"):
        render_scene(1, 1, 16, 12, config(tmp_path / "other.npz"))
