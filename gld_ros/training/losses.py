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


def diffusion_time(scenes: int, logit: tuple[float, float], pure_noise: float, rng: torch.Generator) -> Tensor:
    """Times for data prediction, (scenes,): t = sigmoid(N(mean, deviation)) with ``logit``'s, some exactly 1."""
    t = 1 - torch.sigmoid(logit[1] * torch.randn(scenes, generator=rng) - logit[0])
    return torch.where(torch.rand(scenes, generator=rng) < pure_noise, torch.ones(scenes), t)


def noised_source(source: Tensor, tau: float, rng: torch.Generator) -> Tensor:
    """Features (B, V, D, h, w) of unit variance with noise of |N(0, tau^2)|, drawn per scene; the variance stays.

    GLD specification section 11.
    """
    if tau == 0:
        return source
    sigma = (tau * torch.randn(len(source), 1, 1, 1, 1, generator=rng)).to(source.device)  # its sign changes nothing
    noise = torch.randn(source.shape, generator=rng).to(source.device)
    return (source + sigma * noise) / (1 + sigma.square()).sqrt()


def shifted_time(scenes: int, shift: float, rng: torch.Generator) -> Tensor:
    """Times for velocity prediction, (scenes,): uniform in [0, 0.999], then shifted towards noise."""
    tau = 0.999 * torch.rand(scenes, generator=rng)
    return shift * tau / (1 + (shift - 1) * tau)


def flow_loss(
    prediction: Tensor,
    data: Tensor,
    noise: Tensor,
    t: Tensor,
    kind: str,
    min_time: float,
    weight: Tensor,
    pixels: PixelMetric | None = None,
) -> Tensor:
    """Squared error of velocity, or of the data in velocity units; all (B, V, D, h, w), t (B,).

    weight: (B, V, h, w), mean 1. ``pixels`` measures part of the error as it shows in the picture.
    """
    error = prediction - (noise - data if kind == "velocity" else data)
    energy = error.square().mean(dim=2)
    if pixels is not None:
        energy = (1 - pixels.share) * energy + pixels.share * pixels.energy(error)
    per_scene = (energy * weight).mean(dim=(1, 2, 3))
    if kind != "velocity":
        per_scene = per_scene / t.clamp(min=min_time).square()
    return per_scene.mean()


def patch_weight(coverage: Tensor, cond_num: int, hole_weight: float, condition_weight: float) -> Tensor:
    """How much each patch (B, V, h, w) counts: unknown target patches more, condition views less; mean 1."""
    weight = 1 + hole_weight * (1 - coverage)
    weight[:, :cond_num] = condition_weight
    return weight / weight.mean()


class PixelMetric:
    """What an error of the latents does to the pixels, to first order.

    Normalised latents give every channel the same weight, but the picture hangs on few of them. A linear map from
    latents to patches of pixels is fitted once; its energy is scaled so that white errors count as in plain squares.
    """

    def __init__(self, latents: Tensor, pictures: Tensor, share: float, ridge: float = 0.01) -> None:
        """latents (n, D, h, w) normalised; pictures (n, C, H, W) of the same scenes."""
        patch = pictures.shape[-1] // latents.shape[-1]
        x = latents.flatten(2).transpose(1, 2).flatten(0, 1).double()  # (tokens, D)
        y = F.unfold(pictures, patch, stride=patch).transpose(1, 2).flatten(0, 1).double()
        x, y = x - x.mean(0), y - y.mean(0)
        gram = x.T @ x / len(x) + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        to_pixels = torch.linalg.solve(gram, x.T @ y / len(x))  # (D, patch * patch * C)
        self.to_pixels = (to_pixels / to_pixels.square().sum().sqrt()).float()
        self.share = share

    def energy(self, error: Tensor) -> Tensor:
        """Squared size in pixels of latent errors (B, V, D, h, w) -> (B, V, h, w)."""
        tokens = error.permute(0, 1, 3, 4, 2) @ self.to_pixels.to(error.device)
        return tokens.square().sum(dim=-1)
