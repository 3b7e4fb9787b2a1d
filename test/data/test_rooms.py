"""Procedural rooms: exact geometry, determinism, camera effects, scene folders, shards, the frozen test set."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from gld_ros.cli.main import main
from gld_ros.data.rooms import RenderConfig, frozen, render_depth, render_scene, render_view, shards
from gld_ros.data.rooms.layout import random_room
from gld_ros.data.rooms.motion import MotionConfig, look_at
from gld_ros.data.rooms.render import textures_of
from gld_ros.data.rooms.scene import SceneBuilder
from gld_ros.data.rooms.sensor import CLEAN, SensorConfig, develop
from gld_ros.data.rooms.shards import RoomShards, write_shards
from gld_ros.data.rooms.textures import make_textures
from gld_ros.errors import GldError, SceneError
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.forward_warp import forward_warp

SMALL = RenderConfig(texture_size=32)
ROOT = Path(__file__).parents[2]
torch = pytest.importorskip("torch")


def camera_at(position, target, width=48, height=36, focal=40.0):
    k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    return Camera(width, height, k, look_at(np.array(position, float), np.array(target, float)))


def empty_room():
    builder = SceneBuilder(textures_of(SMALL), np.random.default_rng(0), (4.0, 3.0, 2.5))
    builder.material("plain")
    return builder


def test_depth_of_a_facing_wall_is_its_distance_everywhere():
    depth = render_depth(empty_room().pack(), camera_at((1.0, 1.5, 1.2), (4.0, 1.5, 1.2), focal=60.0))
    assert np.allclose(depth, 3.0, atol=1e-5)


def test_depth_of_a_turned_box_matches_its_corner():
    builder = empty_room()
    builder.box((2.0 - 0.5, 1.5 - 0.5, 0.0), (2.5, 2.0, 2.0), 0, yaw=np.pi / 4)
    depth = render_depth(builder.pack(), camera_at((0.5, 1.5, 1.0), (4.0, 1.5, 1.0), 49, 37, 60.0))
    assert depth[18, 24] == pytest.approx(1.5 - 0.5 * np.sqrt(2), abs=1e-5)


@pytest.mark.parametrize("kind", ["ellipsoid", "cylinder"])
def test_depth_of_round_things(kind):
    builder = empty_room()
    if kind == "ellipsoid":
        builder.ellipsoid((2.0, 1.5, 1.0), (0.3, 0.4, 0.5), 0)
    else:
        builder.cylinder(2.0, 1.5, 0.0, 2.0, 0.3, 0)
    depth = render_depth(builder.pack(), camera_at((0.5, 1.5, 1.0), (4.0, 1.5, 1.0), 49, 37, 60.0))
    assert depth[18, 24] == pytest.approx(1.2, abs=1e-5)


def test_tree_finds_what_brute_force_finds():
    scene = random_room(3, textures_of(SMALL))
    camera = camera_at((scene.room[1] / 2, scene.room[3] / 2, 1.3), (0.1, 0.2, 0.9))
    flat = SceneBuilder(scene.textures, np.random.default_rng(0))
    depth = render_depth(scene, camera)
    nearest = np.full_like(depth, np.inf)
    for i in range(len(scene.prims)):
        flat.prims, flat.mats, flat.gates, flat.table = [list(scene.prims[i])], [[0] * 6], [0], [[0] * 7]
        flat.room = tuple(scene.room[[1, 3, 5]])
        nearest = np.minimum(nearest, render_depth(flat.pack(), camera))
    assert np.allclose(depth, nearest, rtol=1e-5)


def test_same_seed_same_scene_and_other_seed_another():
    a, b, c = (render_scene(seed, 2, 32, 24, SMALL) for seed in (5, 5, 6))
    assert all(np.array_equal(x, y) for x, y in zip(a.rgb + a.depth, b.rgb + b.depth, strict=True))
    assert np.array_equal(a.cameras[1].world_from_cam, b.cameras[1].world_from_cam)
    assert not np.array_equal(a.rgb[0], c.rgb[0])


def test_threads_do_not_change_the_picture():
    config = RenderConfig(texture_size=32, samples=2, bounces=1)
    a, b = (render_scene(7, 2, 32, 24, config, threads=n) for n in (1, 2))
    assert all(np.array_equal(x, y) for x, y in zip(a.rgb, b.rgb, strict=True))


@pytest.mark.parametrize("motion", ["orbit", "drive"])
def test_views_reproject_onto_each_other(motion):
    config = RenderConfig(texture_size=32, samples=3, sensor=CLEAN, motion=MotionConfig(motion, (0.1, 0.15)))
    scene = render_scene(11, 2, 96, 72, config)
    rgb = torch.from_numpy(np.stack(scene.rgb)).permute(0, 3, 1, 2).float().unsqueeze(0) / 255
    depth = torch.from_numpy(np.stack(scene.depth)).unsqueeze(0)
    K = torch.from_numpy(np.stack([c.K for c in scene.cameras])).unsqueeze(0)
    pose = torch.from_numpy(np.stack([c.world_from_cam for c in scene.cameras])).unsqueeze(0)
    moved = forward_warp(rgb[:, :1], depth[:, :1], K[:, :1], pose[:, :1], K[:, 1:], pose[:, 1:])
    error = (moved.rgb - rgb[:, 1:]).abs().mean(2)[moved.coverage]
    assert moved.coverage.float().mean() > 0.5
    assert error.median() < 0.03
    relative = ((moved.depth - depth[:, 1:]).abs() / depth[:, 1:])[moved.coverage]
    assert relative.median() < 0.01


def test_pictures_are_lit_and_finite():
    scene = random_room(21, textures_of(SMALL))
    for bounces in (0, 2):
        rgb, depth = render_view(
            scene, camera_at((scene.room[1] / 2, scene.room[3] / 2, 1.4), (0.3, 0.3, 0.8)), 2, bounces
        )
        assert np.isfinite(rgb).all()
        assert np.isfinite(depth).all()
        assert rgb.mean() > 0.02


def test_camera_effects_change_views_of_a_scene_and_clean_does_not():
    light = [np.full((16, 16, 3), 0.3, np.float32)] * 2
    clean = develop(light, 1, CLEAN)
    assert np.array_equal(clean[0], clean[1])
    dirty = develop(light, 1, SensorConfig(exposure_jitter_stops=0.5))
    assert abs(float(dirty[0].mean()) - float(dirty[1].mean())) > 1


def test_command_writes_a_scene_folder(tmp_path):
    out = tmp_path / "room"
    code = main(["rooms", "render", "--seed", "3", "--views", "4", "--size", "48", "36", "--quality", "training",
                 "--texture-size", "32", "--out", str(out)])  # fmt: skip
    assert code == 0
    scene = json.loads((out / "cameras.json").read_text())
    assert scene["metric"] is True
    assert set(scene["splits"]) == {"interp", "extrapolate"}
    frame = scene["frames"][3]
    assert cv2.imread(str(out / frame["file"])).shape == (36, 48, 3)
    depth = cv2.imread(str(out / frame["depth"]), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert 0.1 < depth.max() / frame["depth_scale"] < 15


def test_depth_is_left_out_on_request(tmp_path):
    main(["rooms", "render", "--views", "1", "--size", "32", "24", "--quality", "training", "--texture-size", "32",
          "--no-depth", "--out", str(tmp_path)])  # fmt: skip
    assert "depth" not in json.loads((tmp_path / "cameras.json").read_text())["frames"][0]
    assert not (tmp_path / "depth").exists()


@pytest.mark.parametrize(("views", "width"), [(0, 32), (2, 4)])
def test_empty_requests_are_refused(views, width):
    with pytest.raises(GldError, match="at least 1 view"):
        render_scene(0, views, width, 24, SMALL)


def test_unwritable_folder_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    from gld_ros.data.rooms.folder import write_scene

    with pytest.raises(SceneError, match="cannot write"):
        write_scene(render_scene(1, 1, 16, 12, SMALL), tmp_path / "file" / "x", "x", "")


def test_missing_photo_cache_is_said(tmp_path):
    with pytest.raises(GldError, match="fetch_assets"):
        render_scene(1, 1, 16, 12, RenderConfig(texture_size=32, photos=str(tmp_path / "none.npz")))


def test_shards_resume_and_refuse_another_configuration(tmp_path):
    write_shards(tmp_path, 0, 2, 3, 16, 16, SMALL)
    first = RoomShards(tmp_path)
    assert len(first) == 2
    taken = first.take(np.array([1, 0]), np.array([[2, 0], [1, 1]]))
    assert taken.rgb.shape == (2, 2, 16, 16, 3)
    assert np.array_equal(taken.rgb[1, 0], taken.rgb[1, 1])
    assert write_shards(tmp_path, 0, 2, 3, 16, 16, SMALL) == 0  # nothing left to render
    with pytest.raises(GldError, match="another configuration"):
        write_shards(tmp_path, 0, 2, 3, 16, 32, SMALL)


def test_a_grown_dataset_has_all_its_rooms(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_SCENES", 2)
    write_shards(tmp_path, 0, 3, 1, 16, 16, SMALL)
    with pytest.raises(GldError, match="has 3 rooms, 5 are wanted"):
        RoomShards(tmp_path, 5)
    write_shards(tmp_path, 0, 5, 1, 16, 16, SMALL)  # the second shard was half full
    grown = RoomShards(tmp_path, 5)
    once = tmp_path / "once"
    write_shards(once, 0, 5, 1, 16, 16, SMALL)
    pairs = zip(grown.chunks(1), RoomShards(once).chunks(1), strict=True)
    assert all(np.array_equal(a.rgb, b.rgb) for a, b in pairs)
    assert write_shards(tmp_path, 0, 3, 1, 16, 16, SMALL) == 0  # fewer are there already
    assert len(RoomShards(tmp_path, 3)) == 3


def test_rooms_that_do_not_fit_on_the_disk_are_not_begun(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=10_000))
    with pytest.raises(GldError, match="too little disk space"):
        write_shards(tmp_path, 0, 3, 3, 16, 16, SMALL)
    write_shards(tmp_path, 0, 2, 3, 16, 16, SMALL)  # 8.9 kB


def test_dataset_follows_the_content_of_its_photos_not_their_place(tmp_path):
    photos = tmp_path / "textures.npz"
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    np.savez(photos, pictures=picture, categories=np.array(["wall"]), is_test=np.array([False]))
    rooms = tmp_path / "rooms"

    def render(path):
        return write_shards(rooms, 0, 1, 1, 16, 16, RenderConfig(texture_size=32, photos=str(path)))

    render(photos)
    moved = photos.rename(tmp_path / "moved.npz")
    assert render(moved) == 0
    copy = moved.rename(tmp_path / "copy.npz")
    assert render(moved) == 0  # complete rooms train without the file they were made from
    np.savez(moved, pictures=picture + 9, categories=np.array(["wall"]), is_test=np.array([False]))
    with pytest.raises(GldError, match="another configuration"):
        render(moved)
    assert render(copy) == 0


@pytest.mark.parametrize("text", ["[]", "{", '{"hash": 3}'])
def test_damaged_index_is_said(tmp_path, text):
    (tmp_path / "rooms.json").write_text(text)
    with pytest.raises(GldError, match=r"damaged|another configuration"):
        write_shards(tmp_path, 0, 1, 1, 16, 16, SMALL)


def test_frozen_set_is_the_one_that_figures_were_reported_on():
    """A failure here means that rooms/test has changed: give it a new name instead of new numbers.

    ``frozen_rooms.npz`` holds every eighth pixel. Processors round differently, so a few values may be off.
    """
    assert frozen.definition_hash() == "cba4fd5d59"
    stored = np.load(Path(__file__).with_name("frozen_rooms.npz"))
    arrays = frozen.frozen_arrays(2)
    rgb, depth = arrays.rgb[..., ::8, ::8, :].astype(int), arrays.depth[..., ::8, ::8].astype(float)
    assert (np.abs(rgb - stored["rgb"]) <= 2).mean() > 0.999
    assert rgb.shape[2:4] == (16, 16)
    assert (np.abs(depth / stored["depth"] - 1) < 2e-3).mean() > 0.999


def test_photo_textures_are_sorted_by_name_and_held_out_by_family(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))  # as for a script in that folder
    spec = importlib.util.spec_from_file_location("fetch_assets", ROOT / "tools" / "fetch_assets.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.surfaces("white-bricks") == ("wall", "stone")
    assert tool.surfaces("light-gray-floor-tile") == ("floor",)
    assert tool.surfaces("cereal") == ()
    assert tool.is_test("a/wood1.png") == tool.is_test("b/wood2.png")


def test_photo_cache_is_used_and_split(tmp_path):
    pictures = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (10, 200)])
    path = tmp_path / "textures.npz"
    np.savez(path, pictures=pictures, categories=np.array(["wall", "wood"]), is_test=np.array([False, True]))
    plain, train, test = (make_textures(0, 32, *more) for more in ((), (path, "train"), (path, "test")))
    assert len(train.categories["wall"]) == len(plain.categories["wall"]) + 1
    assert len(train.categories["wood"]) == len(plain.categories["wood"])
    assert len(test.categories["wood"]) == len(plain.categories["wood"]) + 1
    assert (train.texels[train.categories["wall"][-1]] == 10).all()
