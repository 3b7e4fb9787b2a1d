"""What the network takes on this machine, and how much of a preset fits in a time budget.

One ``CostModel`` holds all rates, those of the geometry too; they are measured when an engine is loaded and by every
request after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gld_ros.model.config import DiTConfig, ModelConfig, SamplerConfig
from gld_ros.model.sampler import count_evaluations
from gld_ros.synthesis.presets import CostModel, NetworkPreset

STAGES = ("level1", "cascade")
SLACK = 1.1  # estimates count this much more than measured, for machines do not run evenly


@dataclass(frozen=True)
class Work:
    """Size of one run of the network."""

    to_encode: int  # pictures
    views: int
    samples: int
    tokens: int  # of one view
    pixels: int  # of all targets in their own size


class NetworkCosts:
    """Expected seconds of runs, by stage: encode, level1, cascade, decode, compose."""

    def __init__(self, config: ModelConfig, cost: CostModel) -> None:
        self._config = config
        self._cost = cost

    def stages(self, preset: NetworkPreset, work: Work) -> dict[str, float]:
        """Expected seconds of each stage."""
        return {kind: self._cost.seconds(kind, units) for kind, units in self._units(preset, work).items()}

    def seconds(self, preset: NetworkPreset, work: Work) -> float:
        """Expected seconds of the whole run."""
        return sum(self.stages(preset, work).values())

    def learn(self, preset: NetworkPreset, work: Work, updates: tuple[int, int], seconds: Mapping[str, float]) -> None:
        """Take in what the stages of a run took that made these updates."""
        ran = replace(
            preset,
            level1=replace(preset.level1, points=updates[0] + 1),
            cascade=replace(preset.cascade, points=max(updates[1], 1) + 1),
        )
        for kind, units in self._units(ran, work).items():
            if kind in seconds:
                self._cost.learn(kind, units, seconds[kind])

    def _units(self, preset: NetworkPreset, work: Work) -> dict[str, float]:
        tokens = work.views * work.tokens
        units: dict[str, float] = {"encode": float(work.to_encode * work.tokens)}
        for stage, dit, sampler in (
            ("level1", self._config.level1, preset.level1),
            ("cascade", self._config.cascade, preset.cascade),
        ):
            if dit is not None:
                units[stage] = work.samples * _sampling_units(dit, sampler, tokens)
        units["decode"] = float(work.samples * tokens)
        units["compose"] = float(work.samples * work.pixels)
        return units


def fit_updates(preset: NetworkPreset, fits: Callable[[NetworkPreset], bool], fewest: int = 1) -> NetworkPreset | None:
    """The preset with the most updates, its own at most and ``fewest`` at least, that fits; None if none does."""
    most = max(preset.level1.points, preset.cascade.points) - 1
    for updates in range(most, min(fewest, most) - 1, -1):
        candidate = preset.with_updates(updates)
        if fits(candidate):
            return candidate
    return None


class Deadline:
    """Decides between updates whether the one that begins must be the last of its stage."""

    def __init__(self, ends: float, expected: Mapping[str, float], preset: NetworkPreset) -> None:
        """``ends``: on the clock ``time.perf_counter``; ``expected``: seconds of each stage."""
        self._ends = ends
        self._expected = expected
        self._updates = {"level1": preset.level1.points - 1, "cascade": preset.cascade.points - 1}
        self._began: dict[str, float] = {}

    def hurry(self, stage: str, step: int, _steps: int) -> bool:
        """After this update there would be no time for another one and all that follows the stage."""
        now = time.perf_counter()
        began = self._began.setdefault(stage, now)
        update = (now - began) / step if step else self._expected[stage] / self._updates[stage]
        after = self._expected["decode"] + self._expected["compose"]
        if stage == "level1":
            after += self._expected.get("cascade", 0.0)
        return now + 2 * update + after > self._ends


def _sampling_units(config: DiTConfig, sampler: SamplerConfig, tokens: int) -> float:
    """Multiply-adds of one sampling, roughly: blocks only."""
    narrow = config.encoder_blocks * _block_units(config.encoder_width, tokens, False)
    wide = config.decoder_blocks * _block_units(config.decoder_width, tokens, True)
    runs = count_evaluations(sampler)
    return runs.encoded * narrow + runs.forwards * wide


def _block_units(width: int, tokens: int, modulated_tokens: bool) -> float:
    linear = (12 + (6 if modulated_tokens else 0)) * width * width
    return float(tokens * (linear + 2 * tokens * width))
