"""Depth that is already known (a sensor, a plane sweep) as an input of a small model's encoder.

The released encoder sees colour only. A model trained from nothing reads depth poorly from 64 patches, while a robot
often has it; given here, it travels with the features and the frozen head returns it for generated views too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TYPICAL_DEPTH = 2.5  # network units; callers scale a scene so that its known depth has this median
LOG_SPREAD = 0.6


@dataclass(frozen=True, eq=False)
class KnownDepth:
    """z-depth of some views in network units, and how far to trust it."""

    depth: Tensor  # (B, V, H, W), anything where the confidence is 0
    confidence: Tensor  # (B, V, H, W) in [0, 1]

    def scaled(self, scale: Tensor) -> KnownDepth:
        """The same in another unit; scale: one factor per scene, (B,) or (B, 1, 1, 1)."""
        return replace(self, depth=self.depth * scale.view(-1, 1, 1, 1).to(self.depth))


def join_depths(parts: Sequence[KnownDepth], dim: int) -> KnownDepth:
    """Known depth of scenes (dim 0) or views (dim 1) behind each other."""
    return KnownDepth(torch.cat([p.depth for p in parts], dim), torch.cat([p.confidence for p in parts], dim))


class DepthEmbed(nn.Module):
    """Mean log depth and mean confidence of ``cells`` x ``cells`` parts of each patch, through a linear layer.

    Unknown depth embeds as zero, so that a model runs with and without it.
    """

    def __init__(self, patch: int, cells: int, width: int) -> None:
        super().__init__()
        self.patch, self.cells = patch, cells
        self.proj = nn.Linear(2 * cells * cells, width, bias=False)

    def forward(self, known: KnownDepth) -> Tensor:
        """-> tokens (B, V, N, width)."""
        out: Tensor = self.proj(depth_cells(known, self.patch, self.cells).to(self.proj.weight.dtype))
        return out


def depth_cells(known: KnownDepth, patch: int, cells: int) -> Tensor:
    """Means over the cells of each patch, row-major patches: (B, V, N, 2 * cells * cells), log depth first."""
    confidence = known.confidence.float()
    usable = (confidence > 0) & torch.isfinite(known.depth) & (known.depth > 0)
    confidence = torch.where(usable, confidence, torch.zeros_like(confidence))
    depth = torch.where(usable, known.depth.float(), torch.full_like(confidence, TYPICAL_DEPTH))
    value = (depth / TYPICAL_DEPTH).log().clamp(-math.log(50), math.log(50)) / LOG_SPREAD
    side = patch // cells
    weight = F.avg_pool2d(confidence.flatten(0, 1).unsqueeze(1), side)
    mean = F.avg_pool2d((value * confidence).flatten(0, 1).unsqueeze(1), side) / weight.clamp(min=1e-6)
    both = torch.cat([mean, weight], dim=1)  # (BV, 2, h * cells, w * cells)
    both = both.unflatten(-1, (-1, cells)).unflatten(-3, (-1, cells))  # (BV, 2, h, cells, w, cells)
    tokens = both.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return tokens.unflatten(0, known.depth.shape[:2])


def scene_scale(depth: Tensor, confidence: Tensor) -> Tensor:
    """Network units per unit of ``depth`` that bring each scene's trusted depths to the typical median, (B,).

    depth, confidence: (B, V, H, W). 1 for scenes where nothing is known.
    """
    scales = []
    for d, c in zip(depth.flatten(1), confidence.flatten(1), strict=True):
        trusted = d[(c > 0) & torch.isfinite(d) & (d > 0)]
        scales.append(TYPICAL_DEPTH / float(trusted.median()) if len(trusted) else 1.0)
    return torch.tensor(scales, dtype=torch.float32, device=depth.device)
