"""All parts of one model under one roof, and the few operations that join them.

Transformers may live in the file instead of memory: ``GldModel.diffusion`` lends one at a time.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.errors import GldError, Status
from gld_ros.model.camera_map import RelativeCameras
from gld_ros.model.config import DiTConfig, ModelConfig
from gld_ros.model.depth_head import DepthHead
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.encoder import Encoder, grid_of
from gld_ros.model.known_depth import KnownDepth
from gld_ros.model.known_pose import network_cameras
from gld_ros.model.layers import map_to_tokens, tokens_to_map
from gld_ros.model.precision import upload
from gld_ros.model.rgb_decoder import RgbDecoder
from gld_ros.model.statistics import LatentStatistics

Stage = Literal["level1", "cascade"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Latents:
    """Normalised levels 0 and 1 of some views, each (B, V, D, h, w) fp32."""

    level0: Tensor
    level1: Tensor


def join_latents(parts: Sequence[Latents]) -> Latents:
    """Latents of views behind each other."""
    return Latents(torch.cat([p.level0 for p in parts], dim=1), torch.cat([p.level1 for p in parts], dim=1))


class GldModel(nn.Module):
    """Encoder, statistics, one or two diffusion transformers, RGB decoder and depth head.

    With ``loader`` the transformers are not held: ``diffusion`` asks the loader and lets go afterwards.
    """

    def __init__(self, config: ModelConfig, loader: Callable[[Stage], DiT] | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.statistics = nn.ModuleList(
            LatentStatistics(config.encoder.channels, config.statistics_eps) for _ in range(2)
        )
        self.rgb_decoder = RgbDecoder(config.rgb)
        self.depth_head = DepthHead(config.depth)
        self._loader = loader
        if loader is None:
            self.level1 = DiT(config.level1)
            if config.cascade is not None:
                self.cascade = DiT(config.cascade)

    @property
    def device(self) -> torch.device:
        """Where the resident parts are."""
        return self.encoder.cls_token.device

    def on_transformers(self, act: Callable[[DiT], object]) -> None:
        """Do something to every transformer: now, or to each that is loaded from now on."""
        loader = self._loader
        if loader is None:
            for name, module in self.named_children():
                if name in ("level1", "cascade"):
                    act(module)  # type: ignore[arg-type]
            return

        def load(stage: Stage) -> DiT:
            dit = loader(stage)
            act(dit)
            return dit

        self._loader = load

    @contextmanager
    def diffusion(self, stage: Stage) -> Iterator[DiT]:
        """Lend the transformer of a stage; one that was loaded for this is freed on return."""
        if self._loader is None:
            yield self.get_submodule(stage)  # type: ignore[misc]
            return
        dit = self._loader(stage)
        try:
            yield dit
        finally:
            # Callers may still hold the name bound by ``with``, so the weights themselves must go.
            dit.to("meta")

    def encoder_cameras(self, world_from_cam: Tensor, K: Tensor, scale: Tensor | None = None) -> RelativeCameras | None:
        """Cameras for the encoder of models with ``pose_input``; None for others, which do not look at them.

        Args:
            world_from_cam: (B, V, 4, 4) OpenCV camera-to-world, condition views first.
            K: (B, V, 3, 3) in pixels.
            scale: network units per unit of the poses where depth is known, (B,) or (B, 1, 1, 1). A model that reads
                no depth has one unit only, the metre of its training, and takes the poses as they are.
        """
        config = self.config.encoder
        if config.pose_input == "none":
            return None
        return network_cameras(world_from_cam, K, scale if config.depth_cells else None)

    def encode(self, rgb: Tensor, depth: KnownDepth | None = None, cameras: RelativeCameras | None = None) -> Latents:
        """Encode the views of each scene jointly.

        Args:
            rgb: (B, V, 3, H, W) in [0, 1], H and W multiples of the patch.
            depth: what is known of their depth, for models that read it.
            cameras: what ``encoder_cameras`` made of theirs, for models that read poses before level 1.

        Raises GldError on zero views, non-finite pixels or a size the patch does not divide.
        """
        return self.encode_with_cls(rgb, depth, cameras=cameras)[0]

    def encode_with_cls(
        self,
        rgb: Tensor,
        depth: KnownDepth | None = None,
        alone: Tensor | None = None,
        cameras: RelativeCameras | None = None,
    ) -> tuple[Latents, Tensor]:
        """``encode``, and the raw level-1 class vector of each view that comes with it, (B, V, D).

        alone: what ``Encoder.alone`` made of these pictures, if that is known.
        """
        self._check_pictures(rgb)
        grid = grid_of(rgb, self.config.encoder.patch)
        raw = self.encoder(rgb, last_level=1, depth=depth, alone=alone, cameras=cameras)
        level0, level1 = (
            tokens_to_map(self.level_statistics(level).normalise(tokens[:, :, 1:]), grid)
            for level, tokens in enumerate(raw)
        )
        return Latents(level0, level1), raw[1][:, :, 0].float()

    def propagation_cls(
        self, rgb: Tensor, alone: Tensor | None = None, cameras: RelativeCameras | None = None
    ) -> Tensor:
        """The raw level-1 class vector of the first condition view that every view gets, (B, D).

        Source: specification section 4; ``config.propagation_cls`` says how it is encoded.
        """
        views = slice(1 if self.config.propagation_cls == "first_alone" else None)
        alone = None if alone is None else alone[:, views]
        cameras = None if cameras is None else cameras.views(views)
        cls: Tensor = self.encoder(rgb[:, views], last_level=1, alone=alone, cameras=cameras)[1][:, 0, 0].float()
        return cls

    def raw(self, latents: Tensor, level: int) -> Tensor:
        """Normalised maps (B, V, D, h, w) of level 0 or 1 -> raw tokens (B, V, N, D)."""
        return self.level_statistics(level).denormalise(map_to_tokens(latents))

    def level_statistics(self, level: int) -> LatentStatistics:
        """Statistics of level 0 or 1."""
        module = self.statistics[level]
        assert isinstance(module, LatentStatistics)
        return module

    def decoder_levels(self, latents: Latents, cls: Tensor, cameras: RelativeCameras | None = None) -> list[Tensor]:
        """Generated levels 0 and 1 -> raw levels 0..3, each (B, V, N, D), by running the rest of the encoder.

        Args:
            latents: normalised levels of all views.
            cls: raw class vector, (B, D) for all views of a scene or (B, V, D).
            cameras: what ``encoder_cameras`` made of all views, targets too, for models that read poses.
        """
        grid = (latents.level1.shape[-2], latents.level1.shape[-1])
        level0, level1 = self.raw(latents.level0, 0), self.raw(latents.level1, 1)
        if cls.dim() == 2:
            cls = cls.unsqueeze(1).expand(-1, level1.shape[1], -1)
        level2, level3 = self.encoder.propagate(level1, cls, grid, cameras)
        return [level0, level1, level2[:, :, 1:].float(), level3[:, :, 1:].float()]

    def layer_normed(self, levels: list[Tensor]) -> list[Tensor]:
        """The form decoders read, level by level."""
        return [self.encoder.layer_normed(level) for level in levels]

    def decode_rgb(self, levels: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Raw levels -> pictures (B, V, 3, H, W), not clipped."""
        form = levels if self.config.rgb.features == "raw" else self.layer_normed(levels)
        out: Tensor = self.rgb_decoder(torch.cat(form, dim=-1), grid)
        return out

    def stage_latents(self, latents: Latents, stage: Stage) -> Tensor:
        """What a stage generates: level 1, level 0 (cascade), or levels 0 and 1 on channels (joint model)."""
        if self.config.joint:
            return torch.cat([latents.level0, latents.level1], dim=2)
        return latents.level1 if stage == "level1" else latents.level0

    def dit_inputs(
        self,
        stage: Stage,
        conditions: Latents,
        cameras: RelativeCameras,
        source: Tensor | None = None,
        warp: Latents | None = None,
        coverage: Tensor | None = None,
    ) -> DiTInputs:
        """Put together what a stage's transformer is conditioned on.

        Args:
            conditions: clean latents of the condition views, (B, C, D, h, w) each.
            cameras: all V views, condition views first.
            source: normalised level 1 of all views, for the cascade.
            warp: latents of a geometric guess of every view, for models with ``warp_channels``.
            coverage: how much of each patch of the guess is known, (B, V, h, w) in [0, 1].
        """
        config = self.stage_config(stage)
        inputs = plain_inputs(
            self.stage_latents(conditions, stage), cameras, config.patch, self.config.camera.ray_offset_px
        )
        guess = None
        if config.warp_channels:
            guess = inputs.ref_cond.new_zeros(
                *inputs.ref_cond.shape[:2], config.warp_channels, *inputs.ref_cond.shape[-2:]
            )
            if warp is not None and coverage is not None:
                guess = torch.cat([self.stage_latents(warp, stage), coverage.unsqueeze(2)], dim=2)
        return dataclasses.replace(inputs, source=source, warp=guess)

    def stage_config(self, stage: Stage) -> DiTConfig:
        """Configuration of a stage's transformer. Raises GldError for the cascade of a joint model."""
        if stage == "level1":
            return self.config.level1
        if self.config.cascade is None:
            raise GldError(f"model {self.config.name} makes both levels jointly and has no cascade")
        return self.config.cascade

    def _check_pictures(self, rgb: Tensor) -> None:
        if rgb.dim() != 5 or rgb.shape[2] != 3:
            raise GldError(f"pictures have shape {tuple(rgb.shape)}, must be (scenes, views, 3, H, W)")
        if rgb.shape[1] == 0:
            raise GldError("no condition views: at least one posed picture is needed", Status.NO_KEYFRAMES)
        if not torch.isfinite(rgb).all():
            bad = int((~torch.isfinite(rgb)).sum())
            raise GldError(f"{bad} picture values are not finite: drop or repair these frames")


def plain_inputs(known: Tensor, cameras: RelativeCameras, patch: int, ray_offset_px: tuple[float, float]) -> DiTInputs:
    """What every transformer is conditioned on: clean latents of the condition views (B, C, D, h, w), and cameras.

    cameras: all V views, condition views first; patch: pixels a latent's side.
    """
    cond_num, views = known.shape[1], cameras.K.shape[1]
    rows, columns = known.shape[-2:]
    camera_map = cameras.map(cond_num, (rows * patch, columns * patch), ray_offset_px)
    return DiTInputs(
        cond_num=cond_num,
        ref_cond=F.pad(known, (0, 0, 0, 0, 0, 0, 0, views - cond_num)),
        camera_map=upload(camera_map, known.device),
        cam_from_ref=upload(cameras.cam_from_ref_scaled().float(), known.device),
        K=upload(cameras.K.float(), known.device),
    )
