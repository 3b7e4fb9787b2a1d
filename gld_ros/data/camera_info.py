"""Calibrated cameras from CameraInfo, and the removal of lens distortion (image_pipeline's conventions).

Of P the left 3x3 is the rectified camera; its fourth column (the baseline of a stereo pair) says nothing about this
camera's own frame and is not used.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import check_intrinsics
from gld_ros.geometry.distortion import Distortion, rectification_maps


def _matrix(values: Any, shape: tuple[int, int], name: str) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if array.size != shape[0] * shape[1]:
        raise GldError(
            f"CameraInfo.{name} has {array.size} entries, must have {shape[0] * shape[1]}", Status.BAD_INTRINSICS
        )
    return array.reshape(shape)


def _window(K: NDArray, info: Any) -> tuple[NDArray[np.float64], int, int]:
    """K and size after the region of interest and binning that CameraInfo declares."""
    roi, k = info.roi, K.copy()
    width, height = (roi.width, roi.height) if roi.width and roi.height else (info.width, info.height)
    k[0, 2] -= roi.x_offset
    k[1, 2] -= roi.y_offset
    bx, by = max(1, info.binning_x), max(1, info.binning_y)
    # CameraInfo's convention scales the principal point with the picture, without the half pixel
    k[0] /= bx
    k[1] /= by
    return k, int(width) // bx, int(height) // by


class CameraModel:
    """A pinhole camera from a sensor_msgs/CameraInfo, and the way from its raw pictures to pinhole ones.

    ``K`` is the rectified camera's matrix, ``width`` and ``height`` the picture's size. Raises GldError(BAD_INTRINSICS)
    on an unknown distortion model, by name, on non-finite or zero focal lengths, and on a wrong number of coefficients.
    """

    def __init__(self, info: Any, rectified: bool) -> None:
        if info.width < 1 or info.height < 1:
            raise GldError(f"CameraInfo is {info.width}x{info.height}: publish a calibration", Status.BAD_INTRINSICS)
        raw = check_intrinsics(_matrix(info.k, (3, 3), "k"), "CameraInfo.k")
        projection = _matrix(info.p, (3, 4), "p")[:, :3]
        new = check_intrinsics(projection, "CameraInfo.p") if projection.any() else raw
        self.raw_K, self.width, self.height = _window(raw, info)
        self.K, _, _ = _window(new, info)
        rotation = _matrix(info.r, (3, 3), "r")
        self._rotation = rotation if rotation.any() else np.eye(3)
        if not np.isfinite(self._rotation).all():
            raise GldError("CameraInfo.r has non-finite entries: check the calibration", Status.BAD_INTRINSICS)
        coefficients = np.array(info.d, dtype=np.float64)
        # a camera without distortion may leave the model's name empty
        named = Distortion("plumb_bob", (0.0,) * 5)
        if coefficients.any() and not rectified:
            named = Distortion(str(info.distortion_model), tuple(coefficients.tolist()))
        self._distortion = named
        self.needs_remap = not rectified and bool(
            any(named.coefficients)
            or not np.allclose(self._rotation, np.eye(3), atol=1e-9)
            or not np.allclose(self.K, self.raw_K, rtol=1e-6)
        )
        self._maps: tuple[NDArray, NDArray] | None = None

    def check_size(self, width: int, height: int) -> None:
        """Raise GldError when a picture is not of this camera."""
        if (width, height) != (self.width, self.height):
            raise GldError(
                f"image is {width}x{height} but its CameraInfo says {self.width}x{self.height}: "
                "publish the calibration of this resolution",
                Status.BAD_INTRINSICS,
            )

    def maps(self) -> tuple[NDArray, NDArray]:
        """OpenCV remap tables from the rectified to the raw picture, made once."""
        if self._maps is None:
            self._maps = rectification_maps(
                self.raw_K, self._distortion, self.K, (self.width, self.height), self._rotation
            )
        return self._maps

    def rectify(self, picture: NDArray, nearest: bool = False) -> NDArray:
        """The pinhole picture of a raw one; ``nearest`` for depth, whose values must not be blended."""
        self.check_size(picture.shape[1], picture.shape[0])
        if not self.needs_remap:
            return picture
        map_x, map_y = self.maps()
        mode = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        border = np.nan if nearest else 0
        return cv2.remap(picture, map_x, map_y, mode, borderMode=cv2.BORDER_CONSTANT, borderValue=border)


class CameraModels:
    """Camera models by content of their CameraInfo, so that remap tables are made once; the oldest goes first."""

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._models: OrderedDict[tuple, CameraModel] = OrderedDict()

    def get(self, info: Any, rectified: bool) -> CameraModel:
        """The model of this CameraInfo; raises what ``CameraModel`` raises."""
        roi = info.roi
        key = (
            rectified,
            info.width,
            info.height,
            str(info.distortion_model),
            *(tuple(np.asarray(v, dtype=np.float64)) for v in (info.k, info.d, info.r, info.p)),
            (info.binning_x, info.binning_y, roi.x_offset, roi.y_offset, roi.width, roi.height),
        )
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = CameraModel(info, rectified)
            while len(self._models) > self._limit:
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return model
