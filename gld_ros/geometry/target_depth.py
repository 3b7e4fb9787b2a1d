"""Depth of a view nobody took: a plane sweep in its camera, with the real views' depths as votes and for visibility."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.matching import Patches, best_half, box3, parallax_weight, patches, plane_chunks, zncc
from gld_ros.geometry.plane_sweep import (
    LUMA,
    Projection,
    inside,
    inverse_depth_planes,
    lookup,
    lookup_grid,
    sample,
)
from gld_ros.geometry.semi_global import read_planes, semi_global
from gld_ros.geometry.view_depth import ViewDepth, agreement_scale

FREE_SPACE = 0.5  # penalty of a point a view has seen through
COLOUR_WEIGHT, COLOUR_SCALE = 0.5, 0.1  # colour disagreement counts where correlation is blind: flat walls
FULL_EVIDENCE = 0.6  # evidence above the pixel's mean that counts as certain
SOFTNESS = 0.8  # temperature of the plane posterior used for the expected colour
SEEN_APART = 2.5  # agreement scales in front of or behind its surface at which a view saw through, or not, a point
NEVER = 30.0  # exponents are cut here: beyond it exp gives denormal numbers, many times slower
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


class _Source:
    """A view with its depth, ready to be looked up plane by plane from a target camera."""

    def __init__(self, target: Camera, depth: ViewDepth, gain: torch.Tensor, near: float) -> None:
        self.camera = depth.view.camera
        self.near = near
        self._project = Projection(target, self.camera, gain.device)
        self._rgb = depth.view.rgb * torch.exp(-gain)[:, None, None]
        self._luma = (gain.new_tensor(LUMA) * torch.exp(gain)).tolist()  # correlation is of the picture as it was
        self._surface = torch.stack([depth.inverse, 1 / (depth.sigma * math.sqrt(2.0)), depth.confidence * near])
        self._agreement = agreement_scale(depth, target)

    def warp(self, inverse_depths: torch.Tensor) -> _Warped:
        """What the view says of the planes ``inverse_depths`` (D,) of the target."""
        x, y, inverse = self._project(inverse_depths.view(-1, 1, 1))
        seen = inside(x, y, inverse, self.camera)
        grid = lookup_grid(x, y, self.camera.width, self.camera.height)
        rgb = lookup(self._rgb, grid, x.shape)
        theirs, sharpness, sure = lookup(self._surface, grid, x.shape, "nearest")
        sure = sure * seen
        behind_by = inverse.sub_(theirs)  # > 0: in front of what the view saw
        votes = (behind_by * sharpness).square_().neg_().clamp_(min=-NEVER).exp_().mul_(sure)
        apart = behind_by.mul_(2 / self._agreement).clamp_(-NEVER, NEVER)
        free = torch.sigmoid(apart - 2 * SEEN_APART).mul_(sure)
        hidden = torch.sigmoid_(apart.neg_().sub_(2 * SEEN_APART)).mul_(sure)
        grey = (rgb[0] * self._luma[0]).add_(rgb[1], alpha=self._luma[1]).add_(rgb[2], alpha=self._luma[2])
        return _Warped(rgb, patches(grey), votes, free, hidden.neg_().add_(seen))


@dataclass(frozen=True, eq=False)
class _Warped:
    rgb: torch.Tensor  # (3, D, H, W) without the view's exposure gain
    grey: Patches
    votes: torch.Tensor  # (D, H, W) how much the view's depth speaks for a point
    free: torch.Tensor  # (D, H, W) how sure the view has seen through it
    visible: torch.Tensor  # (D, H, W) in [0, 1]


def sweep_target(
    target: Camera, depths: Sequence[ViewDepth], gains: torch.Tensor, near_far: tuple[float, float], planes: int
) -> TargetDepth:
    """Sweep planes in the ``target`` camera. ``gains`` (V, 3): log exposure gains of the views."""
    device = depths[0].inverse.device
    inverse_depths = inverse_depth_planes(*near_far, planes, device=device)
    close = np.array([nearness(d.view.camera, target, float(inverse_depths.median())) for d in depths])
    close = close / close.max()
    sources = [_Source(target, d, g, float(n)) for d, g, n in zip(depths, gains, close, strict=True)]
    pairs = [
        (i, j, parallax_weight(depths[i].view.camera, depths[j].view.camera, inverse_depths))
        for i, j in combinations(range(len(depths)), 2)
    ]
    shape = (planes, target.height, target.width)
    scores, evidence, seen = (torch.empty(shape, device=device) for _ in range(3))
    colours = torch.empty((3, *shape), device=device)
    for part in plane_chunks(planes, target.height * target.width, device):
        warped = [s.warp(inverse_depths[part]) for s in sources]
        votes, free = warped[0].votes, warped[0].free
        for other in warped[1:]:
            votes.add_(other.votes)
            free.add_(other.free)
        votes.clamp_(max=2)
        photo = _photo_scores(warped, pairs) if pairs else torch.zeros_like(votes)
        evidence[part] = votes + photo.clamp(min=0)
        scores[part] = photo + votes - FREE_SPACE * free
        colours[:, part], seen[part] = _mean_colour(warped, [s.near for s in sources])
    scores = semi_global(scores)
    inverse, index = read_planes(scores, inverse_depths)
    confidence = ((evidence.gather(0, index[None])[0] - evidence.mean(0)) / FULL_EVIDENCE).clamp(0, 1)

    posterior = torch.softmax(scores / SOFTNESS, 0)
    step = float(inverse_depths[1] - inverse_depths[0])
    at = torch.arange(planes, dtype=torch.float32, device=device)
    first, second = torch.einsum("kd,dhw->khw", torch.stack([at, at**2]), posterior)
    std = (second - first**2).clamp(min=0).sqrt() * step
    seen *= posterior
    probability = seen.sum(0)
    rgb = colours.mul_(seen).sum(1) / probability.clamp(min=1e-6)
    return TargetDepth(inverse, confidence, rgb, probability, std, step)


def _photo_scores(warped: list[_Warped], pairs: list[tuple[int, int, float]]) -> torch.Tensor:
    """Photometric agreement (D, H, W) of the pairs (i, j, weight) of views, the better half of them."""
    scores, weights = [], []
    for i, j, weight in pairs:
        one, other = warped[i], warped[j]
        differ = box3((one.rgb - other.rgb).abs_().sum(0)).mul_(1 / (3 * COLOUR_SCALE)).clamp_(max=1)
        scores.append(zncc(one.grey, other.grey).sub_(differ, alpha=COLOUR_WEIGHT))
        both = one.visible * other.visible
        weights.append(both.mul_(both > 0.3).mul_(weight))
    return best_half(scores, weights)


def _mean_colour(warped: list[_Warped], near: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Colour (3, D, H, W) over the views that may see a point, nearer ones first, and whether any does (D, H, W)."""
    weights = [(w.visible + 1e-4).mul_(n**4) for w, n in zip(warped, near, strict=True)]
    colour = warped[0].rgb * weights[0]
    total, seen = weights[0].clone(), warped[0].visible
    for view, weight in zip(warped[1:], weights[1:], strict=True):
        colour.addcmul_(view.rgb, weight)
        total.add_(weight)
        seen = torch.maximum(seen, view.visible)
    return colour.div_(total.clamp_(min=1e-8)), seen


def refine(target: Camera, depths: Sequence[ViewDepth], inverse: torch.Tensor, rounds: int = 2) -> torch.Tensor:
    """Move an inverse-depth map (H, W) of ``target`` onto the surfaces the views measured, where it is close to one.

    Plane sweeps are quantised and smoothed; the views' own depths, sensor depths above all, are not.
    """
    projections = [Projection(target, depth.view.camera, inverse.device) for depth in depths]
    surfaces = [torch.stack([depth.inverse, depth.confidence, depth.sigma]) for depth in depths]
    for _ in range(rounds):
        total = torch.full_like(inverse, 0.1)
        mean = 0.1 * inverse
        for depth, projection, surface in zip(depths, projections, surfaces, strict=True):
            camera = depth.view.camera
            x, y, there = projection(inverse[None])
            seen = inside(x, y, there, camera)[0]
            theirs = sample(surface, x, y, "nearest")[:, 0]
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
