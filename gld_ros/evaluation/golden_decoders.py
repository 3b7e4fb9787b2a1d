"""Recomputing the golden files of the RGB decoder and the depth head."""

from __future__ import annotations

import re
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from gld_ros.evaluation.goldens import GoldenFile, Watch, find_grid, output
from gld_ros.model.depth_head import DepthOutput, uv_embedding
from gld_ros.model.rgb_decoder import to_rgb, unpatchify


class RgbFile(GoldenFile):
    """Specification section 5.1."""

    name = "mae_decoder"

    def _grid(self, suffix: str) -> tuple[int, int]:
        tokens = self.given(f"features_4levels{suffix}").shape[1]
        patch = self.folder.rgb_decoder.config.patch
        candidates: list[tuple[int, int] | None] = []
        if suffix:
            height, width = (int(part) for part in suffix.strip("_").split("x"))
            candidates.append((height // patch, width // patch))
        for name in (f"out/rgb{suffix}", f"out/rgb_imagenet_space{suffix}"):
            if name in self.tensors:
                height, width = self.tensors[name].shape[-2:]
                candidates.append((height // patch, width // patch))
        tables = [re.fullmatch(r"out/pos_embed_(\d+)x(\d+)", name) for name in self.tensors]
        candidates += [(int(table.group(1)), int(table.group(2))) for table in tables if table]
        return find_grid(tokens, [*candidates, self.folder.common_grid()])

    @output(r"pos_embed_(\d+)x(\d+)")
    def positions(self, rows: str, columns: str) -> Tensor:
        return self.folder.rgb_decoder.positions((int(rows), int(columns)))

    @output(r"logits(_\d+x\d+)?")
    def logits(self, suffix: str | None) -> Tensor:
        return self.folder.rgb_decoder.logits(self.given(f"features_4levels{suffix or ''}"), self._grid(suffix or ""))

    @output(r"rgb_imagenet_space(_\d+x\d+)?")
    def normalised(self, suffix: str | None) -> Tensor:
        patch = self.folder.rgb_decoder.config.patch
        return unpatchify(self.logits(suffix).float(), self._grid(suffix or ""), patch)

    @output(r"rgb(_\d+x\d+)?")
    def rgb(self, suffix: str | None) -> Tensor:
        return to_rgb(self.normalised(suffix))


class DepthFile(GoldenFile):
    """Specification section 5.2."""

    name = "dpt_decoder"
    UPSAMPLING: ClassVar[dict[str, int]] = {
        "ray": 8,
        "ray_conf": 8,
        "fused_main_after_conv1_view0": 8,
        "fused_aux_finest_after_conv1_view0": 8,
        "stage0_resized": 4,
        "stage1_resized": 2,
        "stage2_resized": 1,
    }

    @cached_property
    def _levels(self) -> list[Tensor]:
        return [self.given(f"level{level}_ln") for level in range(4)]

    @cached_property
    def _grid(self) -> tuple[int, int]:
        patch = self.folder.depth_head.config.patch
        candidates: list[tuple[int, int] | None] = []
        for name, factor in {"depth": patch, "depth_conf": patch, **self.UPSAMPLING}.items():
            if f"out/{name}" in self.tensors:
                shape = self.tensors[f"out/{name}"].shape
                rows, columns = shape[2:4]
                candidates.append((rows // factor, columns // factor))
        return find_grid(self._levels[0].shape[2], [*candidates, self.folder.common_grid()])

    @cached_property
    def _result(self) -> tuple[DepthOutput, dict[str, Tensor]]:
        head = self.folder.depth_head
        with Watch(head.scratch, ["output_conv1", "output_conv1_aux.3"]) as seen:
            result: DepthOutput = head(self._levels, self._grid)
        return result, seen

    @output(r"(depth|depth_conf|ray|ray_conf)")
    def field(self, name: str) -> Tensor:
        value: Tensor = getattr(self._result[0], name)
        return value

    @output(r"stage([0-3])_resized")
    def stage(self, index: str) -> Tensor:
        return self.folder.depth_head.stages([level[0, :1] for level in self._levels], self._grid)[int(index)]

    @output(r"fused_(main|aux_finest)_after_conv1_view0")
    def fused(self, chain: str) -> Tensor:
        return self._result[1]["output_conv1" if chain == "main" else "output_conv1_aux.3"][:1]

    @output(r"uv_embed_c(\d+)_rows(\d+)_cols(\d+)")
    def embedding(self, channels: str, rows: str, columns: str) -> Tensor:
        like = torch.zeros(int(channels), int(rows), int(columns), device=self.folder.device)
        return uv_embedding(like, self._grid[1] / self._grid[0])
