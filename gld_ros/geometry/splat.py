"""Sensor depth moved into a target camera: exact where it lands, edges included, which no plane sweep is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import inside, project, sample
from gld_ros.geometry.target_depth import nearness
from gld_ros.geometry.view_depth import ViewDepth

FINER = 2  # points per pixel side, so that a target somewhat nearer than the view gets few cracks
SAME_SURFACE = 0.05  # neighbours within this share in inverse depth lie on one surface
SURROUNDED = 6  # of 8 neighbours that are nearer: what shows between them shows through a crack


def splat_measured(target: Camera, depths: Sequence[ViewDepth]) -> Tensor:
    """Inverse depth of the surfaces that depth sensors measured as ``target`` sees them, 0 where none did; (H, W).

    Views are taken in the order of their nearness, for colours come from near views most: a further one adds what is in
    front of that or beside it, unless a nearer view has looked through it.
    """
    measured = [d for d in depths if d.measured.any()]
    fused = torch.zeros(target.height, target.width, device=depths[0].inverse.device)
    if not measured:
        return fused
    scene_inverse = float(torch.cat([d.inverse[d.measured] for d in measured]).median())
    measured.sort(key=lambda d: -nearness(d.view.camera, target, scene_inverse))
    for rank, depth in enumerate(measured):
        own = _without_cracks(_splat(target, depth))
        for nearer in measured[:rank]:
            own = torch.where(_looks_through(nearer, target, own), torch.zeros_like(own), own)
        fused = torch.where(own > (1 + SAME_SURFACE) * fused, own, fused)
    return fused


def _splat(target: Camera, depth: ViewDepth) -> Tensor:
    """The nearest of one view's measured points at each pixel, (H, W)."""
    inverse = upsample_inverse(depth.inverse, *(FINER * side for side in depth.inverse.shape))
    measured = depth.measured.repeat_interleave(FINER, 0).repeat_interleave(FINER, 1)
    cell, landed = _land(target, depth.view.camera, inverse[measured], torch.nonzero(measured).T)
    nearest = torch.zeros(target.height * target.width, device=inverse.device)
    return nearest.scatter_reduce_(0, cell, landed, "amax").view(target.height, target.width)


def _looks_through(view: ViewDepth, target: Camera, inverse: Tensor) -> Tensor:
    """Has ``view`` measured something clearly behind the points of ``target`` at ``inverse`` depth? (H, W) bool."""
    x, y, there = project(target, view.view.camera, inverse.clamp(min=1e-9)[None])
    theirs, measured = sample(torch.stack([view.inverse, view.measured.float()]), x, y, "nearest")[:, 0]
    known = inside(x, y, there, view.view.camera)[0] & (measured > 0.5) & (inverse > 0)
    return known & (theirs < (1 - SAME_SURFACE) * there[0])


def upsample_inverse(inverse: Tensor, height: int, width: int) -> Tensor:
    """Grow an inverse-depth map: bilinear on surfaces, nearest across edges so that no depth floats between two."""
    smooth = F.interpolate(inverse[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    nearest = F.interpolate(inverse[None, None], size=(height, width), mode="nearest-exact")[0, 0]
    return torch.where((smooth - nearest).abs() < SAME_SURFACE * nearest, smooth, nearest)


def _land(target: Camera, camera: Camera, inverse: Tensor, rows_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of ``target``, row by row, that points of ``camera`` fall on, and their inverse depth there; (n,) each."""
    target_from_cam = target.cam_from_world @ camera.world_from_cam
    turn = torch.as_tensor(target.K @ target_from_cam[:3, :3] @ np.linalg.inv(camera.K), dtype=torch.float32)
    shift = torch.as_tensor(target.K @ target_from_cam[:3, 3], dtype=torch.float32)
    v, u = (rows_columns.float() + 0.5) / FINER - 0.5
    homogeneous = turn.to(inverse.device) @ torch.stack([u, v, torch.ones_like(u)])
    homogeneous = homogeneous + shift.to(inverse.device).unsqueeze(1) * inverse  # target z over camera z is the last
    ratio = homogeneous[2].clamp(min=1e-6)
    x, y = (homogeneous[:2] / ratio).round()
    inside = (homogeneous[2] > 1e-6) & (x >= 0) & (y >= 0) & (x < target.width) & (y < target.height)
    return (y * target.width + x)[inside].long(), (inverse / ratio)[inside]


def _without_cracks(inverse: Tensor) -> Tensor:
    """Pixels that nearer ones surround get the mean of those."""
    around = F.unfold(F.pad(inverse[None, None], (1, 1, 1, 1)), 3).view(9, *inverse.shape)
    around = torch.cat([around[:4], around[5:]])
    nearer = around > (1 + SAME_SURFACE) * inverse
    count = nearer.sum(0)
    mean = (around * nearer).sum(0) / count.clamp(min=1)
    return torch.where(count >= SURROUNDED, mean, inverse)
