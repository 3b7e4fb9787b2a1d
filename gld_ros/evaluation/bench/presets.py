"""What a preset runs on the network, and what that costs in updates, evaluations and operations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gld_ros.evaluation.cost import preset_flops
from gld_ros.model.config import ModelConfig
from gld_ros.model.sampler import count_evaluations
from gld_ros.synthesis.gld import GldRequest
from gld_ros.synthesis.presets import PRESETS as CLASSICAL
from gld_ros.synthesis.presets import NetworkPreset, network_presets

PRESETS = tuple(CLASSICAL)  # the same names in both engines, from slow to fast
REFERENCE = "reference"


@dataclass(frozen=True)
class PresetCost:
    """Counted, not measured."""

    updates: tuple[int, int]  # level 1, cascade
    evaluations: int
    flops: int


def with_preset(request: GldRequest, preset: NetworkPreset) -> GldRequest:
    """``request`` as ``preset`` runs it; rays are read only by the plain path, since poses are known."""
    return dataclasses.replace(
        request,
        level1=preset.level1,
        cascade=preset.cascade,
        decode_conditions=preset.decode_conditions,
        rays=preset.decode_conditions,
    )


def preset_cost(
    config: ModelConfig, preset: str, size: tuple[int, int], views: tuple[int, int], guess: bool = False
) -> PresetCost:
    """Of one request with ``views`` = (conditions, targets) at ``size`` = (W, H), with a geometric guess or without."""
    chosen = network_presets(config)[preset]
    stages = [chosen.level1] if config.joint else [chosen.level1, chosen.cascade]
    updates = [sampler.points - 1 for sampler in stages]
    return PresetCost(
        (updates[0], 0 if config.joint else updates[1]),
        sum(count_evaluations(sampler).forwards for sampler in stages),
        preset_flops(config, chosen, size, sum(views), views[0], guess),
    )


def rotated(names: Sequence[str], by: int) -> list[str]:
    """The names, begun at another one each time, so that none always runs after the same other."""
    shift = by % len(names)
    return [*names[shift:], *names[:shift]]
