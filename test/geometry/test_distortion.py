import cv2
import numpy as np
import pytest

from gld_ros.errors import GldError, Status
from gld_ros.geometry.distortion import Distortion, rectification_maps, rectify_depth, rectify_image

K = np.array([[90.0, 0, 63.2], [0, 92.0, 47.9], [0, 0, 1]])
LENSES = [
    Distortion("plumb_bob", (-0.2, 0.05, 0.001, -0.002)),
    Distortion("plumb_bob", (-0.2, 0.05, 0.001, -0.002, 0.01)),
    Distortion("rational_polynomial", (0.1, -0.05, 0.001, 0.0, 0.02, 0.05, -0.01, 0.003)),
    Distortion("equidistant", (0.05, -0.01, 0.002, 0.0)),
]


def distort(lens, uv):
    """Raw pixels of rectified pixels uv (N, 2) by OpenCV's forward model."""
    rays = (np.concatenate([uv, np.ones((len(uv), 1))], 1) @ np.linalg.inv(K).T)[None]
    d = np.array(lens.coefficients)
    if lens.model == "equidistant":
        return cv2.fisheye.distortPoints(rays[..., :2], K, d)[0]
    return cv2.projectPoints(rays[0], np.zeros(3), np.zeros(3), K, d)[0][:, 0]


@pytest.mark.parametrize("lens", LENSES, ids=lambda d: f"{d.model}{len(d.coefficients)}")
def test_maps_agree_with_the_forward_model(lens):
    map_x, map_y = rectification_maps(K, lens, K, (128, 96))
    v, u = np.mgrid[0:96:7, 0:128:9]
    expected = distort(lens, np.stack([u.ravel(), v.ravel()], 1).astype(float))
    assert np.allclose(np.stack([map_x[v, u].ravel(), map_y[v, u].ravel()], 1), expected, atol=1e-3)


@pytest.mark.parametrize("lens", LENSES, ids=lambda d: f"{d.model}{len(d.coefficients)}")
def test_depth_takes_the_nearest_raw_pixel(lens):
    columns = np.tile(np.arange(128, dtype=np.float32), (96, 1)) + 1
    rectified = rectify_depth(columns, K, lens)
    expected = np.rint(rectification_maps(K, lens, K, (128, 96))[0]) + 1
    inner = np.s_[20:76, 20:108]
    assert np.mean(rectified[inner] == expected[inner]) > 0.97  # ties and 1/32 px of OpenCV may differ
    assert np.abs(rectified[inner] - expected[inner]).max() <= 1


def test_depth_is_nan_outside_the_lens_and_never_mixed():
    wide = Distortion("plumb_bob", (0.4, 0.0, 0.0, 0.0))  # the raw picture ends inside the rectified one
    depth = np.where(np.arange(128)[None] < 64, 1.0, 5.0).repeat(96, 0).astype(np.float32).reshape(96, 128)
    rectified = rectify_depth(depth, K, wide)
    assert np.isnan(rectified[0, 0])
    assert set(np.unique(rectified[np.isfinite(rectified)])) == {1.0, 5.0}


def test_no_distortion_changes_nothing():
    picture = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    assert np.array_equal(rectify_image(picture, K, Distortion("plumb_bob", (0.0,) * 5)), picture)


def test_picture_agrees_with_opencv():
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8), (0, 0), 2)
    ours = rectify_image(picture, K, LENSES[1])
    theirs = cv2.undistort(picture, K, np.array(LENSES[1].coefficients))
    assert np.abs(ours.astype(int) - theirs)[5:-5, 5:-5].max() <= 2


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [("mei", (0.0,) * 4), ("plumb_bob", (0.0,) * 3), ("plumb_bob", (np.nan,) * 5), ("equidistant", (0.0,) * 5)],
)
def test_bad_lenses_are_refused_by_name(model, coefficients):
    with pytest.raises(GldError) as error:
        Distortion(model, coefficients)
    assert error.value.status == Status.BAD_INTRINSICS
    assert model in str(error.value)
