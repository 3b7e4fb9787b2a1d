"""The frozen test rooms: the engine scene by scene, then the network's trials over all of them together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.scene import Scene
from gld_ros.evaluation.evaluate import (
    MIN_HOLE_PIXELS,
    EvalConfig,
    EvaluatedSet,
    EvaluatedView,
    evaluate_split,
    measure,
)
from gld_ros.evaluation.perceptual import PerceptualDistance
from gld_ros.evaluation.spread import spread_figures, spread_of
from gld_ros.evaluation.trials import Drawn, SceneTask, run_oracle, run_trial, scene_task, trials_of
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.types import Engine, PosedView, ProgressCallback, SynthesizedView

SAMPLES = 8
SPLIT = "test"
ORACLE = "oracle_decode"
NO_DEPTH = "-no-depth"  # behind the name of the set whose conditions have no depth images


@dataclass(frozen=True)
class Route:
    """Whether the engine gets the conditions' depth images, and the name of the set of its figures."""

    name: str
    use_depth: bool


def routes(name: str, use_depth: bool, engine: Engine) -> tuple[Route, ...]:
    """As asked for; a network that may use depth images is also measured without them."""
    asked = Route(name, use_depth)
    if use_depth and isinstance(engine, NetworkEngine):
        return asked, Route(name + NO_DEPTH, False)
    return (asked,)


class RoomsEvaluation:
    """Collects the figures of one route, room by room."""

    def __init__(
        self,
        engine: Engine,
        config: EvalConfig,
        route: Route,
        perceptual: PerceptualDistance | None,
        samples: int = SAMPLES,
    ) -> None:
        self.route = route
        self._engine = engine
        self._config = replace(config, use_depth=route.use_depth)
        self._perceptual = perceptual
        self._samples = samples
        self._parts: list[EvaluatedSet] = []
        self._tasks: list[SceneTask] = []

    def add(self, room: Scene, progress: ProgressCallback | None = None) -> None:
        """Run the engine on one room and keep what the trials need of it."""
        condition, target = room.split(SPLIT)
        name = f"{self.route.name}/{room.name}"

        def keep(views: Sequence[PosedView], targets: Sequence[SynthesizedView]) -> None:
            assert isinstance(self._engine, NetworkEngine)
            real = [room.posed_view(i) for i in (*condition, *target)]
            self._tasks.append(scene_task(self._engine, views, targets, real, self._config.preset))

        part = evaluate_split(
            room, name, condition, target, self._engine, self._config, lambda c: c, self._perceptual, progress, keep
        )
        self._parts.append(part)

    def finish(
        self, same: RoomsEvaluation | None = None, progress: Callable[[str], None] = lambda text: None
    ) -> EvaluatedSet:
        """Run the trials and return the whole set. Raises GldError when no room was added.

        ``same``: a finished evaluation of the same rooms and engine on another route, whose figures serve where depth
        images play no part.
        """
        began = time.perf_counter()
        found = EvaluatedSet.joined(self.route.name, self._parts)
        if not isinstance(self._engine, NetworkEngine) or found.failed:
            return found
        for trial in trials_of(self._engine.model, self._samples):
            if same is not None and not trial.warp:
                self._copy(trial.name, same)
            else:
                self._take(trial.name, run_trial(self._engine, self._tasks, trial, self._config.seed, progress))
        if same is None:
            progress("oracle")
            self._take(ORACLE, run_oracle(self._engine, self._tasks))
        else:
            self._copy(ORACLE, same)
        seconds = time.perf_counter() - began
        note = f"{found.seconds:.0f} s for the engine, {seconds:.0f} s for the network alone and its figures"
        return replace(found, notes=(*found.notes, note))

    def _copy(self, name: str, other: RoomsEvaluation) -> None:
        for mine, theirs in zip(self._parts, other._parts, strict=True):
            for view, known in zip(mine.views, theirs.views, strict=True):
                view.predictions[name], view.figures[name] = known.predictions[name], known.figures[name]
                if name in known.recovered:
                    view.recovered[name] = known.recovered[name]

    def _take(self, name: str, drawn: Sequence[Drawn]) -> None:
        """Measure the pictures of one trial and put them beside the others."""
        for part, scene in zip(self._parts, drawn, strict=True):
            for view, prediction, samples in zip(part.views, scene.predictions, scene.samples, strict=True):
                figures = measure(prediction, view.truth, view.holes, view.true_depth, True, self._perceptual)
                view.predictions[name] = prediction
                view.figures[name] = figures | scene.cameras | self._spread(name, view, samples)
                view.recover(name, prediction.rgb)

    @staticmethod
    def _spread(name: str, view: EvaluatedView, samples: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
        if len(samples) < 2:
            return {}
        view.spreads[name] = spread_of(samples, view.truth)
        return spread_figures(view.spreads[name], view.holes, MIN_HOLE_PIXELS)
