"""Observed and generated point clouds of a request, never mixed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.errors import Status
from gld_ros.geometry.carving import seen_through
from gld_ros.geometry.cloud import backproject_planes
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.synthesis.types import GENERATED, OBSERVED, Cloud, SynthesizedView

NEAREST = 1e-6  # world units: keeps inverse depths finite


def clouds_of(views: Sequence[SynthesizedView], seen_through: Sequence[NDArray | None]) -> tuple[Cloud, Cloud]:
    """Observed and generated points of all views in the world frame.

    Generated points where ``seen_through`` (H, W) is true contradict a real ray through free space and are dropped.
    """
    parts: dict[int, list[Cloud]] = {OBSERVED: [], GENERATED: []}
    for view, through in zip(views, seen_through, strict=True):
        if view.status != Status.OK:
            continue
        planes = [plane.ravel() for plane in backproject_planes(view.camera, view.depth)]
        known = np.isfinite(view.depth)
        for kind, found in parts.items():
            keep = known & (view.provenance == kind)
            if kind == GENERATED and through is not None:
                keep &= ~through
            found.append(_pick(view, planes, np.flatnonzero(keep)))
    return _join(parts[OBSERVED]), _join(parts[GENERATED])


def carved_clouds(views: Sequence[SynthesizedView], depths: Sequence[ViewDepth]) -> tuple[Cloud, Cloud]:
    """``clouds_of`` without generated points that the real views have seen through; ``depths``: theirs."""
    device = depths[0].inverse.device
    through: list[NDArray | None] = []
    for view in views:
        if view.status != Status.OK:
            through.append(None)
            continue
        inverse = torch.from_numpy(1.0 / np.maximum(view.depth, NEAREST)).to(device)
        through.append(seen_through(view.camera, depths, inverse).cpu().numpy())
    return clouds_of(views, through)


def _pick(view: SynthesizedView, planes: Sequence[NDArray], pixels: NDArray) -> Cloud:
    """Points of the pixels with these flat indices."""
    xyz = np.empty((len(pixels), 3), np.float32)
    for axis, plane in enumerate(planes):
        xyz[:, axis] = plane[pixels]
    return Cloud(xyz, view.rgb.reshape(-1, 3).take(pixels, axis=0), view.confidence.ravel()[pixels])


def _join(parts: Sequence[Cloud]) -> Cloud:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Cloud(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8), np.zeros(0, np.float32))
    xyz, rgb, confidence = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("xyz", "rgb", "confidence")
    )
    return Cloud(xyz, rgb, confidence)
