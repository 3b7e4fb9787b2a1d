"""Spaces a diffusion transformer can generate in: geometric level-1 features, a VAE's latents, patches of pixels.

All have one grid of patches and unit scale per channel, so that nothing but the space differs between two trainings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.model.config import ModelConfig
from gld_ros.model.depth_head import DepthOutput
from gld_ros.model.encoder import Encoder, grid_of
from gld_ros.model.gld_model import GldModel, Latents
from gld_ros.model.layers import map_to_tokens, tokens_to_map
from gld_ros.model.rgb_decoder import RgbDecoder
from gld_ros.model.statistics import LatentStatistics
from gld_ros.training.batches import Batch

VAE_LOG_VARIANCE = -4.0  # before training: latents of unit scale with little noise


@dataclass(frozen=True, eq=False)
class Decoded:
    """What a space makes of latents."""

    rgb: Tensor  # (B, V, 3, H, W), not clipped
    geometry: DepthOutput | None = None  # only from a space that holds it


class LatentSpace(nn.Module):
    """Pictures to normalised latents and back."""

    patch: int
    channels: int
    statistics: LatentStatistics

    def tokens(self, rgb: Tensor) -> Tensor:
        """Pictures (B, V, 3, H, W) in [0, 1] to latents before normalisation, (B, V, N, D)."""
        raise NotImplementedError

    def decode(self, latents: Tensor, seen: Tensor, rays: bool = True) -> Decoded:
        """Normalised latents (B, V, D, h, w); ``seen``: pictures of the condition views, (B, C, 3, H, W)."""
        raise NotImplementedError

    def decoders(self) -> list[nn.Module]:
        """The parts that read latents."""
        raise NotImplementedError

    def encode(self, rgb: Tensor) -> Tensor:
        """Pictures (B, V, 3, H, W) to normalised latents (B, V, D, h, w)."""
        return tokens_to_map(self.statistics.normalise(self.tokens(rgb)), grid_of(rgb, self.patch))

    def raw(self, latents: Tensor) -> Tensor:
        """Normalised maps to tokens before normalisation."""
        return self.statistics.denormalise(map_to_tokens(latents))

    @torch.no_grad()
    def measure(self, batches: list[Batch]) -> None:
        """Take mean and variance of each channel from pictures."""
        tokens = torch.cat([self.tokens(batch.rgb).flatten(0, 2) for batch in batches]).double()
        self.statistics.set(tokens.mean(0).float(), tokens.var(0, unbiased=False).float())


class GeometricSpace(LatentSpace):
    """Level 1 of a model's encoder; levels 2 and 3 are computed from it, level 0 is left at its mean."""

    def __init__(self, model: GldModel) -> None:
        super().__init__()
        self.model = model
        self.patch = model.config.encoder.patch
        self.channels = model.config.encoder.channels

    @property
    def statistics(self) -> LatentStatistics:  # type: ignore[override]
        """Those of level 1, which belong to the model."""
        return self.model.level_statistics(1)

    def tokens(self, rgb: Tensor) -> Tensor:
        features: list[Tensor] = self.model.encoder(rgb, last_level=1)
        return features[1][:, :, 1:]

    def decode(self, latents: Tensor, seen: Tensor, rays: bool = True) -> Decoded:
        levels = self.model.decoder_levels(
            Latents(torch.zeros_like(latents), latents), self.model.propagation_cls(seen)
        )
        grid = (latents.shape[-2], latents.shape[-1])
        geometry = self.model.depth_head(self.model.layer_normed(levels), grid, rays=rays)
        return Decoded(self.model.decode_rgb(levels, grid).float(), geometry)

    def decoders(self) -> list[nn.Module]:
        return [self.model.rgb_decoder, self.model.depth_head]


class VaeSpace(LatentSpace):
    """A variational autoencoder of single pictures with as many channels and tokens as level 1.

    It is built of the model's own blocks, as many as level 1 is deep, and of its picture decoder, so that it differs
    from the geometric space in what it learns (pictures and a KL term) and not in how.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        kind = config.encoder
        self.patch, self.channels = kind.patch, kind.channels
        # no block looks at other views
        self.encoder = Encoder(replace(kind, alt_start=kind.blocks, depth_cells=0, pose_input="none"))
        self.encoder.blocks = self.encoder.blocks[: kind.level_blocks[1] + 1]
        self.to_posterior = nn.Linear(self.channels, 2 * self.channels)
        nn.init.zeros_(self.to_posterior.weight[self.channels :])
        nn.init.constant_(self.to_posterior.bias[self.channels :], VAE_LOG_VARIANCE)
        self.rgb_decoder = RgbDecoder(replace(config.rgb, in_channels=self.channels))
        self.statistics = LatentStatistics(self.channels)

    def posterior(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latents of pictures, (B, V, N, D) each, fp32."""
        features = self.encoder(rgb, last_level=1)[1][:, :, 1:]
        mean, log_variance = self.to_posterior(features).float().chunk(2, dim=-1)
        return mean, log_variance.clamp(-20, 10)

    def picture(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Latents before normalisation (B, V, N, D) to pictures (B, V, 3, H, W)."""
        out: Tensor = self.rgb_decoder(tokens, grid)
        return out.float()

    def tokens(self, rgb: Tensor) -> Tensor:
        return self.posterior(rgb)[0]

    def decode(self, latents: Tensor, seen: Tensor, rays: bool = True) -> Decoded:
        return Decoded(self.picture(self.raw(latents), (latents.shape[-2], latents.shape[-1])))

    def decoders(self) -> list[nn.Module]:
        return [self.rgb_decoder]


class PixelSpace(LatentSpace):
    """The pixels of each patch as its channels: no compression and nothing to learn."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, 3 * patch * patch
        self.statistics = LatentStatistics(self.channels)

    def tokens(self, rgb: Tensor) -> Tensor:
        return map_to_tokens(F.pixel_unshuffle(rgb, self.patch))

    def decode(self, latents: Tensor, seen: Tensor, rays: bool = True) -> Decoded:
        maps = tokens_to_map(self.raw(latents), (latents.shape[-2], latents.shape[-1]))
        return Decoded(F.pixel_shuffle(maps, self.patch))

    def decoders(self) -> list[nn.Module]:
        return []


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over all latents of KL(N(mean, variance) | N(0, 1)) in nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
