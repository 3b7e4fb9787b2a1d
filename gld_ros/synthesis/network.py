"""The learned engine: geometry shows what was seen, the GLD network draws what was not."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from gld_ros.errors import GldError, Status
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.accelerate import Acceleration, accelerate, check_finite, refuses_out_of_memory
from gld_ros.model.checkpoint import ModelFile
from gld_ros.model.gld_model import Latents
from gld_ros.model.precision import dtype_for
from gld_ros.synthesis.budget import SLACK, Deadline, NetworkCosts, Work, fit_updates
from gld_ros.synthesis.classical import ClassicalEngine, check_request, lacks_geometry, wants_clouds
from gld_ros.synthesis.clouds import carved_clouds
from gld_ros.synthesis.compose import Drawn, compose, fit_scale, on_target, target_maps
from gld_ros.synthesis.features import FeatureCache
from gld_ros.synthesis.gld import GldOutput, GldRequest, decode_depth, generate, synchronise
from gld_ros.synthesis.network_inputs import (
    NetworkInputs,
    best_size,
    geometric_guess,
    network_inputs,
    with_guess,
)
from gld_ros.synthesis.plan import MAX_CONDITIONS, Planner
from gld_ros.synthesis.presets import NetworkPreset, network_presets
from gld_ros.synthesis.single_view import blank_result, without_blanks
from gld_ros.synthesis.streams import Streams, warm
from gld_ros.synthesis.types import (
    CancelCheck,
    PosedView,
    Progress,
    ProgressCallback,
    Request,
    Result,
    SynthesizedView,
)
from gld_ros.synthesis.warm_up import FIRST_PX, MEASURED_PX, warm_up_scene

log = logging.getLogger(__name__)
LAZY_BYTES = 512 << 20  # larger files keep their transformers on disk until a stage needs them
SAMPLES_PER_RUN = 4  # drawn in one batch, which bounds memory


@dataclass(frozen=True, eq=False)
class _Run:
    """Targets that the network makes at once, and what it makes them from."""

    preset: NetworkPreset
    views: Sequence[PosedView]
    depths: Sequence[ViewDepth]  # none where there is no geometry
    targets: Sequence[SynthesizedView]
    request: Request
    seed: int
    ends: float  # on the clock ``time.perf_counter``


@dataclass(frozen=True, eq=False)
class _Made:
    """What a run gave."""

    pictures: list[Drawn]  # per target
    scale: float | None  # of its depth
    preset: NetworkPreset  # with the updates that were meant to run
    updates: tuple[int, int]  # that ran
    seconds: dict[str, float]


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
        self._lazy = file.nbytes() > LAZY_BYTES
        self.model = file.load(self.device, self.dtype, lazy=self._lazy)
        self.name = name or file.config.name
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
        seed = request.seed if request.seed >= 0 else secrets.randbelow(2**31)
        notes += [n for n in base.notes if not n.startswith("classical engine")]
        if len(views) > MAX_CONDITIONS:
            notes.append(f"the network reads the first {MAX_CONDITIONS} of {len(views)} views, geometry all")
        ends = start + request.time_budget_s if request.time_budget_s > 0 else float("inf")

        finished = list(base.views)
        seconds = dict(base.seconds)
        scales, updates = [], []
        parts = self.planner.parts(len(views), usable)
        for done, part in enumerate(parts):
            targets = [base.views[i] for i in part]
            run = _Run(preset, views[:MAX_CONDITIONS], depths[:MAX_CONDITIONS], targets, request, seed, ends)
            if done and time.perf_counter() + self._least_seconds(run) > ends:
                left = sum(len(p) for p in parts[done:])
                notes.append(f"time_budget {request.time_budget_s:g} s was used up: {left} views are geometry only")
                break
            made = self._draw(run, len(parts) - done, notes, progress, cancelled)
            began = time.perf_counter()
            scales.append(made.scale)
            updates.append(made.updates)
            for i, picture in zip(part, made.pictures, strict=True):
                finished[i] = compose(base.views[i], picture, request.compose)
            made.seconds["compose"] += time.perf_counter() - began
            if not alone:  # then there was no guess to encode
                self._costs.learn(made.preset, self._work(run), made.updates, made.seconds)
            for stage, taken in made.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + taken
        clouds = carved_clouds(finished, depths) if wants_clouds(views, request, notes) else None
        seconds["total"] = time.perf_counter() - start
        seconds["network"] = seconds["total"] - base.seconds["total"]
        fitted = all(s is not None for s in scales)
        if not fitted:
            notes.append("depth of generated parts has no scale: too little was observed to fit it")
        return replace(
            base,
            views=without_blanks(finished, request.time_budget_s),
            points_observed=clouds[0] if clouds else None,
            points_generated=clouds[1] if clouds else None,
            model=self.name,
            preset=name,
            updates=min(updates),
            seed=seed,
            scale=float(np.median([s for s in scales if s is not None])) if any(scales) else 1.0,
            scale_valid=base.scale_valid and fitted,
            confidence_kind=f"{base.confidence_kind}+head".removeprefix("+"),
            seconds=seconds,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _work(self, run: _Run) -> Work:
        return self.planner.work(len(run.views), [t.camera for t in run.targets], run.request.num_samples)

    def _least_seconds(self, run: _Run) -> float:
        return self._costs.seconds(run.preset.with_updates(1), self._work(run))

    def _draw(
        self,
        run: _Run,
        runs_left: int,
        notes: list[str],
        progress: ProgressCallback | None,
        cancelled: CancelCheck | None,
    ) -> _Made:
        """Run the network on some targets, all samples."""
        began = time.perf_counter()
        config, request, count = self.model.config, run.request, len(run.views)
        work = self._work(run)
        size = best_size(config.trained_sizes, run.targets[0].camera)
        inputs = network_inputs(run.views, [t.camera for t in run.targets], size)
        guess = geometric_guess(inputs, run.depths, run.targets) if run.depths and config.level1.warp_channels else None
        preset, start = run.preset, None
        if request.stream and run.depths and len(run.targets) == 1:
            typical = float(np.median(1 / np.concatenate([d.inverse.flatten().cpu().numpy() for d in run.depths])))
            camera = run.targets[0].camera
            start = self._streams.start(request.stream, camera, inputs.targets[0], typical, config.encoder.patch)
            preset = preset if start is None else warm(preset)
        now = time.perf_counter()
        ends = now + (run.ends - now) / runs_left  # the runs to come get as much
        remaining = ends - now
        preset = fit_updates(
            preset, lambda p: SLACK * self._costs.seconds(p, work) <= remaining
        ) or preset.with_updates(1)
        deadline = Deadline(ends, self._costs.stages(preset, work), preset)

        def report(stage: str, step: int, steps: int) -> None:
            if cancelled is not None and cancelled():
                raise GldError(f"cancelled before update {step + 1} of {steps} of {stage}", Status.CANCELLED)
            if progress is not None:
                done = max(step, 1)
                progress(Progress(stage, step, steps, (time.perf_counter() - began) / done * (steps - step)))

        def hurry(stage: str, step: int, steps: int) -> bool:
            synchronise(self.device)  # or the clock would read when work was given, not when it was done
            return deadline.hurry(stage, step, steps)

        seconds: dict[str, float] = {"compose": 0.0}
        samples: list[list[Drawn]] = []
        scale, updates = None, []
        seconds["encode"] = time.perf_counter() - began
        for first in range(0, request.num_samples, SAMPLES_PER_RUN):
            ask = GldRequest(
                inputs.cond_rgb,
                inputs.world_from_cam,
                inputs.K,
                preset.level1,
                preset.cascade,
                run.seed + first,
                cond_keys=tuple(v.key for v in run.views) if preset.keep_features else (),
                start=start,
                samples=min(SAMPLES_PER_RUN, request.num_samples - first),
                rays=preset.decode_conditions,
                decode_conditions=preset.decode_conditions,
            )
            output = generate(
                self.model,
                with_guess(ask, guess, config),
                report,
                hurry if math.isfinite(run.ends) else None,
                self._features,
            )
            notes += output.notes
            updates.append(output.updates)
            for stage, taken in output.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + taken
            composing = time.perf_counter()
            maps = target_maps(output, guess, len(run.targets), config.encoder.patch)
            check_finite(maps, self.dtype)
            if first == 0:
                scale = self._scale(run, inputs, maps[0], output)
                if request.stream and len(run.targets) == 1 and start is None:
                    made = Latents(*(z[:1, count:] for z in (output.latents.level0, output.latents.level1)))
                    self._streams.keep(request.stream, run.targets[0].camera, inputs.targets[0], made)
            samples += [
                [on_target(t, c, m, scale) for t, c, m in zip(run.targets, inputs.targets, sample, strict=True)]
                for sample in maps
            ]
            seconds["compose"] += time.perf_counter() - composing
        pictures = samples[0]
        if request.num_samples > 1:
            stacks = [np.stack([s[i].depth for s in samples]) for i in range(len(run.targets))]
            pictures = [replace(d, depth=s.mean(0), depth_std=s.std(0)) for d, s in zip(pictures, stacks, strict=True)]
        return _Made(pictures, scale, preset, min(updates), seconds)

    def _scale(self, run: _Run, inputs: NetworkInputs, maps: torch.Tensor, output: GldOutput) -> float | None:
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
