"""Recomputing the golden files of encoder, transformers and propagation, and the list of all parts."""

from __future__ import annotations

import copy
import dataclasses
import re
from functools import cached_property

import torch
from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.evaluation.golden_decoders import DepthFile, RgbFile
from gld_ros.evaluation.goldens import GoldenFile, Watch, output
from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.config import IMAGENET_MEAN, IMAGENET_STD, SamplerConfig
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.layers import map_to_tokens, tokens_to_map
from gld_ros.model.sampler import GuidedVelocity
from gld_ros.model.statistics import LatentStatistics


class EncoderFile(GoldenFile):
    """Specification section 2."""

    name = "da3_encoder"

    def _blocks(self, suffix: str) -> dict[str, Tensor]:
        if suffix not in self._seen:
            encoder = self.folder.encoder
            with Watch(encoder, [f"blocks.{index}" for index in range(encoder.config.blocks)]) as seen:
                encoder(self.given(f"rgb01{suffix}"))
            self._seen[suffix] = seen
        return self._seen[suffix]

    @cached_property
    def _seen(self) -> dict[str, dict[str, Tensor]]:
        return {}

    def _levels(self, suffix: str, alone: bool) -> list[Tensor]:
        rgb = self.given(f"rgb01{suffix or ''}")
        return self.folder.encoder(rgb.flatten(0, 1).unsqueeze(1) if alone else rgb)

    @output(r"pos_embed_resampled")
    def positions(self) -> Tensor:
        height, width = self.given("rgb01").shape[-2:]
        patch = self.folder.encoder.config.patch
        return self.folder.encoder.positions((height // patch, width // patch))

    @output(r"tokens_after_embedding(_\d+x\d+)?")
    def tokens(self, suffix: str | None) -> Tensor:
        return self.folder.encoder.embed(self.given(f"rgb01{suffix or ''}"))

    @output(r"images_norm(_\d+x\d+)?")
    def images(self, suffix: str | None) -> Tensor:
        rgb = self.given(f"rgb01{suffix or ''}")
        return (rgb - rgb.new_tensor(IMAGENET_MEAN).view(3, 1, 1)) / rgb.new_tensor(IMAGENET_STD).view(3, 1, 1)

    @output(r"after_block_(\d+)(_\d+x\d+)?")
    def block(self, index: str, suffix: str | None) -> Tensor:
        return self._block(self._blocks(suffix or ""), int(index))

    def _block(self, seen: dict[str, Tensor], index: int) -> Tensor:
        if f"blocks.{index}" not in seen:
            raise GldError(f"the encoder has no block {index} up to its last level")
        return seen[f"blocks.{index}"]

    @output(r"(joint|single)_level([0-3])_(raw|ln)(_\d+x\d+)?")
    def level(self, how: str, level: str, form: str, suffix: str | None) -> Tensor:
        raw = self._levels(suffix or "", how == "single")[int(level)]
        return self.folder.encoder.layer_normed(raw) if form == "ln" else raw


class DiTFile(GoldenFile):
    """Specification sections 8 to 10."""

    @property
    def dit(self) -> DiT:
        raise NotImplementedError

    def _inputs(self, views: int | None = None, cond_num: int | None = None, source: bool = True) -> DiTInputs:
        return DiTInputs(
            cond_num=int(self.given("cond_num")) if cond_num is None else cond_num,
            ref_cond=self.given("ref_cond")[:views].unsqueeze(0),
            camera_map=self.given("camera_map")[:views].unsqueeze(0),
            cam_from_ref=self.given("viewmats")[:, :views],
            K=self.given("K")[:, :views],
            source=self.given("source_level1")[:views].unsqueeze(0) if source and self.has("source_level1") else None,
        )

    def _run(self, inputs: DiTInputs, dit: DiT | None = None) -> Tensor:
        views = inputs.K.shape[1]
        return (dit or self.dit)(self.given("x_t")[:views].unsqueeze(0), self.given("t")[:views].unsqueeze(0), inputs)

    @cached_property
    def _inner(self) -> dict[str, Tensor]:
        dit = self.dit
        names = ["t_embedder", "camera_embedder", "s_projector", "final_layer"]
        with Watch(dit, names + [f"blocks.{index}" for index in range(len(dit.blocks))]) as seen:
            self._run(self._inputs())
        return seen

    @output(r"velocity")
    def velocity(self) -> Tensor:
        return self._run(self._inputs())

    @output(r"velocity_uncond")
    def unconditional(self) -> Tensor:
        return self._run(self._inputs().unconditional(self.dit.config))

    @output(r"velocity_cfg([\d.]+)")
    def guided(self, guidance: str) -> Tensor:
        velocity = GuidedVelocity(self.dit, self._inputs(), SamplerConfig(guidance=float(guidance)))
        return velocity(self.given("x_t").unsqueeze(0), self.given("t").unsqueeze(0))

    @output(r"velocity_V(\d+)_C(\d+)")
    def fewer_views(self, views: str, cond_num: str) -> Tensor:
        return self._run(self._inputs(int(views), int(cond_num)))

    @output(r"velocity_without_source")
    def without_source(self) -> Tensor:
        return self._run(self._inputs(source=False))

    @output(r"velocity_prope_true_size")
    def true_size(self) -> Tensor:
        dit = copy.copy(self.dit)
        dit.config = dataclasses.replace(dit.config, prope_size=None)
        return self._run(self._inputs(), dit)

    @output(r"velocity_two_scenes")
    def two_scenes(self) -> Tensor:
        first = self._inputs()
        c2w, K, x_in = self.given("scene2/c2w"), self.given("scene2/K"), self.given("scene2/x_in")
        cameras = relative_cameras(c2w, K)
        height, width = first.camera_map.shape[-2:]
        ref_cond, x_t = x_in.unsqueeze(0).chunk(2, dim=2)
        second_map = cameras.map(first.cond_num, (height, width), (-0.5, 0.5))
        inputs = DiTInputs(
            first.cond_num,
            torch.cat([first.ref_cond, ref_cond]),
            torch.cat([first.camera_map, second_map]),
            torch.cat([first.cam_from_ref, cameras.cam_from_ref_scaled().float()]),
            torch.cat([first.K, K]),
        )
        x = torch.cat([self.given("x_t").unsqueeze(0), x_t])
        return self.dit(x, torch.stack([self.given("t"), self.given("scene2/t")]), inputs)

    @output(r"inter/(time_embedding|camera_tokens|decoder_condition_s|final_tokens|after_block_\d+)")
    def inner(self, name: str) -> Tensor:
        modules = {
            "time_embedding": "t_embedder",
            "camera_tokens": "camera_embedder",
            "decoder_condition_s": "s_projector",
            "final_tokens": "final_layer",
        }
        block = re.fullmatch(r"after_block_(\d+)", name)
        key = f"blocks.{int(block.group(1))}" if block else modules[name]
        if key not in self._inner:
            raise GldError(f"the transformer has no {key}")
        return self._inner[key]


class Level1File(DiTFile):
    """Specification section 8."""

    name = "ddt_level1"

    @property
    def dit(self) -> DiT:
        return self.folder.level1


class CascadeFile(DiTFile):
    """Specification section 9."""

    name = "ddt_cascade"

    @property
    def dit(self) -> DiT:
        return self.folder.cascade


class PropagateFile(GoldenFile):
    """Specification sections 3 and 4."""

    name = "propagate"

    @cached_property
    def statistics(self) -> LatentStatistics:
        mean, var = self.given("stats_level1_mean"), self.given("stats_level1_var")
        statistics = LatentStatistics(mean.numel()).to(self.folder.device)
        statistics.set(mean, var)
        return statistics

    @cached_property
    def _latents(self) -> Tensor:
        views = self.given("level1_norm")
        return views.unsqueeze(0)

    @property
    def _grid(self) -> tuple[int, int]:
        return (self._latents.shape[-2], self._latents.shape[-1])

    @cached_property
    def _cls_alone(self) -> Tensor:
        rgb = self.given("cond_rgb01").flatten(0, 1).unsqueeze(1)
        cls: Tensor = self.folder.encoder(rgb, last_level=1)[1][:, 0, 0]
        return cls

    @cached_property
    def _propagated(self) -> list[Tensor]:
        raw = self.statistics.denormalise(map_to_tokens(self._latents))
        cls = self._cls_alone[:1].float().expand(raw.shape[1], -1).unsqueeze(0)
        return [torch.cat([cls.unsqueeze(2), raw], dim=2), *self.folder.encoder.propagate(raw, cls, self._grid)]

    @output(r"cls_level1_norm_per_cond_view_encoded_alone")
    def cls_alone(self) -> Tensor:
        return self.statistics.normalise(self._cls_alone)

    @output(r"cls_level1_norm_used")
    def cls_used(self) -> Tensor:
        return self.statistics.normalise(self._propagated[0][0, :, 0])

    @output(r"level1_raw")
    def level1_raw(self) -> Tensor:
        return tokens_to_map(self._propagated[0][:, :, 1:], self._grid)

    @output(r"level([123])_raw_cls")
    def raw_cls(self, level: str) -> Tensor:
        return self._propagated[int(level) - 1][:, :, 0]

    @output(r"level([123])_ln_patches")
    def patches(self, level: str) -> Tensor:
        return self.folder.encoder.layer_normed(self._propagated[int(level) - 1][:, :, 1:])

    @cached_property
    def _true_level1(self) -> Tensor:
        level1: Tensor = self.folder.encoder(self.given("rgb01_all_views"), last_level=1)[1]
        return level1

    @output(r"encoded_level1_norm")
    def encoded(self) -> Tensor:
        return tokens_to_map(self.statistics.normalise(self._true_level1[:, :, 1:]), self._grid)

    @output(r"level([23])_ln_from_true_level1")
    def round_trip(self, level: str) -> Tensor:
        true = self.statistics.denormalise(self.statistics.normalise(self._true_level1))
        levels = self.folder.encoder.propagate(true[:, :, 1:], true[:, :, 0], self._grid)
        return self.folder.encoder.layer_normed(levels[int(level) - 2][:, :, 1:])


PART_FILES: list[type[GoldenFile]] = [EncoderFile, Level1File, CascadeFile, RgbFile, DepthFile, PropagateFile]
