"""Picture and depth metrics; definitions are fixed so that figures stay comparable."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def psnr(picture: NDArray[np.uint8], truth: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB of two 8-bit pictures (H, W, 3); NaN where ``mask`` is empty."""
    error = (picture.astype(np.float64) - truth.astype(np.float64)) ** 2
    if mask is not None:
        error = error[mask]
    if error.size == 0:
        return float("nan")
    return float(10.0 * np.log10(255.0**2 / max(float(error.mean()), 1e-10)))


def ssim(picture: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Structural similarity, Gaussian sigma 1.5 in an 11-pixel window, mean over channels (Wang et al. 2004).

    The 5 border pixels without a full window are left out.
    """
    a, b = picture.astype(np.float64), truth.astype(np.float64)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2

    def smooth(x: NDArray) -> NDArray:
        return cv2.GaussianBlur(x, (11, 11), 1.5)

    mean_a, mean_b = smooth(a), smooth(b)
    var_a = smooth(a * a) - mean_a**2
    var_b = smooth(b * b) - mean_b**2
    cov = smooth(a * b) - mean_a * mean_b
    similarity = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    inner = similarity[5:-5, 5:-5] if min(similarity.shape[:2]) > 10 else similarity
    return float(inner.mean())


def sharpness(picture: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> float:
    """Mean absolute luminance gradient in grey levels per pixel; NaN where ``mask`` is empty."""
    energy = _gradient(picture)
    if mask is not None:
        energy = energy[mask]
    return float(energy.mean()) if energy.size else float("nan")


def gradient_energy(picture: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> float:
    """Mean squared luminance gradient, grey levels squared per pixel squared; NaN where ``mask`` is empty."""
    energy = _gradient(picture) ** 2
    if mask is not None:
        energy = energy[mask]
    return float(energy.mean()) if energy.size else float("nan")


def _gradient(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Length of the luminance gradient, (H, W)."""
    grey = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    dy, dx = np.gradient(grey)
    length: NDArray[np.float64] = np.hypot(dx, dy)
    return length


def depth_errors(depth: NDArray, truth: NDArray, near: float = 0.1, far: float = 20.0) -> dict[str, float]:
    """AbsRel and delta1 over pixels where both are finite and the truth lies in [near, far] (world units).

    ``depth_absrel`` is without any alignment; ``depth_absrel_median`` after dividing by the ratio of medians.
    """
    valid = np.isfinite(depth) & np.isfinite(truth) & (truth > near) & (truth < far) & (depth > 0)
    if not valid.any():
        return {"depth_absrel": float("nan"), "depth_absrel_median": float("nan"), "depth_delta1": float("nan")}
    d, t = depth[valid].astype(np.float64), truth[valid].astype(np.float64)
    aligned = d * (np.median(t) / np.median(d))
    ratio = np.maximum(d / t, t / d)
    return {
        "depth_absrel": float(np.mean(np.abs(d - t) / t)),
        "depth_absrel_median": float(np.mean(np.abs(aligned - t) / t)),
        "depth_delta1": float(np.mean(ratio < 1.25)),
    }
