"""Lens distortion as CameraInfo names it, and its removal with OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status

COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


@dataclass(frozen=True)
class Distortion:
    """A named distortion model and its coefficients in OpenCV order. Raises GldError on an unknown model."""

    model: str
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.model not in COEFFICIENTS:
            raise GldError(
                f"distortion model '{self.model}' is not supported: use one of {', '.join(COEFFICIENTS)} "
                "or feed a rectified image",
                Status.BAD_INTRINSICS,
            )
        allowed = COEFFICIENTS[self.model]
        if len(self.coefficients) not in allowed or not np.isfinite(self.coefficients).all():
            raise GldError(
                f"distortion {self.model} has coefficients {self.coefficients}: needs {' or '.join(map(str, allowed))} "
                "finite numbers, recalibrate the camera",
                Status.BAD_INTRINSICS,
            )


def rectification_maps(
    K: NDArray, distortion: Distortion, K_rect: NDArray, size: tuple[int, int], rotation: NDArray | None = None
) -> tuple[NDArray, NDArray]:
    """Float maps for cv2.remap from a raw picture to a pinhole one with ``K_rect`` of ``size`` (w, h).

    ``rotation`` (3, 3) turns raw optical axes to rectified ones (CameraInfo.r). Not OpenCV's fixed-point maps: with
    them INTER_NEAREST, which depth needs, takes the wrong one of two neighbours half of the time.
    """
    turn = np.eye(3) if rotation is None else np.asarray(rotation, float)
    d = np.asarray(distortion.coefficients, float)
    make = cv2.fisheye.initUndistortRectifyMap if distortion.model == "equidistant" else cv2.initUndistortRectifyMap
    return make(np.asarray(K, float), d, turn, np.asarray(K_rect, float), size, cv2.CV_32FC1)


def rectify_image(image: NDArray, K: NDArray, distortion: Distortion) -> NDArray:
    """The picture without distortion under the same K and size; outside the lens black."""
    maps = rectification_maps(K, distortion, K, (image.shape[1], image.shape[0]))
    return cv2.remap(image, *maps, cv2.INTER_LINEAR)


def rectify_depth(depth: NDArray[np.float32], K: NDArray, distortion: Distortion) -> NDArray[np.float32]:
    """Depth without distortion: nearest neighbour, never mixed across edges; NaN outside the lens."""
    maps = rectification_maps(K, distortion, K, (depth.shape[1], depth.shape[0]))
    nan = float("nan")
    rectified = cv2.remap(depth, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=nan)
    return np.asarray(rectified, dtype=np.float32)
