"""The swept depth of a camera carried to where the camera is now, while it moves little: no new sweep.

Only sweeps are carried, never what has been carried, so that errors do not add up.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import inside, project, sample
from gld_ros.geometry.target_depth import TargetDepth, inverse_depth_seen_from

MAX_TRACKS = 8  # cameras whose last sweep is kept
LARGEST_MOVE_PX = 6.0  # at working size and typical depth: beyond, too much has come into view
ROUNDS = 3  # of following a pixel to the surface it shows
NEAR_PX = 5  # window in which the nearest surface is tried first, for it hides the others
SAME_STEPS = 2.0  # planes between two inverse depths of one surface


@dataclass(frozen=True, eq=False)
class _Track:
    camera: Camera  # at working size
    swept: TargetDepth
    source: Hashable  # what it was swept from


class Tracks:
    """The last sweep of each camera, least recently used out first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Track] = OrderedDict()

    def carried(self, name: str, camera: Camera, source: Hashable) -> TargetDepth | None:
        """The depth of ``camera``, or None where no sweep from ``source`` is kept that is near enough."""
        kept = self._kept.get(name)
        if kept is None or kept.source is not source or not same_lens(kept.camera, camera):
            return None
        typical = 1 / max(float(kept.swept.inverse.median()), 1e-9)
        if moved_px(kept.camera, camera, typical) > LARGEST_MOVE_PX:
            return None
        return carry(kept.swept, kept.camera, camera)

    def keep(self, name: str, camera: Camera, swept: TargetDepth, source: Hashable) -> None:
        """Remember a sweep of ``camera`` at working size."""
        self._kept[name] = _Track(camera, swept, source)
        self._kept.move_to_end(name)
        while len(self._kept) > MAX_TRACKS:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()


def carry(swept: TargetDepth, camera: Camera, target: Camera) -> TargetDepth:
    """What ``camera`` was swept to, as ``target`` sees it; confidence 0 where it sees something else or further out."""
    inverse = F.max_pool2d(swept.inverse[None], NEAR_PX, 1, NEAR_PX // 2)[0]
    for _ in range(ROUNDS):
        x, y, _ = project(target, camera, inverse[None])
        theirs = sample(swept.inverse[None], x, y, "nearest")[0, 0]
        inverse = inverse_depth_seen_from(target, camera, x[0], y[0], theirs)
    x, y, there = project(target, camera, inverse[None])
    theirs = sample(swept.inverse[None], x, y, "nearest")[0, 0]
    smooth = sample(swept.inverse[None], x, y)[0, 0]
    surface = torch.where((smooth - theirs).abs() < SAME_STEPS * swept.step, smooth, theirs)
    same = inside(x, y, there, camera)[0] & ((there[0] - surface).abs() < SAME_STEPS * swept.step)
    maps = torch.cat([swept.expected_rgb, torch.stack([swept.confidence, swept.expected_seen, swept.inverse_std])])
    found = sample(maps, x, y)[:, 0]
    return replace(
        swept,
        inverse=torch.where(same, inverse_depth_seen_from(target, camera, x[0], y[0], surface), inverse),
        confidence=found[3] * same,
        expected_rgb=found[:3],
        expected_seen=found[4] * same,
        inverse_std=found[5],
    )


def moved_px(a: Camera, b: Camera, depth: float, focal_px: float | None = None) -> float:
    """How far the picture of a point at z-depth ``depth`` moves at most, roughly; in pixels of ``a`` or of a lens."""
    turn = math.acos(np.clip((np.trace(a.world_from_cam[:3, :3].T @ b.world_from_cam[:3, :3]) - 1) / 2, -1, 1))
    shift = float(np.linalg.norm(a.centre - b.centre)) / max(depth, 1e-6)
    return (turn + shift) * (float(a.K[0, 0]) if focal_px is None else focal_px)


def same_lens(a: Camera, b: Camera) -> bool:
    """Equal size and intrinsics."""
    return (a.width, a.height) == (b.width, b.height) and np.allclose(a.K, b.K)
