"""Held-out figures and pictures while training: the first rooms of the frozen test set."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from gld_ros.data.rooms.frozen import nearest_condition
from gld_ros.data.rooms.shards import SceneArrays
from gld_ros.model.gld_model import GldModel
from gld_ros.model.known_depth import KnownDepth
from gld_ros.training.batches import Batch
from gld_ros.training.depth_noise import DepthNoise, draw_known_depth, scaled_to_network
from gld_ros.training.generate import generate
from gld_ros.training.known_views import encode_levels, exactly, network_unit, place_views, predict_depth, warp_pictures

SENSOR = DepthNoise(sensor=1.0, swept=0.0, gaps=0.2, views_without=0.0)
SWEPT = DepthNoise(sensor=0.0, swept=1.0, views_without=0.0)


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Mean over pictures (..., 3, H, W) in [0, 1] of the peak signal-to-noise ratio in dB; mask (..., H, W)."""
    error = (a.clamp(0, 1) - b).square().mean(dim=-3)
    if mask is None:
        mse = error.mean(dim=(-1, -2))
    else:
        weight = mask.to(error.dtype)
        counts = weight.sum(dim=(-1, -2))
        mse = ((error * weight).sum(dim=(-1, -2)) / counts.clamp(min=1))[counts >= 16]
    return float((-10 * torch.log10(mse.clamp(min=1e-8))).mean())


def depth_error(predicted: Tensor, truth: Tensor) -> tuple[float, float]:
    """Mean relative error in metres without alignment, and after matching each picture's median."""
    p, t = predicted.flatten(2), truth.flatten(2)
    aligned = p * (t.median(-1, keepdim=True).values / p.median(-1, keepdim=True).values)
    return float(((p - t).abs() / t).mean()), float(((aligned - t).abs() / t).mean())


def copy_nearest(batch: Batch) -> Tensor:
    """The nearest condition view for every target, (B, T, 3, H, W)."""
    cameras = batch.K.cpu().numpy(), batch.world_from_cam.cpu().numpy()
    arrays = SceneArrays(np.zeros(0, np.uint8), np.zeros(0, np.float16), *cameras)
    chosen = torch.from_numpy(nearest_condition(arrays))
    return torch.stack([batch.rgb[torch.arange(len(batch.rgb)), chosen[:, k]] for k in range(chosen.shape[1])], dim=1)


@torch.no_grad()
def reconstruction_figures(model: GldModel, batch: Batch, pictures: Path | None = None) -> dict[str, float]:
    """How well pictures and depth come back from the encoder's own features."""
    levels, grid = encode_levels(model, batch.rgb, cameras=place_views(model, batch))
    rgb = model.decode_rgb(levels, grid).float().clamp(0, 1)
    depth = model.depth_head(model.layer_normed(levels), grid, rays=False).depth
    absrel, aligned = depth_error(depth, batch.depth)
    figures = {"psnr": psnr(rgb, batch.rgb), "absrel": absrel, "absrel_median": aligned}
    if model.config.encoder.depth_cells:
        for name, noise in (("sensor", SENSOR), ("swept", SWEPT)):
            drawn = draw_known_depth(batch.depth, noise, torch.Generator().manual_seed(0))
            truth, known = scaled_to_network(batch.depth, drawn)
            cameras = place_views(model, batch, network_unit(truth, batch.depth))
            levels, grid = encode_levels(model, batch.rgb, known, cameras)
            depth = model.depth_head(model.layer_normed(levels), grid, rays=False).depth
            figures[f"psnr_{name}"] = psnr(model.decode_rgb(levels, grid).float(), batch.rgb)
            figures[f"absrel_{name}"] = depth_error(depth, truth)[0]
            seen = known.confidence > 0.5
            figures[f"absrel_{name}_input"] = float(((known.depth - truth).abs() / truth)[seen].mean())
    if pictures is not None:
        write_grid(
            pictures,
            [
                [batch.rgb[i, 0], rgb[i, 0], shade(batch.depth[i, 0]), shade(depth[i, 0])]
                for i in range(min(6, len(rgb)))
            ],
        )
    return figures


@torch.no_grad()
def synthesis_figures(
    model: GldModel, batch: Batch, pictures: Path | None = None, updates: tuple[int, ...] = (1, 4)
) -> dict[str, float]:
    """Novel-view figures beside copying, warping and the decoder's bound."""
    c = batch.cond_num
    truth, true_depth = batch.rgb[:, c:], batch.depth[:, c:]
    reads_depth = model.config.encoder.depth_cells > 0
    levels, grid = encode_levels(model, batch.rgb, exactly(batch.depth), place_views(model, batch))
    figures = {
        "copy_nearest": psnr(copy_nearest(batch), truth),
        "oracle_decode": psnr(model.decode_rgb(levels, grid)[:, c:].float(), truth),
    }
    rows = []
    routes: dict[str, KnownDepth | None] = {}
    if model.config.level1.warp_channels:
        routes["true"] = exactly(batch.depth[:, :c])
        if reads_depth:
            routes["swept"] = draw_known_depth(batch.depth[:, :c], SWEPT, torch.Generator().manual_seed(0))
        else:
            routes["predicted"] = predict_depth(model, batch.views(0, c))
    routes["plain"] = None
    for route, known in routes.items():
        warped = None if known is None else warp_pictures(batch, known)
        if warped is not None:
            figures[f"warp_{route}"] = psnr(warped.rgb, truth)
            figures[f"warp_{route}_holes"] = psnr(warped.rgb, truth, ~warped.seen)
            rows.append(warped.rgb)
        for count in updates:
            made = generate(model, batch, known, count)
            figures[f"{route}_{count}"] = psnr(made.rgb, truth)
            figures[f"{route}_{count}_absrel"] = depth_error(made.depth, true_depth)[0]
            if warped is not None:
                figures[f"{route}_{count}_holes"] = psnr(made.rgb, truth, ~warped.seen)
                mixed = torch.where(warped.seen.unsqueeze(2), warped.rgb, made.rgb)
                figures[f"{route}_{count}_composed"] = psnr(mixed, truth)
            if count in (updates[0], updates[-1]):
                rows.append(made.rgb)
    if pictures is not None:
        write_grid(
            pictures,
            [
                [batch.rgb[i, 0], batch.rgb[i, 1], truth[i, 0], *(r[i, 0] for r in rows)]
                for i in range(min(8, len(truth)))
            ],
        )
    return figures


def shade(depth: Tensor) -> Tensor:
    """Depth as a grey picture, near bright."""
    return (1.0 / depth.clamp(min=0.5) / 1.5).clamp(0, 1).expand(3, -1, -1)


def write_grid(path: Path, rows: list[list[Tensor]]) -> None:
    """Rows of pictures (3, H, W) in [0, 1] as one png."""
    image = torch.cat([torch.cat(row, dim=-1) for row in rows], dim=-2).clamp(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), (image.permute(1, 2, 0).cpu().numpy()[..., ::-1] * 255).round().astype(np.uint8))
