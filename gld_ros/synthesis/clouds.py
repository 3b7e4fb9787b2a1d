"""Observed and generated point clouds of a request, never mixed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import Status
from gld_ros.geometry.cloud import backproject
from gld_ros.synthesis.types import GENERATED, OBSERVED, Cloud, SynthesizedView


def clouds_of(views: Sequence[SynthesizedView], seen_through: Sequence[NDArray | None]) -> tuple[Cloud, Cloud]:
    """Observed and generated points of all views in the world frame.

    Generated points where ``seen_through`` (H, W) is true contradict a real ray through free space and are dropped.
    """
    parts: dict[int, list[tuple[NDArray, NDArray, NDArray]]] = {OBSERVED: [], GENERATED: []}
    for view, through in zip(views, seen_through, strict=True):
        if view.status != Status.OK:
            continue
        points = backproject(view.camera, view.depth)
        valid = np.isfinite(points).all(axis=-1)
        for kind, found in parts.items():
            keep = valid & (view.provenance == kind)
            if kind == GENERATED and through is not None:
                keep &= ~through
            found.append((points[keep], view.rgb[keep], view.confidence[keep]))
    return _join(parts[OBSERVED]), _join(parts[GENERATED])


def _join(parts: list[tuple[NDArray, NDArray, NDArray]]) -> Cloud:
    if not parts:
        return Cloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))
    xyz, rgb, confidence = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Cloud(xyz, rgb, confidence)
