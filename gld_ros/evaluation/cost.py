"""Parameters and floating-point operations of every part, counted as 2 per multiply-add on the meta device.

Nothing is computed, so the full model is counted in a second without its weights. Attention is counted, which
torch's counter misses on CPU tensors. GLD specification section 13.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from gld_ros.model.config import DiTConfig, EncoderConfig, ModelConfig, SamplerConfig
from gld_ros.model.depth_head import DepthHead
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.encoder import Encoder
from gld_ros.model.rgb_decoder import RgbDecoder
from gld_ros.model.sampler import count_evaluations
from gld_ros.synthesis.presets import NetworkPreset

ENCODER = "encoder, all blocks, all views"
CONDITIONS = "encoder to level 1, condition views"
CLS = "encoder to level 1, first condition view alone"
GUESS = "encoder to level 1, geometric guess"
PROPAGATION = "propagation to levels 2 and 3, all views"
LEVEL1 = "level-1 transformer, one forward"
LEVEL1_ONCE = "  its constants, once a sampling"
LEVEL1_WIDE = "  its wide half alone, one forward"
CASCADE = "cascade transformer, one forward"
CASCADE_ONCE = "  cascade's constants, once a sampling"
CASCADE_WIDE = "  cascade's wide half alone, one forward"
RGB = "RGB decoder, all views"
DEPTH = "depth and ray head, all views"
DEPTH_REFERENCE = "  with the unread convolutions the reference also runs"
DEPTH_ONLY = "  without rays"


@dataclass(frozen=True)
class Cost:
    """What one run of one part takes."""

    part: str
    parameters: int
    flops: int
    attention_flops: int  # share of ``flops`` in batched matrix products: attention scores and values


def without_poses(config: EncoderConfig) -> EncoderConfig:
    """The encoder to count: reading poses adds next to nothing, and without them there need be no cameras."""
    return dataclasses.replace(config, pose_input="none")


@functools.lru_cache(maxsize=16)  # counting the released model takes seconds
def part_costs(config: ModelConfig, size: tuple[int, int], views: int, cond_num: int) -> tuple[Cost, ...]:
    """One row per part for pictures of ``size`` = (W, H), ``cond_num`` of the ``views`` being conditions."""
    patch, channels = config.encoder.patch, config.encoder.channels
    width, height = size
    grid = (height // patch, width // patch)
    tokens = grid[0] * grid[1]
    with torch.device("meta"):
        encoder, rgb, depth = Encoder(without_poses(config.encoder)), RgbDecoder(config.rgb), DepthHead(config.depth)
        pictures = torch.empty(1, views, 3, height, width)
        level = torch.empty(1, views, tokens, channels)
    guessed = cond_num if _alone(config) else 0  # first view whose guess is not known from its own encoding
    rows = [
        _cost(ENCODER, encoder, lambda: encoder(pictures)),
        _cost(CONDITIONS, None, lambda: encoder(pictures[:, :cond_num], 1)),
        _cost(CLS, None, lambda: encoder(pictures[:, :1], 1)),
        *([_cost(GUESS, None, lambda: encoder(pictures[:, guessed:], 1))] if config.level1.warp_channels else []),
        _cost(PROPAGATION, None, lambda: encoder.propagate(level, level[:, :, 0], grid)),
        *_dit_costs((LEVEL1, LEVEL1_ONCE, LEVEL1_WIDE), config.level1, grid, views, cond_num),
    ]
    if config.cascade is not None:
        rows += _dit_costs((CASCADE, CASCADE_ONCE, CASCADE_WIDE), config.cascade, grid, views, cond_num)
    joined = level.repeat(1, 1, 1, 4)
    rows += [
        _cost(RGB, rgb, lambda: rgb(joined, grid)),
        _cost(DEPTH, depth, lambda: depth([level] * 4, grid)),
        _cost(DEPTH_REFERENCE, None, lambda: _reference_head(depth, level, grid)),
        _cost(DEPTH_ONLY, None, lambda: depth([level] * 4, grid, rays=False)),
    ]
    return tuple(rows)


def request_flops(
    rows: Sequence[Cost],
    config: ModelConfig,
    level1: SamplerConfig,
    cascade: SamplerConfig,
    rays: bool = True,
    decoded: float = 1.0,
    guess: bool = False,
) -> tuple[int, int]:
    """Operations and transformer evaluations of one whole request whose parts ``part_costs`` counted.

    ``decoded`` is the share of the views that pictures and depth are made of; ``guess``: with a geometric guess.
    """
    flops = {row.part: row.flops for row in rows}
    total = flops[CONDITIONS] + flops[PROPAGATION]
    if config.propagation_cls == "first_alone" and not _alone(config):
        total += flops[CLS]
    if guess:
        total += flops[GUESS]
    total += round(decoded * (flops[RGB] + flops[DEPTH if rays else DEPTH_ONLY]))
    total += _sampling_flops(level1, *(flops[part] for part in (LEVEL1, LEVEL1_ONCE, LEVEL1_WIDE)))
    forwards = count_evaluations(level1).forwards
    if config.cascade is not None:
        total += _sampling_flops(cascade, *(flops[part] for part in (CASCADE, CASCADE_ONCE, CASCADE_WIDE)))
        forwards += count_evaluations(cascade).forwards
    return total, forwards


def preset_flops(
    config: ModelConfig, preset: NetworkPreset, size: tuple[int, int], views: int, cond_num: int, guess: bool = False
) -> int:
    """Operations of one request of ``views`` views with nothing kept from earlier ones and poses trusted.

    ``guess``: with a geometric guess, of a model that was trained with one.
    """
    rows = part_costs(config, size, views, cond_num)
    decoded = 1.0 if preset.decode_conditions else 1 - cond_num / views
    return request_flops(rows, config, preset.level1, preset.cascade, preset.decode_conditions, decoded, guess)[0]


def _alone(config: ModelConfig) -> bool:
    """Does the encoder see each view alone up to level 1? Then one pass also gives the class vector."""
    return config.encoder.level_blocks[1] < config.encoder.alt_start


def _sampling_flops(sampler: SamplerConfig, forward: int, once: int, wide: int) -> int:
    """``forward`` counts constants, both halves; ``once`` the constants; ``wide`` the wide half."""
    runs = count_evaluations(sampler)
    if not sampler.reuse:
        return runs.forwards * forward
    return once * (2 if sampler.guidance > 1 else 1) + runs.forwards * wide + runs.encoded * (forward - once - wide)


def cost_table(config: ModelConfig, sizes: list[tuple[int, int]], views: int, cond_num: int) -> str:
    """The parts of a model as text, one column per picture size, and the sum for the default sampler."""
    columns = [part_costs(config, size, views, cond_num) for size in sizes]
    lines = [f"{'part':<56}{'parameters':>12}" + "".join(f"{f'{w}x{h}':>28}" for w, h in sizes)]
    for row in zip(*columns, strict=True):
        parameters = f"{row[0].parameters / 1e6:.2f} M" if row[0].parameters else ""
        lines.append(f"{row[0].part:<56}{parameters:>12}" + "".join(f"{_cell(cost):>28}" for cost in row))
    totals = [request_flops(rows, config, config.sampler, config.sampler) for rows in columns]
    cells = "".join(f"{_cell(Cost('', 0, flops, 0)):>28}" for flops, _ in totals)
    lines.append(f"{f'whole request, {totals[0][1]} transformer evaluations':<68}{cells}")
    lines.append("2 operations per multiply-add: total (linear and convolution + attention)")
    return "\n".join(lines)


def _dit_costs(
    parts: tuple[str, str, str], dit_config: DiTConfig, grid: tuple[int, int], views: int, cond_num: int
) -> list[Cost]:
    """A whole forward, what of it is constant over a sampling, and the wide half."""
    patch = dit_config.patch
    with torch.device("meta"):
        dit = DiT(dit_config)
        latent = torch.empty(1, views, dit_config.latent_channels, *grid)
        source = torch.empty(1, views, dit_config.source_channels, *grid) if dit_config.source_channels else None
        inputs = DiTInputs(
            cond_num,
            latent,
            torch.empty(1, views, 7, grid[0] * patch, grid[1] * patch),
            torch.empty(1, views, 4, 4),
            torch.empty(1, views, 3, 3),
            source,
            torch.empty(1, views, dit_config.warp_channels, *grid) if dit_config.warp_channels else None,
        )
        t = torch.empty(1)
        condition, time = dit.prepare(inputs), dit.embed_time(t)
        encoded = dit.encode(latent, time, condition)
    forward, once, wide = parts
    return [
        _cost(forward, dit, lambda: dit(latent, t, inputs)),
        _cost(once, None, lambda: dit.prepare(inputs)),
        _cost(wide, None, lambda: dit(latent, t, condition, time, encoded)),
    ]


def _reference_head(depth: DepthHead, level: Tensor, grid: tuple[int, int]) -> None:
    """The head with the convolution stacks of the three coarser auxiliary outputs, whose results nobody reads."""
    depth([level] * 4, grid)
    views = level.shape[1]
    for index, factor in enumerate((1, 2, 4)):
        fused = torch.empty(views, depth.config.features, factor * grid[0], factor * grid[1], device="meta")
        depth.scratch.output_conv1_aux[index](fused)


def _cost(part: str, module: nn.Module | None, run: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    per_operator = counter.get_flop_counts().get("Global", {})
    attention = sum(count for operator, count in per_operator.items() if "bmm" in str(operator))
    parameters = sum(p.numel() for p in module.parameters()) if module is not None else 0
    return Cost(part, parameters, counter.get_total_flops(), attention)


def _cell(cost: Cost) -> str:
    factor, unit = next(
        ((factor, unit) for factor, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G")) if cost.flops >= factor / 10),
        (1e6, "M"),
    )
    text = f"{cost.flops / factor:.3f} {unit}F"
    if cost.attention_flops:
        linear = (cost.flops - cost.attention_flops) / factor
        text += f" ({linear:.2f} + {cost.attention_flops / factor:.2f})"
    return text
