"""Measure an engine against held-out pictures and baselines: figures per view, means per set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.scene import Scene, shared_frames_note
from gld_ros.errors import GldError, SceneError, Status
from gld_ros.evaluation.metrics import depth_errors, gradient_energy, psnr, sharpness, ssim
from gld_ros.evaluation.perceptual import PerceptualDistance
from gld_ros.evaluation.predictors import (
    REAL,
    Prediction,
    baseline_predictions,
    engine_predictions,
    kind,
    oracle_decode,
    predicted_depths,
    warp,
)
from gld_ros.evaluation.recovery import Landmarks, Recovered, SceneCameras, camera_figures, landmarks, recover
from gld_ros.evaluation.spread import Spread, pooled_figures
from gld_ros.geometry.camera import Camera, neighbour_distance
from gld_ros.geometry.images import resize_area, resize_depth
from gld_ros.synthesis.checks import lacks_geometry
from gld_ros.synthesis.many_views import synthesize_nearest
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.types import OBSERVED, Engine, PosedView, ProgressCallback, Request, SynthesizedView

MIN_HOLE_PIXELS = 16  # fewer say nothing
DEPTH_RANGE_M = (0.1, 20.0)
HOLES = (
    "pixels that no condition pixel reaches by forward warp with sensor depth (without it: plane-sweep depth), "
    "cracks of up to 2 px closed"
)
# whose pictures are asked where they were taken from; a warp by known depth would only repeat the answer
WITH_CAMERA = ("composed", "generated", "plain", "classical", "copy_nearest", "oracle_decode", REAL)
Figures = dict[str, float]
Inspect = Callable[[Sequence[PosedView], Sequence[SynthesizedView]], None]


@dataclass(frozen=True)
class EvalConfig:
    """How to run the engine; ``use_depth``: the engine may use the conditions' sensor depth."""

    preset: str = "balanced"
    seed: int = 0
    use_depth: bool = True


@dataclass(frozen=True, eq=False)
class EvaluatedView:
    """One target: its real picture, all guesses and their figures."""

    name: str
    camera: Camera
    truth: NDArray[np.uint8]  # (H, W, 3)
    holes: NDArray[np.bool_]  # (H, W)
    made: SynthesizedView | None  # None where the engine failed
    predictions: dict[str, Prediction]
    figures: dict[str, Figures]
    conditions: list[PosedView]
    true_depth: NDArray[np.float32] | None = None  # (H, W) world units
    spreads: dict[str, Spread] = field(default_factory=dict)  # of predictors that drew several samples
    landmarks: list[Landmarks] = field(default_factory=list)  # of the condition views; empty where no depth is known
    recovered: dict[str, Recovered] = field(default_factory=dict)  # the cameras that the guesses and ``real`` show

    def recover(self, name: str, rgb: NDArray[np.uint8]) -> None:
        """Note the camera that a predictor's picture shows, where it is one of those asked and any depth is known."""
        if kind(name) in WITH_CAMERA and self.landmarks:
            baseline = neighbour_distance([v.camera for v in self.conditions])
            self.recovered[name] = recover(rgb, self.camera, self.landmarks, baseline)


