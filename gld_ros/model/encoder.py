"""The Depth Anything 3 backbone that GLD generates in: pictures to four feature levels, and level 1 onwards.

GLD specification sections 2 and 4. Parameter names are those of the released file below
``model.backbone.pretrained.``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.errors import GldError
from gld_ros.model.camera_map import RelativeCameras
from gld_ros.model.config import IMAGENET_MEAN, IMAGENET_STD, EncoderConfig
from gld_ros.model.known_depth import DepthEmbed, KnownDepth
from gld_ros.model.known_pose import RayEmbed, patch_rays, view_prope
from gld_ros.model.layers import LayerScale, Mlp, merge_heads, split_heads
from gld_ros.model.prope import Prope
from gld_ros.model.whitening import WhitenedPatchEmbed

Rope = tuple[Tensor, Tensor]  # cos and sin, each (tokens, head channels)


class Encoder(nn.Module):
    """A vision transformer whose later odd blocks attend over all views of a scene."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.camera_token = nn.Parameter(0.02 * torch.randn(1, 2, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, config.position_grid**2 + 1, width))
        self.patch_embed = (
            WhitenedPatchEmbed(config.patch, config.whiten, width)
            if config.whiten
            else PatchEmbed(3, width, config.patch)
        )
        if config.depth_cells:
            self.depth_embed = DepthEmbed(config.patch, config.depth_cells, width)
        if config.pose_input == "rays":
            self.ray_embed = RayEmbed(width)
        self.blocks = nn.ModuleList(EncoderBlock(config, index) for index in range(config.blocks))
        self.norm = nn.LayerNorm(width, eps=config.final_norm_eps)

    def forward(
        self,
        rgb: Tensor,
        last_level: int = 3,
        depth: KnownDepth | None = None,
        alone: Tensor | None = None,
        cameras: RelativeCameras | None = None,
    ) -> list[Tensor]:
        """Raw features of levels 0..last_level; the views of a scene are encoded jointly.

        Args:
            rgb: pictures in [0, 1], (B, V, 3, H, W), H and W multiples of the patch; view 0 is the reference.
            last_level: stop after this level (0..3); later blocks are not run.
            depth: what is known of the depth, for models with ``depth_cells``; others do not look at it.
            alone: what ``alone`` made of these pictures, if that is known.
            cameras: of these views, as ``known_pose.network_cameras`` gives them, for models with ``pose_input``;
                others do not look at them.

        Raises GldError when cameras are missing that the blocks up to this level read.

        Returns:
            one tensor per level, (B, V, 1 + N, D): token 0 is the class/camera token, then patches row-major.
        """
        blocks = self.config.level_blocks[: last_level + 1]
        first, x = (0, self.embed(rgb)) if alone is None else (self.config.alt_start, alone)
        return self._run(x, grid_of(rgb, self.config.patch), range(first, blocks[-1] + 1), blocks, depth, cameras)[0]

    @property
    def begins_alone(self) -> bool:
        """Do pictures pass blocks, before the first level, in which views know neither each other nor their place?"""
        return 0 < self.config.alt_start <= self.config.level_blocks[0]

    def alone(self, rgb: Tensor) -> Tensor:
        """Tokens of pictures (B, V, 3, H, W) after those blocks, (B, V, 1 + N, width); see ``begins_alone``."""
        return self._run(self.embed(rgb), grid_of(rgb, self.config.patch), range(self.config.alt_start), ())[1]

    def propagate(
        self, level1: Tensor, cls: Tensor, grid: tuple[int, int], cameras: RelativeCameras | None = None
    ) -> list[Tensor]:
        """Run the blocks after level 1 on given level-1 features; raw levels 2 and 3.

        Args:
            level1: raw (de-normalised) patch features, (B, V, N, D), N = grid rows x columns.
            cls: raw class vector of each view, (B, V, D); without effect where the camera token enters later.
            cameras: of all views, as in ``forward``.

        Returns:
            levels 2 and 3, each (B, V, 1 + N, D). Source: GLD specification section 4.
        """
        tokens = torch.cat([cls.unsqueeze(2), level1], dim=2)
        state = tokens[..., -self.config.width :].to(self.norm.weight.dtype)  # the blocks read the last half only
        _, before, *blocks = self.config.level_blocks
        return self._run(state, grid, range(before + 1, blocks[-1] + 1), blocks, cameras=cameras)[0]

    def layer_normed(self, raw: Tensor) -> Tensor:
        """The form decoders read: the final LayerNorm on the last ``width`` channels, (..., D) -> (..., D)."""
        width = self.config.width
        normed = F.layer_norm(
            raw[..., -width:].float(), (width,), self.norm.weight.float(), self.norm.bias.float(), self.norm.eps
        )
        return torch.cat([raw[..., :-width].float(), normed], dim=-1)

    def embed(self, rgb: Tensor) -> Tensor:
        """Patches, class token and positions: (B, V, 3, H, W) in [0, 1] -> (B, V, 1 + N, width)."""
        grid = grid_of(rgb, self.config.patch)
        mean = torch.tensor(IMAGENET_MEAN, device=rgb.device, dtype=torch.float32).view(3, 1, 1)
        std = torch.tensor(IMAGENET_STD, device=rgb.device, dtype=torch.float32).view(3, 1, 1)
        images = ((rgb.float() - mean) / std).to(self.norm.weight.dtype)
        patches = self.patch_embed(images.flatten(0, 1))
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return (tokens + self.positions(grid)).unflatten(0, rgb.shape[:2])

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """The position table resampled to the grid, (1, 1 + N, width)."""
        side = self.config.position_grid
        if grid == (side, side):
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().transpose(1, 2).unflatten(-1, (side, side))
        factors = [(cells + self.config.position_offset) / side for cells in grid]
        table = F.interpolate(table, scale_factor=factors, mode="bicubic")
        patches = table.flatten(2).transpose(1, 2).to(self.pos_embed.dtype)
        return torch.cat([self.pos_embed[:, :1], patches], dim=1)

    def _run(
        self,
        x: Tensor,
        grid: tuple[int, int],
        blocks: range,
        taken: Sequence[int],
        depth: KnownDepth | None = None,
        cameras: RelativeCameras | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Run some blocks; the features of those that are taken, and the tokens after the last."""
        config = self.config
        head = config.width // config.heads
        local_rope = rope_2d(grid, head, config.rope_base, x.device, flat=False)
        poses = self._read_poses(blocks, x, cameras)
        # Cross-view blocks know of a token only whether it is a patch, or else how its camera lies to the others.
        across: Rope | Prope = (
            view_prope(poses, grid, config.patch, head, config.rope_base, x.device)
            if poses is not None and config.pose_input == "prope"
            else rope_2d(grid, head, config.rope_base, x.device, flat=True)
        )
        local, features = x, []
        for index in blocks:
            if index == config.alt_start:
                x = self._with_camera_token(x)
                if poses is not None and config.pose_input == "rays":
                    rays = self.ray_embed(patch_rays(poses, grid, config.patch))
                    x = x + F.pad(rays, (0, 0, 1, 0))  # the class token has none
            if depth is not None and config.depth_cells and index == config.level_blocks[0] + 1:
                x = x + F.pad(self.depth_embed(depth), (0, 0, 1, 0))  # the class token has none
            block, crosses = self.blocks[index], config.is_global(index)
            place: Rope | Prope | None = across if crosses else local_rope
            if index < config.rope_start and not isinstance(place, Prope):
                place = None
            merged = x.flatten(1, 2) if crosses else x.flatten(0, 1)
            x = block(merged, place).view(x.shape)
            if not crosses:
                local = x
            if index in taken:
                features.append(torch.cat([local, x], dim=-1) if config.level_features == "concat" else x)
        return features, x

    def _read_poses(self, blocks: range, x: Tensor, cameras: RelativeCameras | None) -> RelativeCameras | None:
        """The cameras of the views of ``x`` (B, V, …) where these blocks read them, else None."""
        config = self.config
        reads = {
            "none": False,
            "rays": config.alt_start in blocks,
            "prope": any(map(config.is_global, blocks)),
        }[config.pose_input]
        if not reads:
            return None
        scenes, views = x.shape[:2]
        if cameras is None:
            raise GldError(
                f"this encoder reads camera poses (pose_input: {config.pose_input}) and was given none: "
                f"pass the cameras of its {views} views, made by GldModel.encoder_cameras"
            )
        if cameras.K.shape[:2] != (scenes, views):
            raise GldError(
                f"cameras of {tuple(cameras.K.shape[:2])} (scenes, views) for pictures of {(scenes, views)}: "
                "the encoder needs one camera for every view"
            )
        return cameras

    def _with_camera_token(self, x: Tensor) -> Tensor:
        """Overwrite token 0: one learned token for the first view of the scene, another for all others."""
        scenes, views = x.shape[:2]
        first = self.camera_token[:, :1].expand(scenes, 1, -1)
        others = self.camera_token[:, 1:].expand(scenes, views - 1, -1)
        return torch.cat([torch.cat([first, others], dim=1).unsqueeze(2), x[:, :, 1:]], dim=2)


class PatchEmbed(nn.Module):
    """A convolution whose stride is its size: pictures to row-major tokens."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, N, width)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class EncoderBlock(nn.Module):
    """Pre-norm attention and feed-forward with layer scale."""

    def __init__(self, config: EncoderConfig, index: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.block_norm_eps)
        self.attn = EncoderAttention(config, qk_norm=index >= config.qk_norm_start)
        self.ls1 = LayerScale(config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=config.block_norm_eps)
        self.mlp = Mlp(config.width, config.mlp_hidden)
        self.ls2 = LayerScale(config.width)

    def forward(self, x: Tensor, place: Rope | Prope | None) -> Tensor:
        """(B, tokens, width); a rope shorter than the tokens repeats for every view."""
        x = x + self.ls1(self.attn(self.norm1(x), place))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class EncoderAttention(nn.Module):
    """Self-attention with optional q/k LayerNorm and 2-D rotary positions or PRoPE."""

    def __init__(self, config: EncoderConfig, qk_norm: bool) -> None:
        super().__init__()
        head = config.width // config.heads
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.q_norm = nn.LayerNorm(head, eps=config.qk_norm_eps) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head, eps=config.qk_norm_eps) if qk_norm else nn.Identity()
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, place: Rope | Prope | None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = self.q_norm(q), self.k_norm(k)
        if isinstance(place, Prope):
            attended = place.attend(q, k, v)
        else:
            if place is not None:
                q, k = _rotate(q, place), _rotate(k, place)
            attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(merge_heads(attended))
        return out


