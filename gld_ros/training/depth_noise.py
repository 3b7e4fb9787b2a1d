"""Depth as a robot has it: exact, swept from pictures with errors and gaps, or missing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.geometry.view_depth import FLOOR
from gld_ros.model.config import check_ranges
from gld_ros.model.known_depth import TYPICAL_DEPTH, KnownDepth


@dataclass(frozen=True)
class DepthNoise:
    """How often depth is given and how wrong it is."""

    sensor: float = 0.4  # share of scenes whose depth is nearly exact
    swept: float = 0.4  # share with the errors of a plane sweep; the rest has none
    sensor_error: float = 0.01  # standard deviation of log depth
    swept_error: float = 0.35  # largest standard deviation of log depth where the sweep fails
    gaps: float = 0.4  # largest share of a view where depth is only spread from its surroundings
    gap_error: float = 0.25  # standard deviation of log depth there
    views_without: float = 0.15  # share of the views without depth in scenes that have it

    def __post_init__(self) -> None:
        check_ranges(self, sensor=(0, 1), swept=(0, 1), gaps=(0, 1), views_without=(0, 1))
        check_ranges(self, sensor_error=(0, 10), swept_error=(0, 10), gap_error=(0, 10))
        if self.sensor + self.swept > 1:
            raise GldError(f"sensor + swept is {self.sensor + self.swept:g}, must be at most 1: both are shares")


def smooth_field(shape: torch.Size, cells: int, rng: torch.Generator) -> Tensor:
    """Normal numbers on a cells x cells grid, spread smoothly over (B, V, H, W)."""
    coarse = torch.randn(shape[0] * shape[1], 1, cells, cells, generator=rng)
    spread = F.interpolate(coarse, size=shape[-2:], mode="bicubic", align_corners=False)
    return spread.view(shape)


def draw_known_depth(truth: Tensor, noise: DepthNoise, rng: torch.Generator) -> KnownDepth:
    """What a robot might know of the true depth (B, V, H, W): per scene from a sensor, swept, or nothing.

    The confidence of a swept depth falls with the error it was drawn from, as matching scores do.
    """
    device, truth = truth.device, truth.cpu()  # random fields are drawn on the CPU, the same for every device
    scenes, views = truth.shape[:2]
    kind = torch.rand(scenes, 1, 1, 1, generator=rng)
    swept = ((kind >= noise.sensor) & (kind < noise.sensor + noise.swept)).float()
    given = (kind < noise.sensor + noise.swept) & (
        torch.rand(scenes, views, 1, 1, generator=rng) >= noise.views_without
    )

    hard = torch.sigmoid(2 * smooth_field(truth.shape, 6, rng) - 0.5)  # where matching fails, in 0..1
    strength = noise.swept_error * torch.rand(scenes, 1, 1, 1, generator=rng).square()
    sigma = noise.sensor_error + swept * strength * hard.square()
    threshold = 1 - noise.gaps * torch.rand(scenes, views, 1, 1, generator=rng)
    gap = torch.special.ndtr(smooth_field(truth.shape, 7, rng) * 1.2) >= threshold
    sigma = torch.where(gap, sigma + noise.gap_error * torch.rand(scenes, 1, 1, 1, generator=rng), sigma)
    wrong = 0.7 * smooth_field(truth.shape, 5, rng) + 0.7 * smooth_field(truth.shape, 16, rng)
    depth = truth * (sigma * wrong).exp()

    doubt = torch.exp(0.3 * smooth_field(truth.shape, 8, rng))
    confidence = (1 / (1 + swept * doubt * sigma / 0.08)).clamp(0, 1)
    confidence = torch.where(gap, FLOOR * torch.ones_like(confidence), confidence) * given
    return KnownDepth(depth.to(device), confidence.to(device))


def scaled_to_network(truth: Tensor, known: KnownDepth) -> tuple[Tensor, KnownDepth]:
    """Depths in network units: scenes with known depth are scaled to the typical median, others stay in metres."""
    has = (known.confidence > 0).flatten(1).any(1)
    scale = torch.where(
        has, TYPICAL_DEPTH / truth.flatten(1).median(dim=1).values, torch.ones(len(truth), device=truth.device)
    )
    return truth * scale.view(-1, 1, 1, 1), known.scaled(scale)
