"""The network's pictures on the target's own pixels, and their composition with what geometry knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera
from gld_ros.model.rays import cameras_from_rays
from gld_ros.synthesis.gld import GldOutput
from gld_ros.synthesis.network_inputs import Guess, NetworkInputs, spread_to
from gld_ros.synthesis.seams import smooth_seams
from gld_ros.synthesis.types import GENERATED, OBSERVED, SynthesizedView

FEATHER_PX = 3.0  # blend between real and generated pixels
HALF_KNOWN = 0.5
MOST_GENERATED = 0.3  # confidence that the surest generated pixel has: what is called observed begins there
MIN_SHARED_PIXELS = 200  # observed pixels needed to fit the depth scale


@dataclass(frozen=True, eq=False)
class Drawn:
    """The network's picture of one target on the target's own pixels."""

    rgb: NDArray[np.float32]  # (H, W, 3) in [0, 1]
    depth: NDArray[np.float32]  # (H, W) world units
    confidence: NDArray[np.float32]  # (H, W) in [0, MOST_GENERATED]
    field: NDArray[np.bool_]  # (H, W) inside the network's field of view
    depth_std: NDArray[np.float32] | None


def target_maps(output: GldOutput, guess: Guess | None, targets: int, patch: int) -> torch.Tensor:
    """Colour, depth and confidence of the targets, (samples, T, 5, h, w); no steps between patches in holes."""
    assert output.rgb is not None
    assert output.depth is not None
    rgb = output.rgb[:, -targets:].float()
    if guess is not None:
        holes = 1 - guess.coverage[0, -targets:].to(rgb.device)
        rgb = torch.stack([smooth_seams(sample, holes, patch) for sample in rgb])
    rgb = rgb.clamp(0, 1)
    depth = output.depth.depth[:, -targets:, None].float()
    confidence = 1 - 1 / output.depth.depth_conf[:, -targets:, None].float().clamp(min=1)
    return torch.cat([rgb, depth, confidence], dim=2).cpu()


def on_target(target: SynthesizedView, network: Camera, maps: torch.Tensor, scale: float | None) -> Drawn:
    """The network's maps (5, h, w) of a target as it was asked for; ``scale``: world units per unit of its depth."""
    spread, field = spread_to(target.camera, network, maps)
    depth = spread[3] * np.float32(1.0 if scale is None else scale)
    # the head says how sure it is of the picture that was drawn, not that what was drawn is there
    return Drawn(spread[:3].transpose(1, 2, 0), depth, MOST_GENERATED * spread[4], field, None)


def fit_scale(
    targets: Sequence[SynthesizedView], inputs: NetworkInputs, maps: torch.Tensor, output: GldOutput, conditions: int
) -> float | None:
    """World units per unit of the network's depth, None where nothing says.

    Median ratio to the geometric depth of observed pixels, or else the ratio of spreads of known and predicted camera
    centres (GLD specification section 5.4).
    """
    ratios = []
    for target, network, picture in zip(targets, inputs.targets, maps, strict=True):
        spread, field = spread_to(target.camera, network, picture[3:4])
        valid = field & (target.provenance == OBSERVED) & np.isfinite(target.depth) & (spread[0] > 1e-6)
        ratios.append(target.depth[valid] / spread[0][valid])
    joined = np.concatenate(ratios)
    if len(joined) >= MIN_SHARED_PIXELS:
        return float(np.median(joined))
    if output.depth is None or output.depth.ray is None:
        return None
    known = inputs.world_from_cam[0, :, :3, 3].numpy()
    size = (inputs.cond_rgb.shape[-2], inputs.cond_rgb.shape[-1])
    predicted = cameras_from_rays(output.depth.ray[0], output.depth.ray_conf[0], size)[0][:, :3, 3].cpu().numpy()  # type: ignore[index]
    spreads = [float(np.linalg.norm(c - c.mean(axis=0))) for c in (known, predicted)]
    return spreads[0] / spreads[1] if min(spreads) > 1e-6 else None


def continued(change: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """What the network changes (H, W, 3) inside its rectangular field, and its edge spread softly beyond."""
    if inside.all() or not inside.any():
        return np.where(inside[..., None], change, 0).astype(np.float32)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    height, width = inside.shape
    spread = cv2.copyMakeBorder(
        change[top:bottom, left:right], top, height - bottom, left, width - right, cv2.BORDER_REPLICATE
    )
    return np.where(inside[..., None], change, cv2.GaussianBlur(spread, (0, 0), FEATHER_PX)).astype(np.float32)


def compose(geometry: SynthesizedView, drawn: Drawn, how: str) -> SynthesizedView:
    """Real pixels over the network's picture, with a soft seam; or, for ``generated``, its picture alone.

    Pixels that geometry shows without being sure of their depth stay as they are, marked generated: they are right far
    more often than a picture drawn anew. Outside the network's field the geometric fill goes on, marked generated.
    """
    inside = drawn.field
    fill = geometry.rgb.astype(np.float32) / 255
    change = (drawn.rgb - fill).astype(np.float32)
    own = np.clip(fill + continued(change, inside), 0, 1)
    own_depth = np.where(inside, drawn.depth, geometry.depth).astype(np.float32)
    own_confidence = np.where(inside, drawn.confidence, 0.0).astype(np.float32)
    generated = (own * 255).round().astype(np.uint8)
    std = geometry.depth_std
    if drawn.depth_std is not None:
        std = np.where(inside, drawn.depth_std, 0.0).astype(np.float32)
    if how == "generated":
        provenance = np.full(geometry.provenance.shape, GENERATED, np.uint8)
        return replace(
            geometry,
            rgb=generated,
            generated=generated,
            depth=own_depth,
            confidence=own_confidence,
            provenance=provenance,
            depth_std=std,
        )
    observed = geometry.provenance == OBSERVED
    known = np.maximum(observed, 0 if geometry.known is None else geometry.known).astype(np.float32)
    real = known > HALF_KNOWN
    distance = cv2.distanceTransform(real.astype(np.uint8), cv2.DIST_L2, 3)
    alpha = (known * np.clip(distance / FEATHER_PX, 0, 1))[..., None]  # real pixels fade out inside their own border
    rgb = ((alpha * fill + (1 - alpha) * own) * 255).round().astype(np.uint8)
    return replace(
        geometry,
        rgb=rgb,
        generated=generated,
        depth=np.where(real, geometry.depth, own_depth).astype(np.float32),
        confidence=np.where(real, geometry.confidence, own_confidence).astype(np.float32),
        depth_std=std if std is None or geometry.depth_std is None else np.where(real, geometry.depth_std, std),
    )
