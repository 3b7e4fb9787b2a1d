"""Cameras recovered from pictures: exact scenes give exact cameras, and what cannot be recovered is counted."""

import numpy as np
import planes
import pytest

from gld_ros.evaluation.page import _camera
from gld_ros.evaluation.recovery import (
    MIN_INLIERS,
    Landmarks,
    Recovered,
    SceneCameras,
    camera_figures,
    find_camera,
    landmarks,
    recover,
)
from gld_ros.geometry.camera import neighbour_distance
from gld_ros.synthesis.types import PosedView

BASELINE = 0.3


@pytest.fixture(scope="module")
def views():
    cams = [planes.camera(x=-BASELINE / 2), planes.camera(x=BASELINE / 2)]
    return [PosedView(str(i), c, *planes.render(c)) for i, c in enumerate(cams)]


@pytest.fixture(scope="module")
def known(views):
    return landmarks(views, [v.depth for v in views])


@pytest.mark.parametrize(
    "asked", [planes.camera(0.05), planes.camera(-0.1, 0.05, 0.2, 6), planes.camera(0.3, 0, -0.2, -10)]
)
def test_a_real_picture_gives_its_camera(known, asked):
    found = recover(planes.render(asked)[0], asked, known, BASELINE)
    assert found.inliers >= MIN_INLIERS
    assert found.rotation_deg < 0.4
    assert found.centre < 0.02
    assert found.centre_share == pytest.approx(found.centre / BASELINE)


def test_the_pose_asked_for_plays_no_part(known):
    taken, asked = planes.camera(0.05), planes.camera(0.05, yaw_deg=20)
    found = recover(planes.render(taken)[0], asked, known, BASELINE)
    assert found.rotation_deg == pytest.approx(20, abs=0.4)
    assert np.linalg.norm(found.world_from_cam[:3, 3] - taken.centre) < 0.02


def test_landmarks_lie_on_the_surfaces_and_only_where_depth_is_known(views, known):
    depth = views[0].depth.copy()
    depth[:, : planes.W // 2] = np.nan
    (half,) = landmarks(views[:1], [depth])
    assert 0 < len(half.xyz) < len(known[0].xyz)
    assert (half.xyz[:, 0] > views[0].camera.centre[0] - 0.05).all()
    x, y, z = known[0].xyz.T
    away = np.min([np.abs(z - 3), np.abs(y - 0.7), np.abs(z - 2.1) + 9 * (x > 0.31)], axis=0)
    assert np.percentile(away, 95) < 0.01


def test_depth_of_another_size_is_read_at_the_same_place(views, known):
    coarse = landmarks(views, [v.depth[::2, ::2] for v in views])
    asked = planes.camera(0.05)
    assert recover(planes.render(asked)[0], asked, coarse, BASELINE).rotation_deg < 1.5


@pytest.mark.parametrize("value", [0, 127])
def test_a_blank_picture_is_not_recovered(known, value):
    asked = planes.camera(0.05)
    found = recover(np.full((planes.H, planes.W, 3), value, np.uint8), asked, known, BASELINE)
    assert found.world_from_cam is None
    assert found.rotation_deg == float("inf")


def test_noise_and_no_landmarks_are_not_recovered(known):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (planes.H, planes.W, 3), dtype=np.uint8)
    picture = planes.render(planes.camera(0.05))[0]
    assert find_camera(noise, planes.K, known)[0] is None
    assert find_camera(picture, planes.K, []) == (None, 0)
    assert find_camera(picture, planes.K, [Landmarks(np.zeros((0, 3)), np.zeros((0, 128), np.float32))]) == (None, 0)


def test_too_few_points_are_counted_as_not_recovered(known):
    """A patch too small for MIN_INLIERS distinct points."""
    picture = np.full((planes.H, planes.W, 3), 127, np.uint8)
    asked = planes.camera(0.05)
    picture[30:40, 30:40] = planes.render(asked)[0][30:40, 30:40]
    found = recover(picture, asked, known, BASELINE)
    assert found.world_from_cam is None
    assert found.inliers < MIN_INLIERS


def made(camera, degrees=1.0, centre=0.1):
    return Recovered(camera.world_from_cam, 40, degrees, centre, centre / BASELINE)


LOST = Recovered(None, 3)


def test_the_lost_count_in_share_and_medians(views):
    conditions = [v.camera for v in views]
    cams = [planes.camera(0.05 * i) for i in range(3)]
    scenes = [SceneCameras(conditions, cams, [made(cams[0], 1), made(cams[1], 2), LOST])]
    figures = camera_figures(scenes)
    assert figures["pnp_recovered"] == pytest.approx(2 / 3)
    assert figures["pnp_deg"] == 2  # of 1, 2 and infinite
    assert figures["pnp_ate"] is None  # the scene's trajectory has a gap
    assert camera_figures([SceneCameras(conditions, cams[:2], [made(cams[0]), LOST])])["pnp_deg"] is None


def test_trajectories_are_of_whole_scenes(views):
    conditions = [v.camera for v in views]
    cams = [planes.camera(0.05, 0.1), planes.camera(0.2, 0.1)]
    exact = SceneCameras(conditions, cams, [made(c, 0, 0) for c in cams])
    figures = camera_figures([exact, exact, SceneCameras(conditions, cams, [LOST, LOST])])
    assert figures["pnp_ate"] == pytest.approx(0, abs=1e-9)
    assert figures["pnp_rpe_deg"] == pytest.approx(0, abs=1e-4)
    alone = camera_figures([SceneCameras(conditions[:1], cams[:1], [made(cams[0])])])
    assert alone["pnp_ate"] is None  # two views: an alignment explains anything
    assert alone["pnp_recovered"] == 1


def test_the_page_names_the_camera_or_its_lack():
    assert _camera(None) == ""
    assert "not recovered" in _camera(LOST)
    assert "1.00°" in _camera(made(planes.camera()))


def test_baseline_is_the_distance_of_neighbours():
    assert neighbour_distance([planes.camera(x) for x in (0, 1, 3)]) == 1
    assert neighbour_distance([planes.camera()]) == 0
