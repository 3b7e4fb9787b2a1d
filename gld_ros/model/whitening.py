"""Patches of pixels to decorrelated components and back, for small models trained from scratch.

Natural pictures put nearly all variance into a few smooth components; without whitening a short training learns only
those. The released model has none of this.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gld_ros.model.precision import no_autocast


class PatchWhitening(nn.Module):
    """A principal-component basis of pictures' patches; identity-like until ``fit``.

    Patches are flattened (row, column, channel), of pictures normalised by the ImageNet statistics.
    """

    keep_fp32 = True
    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, patch: int, components: int) -> None:
        super().__init__()
        size = 3 * patch * patch
        self.patch = patch
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.eye(size, components))
        self.register_buffer("scale", torch.ones(components))

    @torch.no_grad()
    def fit(self, images: Tensor, floor: float = 1e-4) -> None:
        """Take the basis from normalised pictures (n, 3, H, W); ``floor`` is the smallest variance divided by."""
        patches = self.patches(images).flatten(0, 1).double()
        self.mean.copy_(patches.mean(0))
        centred = patches - patches.mean(0)
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        order = torch.arange(len(values) - 1, len(values) - 1 - self.basis.shape[1], -1)
        self.basis.copy_(vectors[:, order])
        self.scale.copy_((values[order].clamp(min=0) + floor).sqrt())

    def patches(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) -> (n, N, patch * patch * 3)."""
        p = self.patch
        x = images.unflatten(-1, (-1, p)).unflatten(-3, (-1, p))  # (n, 3, h, p, w, p)
        return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)

    def whiten(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) -> components of unit variance, (n, N, components)."""
        with no_autocast(images.device.type):
            return (self.patches(images.float()) - self.mean) @ self.basis / self.scale

    def colour(self, components: Tensor) -> Tensor:
        """Components -> flattened patches, (..., patch * patch * 3)."""
        with no_autocast(components.device.type):
            return (components.float() * self.scale) @ self.basis.T + self.mean


class WhitenedPatchEmbed(nn.Module):
    """Whitened patches through a linear layer: pictures to row-major tokens."""

    def __init__(self, patch: int, components: int, width: int) -> None:
        super().__init__()
        self.whitening = PatchWhitening(patch, components)
        self.proj = nn.Linear(components, width)

    def forward(self, images: Tensor) -> Tensor:
        """(n, 3, H, W) -> (n, N, width)."""
        out: Tensor = self.proj(self.whitening.whiten(images).to(self.proj.weight.dtype))
        return out
