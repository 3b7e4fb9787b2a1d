"""One run of the network: some targets of a request drawn at once, and what the runs of a request add up to."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.gld_model import Latents
from gld_ros.synthesis.compose import Drawn, on_target
from gld_ros.synthesis.gld import GldProgress, GldRequest
from gld_ros.synthesis.network_inputs import NetworkInputs
from gld_ros.synthesis.presets import NetworkPreset
from gld_ros.synthesis.types import CancelCheck, PosedView, Progress, ProgressCallback, Request, SynthesizedView

SAMPLES_AT_ONCE = 4  # drawn in one batch, which bounds memory


@dataclass(frozen=True, eq=False)
class Run:
    """Targets that the network makes at once, and what it makes them from."""

    preset: NetworkPreset
    views: Sequence[PosedView]
    depths: Sequence[ViewDepth]  # none where there is no geometry
    targets: Sequence[SynthesizedView]
    request: Request
    seed: int
    ends: float  # on the clock ``time.perf_counter``

    @property
    def cameras(self) -> list[Camera]:
        """Of the targets."""
        return [target.camera for target in self.targets]

    def ask(self, inputs: NetworkInputs, start: Latents | None, first: int) -> GldRequest:
        """What the network is asked for: samples ``first`` and following, as many as are drawn at once."""
        preset = self.preset
        return GldRequest(
            inputs.cond_rgb,
            inputs.world_from_cam,
            inputs.K,
            preset.level1,
            preset.cascade,
            self.seed + first,
            cond_keys=tuple(v.key for v in self.views) if preset.keep_features else (),
            start=start,
            samples=min(SAMPLES_AT_ONCE, self.request.num_samples - first),
            rays=preset.decode_conditions,
            decode_conditions=preset.decode_conditions,
        )

    def on_targets(self, inputs: NetworkInputs, maps: torch.Tensor, scale: float | None) -> list[Drawn]:
        """The network's maps (T, 5, h, w) of one sample on the targets' own pixels."""
        return [on_target(t, c, m, scale) for t, c, m in zip(self.targets, inputs.targets, maps, strict=True)]


@dataclass(frozen=True, eq=False)
class Made:
    """What a run gave."""

    pictures: list[Drawn]  # per target
    scale: float | None  # of its depth
    preset: NetworkPreset  # with the updates that were meant to run
    updates: tuple[int, int]  # that ran
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Tally:
    """What the runs of a request have given so far."""

    views: list[SynthesizedView]  # geometry's, where no run has been yet
    seconds: dict[str, float]
    scales: list[float | None] = field(default_factory=list)
    updates: list[tuple[int, int]] = field(default_factory=list)

    def add(self, made: Made) -> None:
        """Take in a run; its views are put into ``views`` by whoever composes them."""
        self.scales.append(made.scale)
        self.updates.append(made.updates)
        add_seconds(self.seconds, made.seconds)

    @property
    def fitted(self) -> bool:
        """Does depth of every run have a scale?"""
        return all(s is not None for s in self.scales)

    @property
    def scale(self) -> float:
        """Of the whole answer."""
        return float(np.median([s for s in self.scales if s is not None])) if any(self.scales) else 1.0


def add_seconds(total: dict[str, float], more: Mapping[str, float]) -> None:
    """Add what stages took."""
    for stage, taken in more.items():
        total[stage] = total.get(stage, 0.0) + taken


def mean_with_spread(samples: Sequence[Sequence[Drawn]]) -> list[Drawn]:
    """The first sample's picture of each target; with several samples their mean depth and its spread."""
    pictures = list(samples[0])
    if len(samples) == 1:
        return pictures
    stacks = [np.stack([sample[i].depth for sample in samples]) for i in range(len(pictures))]
    return [replace(d, depth=s.mean(0), depth_std=s.std(0)) for d, s in zip(pictures, stacks, strict=True)]


def reporter(progress: ProgressCallback | None, cancelled: CancelCheck | None) -> GldProgress:
    """Tells the caller how far the network is, in seconds counted from now, and raises CANCELLED when asked to."""
    began = time.perf_counter()

    def report(stage: str, step: int, steps: int) -> None:
        if cancelled is not None and cancelled():
            raise GldError(f"cancelled before update {step + 1} of {steps} of {stage}", Status.CANCELLED)
        if progress is not None:
            done = max(step, 1)
            progress(Progress(stage, step, steps, (time.perf_counter() - began) / done * (steps - step)))

    return report
