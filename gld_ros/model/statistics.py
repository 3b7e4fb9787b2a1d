"""Per-channel mean and variance that put encoder features on a scale a diffusion model can learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gld_ros.errors import GldError


class LatentStatistics(nn.Module):
    """z_norm = (z - mean) / sqrt(var + eps), the same for all positions and views (specification section 3).

    Always fp32: a few channels of the released level 1 are 50 times larger than the rest.
    """

    keep_fp32 = True
    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    @torch.no_grad()
    def set(self, mean: Tensor, var: Tensor) -> None:
        """Take statistics of any shape that holds one number per channel. Raises GldError on a wrong width."""
        for name, value in (("mean", mean), ("var", var)):
            if value.numel() != self.mean.numel():
                raise GldError(
                    f"statistics {name} has {value.numel()} channels, this model has {self.mean.numel()}: "
                    "the file belongs to another encoder"
                )
            if not torch.isfinite(value).all() or (name == "var" and (value < 0).any()):
                raise GldError(f"statistics {name} has non-finite or negative entries: the file is damaged")
        self.mean.copy_(mean.flatten())
        self.var.copy_(var.flatten())

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw features (..., D) to unit scale, in fp32."""
        return (raw.float() - self.mean) / torch.sqrt(self.var + self.eps)

    def denormalise(self, normed: Tensor) -> Tensor:
        """Back to raw features (..., D), in fp32."""
        return normed.float() * torch.sqrt(self.var + self.eps) + self.mean
