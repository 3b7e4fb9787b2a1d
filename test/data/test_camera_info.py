"""Camera models from CameraInfo, and rectification against OpenCV's own undistortion. No ROS needed."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from gld_ros.data.camera_info import CameraModel, CameraModels
from gld_ros.errors import GldError, Status

W, H = 160, 120
K = np.array([[110.0, 0, 82.0], [0, 112.0, 57.0], [0, 0, 1]])
P = np.array([[95.0, 0, 80.0], [0, 95.0, 60.0], [0, 0, 1]])
DISTORTIONS = {
    "plumb_bob": [-0.3, 0.12, 0.001, -0.002, -0.02],
    "rational_polynomial": [0.4, -0.2, 0.001, 0.0, 0.05, 0.7, -0.1, 0.02],
    "equidistant": [0.05, -0.02, 0.01, -0.003],
}


def info(model="plumb_bob", d=(), p=None, r=None, k=K, **fields):
    made = SimpleNamespace(
        width=W,
        height=H,
        distortion_model=model,
        d=list(d),
        k=k.ravel(),
        r=(np.eye(3) if r is None else r).ravel(),
        p=np.zeros(12) if p is None else np.hstack([p, [[-12.0], [0], [0]]]).ravel(),
        binning_x=0,
        binning_y=0,
        roi=SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
    )
    made.__dict__.update(fields)
    return made


def picture():
    rng = np.random.default_rng(0)
    return cv2.GaussianBlur(rng.integers(0, 255, (H, W, 3), dtype=np.uint8), (0, 0), 2)


@pytest.mark.parametrize("model", DISTORTIONS)
def test_agrees_with_undistorted_points(model):
    """Follow single pixels: where the map reads the raw picture is where OpenCV projects that pixel's ray."""
    camera = CameraModel(info(model, DISTORTIONS[model], P), rectified=False)
    np.testing.assert_allclose(camera.K, P)
    u, v = np.meshgrid([30.0, 80.0, 120.0], [30.0, 60.0, 90.0])
    rays = np.linalg.inv(P) @ np.stack([u.ravel(), v.ravel(), np.ones(9)])
    d = np.array(DISTORTIONS[model])
    if model == "equidistant":
        raw, _ = cv2.fisheye.projectPoints(rays.T[None], np.zeros(3), np.zeros(3), K, d)
    else:
        raw, _ = cv2.projectPoints(rays.T, np.zeros(3), np.zeros(3), K, d)
    # a picture whose value is its own column (row) tells where it was read
    for axis, ramp in enumerate(
        (np.tile(np.arange(W, dtype=np.float32), (H, 1)), np.tile(np.arange(H, dtype=np.float32)[:, None], (1, W)))
    ):
        read = camera.rectify(ramp)[v.astype(int).ravel(), u.astype(int).ravel()]
        np.testing.assert_allclose(read, raw.reshape(-1, 2)[:, axis], atol=0.05)


def test_plumb_bob_equals_cv2_undistort():
    d = np.array(DISTORTIONS["plumb_bob"])
    ours = CameraModel(info(d=d), rectified=False).rectify(picture())
    theirs = cv2.undistort(picture(), K, d)
    assert np.abs(ours.astype(int) - theirs).mean() < 0.5


def test_rotation_of_a_stereo_pair_is_applied():
    angle = np.radians(5)
    r = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    camera = CameraModel(info(p=P, r=r), rectified=False)
    assert camera.needs_remap
    ramp = np.tile(np.arange(W, dtype=np.float32), (H, 1))
    ray = r.T @ np.linalg.inv(P) @ [80.0, 60.0, 1.0]
    assert camera.rectify(ramp)[60, 80] == pytest.approx((K @ ray / ray[2])[0], abs=0.05)


def test_nothing_is_resampled_without_distortion():
    image = picture()
    assert CameraModel(info(), rectified=False).rectify(image) is image
    assert CameraModel(info(p=K), rectified=False).rectify(image) is image


def test_rectified_topics_take_p_and_no_distortion():
    camera = CameraModel(info("unheard_of", [0.1] * 3, P), rectified=True)
    np.testing.assert_allclose(camera.K, P)
    assert not camera.needs_remap


def test_depth_is_never_blended():
    depth = np.where(np.arange(W) < 80, 1.0, 5.0).astype(np.float32) * np.ones((H, 1), np.float32)
    out = CameraModel(info(d=DISTORTIONS["plumb_bob"]), rectified=False).rectify(depth, nearest=True)
    assert set(np.unique(out[np.isfinite(out)])) == {1.0, 5.0}


def test_outside_the_raw_picture_depth_is_unknown():
    wide = P.copy()
    wide[0, 0] = wide[1, 1] = 40.0
    out = CameraModel(info(d=DISTORTIONS["plumb_bob"], p=wide), rectified=False).rectify(
        np.ones((H, W), np.float32), nearest=True
    )
    assert np.isnan(out[0, 0])
    assert out[60, 80] == 1.0


def test_binning_and_region_of_interest():
    roi = SimpleNamespace(x_offset=20, y_offset=10, width=120, height=80, do_rectify=False)
    camera = CameraModel(info(binning_x=2, binning_y=2, roi=roi), rectified=False)
    assert (camera.width, camera.height) == (60, 40)
    np.testing.assert_allclose(camera.K[:2, 2], [(82 - 20) / 2, (57 - 10) / 2])
    np.testing.assert_allclose(np.diag(camera.K)[:2], [55, 56])


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (info("fisheye_deluxe", [0.1]), "fisheye_deluxe"),
        (info("plumb_bob", [0.1, 0.2]), "plumb_bob"),
        (info("equidistant", [0.1] * 5), "equidistant"),
        (info("plumb_bob", [np.nan] * 5), "finite"),
        (info(k=np.zeros((3, 3))), "fx=0"),
        (info(k=np.full((3, 3), np.inf)), "finite"),
        (info(width=0), "0x120"),
        (info(p=np.diag([0.0, 95.0, 1.0])), "fx=0"),
    ],
)
def test_unusable_calibrations_are_named(bad, named):
    with pytest.raises(GldError, match=named) as error:
        CameraModel(bad, rectified=False)
    assert error.value.status == Status.BAD_INTRINSICS


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(GldError, match=r"80x60.*160x120"):
        CameraModel(info(), rectified=False).rectify(np.zeros((60, 80, 3), np.uint8))


def test_models_are_made_once_and_bounded():
    models = CameraModels(limit=2)
    first = models.get(info(d=DISTORTIONS["plumb_bob"]), False)
    assert models.get(info(d=DISTORTIONS["plumb_bob"]), False) is first
    assert models.get(info(), False) is not first
    models.get(info(), True)
    assert len(models._models) == 2
    assert models.get(info(d=DISTORTIONS["plumb_bob"]), False) is not first
