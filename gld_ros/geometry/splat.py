"""Sensor depth moved into a target camera: exact where it lands, edges included, which no plane sweep is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import inside, plane_projection, project, sample
from gld_ros.geometry.target_depth import nearness

FINER = 2  # points per pixel side, so that a target somewhat nearer than the view gets few cracks
SAME_SURFACE = 0.05  # neighbours within this share in inverse depth lie on one surface
SURROUNDED = 6  # of 8 neighbours that are nearer: what shows between them shows through a crack


@dataclass(frozen=True, eq=False)
class SensorDepth:
    """What a depth sensor measured in one view."""

    camera: Camera
    inverse: Tensor  # (H, W) inverse z-depth, 0 where nothing was measured


def sensor_depth(camera: Camera, depth: Tensor) -> SensorDepth:
    """From z-depth (H, W); not finite or <= 0 = not measured.

    Pixels on the rim of a gap are left out: gaps lie where a sensor sees two surfaces or none well, and its last values
    before them are the worst. Single missing pixels are no gap.
    """
    measured = torch.isfinite(depth) & (depth > 0)
    gap = F.max_pool2d(measured.float()[None], 3, 1, 1) == 0  # nothing in 3 x 3 pixels
    rim = F.max_pool2d(gap.float(), 5, 1, 2)[0] > 0
    return SensorDepth(camera, torch.where(measured & ~rim, 1 / depth.clamp(min=1e-6), torch.zeros_like(depth)))


def splat(target: Camera, depths: Sequence[SensorDepth]) -> Tensor:
    """Inverse depth of the nearest measured surface at each pixel of ``target``, 0 where no measurement lands; (H, W).

    Views are taken in the order of their nearness, for colours come from near views most: a further one adds what is in
    front of that or beside it, unless a nearer view has looked through it.
    """
    fused = torch.zeros(target.height, target.width, device=depths[0].inverse.device)
    measured = torch.cat([d.inverse[d.inverse > 0] for d in depths])
    if not len(measured):
        return fused
    scene_inverse = float(measured.median())
    ordered = sorted(depths, key=lambda d: -nearness(d.camera, target, scene_inverse))
    for rank, depth in enumerate(ordered):
        own = _without_cracks(_splat(target, depth))
        for nearer in ordered[:rank]:
            own = torch.where(_looks_through(nearer, target, own), torch.zeros_like(own), own)
        fused = torch.where(own > (1 + SAME_SURFACE) * fused, own, fused)
    return fused


def _splat(target: Camera, depth: SensorDepth) -> Tensor:
    """The nearest of one view's points at each pixel, (H, W)."""
    inverse = upsample_inverse(depth.inverse, *(FINER * side for side in depth.inverse.shape))
    rows_columns = torch.nonzero(inverse).T
    inverse = inverse[rows_columns[0], rows_columns[1]]
    turn, shift = (
        torch.as_tensor(m, dtype=torch.float32).to(inverse.device) for m in plane_projection(depth.camera, target)
    )
    v, u = (rows_columns.float() + 0.5) / FINER - 0.5
    x, y, ratio = turn @ torch.stack([u, v, torch.ones_like(u)]) + shift.unsqueeze(1) * inverse
    ahead = ratio > 1e-6  # target z over the view's z
    x, y = (x / ratio).round(), (y / ratio).round()
    landed = ahead & (x >= 0) & (y >= 0) & (x < target.width) & (y < target.height)
    cell = (y * target.width + x)[landed].long()
    nearest = torch.zeros(target.height * target.width, device=inverse.device)
    nearest.scatter_reduce_(0, cell, (inverse / ratio)[landed], "amax")
    return nearest.view(target.height, target.width)


def _looks_through(view: SensorDepth, target: Camera, inverse: Tensor) -> Tensor:
    """Has ``view`` measured something clearly behind the points of ``target`` at ``inverse`` depth? (H, W) bool."""
    x, y, there = project(target, view.camera, inverse.clamp(min=1e-9)[None])
    theirs = sample(view.inverse[None], x, y, "nearest")[0, 0]
    known = inside(x, y, there, view.camera)[0] & (theirs > 0) & (inverse > 0)
    return known & (theirs < (1 - SAME_SURFACE) * there[0])


def _without_cracks(inverse: Tensor) -> Tensor:
    """Pixels that nearer ones surround get the mean of those."""
    around = F.unfold(F.pad(inverse[None, None], (1, 1, 1, 1)), 3).view(9, *inverse.shape)
    around = torch.cat([around[:4], around[5:]])
    nearer = around > (1 + SAME_SURFACE) * inverse
    count = nearer.sum(0)
    mean = (around * nearer).sum(0) / count.clamp(min=1)
    return torch.where(count >= SURROUNDED, mean, inverse)


def upsample_inverse(inverse: Tensor, height: int, width: int) -> Tensor:
    """Grow an inverse-depth map: bilinear on surfaces, nearest across edges so that no depth floats between two."""
    smooth = F.interpolate(inverse[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    nearest = F.interpolate(inverse[None, None], size=(height, width), mode="nearest-exact")[0, 0]
    return torch.where((smooth - nearest).abs() < SAME_SURFACE * nearest, smooth, nearest)
