"""Free space the real views have seen through: no generated surface may stand in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import inside, project, sample
from gld_ros.geometry.view_depth import ViewDepth, agreement_scale

MARGIN = 4.0  # in units of what counts as agreement
TRUSTED = 0.5  # confidence a view's depth needs before it may carve


def seen_through(target: Camera, depths: Sequence[ViewDepth], inverse: torch.Tensor) -> torch.Tensor:
    """True where the point at ``inverse`` depth (H, W) of ``target`` is clearly in front of what some view saw."""
    through = torch.zeros_like(inverse, dtype=torch.bool)
    for depth in depths:
        x, y, there = project(target, depth.view.camera, inverse[None])
        theirs = sample(torch.stack([depth.inverse, depth.confidence]), x, y, "nearest")[:, 0]
        in_front = (there[0] - theirs[0]) / agreement_scale(depth, target) > MARGIN
        through |= in_front & inside(x, y, there, depth.view.camera)[0] & (theirs[1] > TRUSTED)
    return through
