"""The model configuration behind a folder of golden files: sizes from the tensors, the rest from a small JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.model.config import DepthHeadConfig, DiTConfig, EncoderConfig, RgbDecoderConfig, released_config

Parameters = Mapping[str, Tensor]


class Architecture:
    """``tiny_config.json``: heads, block schedule and switches that shapes do not tell.

    Raises GldError when the file is missing or not a JSON mapping.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "tiny_config.json"
        if not path.is_file():
            raise GldError(f"{path} is missing: a golden folder needs it (heads and block schedule)")
        try:
            values = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise GldError(f"{path} is not JSON: {error}") from None
        if not isinstance(values, dict) or not all(isinstance(value, dict) for value in values.values()):
            raise GldError(f"{path} must map part names to mappings")
        self._values: dict[str, dict[str, Any]] = values

    def part(self, name: str) -> dict[str, Any]:
        """Settings of one part, empty when not given."""
        return self._values.get(name, {})

    def encoder(self, parameters: Parameters) -> EncoderConfig:
        """Backbone from parameters without their prefix."""
        given, released = self.part("da3"), EncoderConfig()
        width = parameters["cls_token"].shape[-1]
        return EncoderConfig(
            patch=parameters["patch_embed.proj.weight"].shape[-1],
            width=width,
            blocks=_count(parameters, r"blocks\.(\d+)\."),
            heads=given.get("heads", released.heads),
            mlp_hidden=parameters["blocks.0.mlp.fc1.weight"].shape[0],
            position_grid=round((parameters["pos_embed"].shape[1] - 1) ** 0.5),
            alt_start=given.get("alt_start", released.alt_start),
            rope_start=given.get("rope_start", released.rope_start),
            qk_norm_start=given.get("qk_norm_start", released.qk_norm_start),
            rope_base=float(given.get("rope_base", released.rope_base)),
            level_blocks=tuple(given.get("level_blocks", released.level_blocks)),
            level_features=given.get("level_features", released.level_features),
        )

    def dit(self, parameters: Parameters, cascade: bool) -> DiTConfig:
        """A transformer; which of the two decides the quirks that shapes do not show."""
        given = self.part("ddt_cascade" if cascade else "ddt_level1")
        config = released_config()
        released = config.cascade if cascade else config.level1
        assert released is not None
        narrow, wide = parameters["s_projector.weight"].shape[::-1]
        blocks = _count(parameters, r"blocks\.(\d+)\.")
        depth = given.get("depth", ())
        if len(depth) != 2 or sum(depth) != blocks:
            widths = [parameters[f"blocks.{index}.norm1.weight"].shape[0] for index in range(blocks)]
            depth = (widths.count(narrow), widths.count(wide))
        heads = given.get("heads", (released.encoder_heads, released.decoder_heads))
        channels = parameters["final_layer.linear.weight"].shape[0]
        split = "x_embedder_ref.proj.weight" in parameters
        source = 0
        if given.get("source_condition", cascade):
            source = parameters["s_embedder_ref.proj.weight" if split else "s_embedder.proj.weight"].shape[1] - channels
        size = given.get("prope_image_size", released.prope_size)
        return dataclasses.replace(
            released,
            latent_channels=channels,
            patch=parameters["camera_embedder.proj.weight"].shape[-1],
            encoder_width=narrow,
            encoder_blocks=depth[0],
            encoder_heads=heads[0],
            decoder_width=wide,
            decoder_blocks=depth[1],
            decoder_heads=heads[1],
            time_frequencies=parameters["t_embedder.W"].shape[0],
            split_embedders=split,
            source_channels=source,
            prope_size=tuple(size) if isinstance(size, list | tuple) else None,
        )

    def rgb(self, parameters: Parameters) -> RgbDecoderConfig:
        """RGB decoder from parameters without their prefix."""
        given, released = self.part("mae_decoder"), RgbDecoderConfig()
        side = round((parameters["decoder_pos_embed"].shape[1] - 1) ** 0.5)
        width, in_channels = parameters["decoder_embed.weight"].shape
        return RgbDecoderConfig(
            in_channels=in_channels,
            width=width,
            layers=_count(parameters, r"decoder_layers\.(\d+)\."),
            heads=given.get("heads", released.heads),
            mlp_hidden=parameters["decoder_layers.0.intermediate.dense.weight"].shape[0],
            base_grid=tuple(given.get("base_grid", (side, side))),
            patch=round((parameters["decoder_pred.weight"].shape[0] / 3) ** 0.5),
            norm_eps=float(given.get("eps", released.norm_eps)),
        )

    def depth(self, parameters: Parameters, patch: int) -> DepthHeadConfig:
        """Depth head from parameters without their prefix."""
        stages = [parameters[f"projects.{index}.weight"].shape[0] for index in range(4)]
        return DepthHeadConfig(
            in_channels=parameters["norm.weight"].shape[0],
            features=parameters["scratch.layer1_rn.weight"].shape[0],
            stage_channels=(stages[0], stages[1], stages[2], stages[3]),
            head_channels=parameters["scratch.output_conv2.0.weight"].shape[0],
            patch=patch,
        )


def checked(build: Callable[[], Any], what: str) -> Any:
    """Run ``build``; a missing parameter, or a setting of the wrong kind in the JSON, becomes a GldError."""
    try:
        return build()
    except KeyError as error:
        raise GldError(f"{what} holds no parameter {error}") from None
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise GldError(f"tiny_config.json does not describe {what}: {error}") from None


def _count(parameters: Parameters, pattern: str) -> int:
    found = [int(match.group(1)) for name in parameters if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1
