"""Pictures and intrinsics to the size the network reads (GLD specification section 1)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status
from gld_ros.model.resample import Kernel, resize

MIN_MARGIN = 0.2  # the principal point must be further than this share of the picture from every edge


def preprocess_intrinsics(
    K: NDArray, size: tuple[int, int], target: tuple[int, int]
) -> tuple[NDArray[np.float64], tuple[int, int, int, int], tuple[int, int], tuple[int, int]]:
    """Follow K through the two crops and the resize.

    Args:
        K: (3, 3) pixels, integer pixel centres.
        size: (W, H) of the picture.
        target: (W, H) wanted.

    Returns:
        the new K; the first crop (left, top, right, bottom); the size (W, H) to resize that to; and the
        (left, top) of the final crop.

    Raises GldError when the principal point is too near an edge.
    """
    K = np.array(K, dtype=np.float64)
    width, height = size
    cx, cy = round(float(K[0, 2])), round(float(K[1, 2]))
    mx, my = min(cx, width - cx), min(cy, height - cy)
    if mx <= width * MIN_MARGIN or my <= height * MIN_MARGIN:
        raise GldError(
            f"principal point ({K[0, 2]:g}, {K[1, 2]:g}) of a {width}x{height} picture is within "
            f"{MIN_MARGIN:.0%} of an edge: check the calibration, or crop around the optical axis first",
            Status.BAD_INTRINSICS,
        )
    box = (cx - mx, cy - my, cx + mx, cy + my)
    K[:2, 2] -= box[:2]

    centred = (2 * mx, 2 * my)
    scale = max(target[0] / centred[0], target[1] / centred[1]) + 1e-8
    scaled = (math.floor(centred[0] * scale), math.floor(centred[1] * scale))
    K[:2, 2] += 0.5  # from pixel centres to pixel corners, where scaling is a plain product
    K[:2] *= scale
    K[0, 2] -= (centred[0] * scale - scaled[0]) / 2
    K[1, 2] -= (centred[1] * scale - scaled[1]) / 2
    K[:2, 2] -= 0.5

    origin = (round((scaled[0] - target[0]) / 2), round((scaled[1] - target[1]) / 2))
    K[:2, 2] -= origin
    return K, box, scaled, origin


def preprocess(
    rgb: NDArray[np.uint8], K: NDArray, target: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Crop around the principal point, resize, crop to ``target`` = (W, H).

    Returns the picture (H, W, 3) and its K. Raises GldError on a bad principal point or shape.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise GldError(f"picture is {rgb.shape} {rgb.dtype}, must be (H, W, 3) uint8")
    height, width = rgb.shape[:2]
    K, (left, top, right, bottom), scaled, origin = preprocess_intrinsics(K, (width, height), target)
    cropped = rgb[top:bottom, left:right]
    kernel: Kernel = "lanczos" if scaled[0] < cropped.shape[1] else "bicubic"
    picture = resize(cropped, scaled, kernel)
    return picture[origin[1] : origin[1] + target[1], origin[0] : origin[0] + target[0]], K
