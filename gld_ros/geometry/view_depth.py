"""Depth of the real views: sensor depth where there is one, else plane sweep; cross-checked and filled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.fill import smooth_fill
from gld_ros.geometry.matching import box3, plane_chunks
from gld_ros.geometry.plane_sweep import (
    WorkView,
    inside,
    inverse_depth_planes,
    project,
    sample,
    sweep_scores,
)
from gld_ros.geometry.semi_global import read_planes, semi_global

TOLERANCE_PX = 0.7  # two depths agree when the point moves less than this between the views
FULL_SCORE = 0.4  # matching score above the pixel's mean that counts as certain
UNCHECKED = 0.05  # confidence left to a depth no other view confirms
TRUSTED = 0.4  # depths below this confidence are replaced by what their surroundings say
FLOOR = 0.1  # confidence of such filled depths
TELLING = 0.1  # relative error of depth up to which a view that agrees proves it


@dataclass(frozen=True, eq=False)
class ViewDepth:
    """Inverse z-depth of one real view with a confidence in [0, 1] and the spacing of the planes it was read from."""

    view: WorkView
    inverse: torch.Tensor  # (H, W) > 0
    confidence: torch.Tensor  # (H, W)
    step: float  # inverse depth between planes
    sigma: torch.Tensor  # (H, W) how far off in inverse depth it may be
    measured: torch.Tensor  # (H, W) bool: from a depth sensor
    proven: torch.Tensor  # (H, W) in [0, 1]: share of the confidence that a sensor or a view from elsewhere gave


def sweep_view(
    view: WorkView,
    sources: Sequence[WorkView],
    near_far: tuple[float, float],
    planes: int,
    sensor_depth: torch.Tensor | None = None,
) -> ViewDepth:
    """Depth of ``view`` by plane sweep over ``sources``.

    ``sensor_depth`` (H, W), NaN = none, overrides it with confidence 1. Without sources the depth is a flat guess of
    confidence 0, to be overridden by the sensor or filled.
    """
    inverse_depths = inverse_depth_planes(*near_far, planes, device=view.rgb.device)
    step = float(inverse_depths[1] - inverse_depths[0])
    if sources:
        raw = sweep_scores(view, sources, inverse_depths)
        inverse, index = read_planes(semi_global(raw, view.grey), inverse_depths)
        support = torch.empty_like(raw)
        for part in plane_chunks(planes, view.grey.numel(), raw.device):
            support[part] = box3(box3(raw[part]))
        chosen = support.gather(0, index[None])[0]
        confidence = ((chosen - support.mean(0).clamp(min=0)) / FULL_SCORE).clamp(0, 1)
    else:
        inverse = inverse_depths.mean().expand(view.camera.height, view.camera.width).clone()
        confidence = torch.zeros_like(inverse)
    sigma = torch.full_like(inverse, sweep_sigma(view.camera, [s.camera for s in sources], step))
    measured = torch.zeros_like(inverse, dtype=torch.bool)
    if sensor_depth is not None:
        measured = torch.isfinite(sensor_depth) & (sensor_depth > 0)
        inverse = torch.where(measured, 1.0 / sensor_depth.clamp(min=1e-6), inverse)
        confidence = torch.where(measured, torch.ones_like(confidence), confidence)
        sigma = torch.where(measured, torch.full_like(sigma, step), sigma)
    return ViewDepth(view, inverse, confidence, step, sigma, measured, measured.float())


def sweep_sigma(camera: Camera, sources: Sequence[Camera], step: float) -> float:
    """Uncertainty of a swept inverse depth: the plane spacing, or TOLERANCE_PX over the widest baseline."""
    baseline = max((float(np.linalg.norm(camera.centre - s.centre)) for s in sources), default=0.0)
    return math.hypot(step, TOLERANCE_PX / max(camera.K[0, 0] * baseline, 1e-9))


def agreement_scale(depth: ViewDepth, other: Camera) -> float:
    """Inverse-depth difference in ``depth``'s view that matters when its points are seen from ``other``.

    The plane spacing, or what moves the point by TOLERANCE_PX: between near-identical views even wrong depths agree.
    """
    return math.hypot(depth.step, blur_between(depth.view.camera, other))


def blur_between(camera: Camera, other: Camera) -> float:
    """Inverse-depth difference that moves a point of ``camera`` by TOLERANCE_PX when it is seen from ``other``."""
    return TOLERANCE_PX / max(camera.K[0, 0] * float(np.linalg.norm(camera.centre - other.centre)), 1e-9)


def cross_check(depths: Sequence[ViewDepth]) -> tuple[list[ViewDepth], list[torch.Tensor]]:
    """Lower the confidence of depths no other view confirms, then fill them from their surroundings.

    Returns the finished depths and, per view, how many other views confirm each pixel.
    """
    confirmed, proven = [], []
    for one in depths:
        count, proof = torch.zeros_like(one.confidence), torch.zeros_like(one.confidence)
        for other in depths:
            if other is one:
                continue
            x, y, inverse = project(one.view.camera, other.view.camera, one.inverse[None])
            seen = inside(x, y, inverse, other.view.camera)
            theirs = sample(torch.stack([other.inverse, other.confidence]), x, y, "nearest")
            scale = 1.5 * agreement_scale(other, one.view.camera)
            agrees = (torch.exp(-(((inverse - theirs[0]) / scale) ** 2) / 2) * theirs[1] * seen)[0]
            count += agrees
            # a view from nearly the same place agrees with any depth
            proof += agrees * (TELLING * one.inverse / blur_between(other.view.camera, one.view.camera)).clamp(max=1)
        confirmed.append(count)
        share = proof.clamp(max=1) / count.clamp(min=1e-6, max=1)
        proven.append(torch.where(one.measured, torch.ones_like(share), share))
    finished = []
    for one, count, share in zip(depths, confirmed, proven, strict=True):
        checked = one.confidence * (UNCHECKED + (1 - UNCHECKED) * count.clamp(0, 1))
        confidence = torch.where(one.measured, one.confidence, checked)
        filled = smooth_fill(one.inverse[None], confidence[None] ** 2 + 1e-5, one.view.rgb[None])[0]
        inverse = torch.where(confidence > TRUSTED, one.inverse, filled)
        sure = confidence.clamp(min=FLOOR)
        finished.append(ViewDepth(one.view, inverse, sure, one.step, one.sigma, one.measured, share))
    return finished, confirmed
