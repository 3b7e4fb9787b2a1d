"""The multi-view diffusion transformer: one class for level 1, the cascade, and small joint models.

GLD specification sections 8 and 9. A narrow encoder turns the condition into one vector per token; a wide decoder
reads the noisy latent under that vector. Parameter names are those of the released files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.errors import GldError
from gld_ros.model.config import DiTConfig
from gld_ros.model.encoder import PatchEmbed
from gld_ros.model.layers import RMSNorm, SwiGLU, map_to_tokens, merge_heads, split_heads, tokens_to_map
from gld_ros.model.prope import Prope, prope

MIN_TIME = 1e-3  # a velocity made of a data prediction divides by no smaller time


@dataclass(frozen=True, eq=False)
class DiTInputs:
    """Everything about a scene batch that stays the same while sampling. Condition views come first."""

    cond_num: int
    ref_cond: Tensor  # (B, V, D, h, w) clean normalised latents of condition views, zeros for targets
    camera_map: Tensor  # (B, V, 7, H, W)
    cam_from_ref: Tensor  # (B, V, 4, 4) with scaled translations
    K: Tensor  # (B, V, 3, 3) pixels of H x W
    source: Tensor | None = None  # (B, V, source_channels, h, w)
    warp: Tensor | None = None  # (B, V, D + 1, h, w) warped latents and their coverage in [0, 1]

    def unconditional(self, config: DiTConfig, scenes: Tensor | None = None) -> DiTInputs:
        """The same without cameras (specification section 10): rays zero, poses identity, K as configured.

        Args:
            scenes: (B,) bool, drop the cameras of these scenes only, as training does; default all.
        """
        batch, device = len(self.K), self.K.device
        drop = torch.ones(batch, dtype=torch.bool, device=device) if scenes is None else scenes
        drop = drop.view(-1, 1, 1, 1)
        rays_off = self.camera_map.clone()
        rays_off[:, :, 1:] *= ~drop.unsqueeze(-1)
        no_pose = torch.eye(4, device=device, dtype=self.cam_from_ref.dtype)
        no_lens = torch.eye(3, device=device, dtype=self.K.dtype)
        return dataclasses.replace(
            self,
            camera_map=rays_off,
            cam_from_ref=torch.where(drop, no_pose, self.cam_from_ref),
            K=self.K if config.uncond_intrinsics == "keep" else torch.where(drop, no_lens, self.K),
        )


@dataclass(frozen=True, eq=False)
class DiTCondition:
    """What ``DiT.prepare`` computes once per sampling."""

    inputs: DiTInputs
    encoder_part: Tensor  # (B, V, N, encoder_width) fp32: cameras and the constant channels of the encoder's input
    decoder_part: Tensor  # (B, V, N, decoder_width) fp32: the constant channels of the decoder's input
    encoder_prope: Prope
    decoder_prope: Prope


class DiT(nn.Module):
    """Predicts the velocity (noise - data) of all views' latents, or the data itself (``config.prediction``)."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        narrow, wide = config.encoder_width, config.decoder_width
        channels = config.latent_channels
        decoder_in = 2 * channels + config.warp_channels
        encoder_in = channels + (config.source_channels or channels) + config.warp_channels
        for name, fan_in, width in (("x_embedder", decoder_in, wide), ("s_embedder", encoder_in, narrow)):
            for suffix in ("_ref", "_tgt") if config.split_embedders else ("",):
                self.add_module(name + suffix, PatchEmbed(fan_in, width, 1))
        self.t_embedder = TimeEmbedder(config.time_frequencies, narrow)
        self.camera_embedder = PatchEmbed(7, narrow, config.patch)
        self.s_projector = nn.Linear(narrow, wide)
        self.blocks = nn.ModuleList(
            [DiTBlock(narrow, config.encoder_heads, config.norm_eps) for _ in range(config.encoder_blocks)]
            + [DiTBlock(wide, config.decoder_heads, config.norm_eps) for _ in range(config.decoder_blocks)]
        )
        self.final_layer = FinalLayer(wide, channels, config.norm_eps)

    @property
    def dtype(self) -> torch.dtype:
        """Type the transformer blocks compute in."""
        return self.s_projector.weight.dtype

    def prepare(self, inputs: DiTInputs) -> DiTCondition:
        """All that no step of the sampler changes: cameras, PRoPE transforms, and the constant channels embedded.

        The input embedders are linear, so known channels need not pass through them again with every x_t.
        """
        config = self.config
        self._check(inputs)
        height, width = inputs.camera_map.shape[-2:]
        grid = (inputs.ref_cond.shape[-2], inputs.ref_cond.shape[-1])
        maps = inputs.camera_map.flatten(0, 1).to(self.dtype)
        cameras = self.camera_embedder(maps).unflatten(0, inputs.camera_map.shape[:2])
        encoder_prope, decoder_prope = (
            prope(
                inputs.cam_from_ref,
                inputs.K,
                config.prope_size or (width, height),
                grid,
                head,
                config.rope_base,
                config.prope_key_inverse,
            )
            for head in (
                config.encoder_width // config.encoder_heads,
                config.decoder_width // config.decoder_heads,
            )
        )
        constant = {"ref": inputs.ref_cond, "warp": inputs.warp}
        return DiTCondition(
            inputs,
            self._embed("s_embedder", {**constant, "middle": inputs.source}, inputs.cond_num, bias=True) + cameras,
            self._embed("x_embedder", constant, inputs.cond_num, bias=True),
            encoder_prope,
            decoder_prope,
        )

    def embed_time(self, t: Tensor) -> Tensor:
        """Times (B,) or (B, V) -> (B, 1 or V, 1, encoder_width)."""
        t = t.unsqueeze(1) if t.dim() == 1 else t
        return self.t_embedder(t.flatten()).to(self.dtype).unflatten(0, t.shape).unsqueeze(2)

    def encode(self, x_t: Tensor, time: Tensor, condition: DiTCondition) -> Tensor:
        """The narrow half: one vector per token, (B, V, N, encoder_width) fp32. ``time`` is what ``embed_time`` gave.

        Neighbouring times give much the same, so a sampler may use it again (DDT, arXiv 2504.05741).
        """
        s = condition.encoder_part
        if condition.inputs.source is None:
            s = s + self._embed("s_embedder", {"middle": x_t}, condition.inputs.cond_num)
        c = F.silu(time)
        for block in self.blocks[: self.config.encoder_blocks]:
            s = block(s, c, condition.encoder_prope)
        return s

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        condition: DiTInputs | DiTCondition,
        time: Tensor | None = None,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """One evaluation.

        Args:
            x_t: noisy normalised latents of every view, condition views too, (B, V, D, h, w).
            t: time in [0, 1], 1 is pure noise, (B,) or (B, V).
            condition: raw inputs, or what ``prepare`` made of them.
            time: ``embed_time(t)`` where it is known already.
            encoded: what ``encode`` made at this or an earlier time; None runs it.

        Returns:
            (B, V, D, h, w) fp32: velocity or data, as ``config.prediction`` says.
        """
        if isinstance(condition, DiTInputs):
            condition = self.prepare(condition)
        inputs = condition.inputs
        time = self.embed_time(t) if time is None else time
        s = self.encode(x_t, time, condition) if encoded is None else encoded
        s = self.s_projector(F.silu(time + s).to(self.dtype))

        x = condition.decoder_part + self._embed("x_embedder", {"middle": x_t}, inputs.cond_num)
        for block in self.blocks[self.config.encoder_blocks :]:
            x = block(x, s, condition.decoder_prope)
        out = tokens_to_map(self.final_layer(x, s), (x_t.shape[-2], x_t.shape[-1])).float()
        if self.config.prediction == "data" and inputs.warp is not None:
            out = out + inputs.warp[:, :, :-1].float()
        return out

    def velocity(
        self,
        x_t: Tensor,
        t: Tensor,
        condition: DiTInputs | DiTCondition,
        time: Tensor | None = None,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """noise - data at (x_t, t), whatever the network predicts; arguments as in ``forward``."""
        prediction: Tensor = self(x_t, t, condition, time, encoded)
        if self.config.prediction == "velocity":
            return prediction
        divisor = t.view(*t.shape, *(1,) * (x_t.dim() - t.dim()))
        return (x_t - prediction) / divisor.clamp(min=MIN_TIME)

    def _embed(self, name: str, parts: Mapping[str, Tensor | None], cond_num: int, bias: bool = False) -> Tensor:
        """The share that these channels have in an input embedder's result, (B, V, N, width) fp32.

        An embedder reads the channels [ref, middle, warp]: middle is x_t, or the source of a cascade's encoder.
        Condition views have an embedder of their own where there are two.
        """
        first = self.config.latent_channels
        last = self.config.warp_channels
        total: Tensor | None = None
        for part, maps in parts.items():
            if maps is None:
                continue
            tokens = map_to_tokens(maps.to(self.dtype))
            shares = []
            for suffix, views in self._views_of_embedders(tokens, cond_num):
                proj = self.get_submodule(f"{name}{suffix}.proj")
                weight = proj.get_parameter("weight").flatten(1)
                begin, end = {
                    "ref": (0, first),
                    "middle": (first, weight.shape[1] - last),
                    "warp": (weight.shape[1] - last, weight.shape[1]),
                }[part]
                added = proj.get_parameter("bias") if bias and total is None else None
                shares.append(F.linear(views, weight[:, begin:end], added))
            share = torch.cat(shares, dim=1).float()
            total = share if total is None else total + share
        assert total is not None
        return total

    def _views_of_embedders(self, tokens: Tensor, cond_num: int) -> list[tuple[str, Tensor]]:
        if not self.config.split_embedders:
            return [("", tokens)]
        cuts = [("_ref", tokens[:, :cond_num]), ("_tgt", tokens[:, cond_num:])]
        return [(suffix, views) for suffix, views in cuts if views.shape[1]]

    def _check(self, inputs: DiTInputs) -> None:
        config = self.config
        views, (rows, columns) = inputs.ref_cond.shape[1], inputs.ref_cond.shape[-2:]
        if not 1 <= inputs.cond_num <= views:
            raise GldError(f"cond_num is {inputs.cond_num}, must lie in 1..{views} (the number of views)")
        if inputs.ref_cond.shape[2] != config.latent_channels:
            raise GldError(f"latents have {inputs.ref_cond.shape[2]} channels, this model has {config.latent_channels}")
        if tuple(inputs.camera_map.shape[-2:]) != (rows * config.patch, columns * config.patch):
            raise GldError(
                f"camera map is {tuple(inputs.camera_map.shape[-2:])}, latents of {rows}x{columns} patches "
                f"need {(rows * config.patch, columns * config.patch)}"
            )
        if (inputs.warp is not None) != (config.warp_channels > 0):
            raise GldError(f"warp is {'given' if inputs.warp is not None else 'missing'}, config says otherwise")


class DiTBlock(nn.Module):
    """Attention and SwiGLU, each modulated and gated by a condition vector per view or per token."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width, eps)
        self.attn = PropeAttention(width, heads)
        self.norm2 = RMSNorm(width, eps)
        self.mlp = SwiGLU(width)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor, transform: Prope) -> Tensor:
        """x (B, V, N, width) fp32, condition (B, V, 1 or N, width) in the type of the weights.

        Sums along the depth stay fp32 in 16-bit models: rounding them after each of many blocks adds up.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attn((self.norm1(x) * (1 + scale1) + shift1).to(condition.dtype), transform)
        out: Tensor = x + gate2 * self.mlp((self.norm2(x) * (1 + scale2) + shift2).to(condition.dtype))
        return out


class PropeAttention(nn.Module):
    """Self-attention over the tokens of all views under PRoPE."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, transform: Prope) -> Tensor:
        """(B, V, N, width) -> the same."""
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x.flatten(1, 2)).chunk(3, dim=-1))
        out: Tensor = self.proj(merge_heads(transform.attend(q, k, v))).view(x.shape)
        return out


class FinalLayer(nn.Module):
    """RMSNorm, modulation per token, and the projection to latent channels."""

    def __init__(self, width: int, channels: int, eps: float) -> None:
        super().__init__()
        self.norm_final = RMSNorm(width, eps)
        self.linear = nn.Linear(width, channels)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition).chunk(2, dim=-1)
        out: Tensor = self.linear((self.norm_final(x) * (1 + scale) + shift).to(condition.dtype))
        return out


class TimeEmbedder(nn.Module):
    """Random Fourier features of the time and a small network; fp32, for its angles run over many turns."""

    keep_fp32 = True

    def __init__(self, frequencies: int, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(frequencies), requires_grad=False)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """(n,) -> (n, width)."""
        angles = 2 * math.pi * t.float().unsqueeze(-1) * self.W
        out: Tensor = self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return out


def initialise_dit(dit: DiT) -> None:
    """Start values for training: the gates and the last layer are zero, so that every block begins as identity."""
    for block in dit.blocks:
        nn.init.zeros_(block.get_submodule("adaLN_modulation.1").get_parameter("weight"))
        nn.init.zeros_(block.get_submodule("adaLN_modulation.1").get_parameter("bias"))
    for name in ("final_layer.linear", "final_layer.adaLN_modulation.1"):
        nn.init.zeros_(dit.get_submodule(name).get_parameter("weight"))
        nn.init.zeros_(dit.get_submodule(name).get_parameter("bias"))
