"""What the network reads and where its picture lies in the target: crops, poses, and the geometric guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.fill import pull_push
from gld_ros.geometry.forward_warp import forward_warp
from gld_ros.geometry.plane_sweep import pixel_grid, sample
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.preprocess import preprocess, preprocess_intrinsics
from gld_ros.synthesis.types import PosedView


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


def geometric_guess(inputs: NetworkInputs, depths: Sequence[ViewDepth]) -> tuple[torch.Tensor, torch.Tensor]:
    """Condition pictures warped into every view with their depth, (1, V, 3, H, W), and what was seen, (1, V, H, W).

    Condition views are their own guess, as in training.
    """
    count = inputs.cond_rgb.shape[1]
    height, width = inputs.cond_rgb.shape[-2:]
    cropped = []
    for i, depth in enumerate(depths):
        crop = Camera(width, height, inputs.K[0, i].numpy(), inputs.world_from_cam[0, i].numpy())
        x, y = same_pose_positions(crop, depth.view.camera)
        inverse = sample(depth.inverse[None].cpu(), x[None], y[None], "nearest")[0, 0]
        cropped.append(1.0 / inverse.clamp(min=1e-6))
    warped = forward_warp(
        inputs.cond_rgb,
        torch.stack(cropped)[None],
        inputs.K[:, :count],
        inputs.world_from_cam[:, :count],
        inputs.K[:, count:],
        inputs.world_from_cam[:, count:],
    )
    filled = pull_push(warped.rgb, warped.coverage).clamp(0, 1)
    own = torch.ones(1, count, height, width)
    return torch.cat([inputs.cond_rgb, filled], 1), torch.cat([own, warped.coverage.float()], 1)


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
