import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera, check_intrinsics, check_pose, invert_rigid

K = np.array([[300.0, 0, 150.2], [0, 310.0, 99.7], [0, 0, 1]])
sizes = st.integers(1, 900)


def rotation(seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def pose(seed, offset=0.0):
    out = np.eye(4)
    out[:3, :3] = rotation(seed)
    out[:3, 3] = np.random.default_rng(seed + 1).normal(size=3) + offset
    return out


def pixels(camera, world):
    cam = world @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    uv = cam @ camera.K.T
    return uv[:, :2] / uv[:, 2:]


def seen_points(camera, seed, count=5):
    rng = np.random.default_rng(seed)
    cam = np.concatenate([rng.uniform(-1, 1, (count, 2)), rng.uniform(1, 5, (count, 1))], 1)
    return cam @ camera.world_from_cam[:3, :3].T + camera.centre


@settings(max_examples=50, deadline=None)
@given(sizes, sizes, sizes, sizes, st.integers(0, 10**6))
def test_resizing_moves_projections_like_pixel_areas(w, h, new_w, new_h, seed):
    camera = Camera(w, h, K, pose(seed))
    world = seen_points(camera, seed)
    scale = np.array([new_w / w, new_h / h])
    expected = (pixels(camera, world) + 0.5) * scale - 0.5
    assert np.allclose(pixels(camera.resized(new_w, new_h), world), expected, rtol=1e-7, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(sizes, sizes, sizes, sizes, st.integers(-50, 50), st.integers(-50, 50), st.integers(0, 10**6))
def test_crop_shifts_and_resize_back_restores(w, h, new_w, new_h, x0, y0, seed):
    camera = Camera(w, h, K, pose(seed))
    world = seen_points(camera, seed)
    assert np.allclose(pixels(camera.cropped(x0, y0, 4, 5), world), pixels(camera, world) - [x0, y0], atol=1e-7)
    assert np.allclose(camera.resized(new_w, new_h).resized(w, h).K, camera.K, rtol=1e-9, atol=1e-9)
    assert np.allclose(camera.cropped(x0, y0, 7, 7).cropped(-x0, -y0, w, h).K, camera.K)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e4, 1e4))
def test_inverse_of_rigid_transform(seed, offset):
    transform = pose(seed, offset)
    assert np.allclose(invert_rigid(transform) @ transform, np.eye(4), atol=1e-9)


def test_moved_keeps_the_lens_and_centre_forward_follow_the_pose():
    camera = Camera(8, 6, K, np.eye(4)).moved(pose(3))
    assert (camera.width, camera.height) == (8, 6)
    assert np.array_equal(camera.K, K)
    assert np.array_equal(camera.centre, pose(3)[:3, 3])
    assert np.array_equal(camera.forward, pose(3)[:3, 2])


def changed(matrix, index, value):
    out = np.array(matrix, dtype=float)
    out[index] = value
    return out


@pytest.mark.parametrize(
    "bad",
    [
        np.eye(3),
        changed(np.eye(4), (0, 3), np.nan),
        changed(np.eye(4), (0, 3), np.inf),
        changed(np.eye(4), (0, 0), -1.0),  # a mirror
        changed(np.eye(4), (1, 1), 1.01),
        changed(np.eye(4), (3, 0), 0.5),
        np.zeros((4, 4)),
        [[1, 2], [3]],
        "pose",
    ],
)
def test_bad_poses_are_refused(bad):
    with pytest.raises(GldError) as error:
        check_pose(bad, "target 3")
    assert error.value.status == Status.BAD_POSE
    assert "target 3" in str(error.value)


@pytest.mark.parametrize(
    "bad",
    [
        np.eye(4),
        changed(K, (0, 0), 0.0),
        changed(K, (1, 1), -5.0),
        changed(K, (0, 2), np.nan),
        changed(K, (2, 2), 0.0),
        changed(K, (2, 0), 0.1),
        changed(K, (1, 0), 3.0),
        None,
    ],
)
def test_bad_intrinsics_are_refused(bad):
    with pytest.raises(GldError) as error:
        check_intrinsics(bad, "K of front")
    assert error.value.status == Status.BAD_INTRINSICS
    assert "K of front" in str(error.value)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_empty_camera_is_refused(size):
    with pytest.raises(GldError) as error:
        Camera(*size, K, np.eye(4))
    assert error.value.status == Status.BAD_INTRINSICS


def test_checks_copy_and_accept_float32_rotations():
    given_pose = pose(1).astype(np.float32)
    checked = check_pose(given_pose)
    checked[0, 3] = 99
    assert given_pose[0, 3] != 99
    assert checked.dtype == np.float64
