"""What a preset runs on the network, and what that costs in updates, evaluations and operations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gld_ros.evaluation.cost import part_costs, request_flops
from gld_ros.model.config import ModelConfig, SamplerConfig
from gld_ros.synthesis.gld import GldRequest
from gld_ros.synthesis.network import STEPS, UNGUIDED

PRESETS = tuple(STEPS)
REFERENCE = "reference"
REFERENCE_POINTS, REFERENCE_GUIDANCE = 50, 1.5


@dataclass(frozen=True)
class PresetCost:
    """Counted, not measured."""

    updates: tuple[int, int]  # level 1, cascade
    evaluations: int
    flops: int


def reference_sampler(config: ModelConfig, size: tuple[int, int], views: int) -> SamplerConfig:
    """The published sampler for a model: 49 Euler updates, guidance 1.5, and the shift of its own latent size.

    Source: GLD specification section 10, shift = sqrt(channels * rows * columns * views / 4096).
    """
    width, height = size
    latents = config.level1.latent_channels * (width // config.encoder.patch) * (height // config.encoder.patch)
    return SamplerConfig(REFERENCE_POINTS, math.sqrt(latents * views / 4096), REFERENCE_GUIDANCE, reuse=False)


def sampler_of(config: ModelConfig, preset: str, size: tuple[int, int], views: int) -> SamplerConfig:
    """The sampler of both stages."""
    if preset == REFERENCE:
        return reference_sampler(config, size, views)
    updates = STEPS[preset]
    if updates is None or updates >= config.sampler.points - 1:
        return config.sampler
    guidance = 1.0 if preset == UNGUIDED else config.sampler.guidance
    return dataclasses.replace(config.sampler, points=updates + 1, guidance=guidance)


def with_preset(request: GldRequest, config: ModelConfig, preset: str) -> GldRequest:
    """``request`` as ``preset`` runs it. ``reference`` decodes everything, rays included."""
    height, width = request.cond_rgb.shape[-2:]
    sampler = sampler_of(config, preset, (width, height), request.K.shape[1])
    return dataclasses.replace(request, level1=sampler, cascade=sampler, rays=preset == REFERENCE)


def preset_cost(config: ModelConfig, preset: str, size: tuple[int, int], views: tuple[int, int]) -> PresetCost:
    """Of one request with ``views`` = (conditions, targets) at ``size`` = (W, H)."""
    sampler = sampler_of(config, preset, size, sum(views))
    rows = part_costs(config, size, sum(views), views[0])
    flops, evaluations = request_flops(rows, config, sampler, sampler, rays=preset == REFERENCE)
    updates = sampler.points - 1
    return PresetCost((updates, 0 if config.joint else updates), evaluations, flops)


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names, begun at another one each time, so that none always runs after the same other."""
    shift = by % len(names)
    return [*names[shift:], *names[:shift]]
