"""What a training step knows of its views: features, depth, cameras, and the conditions warped into the targets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gld_ros.geometry.fill import pull_push
from gld_ros.geometry.forward_warp import forward_warp
from gld_ros.model.camera_map import RelativeCameras
from gld_ros.model.gld_model import GldModel, Latents, join_latents
from gld_ros.model.known_depth import KnownDepth, join_depths
from gld_ros.training.batches import Batch
from gld_ros.training.depth_noise import scaled_to_network


def encode_levels(
    model: GldModel, rgb: Tensor, depth: KnownDepth | None = None, cameras: RelativeCameras | None = None
) -> tuple[list[Tensor], tuple[int, int]]:
    """Raw patch features of all four levels, (B, V, N, D) each, and the patch grid.

    cameras: what ``place_views`` gives, for models that read poses.
    """
    patch = model.config.encoder.patch
    raw = model.encoder(rgb, depth=depth, cameras=cameras)
    return [level[:, :, 1:] for level in raw], (rgb.shape[-2] // patch, rgb.shape[-1] // patch)


def exactly(depth: Tensor) -> KnownDepth:
    """True depth (B, V, H, W), fully trusted."""
    return KnownDepth(depth, torch.ones_like(depth))


def place_views(model: GldModel, batch: Batch, unit: Tensor | None = None) -> RelativeCameras | None:
    """Cameras of a batch for encoders that read poses; unit: network units per metre, (B,) or (B, 1, 1, 1)."""
    return model.encoder_cameras(batch.world_from_cam, batch.K, unit)


def network_unit(scaled: Tensor, metres: Tensor) -> Tensor:
    """Network units per metre (B,) of the same depths (B, V, H, W) in both."""
    return scaled.flatten(1).sum(1) / metres.flatten(1).sum(1)


def rescaled(batch: Batch, unit: Tensor) -> Batch:
    """The batch with camera centres in another unit; its depth stays."""
    poses = batch.world_from_cam.clone()
    poses[..., :3, 3] *= unit.view(-1, 1, 1).to(poses)
    return replace(batch, world_from_cam=poses)


def true_geometry(model: GldModel, batch: Batch) -> tuple[Tensor, KnownDepth, RelativeCameras | None]:
    """True depth in network units, the same as depth that is given, and the cameras in that unit."""
    truth, known = scaled_to_network(batch.depth, exactly(batch.depth))
    return truth, known, place_views(model, batch, network_unit(truth, batch.depth))


def predict_depth(model: GldModel, batch: Batch) -> KnownDepth:
    """The model's own depth of jointly encoded views."""
    levels, grid = encode_levels(model, batch.rgb, cameras=place_views(model, batch))
    found = model.depth_head(model.layer_normed(levels), grid, rays=False)
    return KnownDepth(found.depth, (1 - 1 / found.depth_conf.clamp(min=1)).clamp(min=0.5))


def warp_guess(
    model: GldModel, batch: Batch, known: KnownDepth | None, scale: Tensor, conditions: Latents
) -> tuple[Latents | None, Tensor | None]:
    """Latents of what geometry shows in every view, and how much of each patch it shows at all (B, V, h, w).

    Condition views are their own pictures; without depth there is no guess and the transformer runs as plain GLD. In a
    batch scenes without any depth get zeros, which is what such a request gives.
    known: depth of the condition views in the unit of the poses; scale: (B, 1, 1, 1) network units of that;
    conditions: the condition views encoded with it.
    """
    if known is None:
        return None, None
    warped = warp_pictures(batch, known)
    share = nn.functional.avg_pool2d(warped.seen.float(), model.config.encoder.patch)
    own = torch.ones_like(share[:, :1]).expand(-1, batch.cond_num, -1, -1)
    given = (known.confidence > 0).flatten(1).any(1).to(share.dtype).view(-1, 1, 1, 1)
    if model.config.encoder.encodes_views_alone:  # condition views guess themselves and need not be encoded again
        guess = join_latents([conditions, model.encode(warped.rgb, warped.known.scaled(scale))])
    else:
        pictures = torch.cat([batch.rgb[:, : batch.cond_num], warped.rgb], dim=1)
        depth = join_depths([known, warped.known], dim=1).scaled(scale)
        guess = model.encode(pictures, depth, place_views(model, batch, scale))
    coverage = torch.cat([own, share], dim=1) * given
    return Latents(*(z * given.unsqueeze(-1) for z in (guess.level0, guess.level1))), coverage


@dataclass(frozen=True, eq=False)
class WarpedPictures:
    """Condition views moved into the targets."""

    rgb: Tensor  # (B, T, 3, H, W), holes filled
    known: KnownDepth  # (B, T, H, W): confidence 0 where nothing was seen
    seen: Tensor  # (B, T, H, W) bool


def warp_pictures(batch: Batch, known: KnownDepth) -> WarpedPictures:
    """Warp the condition views of a batch into its targets by their known depth."""
    c = batch.cond_num
    moved = forward_warp(
        torch.cat([batch.rgb[:, :c], known.confidence.unsqueeze(2)], dim=2),
        torch.where(known.confidence > 0, known.depth, torch.zeros_like(known.depth)),
        batch.K[:, :c],
        batch.world_from_cam[:, :c],
        batch.K[:, c:],
        batch.world_from_cam[:, c:],
    )
    filled = pull_push(moved.rgb[:, :, :3], moved.coverage).clamp(0, 1)
    known = KnownDepth(moved.depth, moved.rgb[:, :, 3] * moved.coverage)
    return WarpedPictures(filled, known, moved.coverage)
