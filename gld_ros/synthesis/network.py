"""The learned engine: geometry shows what was seen, the GLD network draws what was not."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from gld_ros.errors import Status
from gld_ros.model.accelerate import Acceleration, accelerate, check_finite, refuses_out_of_memory
from gld_ros.model.checkpoint import ModelFile
from gld_ros.model.gld_model import Latents
from gld_ros.model.precision import dtype_for
from gld_ros.synthesis.budget import SLACK, Deadline, NetworkCosts, Work, fit_updates
from gld_ros.synthesis.checks import check_request, lacks_geometry, wants_clouds
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.clouds import carved_clouds
from gld_ros.synthesis.compose import Drawn, compose, fit_scale, target_maps
from gld_ros.synthesis.features import FeatureCache
from gld_ros.synthesis.gld import GldHurry, GldOutput, decode_depth, generate, synchronise
from gld_ros.synthesis.network_inputs import (
    NetworkInputs,
    best_size,
    geometric_guess,
    network_inputs,
    with_guess,
)
from gld_ros.synthesis.network_run import (
    SAMPLES_AT_ONCE,
    Made,
    Run,
    Tally,
    add_seconds,
    mean_with_spread,
    reporter,
)
from gld_ros.synthesis.plan import MAX_CONDITIONS, Planner
from gld_ros.synthesis.presets import network_presets
from gld_ros.synthesis.single_view import blank_result, without_blanks
from gld_ros.synthesis.streams import Streams, warm
from gld_ros.synthesis.types import CancelCheck, PosedView, ProgressCallback, Request, Result
from gld_ros.synthesis.warm_up import FIRST_PX, MEASURED_PX, warm_up_scene

log = logging.getLogger(__name__)


class NetworkEngine:
    """A checkpoint of any size. Observed pixels, their depth and visibility come from the classical engine."""

    @refuses_out_of_memory
    def __init__(
        self,
        path: Path,
        device: str = "auto",
        name: str | None = None,
        acceleration: Acceleration = Acceleration(),  # noqa: B008  # frozen
    ) -> None:
        self.geometry = ClassicalEngine(device)
        self.device = self.geometry.device
        file = ModelFile(path)
        self.dtype = dtype_for(self.device, acceleration.precision)
        self._lazy = not file.to_be_held(self.device, self.dtype)
        self.model = file.load(self.device, self.dtype, lazy=self._lazy)
        self.name = name or file.config.name
        if self._lazy:
            log.info("model %s: every request reads its transformers from %s", self.name, path)
        self.presets = network_presets(file.config)
        self._features = FeatureCache()
        self._streams = Streams()
        self._costs = NetworkCosts(file.config, self.geometry.cost)
        self.planner = Planner(file.config, self.presets, self.geometry, self._costs)
        self._compiled = acceleration.compiles_on(self.device)
        self._notes: tuple[str, ...] = ()
        self._notes = accelerate(self.model, acceleration, self._warm_up)

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        """Depth of the views ahead of requests; see ``types.Engine``."""
        self.geometry.prepare(views, self.planner.preset(preset).geometry)

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is cached for these views."""
        self.geometry.forget(keys)
        self._features.forget(keys)

    def clear(self) -> None:
        """Drop everything that is kept between requests; measured costs stay."""
        self.geometry.clear()
        self._features, self._streams = FeatureCache(), Streams()

    @refuses_out_of_memory
    def synthesize(
        self,
        views: Sequence[PosedView],
        request: Request,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Synthesise all targets; see ``types.Engine``.

        A time budget picks the preset and its updates, and is overrun by no more than one update; targets whose turn
        does not come keep the geometry's picture, and a note says so.
        """
        start = time.perf_counter()
        check_request(views, request)
        notes = list(self._notes)
        name, preset = self.planner.choose(views, request, notes)
        asked = replace(request, preset=preset.geometry, time_budget_s=0.0, clouds=False)  # of the finished views
        alone = lacks_geometry(views)
        base = blank_result(asked) if alone else self.geometry.synthesize(views, asked, progress, cancelled)
        usable = [i for i, v in enumerate(base.views) if v.status == Status.OK]
        if not usable:
            return replace(base, model=self.name)
        depths = [] if alone else self.geometry.view_depths(views, preset.geometry)
        notes += [n for n in base.notes if not n.startswith("classical engine")]
        if len(views) > MAX_CONDITIONS:
            notes.append(f"the network reads the first {MAX_CONDITIONS} of {len(views)} views, geometry all")
        seed = request.seed if request.seed >= 0 else secrets.randbelow(2**31)
        ends = start + request.time_budget_s if request.time_budget_s > 0 else float("inf")

        whole = Run(preset, views[:MAX_CONDITIONS], depths[:MAX_CONDITIONS], base.views, request, seed, ends)
        parts = self.planner.parts(len(views), usable)
        drawn = self._draw_parts(whole, parts, dict(base.seconds), notes, progress, cancelled)
        clouds = carved_clouds(drawn.views, depths) if wants_clouds(views, request, notes) else None
        drawn.seconds["total"] = time.perf_counter() - start
        drawn.seconds["network"] = drawn.seconds["total"] - base.seconds["total"]
        if not drawn.fitted:
            notes.append("depth of generated parts has no scale: too little was observed to fit it")
        return replace(
            base,
            views=without_blanks(drawn.views, request.time_budget_s),
            points_observed=clouds[0] if clouds else None,
            points_generated=clouds[1] if clouds else None,
            model=self.name,
            preset=name,
            updates=min(drawn.updates),
            seed=seed,
            scale=drawn.scale,
            scale_valid=base.scale_valid and drawn.fitted,
            confidence_kind=f"{base.confidence_kind}+head".removeprefix("+"),
            seconds=drawn.seconds,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _draw_parts(
        self,
        whole: Run,
        parts: Sequence[Sequence[int]],
        seconds: dict[str, float],
        notes: list[str],
        progress: ProgressCallback | None,
        cancelled: CancelCheck | None,
    ) -> Tally:
        """Draw over the geometry's views, a part of them in each run, until the time is over."""
        tally = Tally(list(whole.targets), seconds)
        for done, part in enumerate(parts):
            run = replace(whole, targets=[whole.targets[i] for i in part])
            if done and time.perf_counter() + self._least_seconds(run) > run.ends:
                left = sum(len(p) for p in parts[done:])
                budget = run.request.time_budget_s
                notes.append(f"time_budget {budget:g} s was used up: {left} views are geometry only")
                break
            made = self._draw(run, len(parts) - done, notes, progress, cancelled)
            began = time.perf_counter()
            for i, picture in zip(part, made.pictures, strict=True):
                tally.views[i] = compose(whole.targets[i], picture, run.request.compose)
            made.seconds["compose"] += time.perf_counter() - began
            if run.depths:  # without them there was no guess to encode
                self._costs.learn(made.preset, self._work(run), made.updates, made.seconds)
            tally.add(made)
        return tally

    def _draw(
        self,
        run: Run,
        runs_left: int,
        notes: list[str],
        progress: ProgressCallback | None,
        cancelled: CancelCheck | None,
    ) -> Made:
        """Run the network on some targets, all samples."""
        began = time.perf_counter()
        report = reporter(progress, cancelled)
        config = self.model.config
        inputs = network_inputs(run.views, run.cameras, best_size(config.trained_sizes, run.cameras[0]))
        guess = geometric_guess(inputs, run.depths, run.targets) if run.depths and config.level1.warp_channels else None
        start = self._warm_start(run, inputs)
        run, hurry = self._in_time(run if start is None else replace(run, preset=warm(run.preset)), runs_left)
        seconds = {"compose": 0.0, "encode": time.perf_counter() - began}
        samples: list[list[Drawn]] = []
        scale, updates = None, []
        for first in range(0, run.request.num_samples, SAMPLES_AT_ONCE):
            ask = with_guess(run.ask(inputs, start, first), guess, config)
            output = generate(self.model, ask, report, hurry, self._features)
            notes += output.notes
            updates.append(output.updates)
            add_seconds(seconds, output.seconds)
            composing = time.perf_counter()
            maps = target_maps(output, guess, len(run.targets), config.encoder.patch)
            check_finite(maps, self.dtype)
            if first == 0:
                scale = self._scale(run, inputs, maps[0], output)
                if start is None:
                    self._keep_start(run, inputs, output)
            samples += [run.on_targets(inputs, sample, scale) for sample in maps]
            seconds["compose"] += time.perf_counter() - composing
        return Made(mean_with_spread(samples), scale, run.preset, min(updates), seconds)

    def _warm_start(self, run: Run, inputs: NetworkInputs) -> Latents | None:
        """What a virtual camera's picture may start from, if it has moved little since."""
        if not (run.request.stream and run.depths and len(run.targets) == 1):
            return None
        typical = float(np.median(1 / np.concatenate([d.inverse.flatten().cpu().numpy() for d in run.depths])))
        patch = self.model.config.encoder.patch
        return self._streams.start(run.request.stream, run.cameras[0], inputs.targets[0], typical, patch)

    def _keep_start(self, run: Run, inputs: NetworkInputs, output: GldOutput) -> None:
        """Remember a virtual camera's picture for its next ones."""
        if run.request.stream and len(run.targets) == 1:
            latents = output.latents
            own = Latents(*(z[:1, len(run.views) :] for z in (latents.level0, latents.level1)))
            self._streams.keep(run.request.stream, run.cameras[0], inputs.targets[0], own)

    def _in_time(self, run: Run, runs_left: int) -> tuple[Run, GldHurry | None]:
        """The run with as many updates as fit before it has to end, and what may end it sooner still."""
        now = time.perf_counter()
        ends = now + (run.ends - now) / runs_left  # the runs to come get as much
        work = self._work(run)
        preset = fit_updates(run.preset, lambda p: SLACK * self._costs.seconds(p, work) <= ends - now)
        run = replace(run, preset=preset or run.preset.with_updates(1))
        if math.isinf(run.ends):
            return run, None
        deadline = Deadline(ends, self._costs.stages(run.preset, work), run.preset)

        def hurry(stage: str, step: int, steps: int) -> bool:
            synchronise(self.device)  # or the clock would read when work was given, not when it was done
            return deadline.hurry(stage, step, steps)

        return run, hurry

    def _work(self, run: Run) -> Work:
        return self.planner.work(len(run.views), run.cameras, run.request.num_samples)

    def _least_seconds(self, run: Run) -> float:
        return self._costs.seconds(run.preset.with_updates(1), self._work(run))

    def _scale(self, run: Run, inputs: NetworkInputs, maps: torch.Tensor, output: GldOutput) -> float | None:
        """``fit_scale``, with a ray map made only where observed depth does not tell."""
        count = len(run.views)
        scale = fit_scale(run.targets, inputs, maps, output, count)
        if scale is None and self.model.config.encoder.depth_cells:
            return 1.0  # its depth comes in the unit of the depth it was given
        if scale is not None or count == 1:
            return scale
        grid = (output.latents.level0.shape[-2], output.latents.level0.shape[-1])
        rays = decode_depth(self.model, [level[:1] for level in output.levels], grid, rays=True)
        return fit_scale(run.targets, inputs, maps, replace(output, depth=rays), count)

    def _warm_up(self) -> None:
        """Measure this machine on small scenes, once compiled code is there for as many views as requests will have."""
        if self._lazy and self.device.type == "cpu":
            log.info("this model takes minutes on a CPU: time budgets are kept from the second request on")
            return
        if self._compiled:
            self.synthesize(*warm_up_scene(FIRST_PX, MAX_CONDITIONS))
        for width in (FIRST_PX, MEASURED_PX):
            self.geometry.cost.clear()
            self.synthesize(*warm_up_scene(width))
            self.clear()
