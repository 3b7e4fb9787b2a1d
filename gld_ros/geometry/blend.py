"""Colour of a target view from real ones: exposure, visibility, weighting by nearness, rejection of disagreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.fill import pull_push
from gld_ros.geometry.plane_sweep import inside, project, sample
from gld_ros.geometry.target_depth import TargetDepth, nearness
from gld_ros.geometry.view_depth import ViewDepth, agreement_scale

REJECT = 0.1  # colour distance from the best view's at which another view's weight falls
NEARNESS_POWER = 4.0
FULL_SUPPORT = 0.2  # support from a view's depth at which a pixel counts as fully known
OBSERVED = 0.3  # support and confidence from which a pixel is called observed
MIN_SEEN = 0.6  # expected colour is used where some view probably saw the surface


@dataclass(frozen=True, eq=False)
class Blend:
    """A composed target picture at output size."""

    rgb: torch.Tensor  # (3, H, W) in [0, 1], holes filled
    inverse: torch.Tensor  # (H, W) inverse depth, filled
    support: torch.Tensor  # (H, W) in [0, 1]: how well some view fits, at this depth or at any
    confidence: torch.Tensor  # (H, W) in [0, 1]: the share of it that proves the depth
    observed: torch.Tensor  # (H, W) bool
    known: torch.Tensor  # (H, W) in [0, 1]: weight of real pixels in the picture


def exposure_gains(depths: Sequence[ViewDepth], confirmed: Sequence[torch.Tensor]) -> torch.Tensor:
    """Log gain per view and channel (V, 3), mean near 0, from colours of points two views agree on."""
    count = len(depths)
    rows = [np.full(count, 0.01)]
    values = [np.zeros(3)]
    for i, one in enumerate(depths):
        for j, other in enumerate(depths):
            if i == j:
                continue
            x, y, inverse = project(one.view.camera, other.view.camera, one.inverse[None])
            theirs = sample(other.inverse[None], x, y, "nearest")[0, 0]
            same = inside(x, y, inverse, other.view.camera)[0] & (confirmed[i] > 0.5)
            same &= (inverse[0] - theirs).abs() < 0.03 * inverse[0]
            pixels = int(same.sum())
            if pixels < 200:
                continue
            a = (one.view.rgb[:, same] + 0.02).log()
            b = (sample(other.view.rgb, x, y)[:, 0][:, same] + 0.02).log()
            weight = min(1.0, pixels / 2000)
            row = np.zeros(count)
            row[i], row[j] = weight, -weight
            rows.append(row)
            values.append((a - b).median(dim=1).values.cpu().numpy() * weight)
    rows += list(np.eye(count))  # without good evidence a view keeps its own exposure
    values += [np.zeros(3)] * count
    gains = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0]
    return torch.as_tensor(gains, dtype=torch.float32, device=depths[0].inverse.device)


def blend(
    target: Camera,
    depths: Sequence[ViewDepth],
    pictures: Sequence[torch.Tensor],
    gains: torch.Tensor,
    swept: TargetDepth,
    inverse: torch.Tensor,
) -> Blend:
    """Compose the ``target`` (at output size) from ``pictures`` (3, h, w) of the views by ``inverse`` depth (H, W)."""
    scene_inverse = float(inverse.median())
    near = np.array([nearness(d.view.camera, target, scene_inverse) for d in depths])
    near = (near / near.max()) ** NEARNESS_POWER
    colours, weights, supports, proofs = [], [], [], []
    for depth, picture, gain, close in zip(depths, pictures, gains, near.tolist(), strict=True):
        camera = depth.view.camera
        x, y, there = project(target, camera, inverse[None])
        seen = inside(x, y, there, camera)[0]
        theirs = sample(torch.stack([depth.inverse, depth.confidence, depth.proven]), x, y, "nearest")[:, 0]
        apart = (there[0] - theirs[0]) / agreement_scale(depth, target)
        agrees = torch.exp(-((apart / 2) ** 2) / 2) * seen
        wide, high = picture.shape[2] / camera.width, picture.shape[1] / camera.height
        fx, fy = x.add_(0.5).mul_(wide).sub_(0.5), y.add_(0.5).mul_(high).sub_(0.5)  # the same field on a finer grid
        colours.append(sample(picture, fx, fy)[:, 0] * torch.exp(-gain)[:, None, None])
        weights.append((agrees * (0.3 + theirs[1]) + 1e-3 * seen) * close)
        supports.append(agrees * theirs[1])
        proofs.append(supports[-1] * theirs[2])
    colour, weight = torch.stack(colours), torch.stack(weights)  # (V, 3, H, W), (V, H, W)
    best = weight.argmax(0)
    reference = colour.gather(0, best[None, None].expand(1, 3, *best.shape))[0]
    weight = weight * torch.exp(-((colour - reference) ** 2).sum(1) / (2 * REJECT**2))
    total = weight.sum(0)
    share = torch.as_tensor(near / near.sum(), dtype=torch.float32, device=gains.device)
    exposure = torch.exp(share @ gains)[:, None, None]  # the target gets the exposure of the views around it
    sharp = (colour * weight[:, None]).sum(0) / total.clamp(min=1e-9) * exposure

    size = (target.height, target.width)
    expected = _upsample(swept.expected_rgb, size) * exposure
    probability = _upsample(swept.expected_seen[None], size)[0]
    sure = _upsample(swept.confidence[None], size)[0]
    support = torch.stack(supports).amax(0)
    known = (support / FULL_SUPPORT).clamp(0, 1) * (total > 1e-9)
    rgb = sharp * known + expected * (1 - known)
    weight_known = torch.maximum(known, ((probability - MIN_SEEN) / (1 - MIN_SEEN)).clamp(0, 1))
    proof = torch.stack(proofs).amax(0)  # colour may be right at a depth that nothing proves
    trust = 0.5 + 0.5 * sure
    confidence = (proof * trust).clamp(0, 1)
    observed = (proof > OBSERVED) & (confidence > OBSERVED)
    return Blend(
        pull_push(rgb, weight_known).clamp(0, 1),
        inverse,
        (support * trust).clamp(0, 1),
        confidence,
        observed,
        weight_known,
    )


def _upsample(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image[None], size=size, mode="bilinear", align_corners=False)[0]
