"""From noise to latents: the time grid, guidance, and the updates (GLD specification section 10).

Everything but the defaults of ``SamplerConfig`` trades quality for time: fewer points with a second-order solver,
guidance in an interval only, and the transformer's narrow half run for every n-th evaluation only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.model.config import ModelConfig, SamplerConfig
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.gld_model import Latents, Stage

StepCallback = Callable[[int, int, Tensor], None]  # update i of n begins, with the state x_t; may raise to stop
HurryCheck = Callable[[int, int], bool]  # must update i of n be the last one?
SampleStage = Callable[[Stage, Tensor | None], Tensor]  # samples a stage, which may read a source
SMALLEST_TIME = 1e-3  # a velocity is not asked for below


def time_grid(shift: float, points: int, last: float = 0.001, start: float = 1.0) -> Tensor:
    """Times from ``start`` (1 is noise) towards 0 (data), dense near 1 for a large shift; (points,) float64."""
    first = start / (shift - (shift - 1) * start)  # the unshifted time that the shift maps to ``start``
    tau = first - torch.linspace(0, first - last, points, dtype=torch.float64)
    return shift * tau / (1 + (shift - 1) * tau)


def grid_of_sampler(config: SamplerConfig) -> Tensor:
    """The grid of a configuration, (points,) float64."""
    return time_grid(config.shift, config.points, config.last, config.start)


@dataclass(frozen=True)
class Evaluations:
    """Transformer forwards of one sampling, and how many of them also ran the narrow half."""

    forwards: int
    encoded: int


def count_evaluations(config: SamplerConfig) -> Evaluations:
    """What ``sample`` will run with this configuration."""
    times = grid_of_sampler(config).tolist()
    asked = [step for step, _ in enumerate(times[1:])]
    if config.solver == "heun":
        asked += [step for step, t in enumerate(times) if step > 0 and t >= SMALLEST_TIME]
    branches = [len(asked), sum(_is_guided(config, times[step]) for step in asked)]
    return Evaluations(sum(branches), sum(-(-count // config.encoder_every) for count in branches))


class Branch:
    """One transformer under one condition, which remembers what its narrow half said last."""

    def __init__(self, dit: DiT, inputs: DiTInputs, config: SamplerConfig) -> None:
        self.dit = dit
        self.condition = dit.prepare(inputs) if config.reuse else inputs
        self._every = config.encoder_every
        self._asked = 0
        self._encoded: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor, time: Tensor | None) -> Tensor:
        if isinstance(self.condition, DiTInputs):
            return self.dit.velocity(x_t, t, self.condition)
        time = self.dit.embed_time(t) if time is None else time
        if self._asked % self._every == 0:
            self._encoded = self.dit.encode(x_t, time, self.condition)
        self._asked += 1
        return self.dit.velocity(x_t, t, self.condition, time, self._encoded)


class GuidedVelocity:
    """The velocity a sampler follows: with guidance, v_uncond + g (v_cond - v_uncond).

    The two branches run one after the other, which halves peak memory; the free one only where guidance is on.
    """

    def __init__(self, dit: DiT, inputs: DiTInputs, config: SamplerConfig) -> None:
        self._guidance = config.guidance
        self._branch = Branch(dit, inputs, config)
        self._free = Branch(dit, inputs.unconditional(dit.config), config) if config.guidance > 1 else None

    def __call__(self, x_t: Tensor, t: Tensor, time: Tensor | None = None, guided: bool = True) -> Tensor:
        """x_t (B, V, D, h, w), t (B,) or (B, V), and ``embed_time(t)`` if known -> velocity (B, V, D, h, w)."""
        velocity = self._branch(x_t, t, time)
        if self._free is None or not guided:
            return velocity
        free = self._free(x_t, t, time)
        return free + self._guidance * (velocity - free)


@torch.no_grad()
def sample(
    dit: DiT,
    inputs: DiTInputs,
    noise: Tensor,
    config: SamplerConfig,
    on_step: StepCallback | None = None,
    hurry: HurryCheck | None = None,
    guess: Tensor | None = None,
) -> Tensor:
    """Integrate the flow from noise; returns the state at the last grid point, (B, V, D, h, w) fp32.

    Args:
        noise: (B, V, D, h, w), standard normal.
        hurry: asked before each update; when it says yes this update goes straight to the end of the grid.
        guess: latents that a start below time 1 mixes with the noise; not read at time 1.
    """
    guided_velocity = GuidedVelocity(dit, inputs, config)
    grid = grid_of_sampler(config)
    times, on_device = grid.tolist(), grid.float().to(noise.device)
    embedded = dit.embed_time(on_device)  # (points, 1, 1, narrow)

    def velocity(x: Tensor, point: int) -> Tensor:
        t = on_device[point].expand(len(x))
        return guided_velocity(x, t, embedded[point : point + 1], _is_guided(config, times[point]))

    x = noise.float()
    if config.start < 1:
        if guess is None:
            raise GldError(f"sampler start is {config.start}, below 1: a guess of the latents must be given")
        x = (1 - config.start) * guess + config.start * x
    before: tuple[float, Tensor] | None = None  # time and data prediction of the update before
    for step in range(len(times) - 1):
        if on_step is not None:
            on_step(step, len(times) - 1, x)
        done = hurry is not None and hurry(step, len(times) - 1)
        t, then = times[step], times[-1] if done else times[step + 1]
        v = velocity(x, step)
        if config.solver == "heun" and not done and then >= SMALLEST_TIME:
            v = (v + velocity(x + (then - t) * v, step + 1)) / 2
        elif config.solver == "dpmpp_2m":
            data = x - t * v
            if before is not None and then > times[-1]:  # first order at the end, as its authors advise
                v = v - _extrapolation(before[0], t, then) * (data - before[1]) / t
            before = t, data
        x = x + (then - t) * v
        if done:
            break
    return x


def sample_levels(config: ModelConfig, run: SampleStage) -> Latents:
    """Both levels by sampling the stages: level 1 first, which the cascade may read, or both at once in a joint model.

    Source: GLD specification section 9.
    """
    first = run("level1", None)
    if config.cascade is None:
        level0, level1 = first.chunk(2, dim=2)
        return Latents(level0, level1)
    return Latents(run("cascade", first if config.cascade.source_channels else None), first)


def _extrapolation(before: float, t: float, then: float) -> float:
    """How far DPM-Solver++ 2M (arXiv 2211.01095) continues the change of the data prediction, for x_t of this flow."""
    last_step, step = _log_snr(t) - _log_snr(before), _log_snr(then) - _log_snr(t)
    return step / (2 * last_step) if last_step > 0 else 0.0


def _log_snr(t: float) -> float:
    inside = min(max(t, SMALLEST_TIME), 1 - SMALLEST_TIME)  # it is infinite at both ends of the grid
    return math.log((1 - inside) / inside)


def _is_guided(config: SamplerConfig, t: float) -> bool:
    low, high = config.guidance_interval
    return config.guidance > 1 and low <= t <= high
