"""Predictors that need no model: what any synthesiser must beat."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.images import resize_area
from gld_ros.synthesis.types import PosedView


def nearest_view(views: Sequence[PosedView], target: Camera) -> int:
    """Index of the view with the least |dc|/s + angle/30 deg, s the median distance of neighbouring centres."""
    centres = np.array([v.camera.centre for v in views])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    spacing = float(np.median(distances.min(axis=1))) if len(views) > 1 else 1.0
    spacing = spacing if np.isfinite(spacing) and spacing > 0 else 1.0
    cost = []
    for view in views:
        relative = view.camera.world_from_cam[:3, :3].T @ target.world_from_cam[:3, :3]
        angle = np.degrees(np.arccos(np.clip((np.trace(relative) - 1) / 2, -1, 1)))
        cost.append(np.linalg.norm(view.camera.centre - target.centre) / spacing + angle / 30.0)
    return int(np.argmin(cost))


def trivial_predictions(
    views: Sequence[PosedView], target: Camera, size: tuple[int, int]
) -> dict[str, NDArray[np.uint8]]:
    """copy_nearest, mean and blur at ``size`` (w, h); blur = nearest, Gaussian sigma 1 % of the longer side."""
    pictures = [resize_area(v.rgb, *size) for v in views]
    copy = pictures[nearest_view(views, target)]
    mean = np.mean([p.astype(np.float64) for p in pictures], axis=0).round().astype(np.uint8)
    blur = cv2.GaussianBlur(copy, (0, 0), max(size) / 100.0)
    return {"copy_nearest": copy, "mean": mean, "blur": blur}