def rope_2d(grid: tuple[int, int], head: int, base: float, device: torch.device, flat: bool) -> Rope:
    """Rotation tables for token 0 at (0, 0) and patches at (row + 1, column + 1), or all at (1, 1) when flat.

    The first half of a head turns with y, the second with x. Returns cos and sin, each (1 + N, head).
    """
    rows, columns = torch.meshgrid(
        torch.arange(1, grid[0] + 1, device=device), torch.arange(1, grid[1] + 1, device=device), indexing="ij"
    )
    positions = torch.stack([rows, columns], dim=-1).flatten(0, 1).float()  # (N, 2)
    if flat:
        positions = torch.ones_like(positions)
    positions = torch.cat([positions.new_zeros(1, 2), positions])
    quarter = head // 4
    frequencies = base ** (-torch.arange(quarter, device=device, dtype=torch.float32) / quarter)
    angles = positions.unsqueeze(-1) * frequencies  # (1 + N, 2, quarter)
    angles = torch.cat([angles, angles], dim=-1).flatten(1)  # (1 + N, head)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, rope: Rope) -> Tensor:
    cos, sin = rope
    views = x.shape[2] // cos.shape[0]
    halves = x.float().unflatten(-1, (2, -1))  # (B, heads, tokens, 2, head / 2)
    a, b = halves.chunk(2, dim=-1)
    turned = torch.cat([-b, a], dim=-1).flatten(-2)
    return (x.float() * cos.repeat(views, 1) + turned * sin.repeat(views, 1)).to(x.dtype)


def grid_of(images: Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of patches of pictures (..., H, W). Raises GldError unless the patch divides them."""
    height, width = images.shape[-2:]
    if height % patch or width % patch or not height or not width:
        raise GldError(
            f"picture is {width}x{height}, width and height must be multiples of the patch {patch}: "
            f"resize to {max(width // patch, 1) * patch}x{max(height // patch, 1) * patch}"
        )
    return height // patch, width // patch