@dataclass(frozen=True, eq=False)
class EvaluatedSet:
    """All targets of one split of one or more scenes."""

    name: str
    views: list[EvaluatedView]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0  # the engine's time
    failed: bool = False
    sensor: bool = True  # whether the engine might use the conditions' depth images

    @staticmethod
    def joined(name: str, parts: Sequence[EvaluatedSet]) -> EvaluatedSet:
        """One set of the views of many scenes. Raises GldError when there is no part."""
        if not parts:
            raise GldError(f"{name} has no scenes")
        return EvaluatedSet(
            name,
            [view for part in parts for view in part.views],
            tuple(dict.fromkeys(note for part in parts for note in part.notes)),
            sum(part.seconds for part in parts),
            any(part.failed for part in parts),
            parts[0].sensor,
        )

    def figures(self) -> dict[str, dict[str, float | None]]:
        """Mean over views per predictor; None where no view has the figure.

        ``…_ratio`` are ratios of such means; rank correlations without ``_per_view`` are over all pixels of all views.
        """
        means = summarise([v.figures for v in self.views])
        for row in means.values():
            for key in ("gradient_energy", "gradient_energy_holes"):
                made, real = row.get(key), row.get(f"{key}_truth")
                row[f"{key}_ratio"] = made / real if made is not None and real else None
        for name in dict.fromkeys(name for view in self.views for name in view.spreads):
            spreads = [(v.spreads[name], v.holes) for v in self.views if name in v.spreads]
            means[name] |= {k: v if np.isfinite(v) else None for k, v in pooled_figures(spreads).items()}
        for name in dict.fromkeys(name for view in self.views for name in view.recovered):
            means.setdefault(name, {}).update(camera_figures(self._cameras(name)))
        return means

    def _cameras(self, name: str) -> list[SceneCameras]:
        """One predictor's cameras, scene by scene: views of one scene share their conditions."""
        scenes: dict[int, list[EvaluatedView]] = {}
        for view in self.views:
            if name in view.recovered:
                scenes.setdefault(id(view.conditions), []).append(view)
        return [
            SceneCameras([v.camera for v in of[0].conditions], [v.camera for v in of], [v.recovered[name] for v in of])
            for of in scenes.values()
        ]


def evaluate_split(
    scene: Scene,
    name: str,
    condition: Sequence[int],
    target: Sequence[int],
    engine: Engine,
    config: EvalConfig,
    camera_at: Callable[[Camera], Camera],
    perceptual: PerceptualDistance | None = None,
    progress: ProgressCallback | None = None,
    inspect: Inspect | None = None,
) -> EvaluatedSet:
    """Synthesise the targets of one split and measure everything.

    ``camera_at`` gives a target's camera at output size. Targets without a picture are left out with a note; an engine
    that fails leaves the baselines and a note. ``inspect`` is called with the condition views as the engine got them
    and with the classical engine's views of the targets, while depth is still cached. Raises SceneError when no target
    has a picture.
    """
    notes: list[str] = [*scene.notes, *shared_frames_note(condition, target)]
    truths: dict[int, NDArray[np.uint8]] = {}
    for i in scene.check_indices(target, "target"):
        try:
            truths[i] = scene.frames[i].load_rgb()
        except SceneError as error:
            notes.append(f"target {i} is left out: {error}")
    if not truths:
        raise SceneError(f"{name}: no target has a picture to compare with ({'; '.join(notes) or 'no targets'})")
    views = [scene.posed_view(i) for i in scene.check_indices(condition, "condition")]
    if not views:
        raise SceneError(f"{name} has no condition frames: give at least one")
    given = views if config.use_depth else [PosedView(v.key, v.camera, v.rgb, None, v.stamp_ns) for v in views]
    cameras = [camera_at(scene.frames[i].camera) for i in truths]

    seconds, failed = 0.0, False
    made: list[SynthesizedView | None] = [None] * len(cameras)
    guesses: list[dict[str, Prediction]] = [{} for _ in cameras]
    try:
        request = Request(cameras, preset=config.preset, seed=config.seed, clouds=False, metric=scene.metric)
        result = synthesize_nearest(engine, given, request, progress)
        seconds, made, guesses = result.seconds["total"], list(result.views), engine_predictions(result)
        notes += result.notes
        notes += [f"{v.message}" for v in result.views if v.status != Status.OK]
        if isinstance(engine, NetworkEngine) and not lacks_geometry(given):
            by_geometry = synthesize_nearest(engine.geometry, given, request, progress)
            for guess, shown in zip(guesses, by_geometry.views, strict=True):
                guess["classical"] = Prediction(shown.rgb, shown.depth)
            if inspect is not None:
                inspect(given, by_geometry.views)
    except GldError as error:
        failed = True
        notes.append(f"the engine failed with {error.status.name}: {error}")

    sensor = [v.depth for v in views if v.depth is not None]
    swept = predicted_depths(given, engine, config.preset) if len(views) > 1 else None
    depths = sensor if len(sensor) == len(views) else swept
    known = landmarks(views, depths) if depths is not None else []
    # else depth swept against this split's conditions would serve another split, whose targets they may be
    engine.forget([v.key for v in views])
    evaluated = []
    for (i, real), camera, view, predictions in zip(truths.items(), cameras, made, guesses, strict=True):
        predictions |= baseline_predictions(views, camera)
        holes = np.zeros((camera.height, camera.width), np.bool_)
        if swept is not None:
            by_sweep = warp(views, swept, camera)
            predictions["warp_predicted"], holes = by_sweep.prediction, by_sweep.holes()
        if len(sensor) == len(views):
            by_sensor = warp(views, sensor, camera)
            predictions["warp_true"], holes = by_sensor.prediction, by_sensor.holes()
        truth = resize_area(real, camera.width, camera.height)
        at_network_size = float("nan")
        if isinstance(engine, NetworkEngine) and view is not None:
            predictions["oracle_decode"], at_network_size = oracle_decode(engine, given, truth, camera, view.generated)
        depth = scene.frames[i].load_depth()
        true_depth = None if depth is None else resize_depth(depth, camera.width, camera.height)
        figures = {n: measure(p, truth, holes, true_depth, scene.metric, perceptual) for n, p in predictions.items()}
        if "oracle_decode" in figures:
            figures["oracle_decode"]["psnr_network_size"] = at_network_size
        if view is not None:
            figures["composed"]["observed_share"] = float((view.provenance == OBSERVED).mean())
        found = EvaluatedView(
            scene.frames[i].name, camera, truth, holes, view, predictions, figures, views, true_depth, landmarks=known
        )
        for n, picture in {**{n: p.rgb for n, p in predictions.items()}, REAL: truth}.items():
            found.recover(n, picture)
        evaluated.append(found)
    return EvaluatedSet(name, evaluated, tuple(dict.fromkeys(notes)), seconds, failed, config.use_depth)


