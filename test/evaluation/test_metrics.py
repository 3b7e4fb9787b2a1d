"""Metrics against their formulas and an independent implementation of SSIM; baselines by hand."""

import cv2
import numpy as np
import planes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from gld_ros.evaluation.baselines import nearest_view, trivial_predictions
from gld_ros.evaluation.metrics import depth_errors, psnr, sharpness, ssim
from gld_ros.synthesis.types import PosedView


def noise(seed, shape=(40, 50, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blurred(seed, sigma=2.0):
    return cv2.GaussianBlur(noise(seed), (0, 0), sigma)


@pytest.mark.parametrize("step", [1, 10, 100])
def test_psnr_of_a_constant_difference(step):
    black = np.zeros((8, 9, 3), np.uint8)
    assert psnr(black + np.uint8(step), black) == pytest.approx(20 * np.log10(255 / step))


def test_psnr_knows_its_mask_and_does_not_wrap_around():
    a, b = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    b[:2] = 255
    mask = np.zeros((4, 4), bool)
    mask[:2] = True
    assert psnr(a, b, mask) == pytest.approx(0.0)
    assert psnr(a, b) == pytest.approx(10 * np.log10(2))
    assert psnr(a, b, ~mask) > 90
    assert np.isnan(psnr(a, b, np.zeros((4, 4), bool)))


def reference_ssim(a, b):
    """Wang et al. 2004 by scipy: sigma 1.5, radius 5."""
    a, b = a.astype(float), b.astype(float)
    values = []
    for c in range(3):
        x, y = a[..., c], b[..., c]
        mx, my, xx, yy, xy = (gaussian_filter(t, 1.5, truncate=3.5) for t in (x, y, x * x, y * y, x * y))
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        top = (2 * mx * my + c1) * (2 * (xy - mx * my) + c2)
        bottom = (mx**2 + my**2 + c1) * (xx - mx**2 + yy - my**2 + c2)
        values.append((top / bottom)[5:-5, 5:-5])
    return float(np.mean(values))


@pytest.mark.parametrize(("a", "b"), [(noise(0), noise(1)), (blurred(0), blurred(0, 3.0)), (blurred(2), noise(2))])
def test_ssim_against_scipy(a, b):
    assert ssim(a, b) == pytest.approx(reference_ssim(a, b), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_ssim_is_one_for_equal_pictures_symmetric_and_below_one_else(seed):
    a, b = noise(seed), noise(seed + 1)
    assert ssim(a, a) == pytest.approx(1.0)
    assert ssim(a, b) == pytest.approx(ssim(b, a))
    assert ssim(a, b) < 0.2


def test_ssim_of_pictures_smaller_than_its_window():
    assert ssim(noise(0, (6, 7, 3)), noise(0, (6, 7, 3))) == pytest.approx(1.0)


def test_sharpness_of_a_ramp_and_of_blur():
    ramp = np.tile(np.arange(50, dtype=np.uint8)[None, :, None] * 3, (20, 1, 3))
    assert sharpness(ramp) == pytest.approx(3.0)
    assert sharpness(blurred(0)) < 0.5 * sharpness(noise(0))
    assert np.isnan(sharpness(ramp, np.zeros((20, 50), bool)))


def test_depth_errors_by_hand():
    truth = np.array([[1.0, 2.0, 4.0, np.nan, 30.0, 0.05]])
    depth = np.array([[1.1, 2.2, 4.4, 1.0, 1.0, 1.0]])
    found = depth_errors(depth, truth)
    assert found["depth_absrel"] == pytest.approx(0.1)
    assert found["depth_absrel_median"] == pytest.approx(0.0, abs=1e-9)
    assert found["depth_delta1"] == 1.0
    assert depth_errors(depth * 2, truth)["depth_delta1"] == 0.0


def test_depth_errors_without_common_pixels():
    assert np.isnan(depth_errors(np.full((2, 2), np.nan), np.ones((2, 2)))["depth_absrel"])


def views(*cameras):
    return [PosedView(str(i), c, np.full((planes.H, planes.W, 3), 40 * i, np.uint8)) for i, c in enumerate(cameras)]


def test_nearest_weighs_distance_by_spacing_and_angle_by_thirty_degrees():
    made = views(planes.camera(0), planes.camera(1.0), planes.camera(2.0))
    assert nearest_view(made, planes.camera(0.4)) == 0
    assert nearest_view(made, planes.camera(0.6)) == 1
    # 0.4 spacings away beats 0 away but turned by 15 degrees
    assert nearest_view(views(planes.camera(0, yaw_deg=15), planes.camera(1.0)), planes.camera(0.7)) == 1
    assert nearest_view(views(planes.camera(0, yaw_deg=45), planes.camera(1.0)), planes.camera(0.1)) == 1


def test_nearest_among_one_or_equal_centres():
    assert nearest_view(views(planes.camera()), planes.camera(3)) == 0
    turned = views(planes.camera(yaw_deg=40), planes.camera(yaw_deg=5))
    assert nearest_view(turned, planes.camera()) == 1


def test_trivial_guesses():
    made = views(planes.camera(0), planes.camera(1.0), planes.camera(2.0))
    guesses = trivial_predictions(made, planes.camera(1.1), (48, 36))
    assert guesses["copy_nearest"].shape == (36, 48, 3)
    assert (guesses["copy_nearest"] == 40).all()
    assert (guesses["mean"] == 40).all()
    assert (guesses["blur"] == 40).all()
    made = [PosedView("a", planes.camera(), noise(3, (planes.H, planes.W, 3)))]
    blur = trivial_predictions(made, planes.camera(), (planes.W, planes.H))["blur"]
    np.testing.assert_array_equal(blur, cv2.GaussianBlur(made[0].rgb, (0, 0), 0.96))
