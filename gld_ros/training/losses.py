"""Losses of the stages, as plain functions of tensors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.config import CameraConfig
from gld_ros.model.depth_head import DepthOutput
from gld_ros.training.batches import Batch
from gld_ros.training.config import EncoderLoss


def gradient_l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical gradients of (..., H, W)."""
    e = a - b
    return e.diff(dim=-1).abs().mean() + e.diff(dim=-2).abs().mean()


def picture_loss(predicted: Tensor, truth: Tensor, weights: EncoderLoss) -> Tensor:
    """L1, L2 and gradients of pictures in [0, 1]."""
    error = predicted - truth
    return (
        weights.rgb_l1 * error.abs().mean()
        + weights.rgb_l2 * error.square().mean()
        + weights.rgb_gradient * gradient_l1(predicted, truth)
    )


def depth_loss(output: DepthOutput, truth: Tensor, weights: EncoderLoss) -> Tensor:
    """L1 of log depth and of its gradients; truth (B, V, H, W) in metres.

    The confidence learns from the error without steering it: weighting the depth with it would let easy pixels rule.
    """
    log, log_truth = output.depth.clamp(1e-3, 1e3).log(), truth.clamp(min=1e-2).log()
    error = (log - log_truth).abs()
    return (
        weights.depth * error.mean()
        + weights.depth_gradient * gradient_l1(log, log_truth)
        + weights.confidence * confidence_loss(output.depth_conf, error)
    )


def confidence_loss(confidence: Tensor, error: Tensor) -> Tensor:
    """Least where confidence = 0.2 / error (above 1): c e - 0.2 log c, the error held fixed."""
    c = confidence.clamp(max=50.0)
    return (c * error.detach() - 0.2 * c.log()).mean()


def ray_loss(output: DepthOutput, batch: Batch, weights: EncoderLoss) -> Tensor:
    """Rays R K^-1 (u, v, 1) and camera centres in the frame of view 0, on the ray head's grid."""
    assert output.ray is not None
    assert output.ray_conf is not None
    rows, columns = output.ray.shape[2:4]
    height, width = batch.rgb.shape[-2:]
    poses = relative_cameras(batch.world_from_cam, batch.K, CameraConfig(pose_reference="first")).ref_from_cam
    v, u = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64) * (height / rows),
        torch.arange(columns, dtype=torch.float64) * (width / columns),
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)]).flatten(1).to(poses.device)
    rays = (poses[..., :3, :3] @ torch.linalg.inv(batch.K) @ pixels).unflatten(-1, (rows, columns))
    centres = poses[..., :3, 3, None, None].expand_as(rays)
    truth = torch.cat([rays, centres], dim=2).permute(0, 1, 3, 4, 2).float()
    error = (output.ray - truth).abs().mean(dim=-1)
    return error.mean() + weights.confidence * confidence_loss(output.ray_conf, error)


def diffusion_time(scenes: int, pure_noise: float, rng: torch.Generator) -> Tensor:
    """Times for data prediction, (scenes,): t = 1 - sigmoid(N(-0.6, 1)), some exactly 1."""
    t = 1 - torch.sigmoid(torch.randn(scenes, generator=rng) - 0.6)
    return torch.where(torch.rand(scenes, generator=rng) < pure_noise, torch.ones(scenes), t)


def shifted_time(scenes: int, shift: float, rng: torch.Generator) -> Tensor:
    """Times for velocity prediction, (scenes,): uniform in [0, 0.999], then shifted towards noise."""
    tau = 0.999 * torch.rand(scenes, generator=rng)
    return shift * tau / (1 + (shift - 1) * tau)


def flow_loss(prediction: Tensor, data: Tensor, noise: Tensor, t: Tensor, kind: str, min_time: float) -> Tensor:
    """Squared error of velocity, or of the data in velocity units; all (B, V, D, h, w), t (B,)."""
    if kind == "velocity":
        return F.mse_loss(prediction, noise - data)
    weight = 1 / t.clamp(min=min_time).square()
    return ((prediction - data).square().mean(dim=(1, 2, 3, 4)) * weight).mean()
