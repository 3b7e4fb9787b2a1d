"""Move pictures to other cameras through their depth: batched, in torch.

Each pixel is one point; the nearest surface wins, several views of it are averaged by nearness in pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAME_SURFACE = 0.03  # points within this share of the nearest depth count as the same surface
MIN_DEPTH = 1e-3


@dataclass(frozen=True, eq=False)
class Warped:
    """What the source views show in each target."""

    rgb: Tensor  # (B, T, D, H, W), zero where nothing was seen; D as in the sources
    depth: Tensor  # (B, T, H, W) z-depth, zero where nothing was seen
    coverage: Tensor  # (B, T, H, W) bool


def forward_warp(
    rgb: Tensor, depth: Tensor, K: Tensor, world_from_cam: Tensor, target_K: Tensor, target_world_from_cam: Tensor
) -> Warped:
    """Splat source pixels into targets of the same size.

    Args:
        rgb: source pictures, (B, C, D, H, W): three colours, and any other map that moves with them.
        depth: their z-depth in the unit of the poses, (B, C, H, W); not finite or <= 0 = unknown.
        K, world_from_cam: (B, C, 3, 3) pixels and (B, C, 4, 4) OpenCV poses of the sources.
        target_K, target_world_from_cam: (B, T, 3, 3) and (B, T, 4, 4).
    """
    scenes, channels, height, width = rgb.shape[0], *rgb.shape[-3:]
    targets = target_K.shape[1]
    device = rgb.device
    rows, columns = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    pixels = torch.stack([columns, rows, torch.ones_like(rows)]).flatten(1).float()  # (3, HW)
    known = torch.isfinite(depth) & (depth > MIN_DEPTH)
    z = torch.where(known, depth, torch.ones_like(depth)).flatten(2).float()  # (B, C, HW)
    # Poses relative to the first source keep fp32 exact far from the world's origin.
    base = torch.linalg.inv(world_from_cam[:, :1].double())
    to_base = (base @ world_from_cam.double()).float()
    from_base = torch.linalg.inv(base @ target_world_from_cam.double()).float()
    rays = torch.linalg.inv(K.double()).float() @ pixels  # (B, C, 3, HW)
    points = to_base[..., :3, :3] @ (rays * z.unsqueeze(2)) + to_base[..., :3, 3:]
    points = points.transpose(1, 2).flatten(2)  # (B, 3, C * HW)
    seen = from_base[..., :3, :3] @ points.unsqueeze(1) + from_base[..., :3, 3:]  # (B, T, 3, C * HW)
    zt = seen[:, :, 2]
    image = target_K.float() @ seen
    u = (image[:, :, 0] / zt.clamp(min=MIN_DEPTH)).round()
    v = (image[:, :, 1] / zt.clamp(min=MIN_DEPTH)).round()
    inside = (zt > MIN_DEPTH) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    inside &= known.flatten(1).unsqueeze(1)
    area = height * width
    picture = torch.arange(scenes * targets, device=device).view(scenes, targets, 1) * area
    cell = (picture + v.clamp(0, height - 1).long() * width + u.clamp(0, width - 1).long())[inside]
    points_z = zt[inside]
    nearest = torch.full((scenes * targets * area,), float("inf"), device=device)
    nearest.scatter_reduce_(0, cell, points_z, "amin")
    front = points_z <= nearest[cell] * (1 + SAME_SURFACE)
    weight = _nearness(to_base, from_base).repeat_interleave(area, dim=-1)[inside][front]  # (points,)
    colours = rgb.float().permute(0, 1, 3, 4, 2).reshape(scenes, 1, -1, channels).expand(-1, targets, -1, -1)
    values = torch.cat([colours[inside][front], points_z[front].unsqueeze(1)], dim=1) * weight.unsqueeze(1)
    total = torch.zeros(scenes * targets * area, channels + 2, device=device)
    total.index_add_(0, cell[front], torch.cat([values, weight.unsqueeze(1)], dim=1))
    covered = total[:, -1] > 0
    mean = total[:, :-1] / total[:, -1:].clamp(min=1e-12)
    mean = mean.view(scenes, targets, height, width, channels + 1)
    return Warped(mean[..., :-1].permute(0, 1, 4, 2, 3), mean[..., -1], covered.view(scenes, targets, height, width))


def _nearness(to_base: Tensor, from_base: Tensor) -> Tensor:
    """Weight of every source for every target, (B, T, C): large when centre and viewing direction are close."""
    relative = from_base.unsqueeze(2) @ to_base.unsqueeze(1)  # (B, T, C, 4, 4)
    distance = relative[..., :3, 3].norm(dim=-1)
    angle = torch.acos(relative[..., 2, 2].clamp(-1, 1))
    cost = distance / distance.mean(dim=-1, keepdim=True).clamp(min=1e-6) + 2 * angle
    return 1.0 / (0.05 + cost).square()
