"""What the network reads and where its picture lies in the target: crops, poses, and the geometric guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import pixel_grid, sample
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.config import ModelConfig
from gld_ros.model.known_depth import KnownDepth, join_depths
from gld_ros.model.preprocess import preprocess, preprocess_intrinsics
from gld_ros.synthesis.gld import GldRequest
from gld_ros.synthesis.types import PosedView, SynthesizedView


@dataclass(frozen=True, eq=False)
class NetworkInputs:
    """Tensors of one scene, condition views first."""

    cond_rgb: torch.Tensor  # (1, C, 3, H, W)
    world_from_cam: torch.Tensor  # (1, V, 4, 4) float64
    K: torch.Tensor  # (1, V, 3, 3) float64
    targets: list[Camera]  # the targets as the network sees them


def best_size(trained: Sequence[tuple[int, int]], camera: Camera) -> tuple[int, int]:
    """The trained size (W, H) whose aspect is nearest to the camera's."""
    aspect = np.log(camera.width / camera.height)
    return min(trained, key=lambda size: abs(np.log(size[0] / size[1]) - aspect))


def network_inputs(views: Sequence[PosedView], targets: Sequence[Camera], size: tuple[int, int]) -> NetworkInputs:
    """Crop and resize to ``size`` (W, H). Raises GldError for principal points near an edge."""
    pictures, intrinsics = zip(*(preprocess(v.rgb, v.camera.K, size) for v in views), strict=True)
    cameras = [network_camera(target, size) for target in targets]
    rgb = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()[None] / 255
    poses = np.stack([v.camera.world_from_cam for v in views] + [t.world_from_cam for t in targets])
    K = np.stack([*intrinsics, *(c.K for c in cameras)])
    return NetworkInputs(rgb, torch.from_numpy(poses)[None], torch.from_numpy(K)[None], cameras)


def network_camera(camera: Camera, size: tuple[int, int]) -> Camera:
    """The crop of ``camera`` that a network of ``size`` (W, H) reads or makes."""
    K = preprocess_intrinsics(camera.K, (camera.width, camera.height), size)[0]
    return Camera(*size, K, camera.world_from_cam)


@dataclass(frozen=True, eq=False)
class Guess:
    """What geometry knows of every view at the network's size, condition views first."""

    rgb: torch.Tensor  # (1, V, 3, H, W)
    coverage: torch.Tensor  # (1, V, H, W) weight of real pixels in it, in [0, 1]
    depth: KnownDepth  # (1, V, H, W) in world units
    cond_depth: KnownDepth  # (1, C, H, W) in world units


def geometric_guess(inputs: NetworkInputs, depths: Sequence[ViewDepth], targets: Sequence[SynthesizedView]) -> Guess:
    """The classical engine's work as the network's input.

    Condition views are their own guess with the depth that was found for them; targets are the composed classical
    pictures with their depth. Nothing is hidden from the network: it is told how far to trust each pixel.
    """
    count = inputs.cond_rgb.shape[1]
    height, width = inputs.cond_rgb.shape[-2:]
    own_depth, own_trust = [], []
    for i, depth in enumerate(depths):
        crop = Camera(width, height, inputs.K[0, i].numpy(), inputs.world_from_cam[0, i].numpy())
        x, y = same_pose_positions(crop, depth.view.camera)
        both = sample(torch.stack([depth.inverse, depth.confidence]).cpu(), x[None], y[None], "nearest")[:, 0]
        own_depth.append(1.0 / both[0].clamp(min=1e-6))
        own_trust.append(both[1])
    pictures, seen_depth, seen_trust, coverage = [], [], [], []
    for view, network in zip(targets, inputs.targets, strict=True):
        rgb, _ = preprocess(view.rgb, view.camera.K, (width, height))
        pictures.append(torch.from_numpy(rgb).permute(2, 0, 1).float() / 255)
        x, y = same_pose_positions(network, view.camera)
        known = np.zeros_like(view.confidence) if view.known is None else view.known
        trust = np.where(np.isfinite(view.depth), view.confidence * (known > 0), 0)
        maps = np.stack([np.nan_to_num(view.depth, nan=1.0), trust, known]).astype(np.float32)
        found = sample(torch.from_numpy(maps), x[None], y[None], "nearest")[:, 0]
        seen_depth.append(found[0])
        seen_trust.append(found[1])
        coverage.append(found[2])
    cond = KnownDepth(torch.stack(own_depth)[None], torch.stack(own_trust)[None])
    seen = KnownDepth(torch.stack(seen_depth)[None], torch.stack(seen_trust)[None])
    return Guess(
        torch.cat([inputs.cond_rgb, torch.stack(pictures)[None]], 1),
        torch.cat([torch.ones(1, count, height, width), torch.stack(coverage)[None]], 1),
        join_depths([cond, seen], dim=1),
        cond,
    )


def with_guess(request: GldRequest, guess: Guess | None, model: ModelConfig) -> GldRequest:
    """The request with as much of the guess as the model reads."""
    if guess is None or not model.level1.warp_channels:
        return request
    request = replace(request, warp_rgb=guess.rgb, warp_coverage=guess.coverage)
    if model.encoder.depth_cells:
        request = replace(request, warp_depth=guess.depth, cond_depth=guess.cond_depth)
    return request


def same_pose_positions(camera: Camera, other: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Where pixels of ``camera`` fall in ``other``, a camera at the same place: x, y (H, W) in pixels of ``other``."""
    change = torch.as_tensor(other.K @ np.linalg.inv(camera.K), dtype=torch.float32)
    grid = torch.einsum("ij,jhw->ihw", change, pixel_grid(camera.height, camera.width))
    return grid[0] / grid[2], grid[1] / grid[2]


def spread_to(target: Camera, network: Camera, maps: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Network maps (C, h, w) on the target's own pixels, (C, H, W), and where the network's field covers them."""
    x, y = same_pose_positions(target, network)
    field = (x >= -0.5) & (x <= network.width - 0.5) & (y >= -0.5) & (y <= network.height - 0.5)
    spread = sample(maps.float().cpu(), x[None], y[None])[:, 0]
    return spread.numpy(), field.numpy()
