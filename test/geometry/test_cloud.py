import numpy as np
import pytest
from rendered import BOXES, WALL_Z, look, render

from gld_ros.errors import SceneError
from gld_ros.geometry.cloud import backproject, read_ply, write_ply


def test_backprojected_truth_lies_on_the_surfaces():
    made = render(look(0.2, 0.1, -0.1, yaw_deg=4))
    points = backproject(made.camera, made.depth)
    on_wall = np.abs(points[..., 2] - WALL_Z) < 1e-4
    on_box = np.zeros_like(on_wall)
    for low, high in BOXES:
        near = np.minimum(np.abs(points - low), np.abs(points - high)).min(-1) < 1e-4
        on_box |= near & (points > np.array(low) - 1e-4).all(-1) & (points < np.array(high) + 1e-4).all(-1)
    assert (on_wall | on_box).all()
    assert 0.05 < on_box.mean() < 0.9


def test_unknown_depth_gives_no_point():
    depth = np.full((84, 112), np.nan, np.float32)
    depth[3, 4] = 2.0
    assert np.isfinite(backproject(look(0.0), depth)).all(-1).sum() == 1


def test_ply_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    xyz, rgb = rng.normal(size=(7, 3)).astype(np.float32), rng.integers(0, 255, (7, 3), np.uint8)
    confidence = rng.uniform(0, 1, 7).astype(np.float32)
    write_ply(tmp_path / "a.ply", xyz, rgb, confidence)
    points = read_ply(tmp_path / "a.ply")
    assert np.array_equal(np.stack([points[n] for n in "xyz"], 1), xyz)
    assert np.array_equal(np.stack([points[n] for n in ("red", "green", "blue")], 1), rgb)
    assert np.array_equal(points["confidence"], confidence)
    assert b"element vertex 7\nproperty float x\n" in (tmp_path / "a.ply").read_bytes()


def test_empty_ply_and_foreign_files(tmp_path):
    write_ply(tmp_path / "none.ply", np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))
    assert len(read_ply(tmp_path / "none.ply")) == 0
    (tmp_path / "text.ply").write_text("ply\nformat ascii 1.0\nend_header\n")
    with pytest.raises(SceneError, match="binary little-endian"):
        read_ply(tmp_path / "text.ply")
