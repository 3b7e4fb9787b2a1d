"""Everything that is measured side by side: the engine's pictures, trivial guesses, and warps of all conditions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.evaluation.baselines import trivial_predictions
from gld_ros.evaluation.metrics import psnr
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.fill import pull_push
from gld_ros.geometry.forward_warp import forward_warp
from gld_ros.geometry.images import resize_area, resize_depth
from gld_ros.model.encoder import grid_of
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.network_inputs import best_size, network_inputs, spread_to
from gld_ros.synthesis.plan import MAX_CONDITIONS
from gld_ros.synthesis.types import Engine, PosedView, Result

# in the order of tables; the engine's own first. "@N" behind generated and plain: the network alone at N updates
ENGINE_PREDICTORS = ("composed", "generated", "plain")
BASELINES = ("classical", "copy_nearest", "mean", "blur", "warp_true", "warp_predicted")
REAL = "real"  # the target's real picture: its own figures bound what a picture can reach
BOUNDS = ("oracle_decode", REAL)  # oracle_decode: what the engine's decoder makes of the real picture's own features


def kind(predictor: str) -> str:
    """The name without the number of updates."""
    return predictor.partition("@")[0]


def in_order(names: Iterable[str]) -> list[str]:
    """Predictors in the order of tables."""
    order = (*ENGINE_PREDICTORS, *BASELINES, *BOUNDS)
    known = [n for n in names if kind(n) in order]
    return sorted(known, key=lambda n: (order.index(kind(n)), int(n.partition("@")[2] or 0)))


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
    """``composed`` and ``generated`` per target of a result.

    A result's depth belongs to its composed picture; ``generated`` has it too where the pictures are the same.
    """
    guesses = []
    for view in result.views:
        same = np.array_equal(view.rgb, view.generated)
        composed = Prediction(view.rgb, view.depth)
        guesses.append({"composed": composed, "generated": Prediction(view.generated, view.depth if same else None)})
    return guesses


def oracle_decode(
    engine: NetworkEngine,
    views: Sequence[PosedView],
    truth: NDArray[np.uint8],
    camera: Camera,
    around: NDArray[np.uint8],
) -> tuple[Prediction, float]:
    """The real picture (H, W, 3) of ``camera`` encoded beside the condition views and decoded again.

    Bounds what any generated features could show. ``around`` (H, W, 3) is shown outside the network's field. Also
    returns the PSNR in dB at the network's own size, which the size of the output does not limit.
    """
    target = PosedView("target", camera, truth)
    size = best_size(engine.model.config.trained_sizes, camera)
    inputs = network_inputs([*views[:MAX_CONDITIONS], target], [camera], size)
    model = engine.model
    with torch.inference_mode():
        shown_views = slice(inputs.cond_rgb.shape[1])  # the target's camera follows once more
        cameras = model.encoder_cameras(inputs.world_from_cam[:, shown_views], inputs.K[:, shown_views])
        rgb = inputs.cond_rgb.to(engine.device, next(model.encoder.parameters()).dtype)
        raw = model.encoder(rgb, cameras=cameras)
        levels = [level[:, -1:, 1:] for level in raw]  # the target's patches
        picture = model.decode_rgb(levels, grid_of(inputs.cond_rgb, model.config.encoder.patch))[0]
    shown = picture[0].float().clamp(0, 1).cpu()
    as_read = inputs.cond_rgb[0, -1]
    own = psnr(*((x.permute(1, 2, 0) * 255).round().byte().numpy() for x in (shown, as_read)))
    spread, field = spread_to(camera, inputs.targets[0], shown)
    decoded = (spread.transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return Prediction(np.where(field[..., None], decoded, around)), own


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
    filled = pull_push(made.rgb[0], made.coverage[0])[0].clamp(0, 1)
    covered = made.coverage[0, 0].numpy()
    picture = (filled * 255).round().byte().permute(1, 2, 0).numpy()
    return Warp(Prediction(picture, np.where(covered, made.depth[0, 0].numpy(), np.nan).astype(np.float32)), covered)


def predicted_depths(views: Sequence[PosedView], engine: Engine, preset: str) -> list[NDArray[np.float32]]:
    """Depth of each view from the pictures and poses alone, by plane sweep.

    Nothing stays in the engine's cache that a synthesis with sensor depth would read.
    """
    if isinstance(engine, NetworkEngine):
        geometry = engine.geometry
    else:
        geometry = engine if isinstance(engine, ClassicalEngine) else ClassicalEngine()
    if all(v.depth is None for v in views):
        return geometry.condition_depths(views, preset)
    blind = [dataclasses.replace(v, key=f"{v.key}#rgb", depth=None) for v in views]
    try:
        return geometry.condition_depths(blind, preset)
    finally:
        geometry.forget([v.key for v in blind])
