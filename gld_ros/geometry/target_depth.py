"""Depth of a view nobody took: a plane sweep in its camera, with the real views' depths as votes and for visibility."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import (
    best_half,
    box3,
    inside,
    inverse_depth_planes,
    parallax_weight,
    project,
    sample,
    zncc,
)
from gld_ros.geometry.semi_global import read_planes, semi_global
from gld_ros.geometry.view_depth import ViewDepth, agreement_scale

FREE_SPACE = 0.5  # penalty of a point a view has seen through
COLOUR_WEIGHT, COLOUR_SCALE = 0.5, 0.1  # colour disagreement counts where correlation is blind: flat walls
FULL_EVIDENCE = 0.6  # evidence above the pixel's mean that counts as certain
SOFTNESS = 0.8  # temperature of the plane posterior used for the expected colour
DISTANCE_OFFSET = 0.05  # keeps the nearness of a view at the target's own place finite


@dataclass(frozen=True, eq=False)
class TargetDepth:
    """Inverse depth of a target camera, how sure it is, and the colour expected over all planes."""

    inverse: torch.Tensor  # (H, W)
    confidence: torch.Tensor  # (H, W) in [0, 1]
    expected_rgb: torch.Tensor  # (3, H, W) posterior mean: sharp where sure, blurred where not
    expected_seen: torch.Tensor  # (H, W) probability that some view sees the surface
    inverse_std: torch.Tensor  # (H, W) posterior standard deviation of the inverse depth
    step: float


def nearness(view: Camera, target: Camera, inverse_depth: float) -> float:
    """How well placed a view is for a target: 1 over (distance in scene depths + angle in units of 60 degrees)."""
    distance = float(np.linalg.norm(view.centre - target.centre)) * inverse_depth
    relative = view.world_from_cam[:3, :3].T @ target.world_from_cam[:3, :3]
    angle = float(np.degrees(np.arccos(np.clip((np.trace(relative) - 1) / 2, -1, 1))))
    return 1.0 / (DISTANCE_OFFSET + distance + angle / 60.0)


def sweep_target(
    target: Camera, depths: Sequence[ViewDepth], gains: torch.Tensor, near_far: tuple[float, float], planes: int
) -> TargetDepth:
    """Sweep planes in the ``target`` camera. ``gains`` (V, 3): log exposure gains of the views."""
    device = depths[0].inverse.device
    inverse_depths = inverse_depth_planes(*near_far, planes, device=device)
    volume = inverse_depths.view(-1, 1, 1).expand(-1, target.height, target.width)
    close = np.array([nearness(d.view.camera, target, float(inverse_depths.median())) for d in depths])
    close = close / close.max()

    votes = torch.zeros(volume.shape, device=device)
    free = torch.zeros_like(votes)
    greys, colours, visible = [], [], []
    for depth, gain, near in zip(depths, gains, close, strict=True):
        x, y, inverse = project(target, depth.view.camera, volume)
        seen = inside(x, y, inverse, depth.view.camera)
        theirs = sample(torch.stack([depth.inverse, depth.confidence, depth.sigma]), x, y, "nearest")
        sure = theirs[1] * float(near)
        apart = (inverse - theirs[0]) / agreement_scale(depth, target)  # > 0: in front of what the view saw
        votes += torch.exp(-(((inverse - theirs[0]) / theirs[2]) ** 2) / 2) * sure * seen
        free += torch.sigmoid((apart - 2.5) * 2) * sure * seen
        visible.append(seen * (1 - torch.sigmoid((-apart - 2.5) * 2) * sure))
        rgb = sample(depth.view.rgb, x, y)
        greys.append(0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2])
        colours.append(rgb * torch.exp(-gain)[:, None, None, None])

    evidence = votes.clamp(max=2)
    photo = torch.zeros_like(votes)
    if len(depths) > 1:
        pair_scores, weights = [], []
        for i, j in combinations(range(len(depths)), 2):
            differ = box3((colours[i] - colours[j]).abs().mean(0))
            pair_scores.append(zncc(greys[i], greys[j]) - COLOUR_WEIGHT * (differ / COLOUR_SCALE).clamp(max=1))
            both = visible[i] * visible[j]
            pair = parallax_weight(depths[i].view.camera, depths[j].view.camera, inverse_depths)
            weights.append(torch.where(both > 0.3, both, torch.zeros_like(both)) * pair)
        photo = best_half(torch.stack(pair_scores), torch.stack(weights))
        evidence = evidence + photo.clamp(min=0)
    scores = semi_global(photo + votes.clamp(max=2) - FREE_SPACE * free)
    inverse, index = read_planes(scores, inverse_depths)
    confidence = ((evidence.gather(0, index[None])[0] - evidence.mean(0)) / FULL_EVIDENCE).clamp(0, 1)

    posterior = torch.softmax(scores / SOFTNESS, 0)
    mean = (posterior * volume).sum(0)
    std = ((posterior * volume**2).sum(0) - mean**2).clamp(min=0).sqrt()
    rgb, seen_probability = _expected_colour(posterior, colours, visible, close)
    step = float(inverse_depths[1] - inverse_depths[0])
    return TargetDepth(inverse, confidence, rgb, seen_probability, std, step)


def refine(target: Camera, depths: Sequence[ViewDepth], inverse: torch.Tensor, rounds: int = 2) -> torch.Tensor:
    """Move an inverse-depth map (H, W) of ``target`` onto the surfaces the views measured, where it is close to one.

    Plane sweeps are quantised and smoothed; the views' own depths, sensor depths above all, are not.
    """
    for _ in range(rounds):
        total = torch.full_like(inverse, 0.1)
        mean = 0.1 * inverse
        for depth in depths:
            camera = depth.view.camera
            x, y, there = project(target, camera, inverse[None])
            seen = inside(x, y, there, camera)[0]
            theirs = sample(torch.stack([depth.inverse, depth.confidence, depth.sigma]), x, y, "nearest")[:, 0]
            apart = (there[0] - theirs[0]) / (2 * theirs[2])
            weight = torch.exp(-(apart**2) / 2) * theirs[1] ** 2 * seen
            smooth = sample(depth.inverse[None], x, y)[0, 0]  # no steps on surfaces, but no mixing across edges
            value = torch.where((smooth - theirs[0]).abs() < theirs[2], smooth, theirs[0])
            mean = mean + weight * inverse_depth_seen_from(target, camera, x[0], y[0], value)
            total = total + weight
        inverse = mean / total
    return inverse


def inverse_depth_seen_from(
    target: Camera, camera: Camera, x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor
) -> torch.Tensor:
    """Inverse depth in ``target`` of the points that ``camera`` sees at pixels x, y with ``inverse`` depth; >= 1e-6."""
    target_from_cam = target.cam_from_world @ camera.world_from_cam
    row = torch.as_tensor(target_from_cam[2, :3] @ np.linalg.inv(camera.K), dtype=torch.float32, device=x.device)
    ratio = row[0] * x + row[1] * y + row[2] + float(target_from_cam[2, 3]) * inverse  # target z over camera z
    return torch.where(ratio > 1e-3, inverse / ratio.clamp(min=1e-3), inverse).clamp(min=1e-6)


def _expected_colour(
    posterior: torch.Tensor, colours: list[torch.Tensor], visible: list[torch.Tensor], close: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    weights = [(v + 1e-4) * float(c) ** 4 for v, c in zip(visible, close, strict=True)]
    total = torch.stack(weights).sum(0)
    seen = torch.stack(visible).amax(0) * posterior
    share = seen / total.clamp(min=1e-8)
    rgb = sum((c * (w * share)).sum(1) for c, w in zip(colours, weights, strict=True))
    probability = seen.sum(0)
    return torch.as_tensor(rgb) / probability.clamp(min=1e-6), probability
