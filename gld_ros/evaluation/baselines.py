"""Predictors that need no model: what any synthesiser must beat."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera, view_costs
from gld_ros.geometry.images import resize_area
from gld_ros.synthesis.types import PosedView


def nearest_view(views: Sequence[PosedView], target: Camera) -> int:
    """Index of the view with the least |dc|/s + angle/30 deg, s the median distance of neighbouring centres."""
    return int(np.argmin(view_costs([v.camera for v in views], target)))


def trivial_predictions(
    views: Sequence[PosedView], target: Camera, size: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    """copy_nearest, mean and blur at ``size`` (w, h); blur = nearest, Gaussian sigma 1 % of the longer side."""
    pictures = [resize_area(v.rgb, *size) for v in views]
    copy = pictures[nearest_view(views, target)]
    mean = np.mean([p.astype(np.float64) for p in pictures], axis=0).round().astype(np.uint8)
    blur = cv2.GaussianBlur(copy, (0, 0), max(size) / 100.0)
    return {"copy_nearest": copy, "mean": mean, "blur": blur}
