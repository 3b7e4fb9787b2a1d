import numpy as np
import pytest
from rendered import CONDITIONS, WALL_Z, look, render

from gld_ros.geometry import sparse


def features(camera):
    return sparse.detect(render(camera).rgb, camera)


def test_fundamental_matrix_holds_for_projected_points():
    a, b = look(0.0, yaw_deg=3), look(0.4, 0.1, 0.2, yaw_deg=-5)
    world = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (20, 3))
    pixels = []
    for c in (a, b):
        uv = (world @ c.cam_from_world[:3, :3].T + c.cam_from_world[:3, 3]) @ c.K.T
        pixels.append(uv / uv[:, 2:])
    assert np.allclose(np.sum(pixels[1] @ sparse.fundamental(a, b) * pixels[0], axis=1), 0, atol=1e-9)


def test_triangulated_points_lie_in_the_scene():
    a, b = (look(x, size=(320, 240)) for x in (-0.15, 0.15))
    points = sparse.triangulate_pair(features(a), features(b)).points
    assert len(points) > 30
    z = points[:, 2]
    assert np.mean(np.abs(z - WALL_Z) < 0.15) > 0.4
    assert np.mean((z > 1.5) & (z < 4.3)) > 0.9


def test_blank_pictures_and_one_place_give_no_points():
    camera = look(0.0)
    blank = sparse.detect(np.full((84, 112, 3), 90, np.uint8), camera)
    assert len(blank.xy) == 0
    assert sparse.triangulate_pair(blank, features(CONDITIONS[0])).points.shape == (0, 3)
    same = features(camera)
    assert len(sparse.triangulate_pair(same, same).points) == 0


def test_isolated_depths_are_dropped():
    v, u = np.mgrid[-5:6, -5:6] / 10.0
    wall = np.stack([u.ravel() * 4, v.ravel() * 4, np.full(121, 4.0)], 1)
    stray = np.array([[0.05, 0.05, 0.5]])
    kept = sparse.drop_isolated(np.concatenate([wall, stray]), look(0.0))
    assert len(kept) == 121
    assert kept[:, 2].min() == 4.0


def test_depth_range_covers_what_is_in_the_picture():
    rng = np.random.default_rng(0)
    inside = rng.uniform([-0.5, -0.3, 2], [0.5, 0.3, 4], (50, 3))
    behind, aside = inside * [1, 1, -1], inside + np.array([40, 0, 0])
    near, far = sparse.depth_range(np.concatenate([inside, behind, aside]), look(0.0), (9, 9))
    assert 0.9 < near < 1.3
    assert 5 < far < 6.1
    assert sparse.depth_range(inside[:7], look(0.0), (1.5, 9)) == (1.5, 9)


def test_sensor_points_skip_holes():
    depth = np.full((84, 112), 2.0, np.float32)
    depth[:42], depth[42:50], depth[50:55] = np.nan, 0.0, np.inf
    points = sparse.sensor_points(look(0.0, z=1.0), depth)
    assert 80 < len(points) < 250
    assert np.allclose(points[:, 2], 3.0)


@pytest.mark.parametrize("noise", [0.0, 1e-12, 1e-5])
def test_range_of_cameras_at_one_place_does_not_shrink_with_the_noise(noise):
    assert sparse.baseline_range([look(0.0), look(noise)]) == (0.5, 40.0)
    near, far = sparse.baseline_range([look(0.0), look(2.0)])
    assert (near, far) == pytest.approx((0.5, 40.0))


def test_features_survive_a_flat_frame_of_any_kind():
    assert len(sparse.detect(np.zeros((8, 8, 3), np.uint8), look(0.0, size=(8, 8))).xy) == 0
