"""Targets of a training batch as the model in training makes them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.gld_model import GldModel, Stage
from gld_ros.model.known_depth import KnownDepth, scene_scale
from gld_ros.model.sampler import sample, sample_levels
from gld_ros.training.batches import Batch
from gld_ros.training.known_views import place_views, warp_guess


@dataclass(frozen=True, eq=False)
class GeneratedLevels:
    """Features of all views of a batch: conditions as they are encoded, targets as they are generated."""

    levels: list[Tensor]  # raw levels 0..3, (B, V, N, D) each
    grid: tuple[int, int]
    scale: Tensor  # (B, 1, 1, 1) unit of the network's depth per unit of the poses: 1 where it reads no depth


@torch.no_grad()
def generate_levels(
    model: GldModel, batch: Batch, known: KnownDepth | None, updates: int, rng: torch.Generator
) -> GeneratedLevels:
    """Sample the targets with ``updates`` Euler updates a stage; ``known`` warps the conditions (None = plain GLD)."""
    c, device = batch.cond_num, batch.rgb.device
    scale = torch.ones(len(batch.rgb), 1, 1, 1, device=device)
    if known is not None and model.config.encoder.depth_cells:
        scale = scene_scale(known.depth, known.confidence).view(-1, 1, 1, 1)
    config = dataclasses.replace(model.config.sampler, points=updates + 1, last=0.0)
    placed = place_views(model, batch, scale)
    of_conditions = None if placed is None else placed.views(slice(c))
    conditions = model.encode(batch.rgb[:, :c], None if known is None else known.scaled(scale), of_conditions)
    cameras = relative_cameras(batch.world_from_cam, batch.K, model.config.camera)
    guess, coverage = warp_guess(model, batch, known, scale, conditions)

    def run(stage: Stage, source: Tensor | None) -> Tensor:
        inputs = model.dit_inputs(stage, conditions, cameras, source, guess, coverage)
        noise = torch.randn(*inputs.ref_cond.shape, generator=rng).to(device)
        with model.diffusion(stage) as dit:
            return sample(dit, inputs, noise, config)

    latents = sample_levels(model.config, run)
    cls = model.propagation_cls(batch.rgb[:, :c], cameras=of_conditions)
    levels = model.decoder_levels(latents, cls, placed)
    return GeneratedLevels(levels, (latents.level0.shape[-2], latents.level0.shape[-1]), scale)


@dataclass(frozen=True, eq=False)
class Generated:
    """What the model makes of the targets."""

    rgb: Tensor  # (B, T, 3, H, W)
    depth: Tensor  # (B, T, H, W)


@torch.no_grad()
def generate(model: GldModel, batch: Batch, known: KnownDepth | None, updates: int, seed: int = 0) -> Generated:
    """Pictures and depth, in the unit of the poses, of what ``generate_levels`` makes."""
    made = generate_levels(model, batch, known, updates, torch.Generator().manual_seed(seed))
    c = batch.cond_num
    rgb = model.decode_rgb(made.levels, made.grid)[:, c:]
    found = model.depth_head(model.layer_normed(made.levels), made.grid, rays=False).depth[:, c:]
    return Generated(rgb.float().clamp(0, 1), found / made.scale)
