"""The optimisers of a stage: AdamW for everything, or Muon for the matrices inside transformer blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from gld_ros.errors import GldError
from gld_ros.training.config import StageConfig

BLOCK = re.compile(r"(blocks|layers)\.\d+\.")


class StageOptimizer:
    """AdamW, and with ``optimizer: muon`` Muon for the 2-D weights of attention and MLP layers.

    Muon (Jordan 2024) makes every update of a matrix orthogonal; scaled to the RMS of AdamW's updates (Liu et al. 2025,
    "Muon is scalable for LLM training") it takes the same rates. Embeddings, modulation, outputs, norms and biases stay
    with AdamW, as both recommend.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: StageConfig) -> None:
        hidden = [p for n, p in parameters.items() if settings.optimizer == "muon" and in_block(n, p)]
        taken = {id(p) for p in hidden}
        others = [p for p in parameters.values() if id(p) not in taken]
        decay = [p for p in others if p.dim() >= 2]
        plain = [p for p in others if p.dim() < 2]
        self.parts: dict[str, torch.optim.Optimizer] = {
            "adamw": torch.optim.AdamW(
                [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
                lr=settings.rate,
                betas=(0.9, settings.beta2),
            )
        }
        if hidden:
            require_optimizer(settings)
            self.parts["muon"] = torch.optim.Muon(
                hidden, lr=settings.rate, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw"
            )

    def set_rate(self, rate: float) -> None:
        """Learning rate of the next step."""
        for part in self.parts.values():
            for group in part.param_groups:
                group["lr"] = rate

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        """One update of every parameter."""
        for part in self.parts.values():
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``. Raises GldError where another optimiser wrote it."""
        if set(state) != set(self.parts):
            raise GldError(
                f"the checkpoint holds the state of {', '.join(sorted(state))}, this stage trains with "
                f"{', '.join(sorted(self.parts))}: start again with --overwrite"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def require_optimizer(settings: StageConfig) -> None:
    """Raises GldError where this PyTorch has no Muon."""
    if settings.optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        raise GldError(
            f"optimizer: muon needs PyTorch 2.9 or newer, this is {torch.__version__}: upgrade torch, or set "
            "optimizer: adamw"
        )


def in_block(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a weight matrix of attention or MLP inside a transformer block."""
    return parameter.dim() == 2 and BLOCK.search(name) is not None and "adaLN" not in name
