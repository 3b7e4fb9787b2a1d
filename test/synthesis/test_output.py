"""Files of a result: stems, 16-bit depth, clouds, result.json."""

import json

import cv2
import numpy as np
import planes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gld_ros.errors import SceneError, Status
from gld_ros.geometry.cloud import backproject, read_ply, write_ply
from gld_ros.synthesis.output import depth_to_uint16, output_stems, write_result
from gld_ros.synthesis.types import GENERATED, OBSERVED, UNKNOWN, Cloud, Result, SynthesizedView


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["images/000.png", "images/001.jpg"], ["000", "001"]),
        (["left/0.png", "right/0.png", "left/1.png"], ["left_0", "right_0", "1"]),
        (["a/x/0.png", "b/x/0.png"], ["x_0_0", "x_0_1"]),
        (["0.png", "0.jpg"], ["0_0", "0_1"]),
        (["1700000000_100000000"], ["1700000000_100000000"]),
    ],
)
def test_stems(names, stems):
    assert output_stems(names) == stems


@given(st.lists(st.sampled_from(["a/0.png", "b/0.png", "a/b/0.png", "1.png", "c/1.png"]), max_size=8))
def test_stems_are_unique(names):
    assert len(set(output_stems(names))) == len(names)


@given(st.floats(1e-3, 1e5), st.integers(0, 1000))
def test_depth_survives_sixteen_bits(scale, seed):
    rng = np.random.default_rng(seed)
    depth = (rng.uniform(0.1, 1.0, (6, 7)) * scale).astype(np.float32)
    depth[0, 0], depth[0, 1], depth[0, 2] = np.nan, 0.0, -1.0
    values, per_unit = depth_to_uint16(depth)
    assert values.dtype == np.uint16
    assert (values[0, :3] == 0).all()
    valid = np.isfinite(depth) & (depth > 0)
    assert (values[valid] > 0).all()
    # half a step, or the clipping of the largest
    assert np.abs(values[valid] / per_unit - depth[valid]).max() <= 1.01 / per_unit


def test_rooms_are_written_in_millimetres():
    assert depth_to_uint16(np.array([[0.5, 9.0]], np.float32))[1] == 1000.0
    assert depth_to_uint16(np.full((2, 2), np.nan, np.float32))[1] == 1000.0


@given(st.integers(0, 50), st.integers(0, 100))
def test_clouds_survive_ply(tmp_path_factory, count, seed):
    path = tmp_path_factory.mktemp("ply") / "cloud.ply"
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(count, 3)).astype(np.float32)
    rgb = rng.integers(0, 256, (count, 3), dtype=np.uint8)
    confidence = rng.uniform(size=count).astype(np.float32)
    write_ply(path, xyz, rgb, confidence)
    back = read_ply(path)
    np.testing.assert_array_equal(np.stack([back[n] for n in "xyz"], 1), xyz)
    np.testing.assert_array_equal(np.stack([back[n] for n in ("red", "green", "blue")], 1), rgb)
    np.testing.assert_array_equal(back["confidence"], confidence)


def test_ply_header_is_what_viewers_read(tmp_path):
    write_ply(tmp_path / "c.ply", np.zeros((2, 3)), np.zeros((2, 3), np.uint8), np.ones(2))
    head = (tmp_path / "c.ply").read_bytes().split(b"end_header\n")[0].decode().splitlines()
    assert head[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 2"]
    kinds = [*("float",) * 3, *("uchar",) * 3, "float"]
    names = ["x", "y", "z", "red", "green", "blue", "confidence"]
    assert head[3:] == [f"property {k} {n}" for k, n in zip(kinds, names, strict=True)]


def test_files_that_are_no_ply(tmp_path):
    (tmp_path / "c.ply").write_text("ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(SceneError, match=r"c\.ply"):
        read_ply(tmp_path / "c.ply")


def test_backprojected_points_lie_on_the_rendered_planes():
    camera = planes.cameras()[4]
    points = backproject(camera, planes.render(camera)[1])
    on_wall, on_floor, on_poster = (np.abs(points[..., a] - v) < 1e-4 for a, v in ((2, 3.0), (1, 0.7), (2, 2.1)))
    assert (on_wall | on_floor | on_poster).all()
    assert min(on_wall.sum(), on_floor.sum(), on_poster.sum()) > 200


def view(camera=None, std=None):
    camera = camera or planes.camera()
    rgb, depth = planes.render(camera)
    depth[0] = np.nan
    provenance = np.full(depth.shape, OBSERVED, np.uint8)
    provenance[:36] = GENERATED
    provenance[0] = UNKNOWN
    confidence = np.linspace(0, 1, depth.size, dtype=np.float32).reshape(depth.shape)
    return SynthesizedView(camera, Status.OK, "", rgb, rgb // 2, depth, confidence, provenance, std)


def result(*views, cloud=True):
    points = Cloud(np.ones((3, 3), np.float32), np.zeros((3, 3), np.uint8), np.ones(3, np.float32)) if cloud else None
    return Result(
        Status.OK, "", list(views), points, points, "classical", "balanced", (0, 0), 7, 1.0, True, True, "sensor",
        {"total": 0.5}, ("said aloud",),
    )  # fmt: skip


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_pictures_of_a_view(tmp_path):
    made = view(std=np.full((planes.H, planes.W), 0.02, np.float32))
    path = write_result(result(made), ["images/010.jpg"], tmp_path / "new" / "out", metric=True)
    out = path.parent
    described = json.loads(path.read_text())["views"][0]
    np.testing.assert_array_equal(read(out / "010.png")[..., ::-1], made.rgb)
    np.testing.assert_array_equal(read(out / "010.generated.png")[..., ::-1], made.generated)
    np.testing.assert_array_equal(read(out / "010.provenance.png"), made.provenance)
    depth = read(out / "010.depth.png")
    assert depth.dtype == np.uint16
    assert (depth[0] == 0).all()
    np.testing.assert_allclose(depth[1:] / described["depth_scale"], made.depth[1:], atol=6e-4)
    np.testing.assert_allclose(read(out / "010.confidence.png") / 65535, made.confidence, atol=1e-5)
    spread = read(out / "010.depth_std.png") / described["depth_std_scale"]
    np.testing.assert_allclose(spread, 0.02, rtol=1e-3)
    assert described["provenance"] == {"observed": 0.5, "generated": 0.4861, "unknown": 0.0139}
    assert described["size"] == [planes.W, planes.H]
    np.testing.assert_allclose(described["K"], made.camera.K)
    np.testing.assert_allclose(described["c2w"], made.camera.world_from_cam)


@pytest.mark.parametrize("metric", [True, False])
def test_units_are_named(tmp_path, metric):
    text = json.loads(write_result(result(view()), ["0.png"], tmp_path, metric).read_text())
    assert text["scale_metric"] is metric
    assert text["depth_unit"] == text["views"][0]["depth_unit"] == ("m" if metric else "scene")
    assert text["notes"] == ["said aloud"]
    assert text["points"] == {"observed": 3, "generated": 3}
    assert text["peak_bytes"] > 1e6


def test_without_clouds_no_ply(tmp_path):
    write_result(result(view(), cloud=False), ["0.png"], tmp_path, True)
    assert not list(tmp_path.glob("*.ply"))


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SceneError, match="file"):
        write_result(result(view()), ["0.png"], tmp_path / "file" / "out", True)
