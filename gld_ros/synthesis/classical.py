"""The ``classical`` engine: posed multi-view geometry and pull-push fill, no network. The bar for every model."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status
from gld_ros.geometry.blend import Blend, blend
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.fill import smooth_fill
from gld_ros.geometry.images import resize_depth
from gld_ros.geometry.splat import sensor_depth, splat, upsample_inverse
from gld_ros.geometry.target_depth import TargetDepth, refine, sweep_target
from gld_ros.geometry.tracking import Tracks
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.synthesis.checks import check_request, has_depth, has_scale, lacks_geometry, wants_clouds
from gld_ros.synthesis.clouds import carved_clouds
from gld_ros.synthesis.keyframe_cache import KeyframeCache, KeyframeSet
from gld_ros.synthesis.presets import FASTEST, PRESETS, ClassicalPreset, CostModel, work_camera
from gld_ros.synthesis.types import (
    GENERATED,
    OBSERVED,
    PREPARING,
    UNKNOWN,
    CancelCheck,
    PosedView,
    Progress,
    ProgressCallback,
    Request,
    Result,
    SynthesizedView,
)

NOTHING_SEEN = "no condition view saw anything of this view: choose a pose that looks at seen space"
ANY_SUPPORT = 0.03  # confidence of a pixel that some view's depth speaks for, however unsure
MIN_SEEN_FRACTION = 0.02  # below this share of pixels with real content a view is NO_OVERLAP
SURE = 0.4  # confidence below which the target's depth is replaced by what its surroundings say


class ClassicalEngine:
    """Plane sweep, votes, visibility, blending.

    Deterministic for a given list of views, except that a view keeps the depth it was first swept to while that
    sweep had enough neighbours.
    """

    name = "classical"
    confidence_kind = "plane_sweep"

    def __init__(self, device: str = "auto") -> None:
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.device = torch.device(chosen)
        self.cache = KeyframeCache(self.device)
        self.cost = CostModel()
        self._tracks = Tracks()

    @torch.no_grad()
    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        """Sweep every view that has no depth yet, or one from too few neighbours."""
        for view in views:
            self.cache.depth(view, views, _preset(preset))

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is cached for these views."""
        self.cache.forget(keys)

    def clear(self) -> None:
        """Drop everything that is kept between requests; measured costs stay."""
        self.cache.clear()
        self._tracks.clear()

    @torch.no_grad()
    def synthesize(
        self,
        views: Sequence[PosedView],
        request: Request,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Synthesise all targets; see ``types.Engine``.

        When ``time_budget_s`` runs out the views still to be made come back empty with BUDGET_EXCEEDED.
        """
        start = time.perf_counter()
        check_request(views, request)
        if lacks_geometry(views):
            raise GldError(
                "1 condition view without depth: geometry needs 2 views with a baseline, or a depth image",
                Status.NO_KEYFRAMES,
            )
        notes = ["classical engine: no learned model; unseen parts are smooth fill"]
        name = self._preset_for(views, request, notes)
        preset = PRESETS[name]
        deadline = start + (request.time_budget_s if request.time_budget_s > 0 else float("inf"))

        def report(stage: str, step: int, steps: int) -> None:
            if cancelled is not None and cancelled():
                raise GldError(f"cancelled before {stage} {step + 1} of {steps}", Status.CANCELLED)
            if progress is not None:
                rest = request.targets[step:] if stage == "target" else request.targets
                left = sum(self._target_seconds(t, views, preset) for t in rest)
                if stage != "target":
                    left += sum(self._sweep_seconds(v, views, preset) for v in views[step:])
                progress(Progress(stage, step, steps, left))

        unswept = [v for v in views if not self.cache.is_swept(v, views, preset)]
        stage = PREPARING if unswept else "depth"
        keyframes = self.cache.checked(views, preset, lambda i: report(stage, i, len(views)))
        seconds = {"depth": time.perf_counter() - start}
        if unswept:
            units = sum(self.cost.sweep_units(v.camera, len(views), preset) for v in unswept)
            self.cost.learn("sweep", units, seconds["depth"])

        results: list[SynthesizedView] = []
        for i, target in enumerate(request.targets):
            began = time.perf_counter()
            if began > deadline:
                message = (
                    f"time_budget {request.time_budget_s:g} s was used up after {i} of {len(request.targets)} views: "
                )
                message += "ask for fewer views or more time"
                results.append(empty_view(target, message, Status.BUDGET_EXCEEDED))
                continue
            report("target", i, len(request.targets))
            view, carried = self._target(target, views, keyframes, preset, request)
            results.append(view)
            if not carried:  # expected times are those of a sweep
                units = self._target_units(target, views, preset)
                self.cost.learn("target", units, time.perf_counter() - began)
        seconds["targets"] = time.perf_counter() - start - seconds["depth"]

        scaled = has_scale(views)
        if not (request.metric and scaled):
            notes.append(
                "scale is not metric: " + ("poses are not metric" if scaled else "no baseline and no sensor depth")
            )
        clouds = carved_clouds(results, keyframes.depths) if wants_clouds(views, request, notes) else None
        seconds["total"] = time.perf_counter() - start
        good = any(v.status == Status.OK for v in results)
        return Result(
            status=Status.OK if good else results[0].status,
            message="" if good else results[0].message,
            views=results,
            points_observed=clouds[0] if clouds else None,
            points_generated=clouds[1] if clouds else None,
            model=self.name,
            preset=name,
            updates=(0, 0),
            seed=request.seed if request.seed >= 0 else secrets.randbelow(2**31),
            scale=1.0,
            scale_valid=request.metric and scaled,
            carved=True,
            confidence_kind="sensor+plane_sweep" if any(has_depth(v) for v in views) else "plane_sweep",
            seconds=seconds,
            notes=tuple(notes),
        )

    @torch.no_grad()
    def view_depths(self, views: Sequence[PosedView], preset: str = "balanced") -> list[ViewDepth]:
        """Depth of each view at working size, checked and filled, as ``synthesize`` uses it."""
        return self.cache.checked(views, _preset(preset)).depths

    def condition_depths(self, views: Sequence[PosedView], preset: str = "balanced") -> list[NDArray[np.float32]]:
        """z-depth of each view in world units, (h, w) at working size."""
        return [(1.0 / d.inverse).cpu().numpy().astype(np.float32) for d in self.view_depths(views, preset)]

    def expected_seconds(self, views: Sequence[PosedView], targets: Sequence[Camera], preset: str) -> float:
        """What ``synthesize`` will take for these targets, from what earlier work took on this machine."""
        chosen = _preset(preset)
        need = sum(self._target_seconds(t, views, chosen) for t in targets)
        return need + sum(self._sweep_seconds(v, views, chosen) for v in views)

    def _sweep_seconds(self, view: PosedView, views: Sequence[PosedView], preset: ClassicalPreset) -> float:
        if self.cache.is_swept(view, views, preset):
            return 0.0
        return self.cost.seconds("sweep", self.cost.sweep_units(view.camera, len(views), preset))

    def _target_seconds(self, target: Camera, views: Sequence[PosedView], preset: ClassicalPreset) -> float:
        return self.cost.seconds("target", self._target_units(target, views, preset))

    def _target_units(self, target: Camera, views: Sequence[PosedView], preset: ClassicalPreset) -> float:
        # a plan asks this many times: pictures' depth is not read for it
        return self.cost.target_units(target, len(views), preset, sum(v.depth is not None for v in views))

    def _preset_for(self, views: Sequence[PosedView], request: Request, notes: list[str]) -> str:
        """The preset asked for, or a faster one that fits the time budget. Raises BUDGET_EXCEEDED below the floor."""
        _preset(request.preset)
        if request.time_budget_s <= 0:
            return request.preset
        for name in dict.fromkeys([request.preset, "balanced", FASTEST]):
            need = self.expected_seconds(views, request.targets, name)
            if need <= request.time_budget_s:
                if name != request.preset:
                    notes.append(f"preset {name} instead of {request.preset} to keep {request.time_budget_s:g} s")
                return name
        raise GldError(
            f"time_budget {request.time_budget_s:g} s is below the floor of {need:.2g} s for {len(request.targets)} "
            f"views with preset {FASTEST}: ask for fewer views or more time",
            Status.BUDGET_EXCEEDED,
        )

    def _target(
        self,
        target: Camera,
        views: Sequence[PosedView],
        keyframes: KeyframeSet,
        preset: ClassicalPreset,
        request: Request,
    ) -> tuple[SynthesizedView, bool]:
        """The view, and whether it was made from an earlier sweep."""
        work = work_camera(target, preset.work_px)
        swept = self._tracks.carried(request.stream, work, keyframes) if _is_stream(request) else None
        carried = swept is not None
        if swept is None:
            near_far = self.cache.depth_range(work, views, keyframes.points)
            swept = sweep_target(work, keyframes.depths, keyframes.gains, near_far, preset.planes)
            if _is_stream(request):
                self._tracks.keep(request.stream, work, swept, keyframes)
        if float((swept.expected_seen > 0.5).float().mean()) < MIN_SEEN_FRACTION:
            return empty_view(target, NOTHING_SEEN), carried
        inverse, sure = swept.inverse, swept.confidence
        guide = swept.expected_rgb
        filled = smooth_fill(inverse[None], sure[None] ** 2 + 1e-5, guide[None], strength=100.0, edge=0.1)[0]
        inverse = torch.where(sure > SURE, inverse, filled)
        if (work.width, work.height) != (target.width, target.height):
            inverse = upsample_inverse(inverse, target.height, target.width)
        inverse = refine(target, keyframes.depths, inverse)
        measured = self._measured(target, views, preset)
        if measured is not None:
            inverse = torch.where(measured > 0, measured, inverse)
        final = self._blend(target, views, keyframes, swept, inverse)
        if float((final.support > ANY_SUPPORT).float().mean()) < MIN_SEEN_FRACTION:
            return empty_view(target, NOTHING_SEEN), carried
        return view_of(target, final, swept, request), carried

    def _measured(self, target: Camera, views: Sequence[PosedView], preset: ClassicalPreset) -> torch.Tensor | None:
        """Inverse depth that sensors measured as the target sees it, (H, W), 0 = none; None without any sensor."""
        camera = work_camera(target, preset.splat_px)
        depths = []
        for view in views:
            if view.depth is None:
                continue
            width, height = _source_size(camera, view.camera)
            depth = torch.from_numpy(np.array(resize_depth(view.depth, width, height), np.float32)).to(self.device)
            depths.append(sensor_depth(view.camera.resized(width, height), depth))
        if not depths:
            return None
        return upsample_inverse(splat(camera, depths), target.height, target.width)

    def _blend(
        self,
        target: Camera,
        views: Sequence[PosedView],
        keyframes: KeyframeSet,
        swept: TargetDepth,
        inverse: torch.Tensor,
    ) -> Blend:
        pictures = [self.cache.picture(view, *_source_size(target, view.camera)) for view in views]
        return blend(target, keyframes.depths, pictures, keyframes.gains, swept, inverse)


def _source_size(target: Camera, source: Camera) -> tuple[int, int]:
    """Width and height at which a source has about the target's resolution: a finer one would alias."""
    ratio = min(1.0, float(target.K[0, 0] / source.K[0, 0]))
    return max(2, round(source.width * ratio)), max(2, round(source.height * ratio))


def _is_stream(request: Request) -> bool:
    return bool(request.stream) and len(request.targets) == 1


def _preset(name: str) -> ClassicalPreset:
    if name not in PRESETS:
        raise GldError(f"preset '{name}' is unknown: use one of {', '.join(PRESETS)}", Status.INTERNAL)
    return PRESETS[name]


def view_of(target: Camera, made: Blend, swept: TargetDepth, request: Request) -> SynthesizedView:
    """Plain arrays of a blended target."""
    rgb = (made.rgb * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    provenance = np.where(made.observed.cpu().numpy(), OBSERVED, GENERATED).astype(np.uint8)
    depth = (1.0 / made.inverse.clamp(min=1e-9)).cpu().numpy().astype(np.float32)
    std = None
    if request.num_samples > 1:  # nothing is drawn here: the spread is the posterior's over planes
        size = (target.height, target.width)
        inverse_std = F.interpolate(swept.inverse_std[None, None], size=size, mode="bilinear", align_corners=False)[
            0, 0
        ]
        std = (inverse_std / made.inverse.clamp(min=1e-9) ** 2).cpu().numpy().astype(np.float32)
    trust, known = made.confidence.cpu().numpy(), made.known.cpu().numpy()
    return SynthesizedView(target, Status.OK, "", rgb, rgb, depth, trust, provenance, std, known)


def empty_view(target: Camera, message: str, status: Status = Status.NO_OVERLAP) -> SynthesizedView:
    """A black view that says why."""
    shape = (target.height, target.width)
    black = np.zeros((*shape, 3), np.uint8)
    nothing = np.full(shape, np.nan, np.float32)
    unknown = np.full(shape, UNKNOWN, np.uint8)
    return SynthesizedView(target, status, message, black, black, nothing, np.zeros(shape, np.float32), unknown)
