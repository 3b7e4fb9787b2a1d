"""Four feature levels of a view to its picture (GLD specification section 5.1).

Parameter names are those of the released file below ``decoder.``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.model.config import IMAGENET_MEAN, IMAGENET_STD, RgbDecoderConfig
from gld_ros.model.layers import merge_heads, split_heads
from gld_ros.model.whitening import PatchWhitening


class RgbDecoder(nn.Module):
    """A plain transformer over the tokens of one view; views do not see each other."""

    def __init__(self, config: RgbDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder_embed = nn.Linear(config.in_channels, config.width)
        self.trainable_cls_token = nn.Parameter(0.02 * torch.randn(1, 1, config.width))
        self.decoder_pos_embed = nn.Parameter(
            sincos_table(config.base_grid, config.width).unsqueeze(0), requires_grad=False
        )
        self.decoder_layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.layers))
        self.decoder_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.decoder_pred = nn.Linear(config.width, config.whiten or config.patch**2 * 3)
        if config.whiten:
            self.whitening = PatchWhitening(config.patch, config.whiten)

    def forward(self, levels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Decode.

        Args:
            levels: the four levels joined on channels, (..., N, in_channels).
            grid: rows and columns of patches.

        Returns:
            pictures around [0, 1], not clipped, (..., 3, H, W) fp32.
        """
        leading = levels.shape[:-2]
        logits = self.logits(levels.reshape(-1, *levels.shape[-2:]), grid)
        picture = to_rgb(unpatchify(logits.float(), grid, self.config.patch))
        return picture.unflatten(0, leading) if leading else picture.squeeze(0)

    def logits(self, levels: Tensor, grid: tuple[int, int]) -> Tensor:
        """(n, N, in_channels) -> values of each patch, (n, N, patch * patch * 3)."""
        x = self.decoder_embed(levels.to(self.decoder_embed.weight.dtype))
        x = torch.cat([self.trainable_cls_token.expand(len(x), -1, -1), x], dim=1) + self.positions(grid)
        for layer in self.decoder_layers:
            x = layer(x)
        out: Tensor = self.decoder_pred(self.decoder_norm(x))[:, 1:]
        return self.whitening.colour(out) if self.config.whiten else out

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """The stored table resampled to the grid by size, (1, 1 + N, width)."""
        table = self.decoder_pos_embed[:, 1:].float().transpose(1, 2).unflatten(-1, self.config.base_grid)
        table = F.interpolate(table, size=grid, mode="bicubic", align_corners=False)
        patches = table.flatten(2).transpose(1, 2).to(self.decoder_pos_embed.dtype)
        return torch.cat([self.decoder_pos_embed[:, :1], patches], dim=1)


class DecoderLayer(nn.Module):
    """Pre-norm transformer layer; nesting and names follow the released file."""

    def __init__(self, config: RgbDecoderConfig) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attention = DecoderAttention(config)
        self.layernorm_after = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.intermediate = Dense(config.width, config.mlp_hidden)
        self.output = Dense(config.mlp_hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        out: Tensor = x + self.output(F.gelu(self.intermediate(self.layernorm_after(x))))
        return out


class DecoderAttention(nn.Module):
    """Self-attention with separate projections, then the output projection."""

    def __init__(self, config: RgbDecoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention = nn.ModuleDict(
            {name: nn.Linear(config.width, config.width) for name in ("query", "key", "value")}
        )
        self.output = Dense(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(self.attention[name](x), self.heads) for name in ("query", "key", "value"))
        out: Tensor = self.output(merge_heads(F.scaled_dot_product_attention(q, k, v)))
        return out


class Dense(nn.Module):
    """A linear layer under the name the released file has for it."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(fan_in, fan_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.dense(x)
        return out


def unpatchify(logits: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """(n, N, patch rows x patch columns x 3) -> (n, 3, H, W)."""
    x = logits.unflatten(-1, (patch, patch, 3)).unflatten(1, grid)  # (n, h, w, rows, columns, 3)
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def to_rgb(normalised: Tensor) -> Tensor:
    """Undo ImageNet normalisation of (n, 3, H, W)."""
    mean = torch.tensor(IMAGENET_MEAN, device=normalised.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=normalised.device).view(3, 1, 1)
    return normalised * std + mean


def sincos_table(grid: tuple[int, int], width: int) -> Tensor:
    """Fixed positions: first half of the channels from the column, second from the row; (1 + N, width), row 0 zero."""
    quarter = width // 4
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    halves = []
    for positions in (columns, rows):
        angles = positions.flatten().double().unsqueeze(-1) * frequencies
        halves += [angles.sin(), angles.cos()]
    table = torch.cat(halves, dim=-1).float()
    table = F.pad(table, (0, width - table.shape[-1]))
    return torch.cat([torch.zeros(1, width), table])
