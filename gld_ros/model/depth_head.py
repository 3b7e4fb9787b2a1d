"""Four feature levels of a view to depth, rays and their confidences: DualDPT (GLD specification section 5.2).

Parameter names are those of the released file below ``decoder.``. Always fp32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.model.config import DepthHeadConfig
from gld_ros.model.layers import tokens_to_map

UV_GAIN = 0.1  # weight of the position embedding added to feature maps
UV_BASE = 100.0


@dataclass(frozen=True, eq=False)
class DepthOutput:
    """Depth is along the optical axis, in a scale of the scene's own; rays are in the frame of view 0."""

    depth: Tensor  # (B, V, H, W)
    depth_conf: Tensor  # (B, V, H, W), above 1
    ray: Tensor | None  # (B, V, 8h, 8w, 6): direction R K^-1 (u, v, 1) and camera centre
    ray_conf: Tensor | None  # (B, V, 8h, 8w), above 1


class DepthHead(nn.Module):
    """Feature maps at four scales, fused coarse to fine by one chain for depth and one for rays."""

    keep_fp32 = True

    def __init__(self, config: DepthHeadConfig) -> None:
        super().__init__()
        self.config = config
        stages, features = config.stage_channels, config.features
        self.norm = nn.LayerNorm(config.in_channels, eps=config.norm_eps)
        self.projects = nn.ModuleList(nn.Conv2d(config.in_channels, channels, 1) for channels in stages)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(stages[0], stages[0], 4, 4),
                nn.ConvTranspose2d(stages[1], stages[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(stages[3], stages[3], 3, 2, 1),
            ]
        )
        self.scratch = Scratch(stages, features, config.head_channels, config.norm_eps)

    def forward(self, levels: Sequence[Tensor], grid: tuple[int, int], rays: bool = True) -> DepthOutput:
        """Decode.

        Args:
            levels: levels 0..3 in layer-normed form, each (B, V, N, D).
            grid: rows and columns of patches.
            rays: also run the ray half (about 60 % of the cost).
        """
        leading = levels[0].shape[:2]
        patch = self.config.patch
        height, width = grid[0] * patch, grid[1] * patch
        aspect = width / height
        laterals = self.laterals([level.flatten(0, 1).float() for level in levels], grid)

        fused = self.scratch.output_conv1(self.scratch.fuse(laterals, ""))
        fused = _resize(fused, (height, width))
        out = self.scratch.output_conv2(fused + uv_embedding(fused, aspect))
        depth, confidence = out[:, 0].exp(), out[:, 1].exp() + 1
        ray = ray_conf = None
        if rays:
            # Only the finest of the four auxiliary outputs is read; the others exist in the file.
            fused = self.scratch.output_conv1_aux[3](self.scratch.fuse(laterals, "_aux"))
            out = self.scratch.output_conv2_aux[3](fused + uv_embedding(fused, aspect))
            ray = out[:, :6].permute(0, 2, 3, 1).unflatten(0, leading)
            ray_conf = (out[:, 6].exp() + 1).unflatten(0, leading)
        return DepthOutput(depth.unflatten(0, leading), confidence.unflatten(0, leading), ray, ray_conf)

    def stages(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        """Levels (n, N, D) projected, with position embedding, at 4x, 2x, 1x and half the patch grid."""
        aspect = grid[1] / grid[0]
        maps = []
        for level, project, resize in zip(levels, self.projects, self.resize_layers, strict=True):
            x = project(tokens_to_map(self.norm(level), grid))
            maps.append(resize(x + uv_embedding(x, aspect)))
        return maps

    def laterals(self, levels: Sequence[Tensor], grid: tuple[int, int]) -> list[Tensor]:
        """The four stages brought to one number of channels."""
        maps = self.stages(levels, grid)
        return [self.scratch.get_submodule(f"layer{index}_rn")(x) for index, x in enumerate(maps, start=1)]


class Scratch(nn.Module):
    """Lateral convolutions, the two fusion chains and the output heads; one module as in the released file."""

    def __init__(self, stages: Sequence[int], features: int, head: int, eps: float) -> None:
        super().__init__()
        half = features // 2
        for index, channels in enumerate(stages, start=1):
            self.add_module(f"layer{index}_rn", nn.Conv2d(channels, features, 3, padding=1, bias=False))
            for suffix in ("", "_aux"):
                self.add_module(f"refinenet{index}{suffix}", Fusion(features, lateral=index < 4))
        self.output_conv1 = nn.Conv2d(features, half, 3, padding=1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(half, head, 3, padding=1), nn.ReLU(), nn.Conv2d(head, 2, 1))
        widths = [features, half, features, half, features, half]
        self.output_conv1_aux = nn.ModuleList(
            nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))) for _ in stages
        )
        norm = nn.LayerNorm(head, eps=eps)  # one module under four names, as released
        self.output_conv2_aux = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(half, head, 3, padding=1), ToLast(), norm, ToFirst(), nn.ReLU(), nn.Conv2d(head, 7, 1)
            )
            for _ in stages
        )

    def fuse(self, laterals: Sequence[Tensor], suffix: str) -> Tensor:
        """Coarse to fine: (n, features, 8h, 8w)."""
        x = laterals[3]
        for index in (4, 3, 2, 1):
            lateral = laterals[index - 1] if index < 4 else None
            finest = index == 1
            size = (2 * laterals[0].shape[-2], 2 * laterals[0].shape[-1]) if finest else laterals[index - 2].shape[-2:]
            x = self.get_submodule(f"refinenet{index}{suffix}")(x, lateral, (size[0], size[1]))
        return x


class Fusion(nn.Module):
    """Add a lateral map, refine, resize to the next finer map, mix channels."""

    def __init__(self, features: int, lateral: bool) -> None:
        super().__init__()
        if lateral:
            self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)
        self.out_conv = nn.Conv2d(features, features, 1)

    def forward(self, x: Tensor, lateral: Tensor | None, size: tuple[int, int]) -> Tensor:
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        out: Tensor = self.out_conv(_resize(self.resConfUnit2(x), size))
        return out


class ResidualUnit(nn.Module):
    """x + conv(ReLU(conv(ReLU(x))))."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.relu(self.conv1(F.relu(x))))
        return out


class ToLast(nn.Module):
    """Channels last, for LayerNorm over channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class ToFirst(nn.Module):
    """Channels first again."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


def uv_embedding(like: Tensor, aspect: float) -> Tensor:
    """Position embedding of a map (n, c, a, b) of a picture with this W / H; (c, a, b), already times the gain."""
    channels, rows, columns = like.shape[-3:]
    diagonal = math.sqrt(aspect**2 + 1)
    halves = []
    for count, extent in ((columns, aspect / diagonal), (rows, 1 / diagonal)):
        edge = extent * (count - 1) / count
        positions = torch.linspace(-edge, edge, count, device=like.device, dtype=torch.float32)
        quarter = channels // 4
        frequencies = UV_BASE ** (-torch.arange(quarter, device=like.device, dtype=torch.float32) / quarter)
        angles = frequencies.unsqueeze(-1) * positions  # (c / 4, count)
        halves.append(torch.cat([angles.sin(), angles.cos()]))
    x, y = halves
    half = x.shape[0]
    table = torch.cat([x.unsqueeze(1).expand(half, rows, columns), y.unsqueeze(2).expand(half, rows, columns)])
    return UV_GAIN * table


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
