"""From noise to latents: the shifted time grid, guidance, and Euler updates (GLD specification section 10)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gld_ros.model.config import SamplerConfig
from gld_ros.model.dit import DiT, DiTCondition, DiTInputs

StepCallback = Callable[[int, int, Tensor], None]  # update i of n begins, with the state x_t; may raise to stop


def time_grid(shift: float, points: int, last: float = 0.001) -> Tensor:
    """Times from 1 (noise) towards 0 (data), dense near 1 for a large shift; (points,) float64."""
    tau = 1 - torch.linspace(0, 1 - last, points, dtype=torch.float64)
    return shift * tau / (1 + (shift - 1) * tau)


class GuidedVelocity:
    """The velocity a sampler follows: with guidance, v_uncond + g (v_cond - v_uncond).

    The two branches run one after the other, which halves peak memory. ``evaluations`` counts forwards.
    """

    def __init__(self, dit: DiT, inputs: DiTInputs, guidance: float) -> None:
        self.dit = dit
        self.guidance = guidance
        self.evaluations = 0
        self.condition: DiTCondition = dit.prepare(inputs)
        self.unconditional = dit.prepare(inputs.unconditional(dit.config)) if guidance > 1 else None

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """(B, V, D, h, w) and (B,) -> velocity (B, V, D, h, w)."""
        self.evaluations += 1
        velocity = self.dit.velocity(x_t, t, self.condition)
        if self.unconditional is None:
            return velocity
        self.evaluations += 1
        free = self.dit.velocity(x_t, t, self.unconditional)
        return free + self.guidance * (velocity - free)


@torch.no_grad()
def sample(
    dit: DiT, inputs: DiTInputs, noise: Tensor, config: SamplerConfig, on_step: StepCallback | None = None
) -> Tensor:
    """Integrate the flow from noise; returns the state at the last grid point, (B, V, D, h, w) fp32."""
    velocity = GuidedVelocity(dit, inputs, config.guidance)
    times = time_grid(config.shift, config.points, config.last)
    x = noise.float()
    for step in range(len(times) - 1):
        if on_step is not None:
            on_step(step, len(times) - 1, x)
        t = torch.full((len(x),), float(times[step]), device=x.device)
        x = x + float(times[step + 1] - times[step]) * velocity(x, t)
    return x