def measure(
    prediction: Prediction,
    truth: NDArray[np.uint8],
    holes: NDArray[np.bool_],
    true_depth: NDArray[np.float32] | None,
    metric: bool,
    perceptual: PerceptualDistance | None = None,
) -> Figures:
    """All figures of one picture; NaN where one does not apply."""
    enough = int(holes.sum()) >= MIN_HOLE_PIXELS
    hole_mask = holes if enough else np.zeros_like(holes)
    everywhere, in_holes = float("nan"), float("nan")
    if perceptual is not None:
        everywhere, in_holes = perceptual.over(prediction.rgb, truth, [None, hole_mask])
    figures = {
        "psnr": psnr(prediction.rgb, truth),
        "ssim": ssim(prediction.rgb, truth),
        "perceptual": everywhere,
        "perceptual_holes": in_holes,
        "sharpness": sharpness(prediction.rgb),
        "sharpness_truth": sharpness(truth),
        "psnr_holes": psnr(prediction.rgb, truth, hole_mask),
        "psnr_observed": psnr(prediction.rgb, truth, ~holes),
        "sharpness_holes": sharpness(prediction.rgb, hole_mask),
        "sharpness_holes_truth": sharpness(truth, hole_mask),
        "gradient_energy": gradient_energy(prediction.rgb),
        "gradient_energy_truth": gradient_energy(truth),
        "gradient_energy_holes": gradient_energy(prediction.rgb, hole_mask),
        "gradient_energy_holes_truth": gradient_energy(truth, hole_mask),
        "holes": float(holes.mean()),
    }
    if prediction.depth is not None and true_depth is not None:
        near, far = DEPTH_RANGE_M if metric else (0.0, float("inf"))
        figures |= depth_errors(prediction.depth, true_depth, near, far)
    else:
        figures |= dict.fromkeys(("depth_absrel", "depth_absrel_median", "depth_delta1"), float("nan"))
    return figures


def summarise(views: Sequence[dict[str, Figures]]) -> dict[str, dict[str, float | None]]:
    """Mean over the views that have a figure, per predictor and key; None where none has."""
    names = dict.fromkeys(name for view in views for name in view)
    means: dict[str, dict[str, float | None]] = {}
    for name in names:
        rows = [view[name] for view in views if name in view]
        means[name] = {}
        for key in rows[0]:
            values = [row[key] for row in rows if np.isfinite(row[key])]
            means[name][key] = float(np.mean(values)) if values else None
    return means
