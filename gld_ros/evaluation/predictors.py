"""Everything that is measured side by side: the engine's pictures, trivial guesses, and warps of all conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.evaluation.baselines import trivial_predictions
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.forward_warp import forward_warp, pull_push
from gld_ros.geometry.images import resize_area, resize_depth
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.types import Engine, PosedView, Result

# in the order of tables; the engine's own first
ENGINE_PREDICTORS = ("composed", "generated")
BASELINES = ("copy_nearest", "mean", "blur", "warp_true", "warp_predicted")


@dataclass(frozen=True, eq=False)
class Prediction:
    """A guess of one target picture, with z-depth in world units (NaN = none) where the predictor has one."""

    rgb: NDArray[np.uint8]  # (H, W, 3)
    depth: NDArray[np.float32] | None = None  # (H, W)


@dataclass(frozen=True, eq=False)
class Warp:
    """All condition views moved into a target by their depth."""

    prediction: Prediction
    covered: NDArray[np.bool_]  # (H, W): some condition pixel landed here

    def holes(self) -> NDArray[np.bool_]:
        """Where nothing was seen, (H, W), without the cracks that single source pixels leave between them."""
        closed = cv2.morphologyEx(self.covered.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        return closed == 0


def engine_predictions(result: Result) -> list[dict[str, Prediction]]:
    """``composed`` and ``generated`` per target of a result."""
    return [
        {"composed": Prediction(v.rgb, v.depth), "generated": Prediction(v.generated, v.depth)} for v in result.views
    ]


def baseline_predictions(views: Sequence[PosedView], target: Camera) -> dict[str, Prediction]:
    """``copy_nearest``, ``mean`` and ``blur`` of one target."""
    made = trivial_predictions(views, target, (target.width, target.height))
    return {name: Prediction(rgb) for name, rgb in made.items()}


def warp(views: Sequence[PosedView], depths: Sequence[NDArray[np.float32]], target: Camera) -> Warp:
    """Forward warp of all ``views`` with ``depths`` (any size, NaN = none), holes filled by pull-push.

    Sources are resized to the target's size first, so that one source pixel covers about one target pixel.
    """
    width, height = target.width, target.height
    rgb = np.stack([resize_area(v.rgb, width, height) for v in views])
    z = np.stack([resize_depth(d, width, height) for d in depths])
    cameras = [v.camera.resized(width, height) for v in views]
    made = forward_warp(
        torch.from_numpy(rgb).permute(0, 3, 1, 2)[None].float() / 255,
        torch.from_numpy(z.astype(np.float32))[None],
        torch.from_numpy(np.stack([c.K for c in cameras]))[None],
        torch.from_numpy(np.stack([c.world_from_cam for c in cameras]))[None],
        torch.from_numpy(target.K)[None, None],
        torch.from_numpy(target.world_from_cam)[None, None],
    )
    filled = pull_push(made.rgb[0], made.coverage[0, :, None])[0].clamp(0, 1)
    covered = made.coverage[0, 0].numpy()
    picture = (filled * 255).round().byte().permute(1, 2, 0).numpy()
    return Warp(Prediction(picture, np.where(covered, made.depth[0, 0].numpy(), np.nan).astype(np.float32)), covered)


def predicted_depths(views: Sequence[PosedView], engine: Engine, preset: str) -> list[NDArray[np.float32]]:
    """Depth of each view from the pictures and poses alone, by plane sweep.

    Nothing stays in the engine's cache that a synthesis with sensor depth would read.
    """
    geometry = engine if isinstance(engine, ClassicalEngine) else ClassicalEngine()
    if all(v.depth is None for v in views):
        return geometry.condition_depths(views, preset)
    blind = [dataclasses.replace(v, key=f"{v.key}#rgb", depth=None) for v in views]
    try:
        return geometry.condition_depths(blind, preset)
    finally:
        geometry.forget([v.key for v in blind])
