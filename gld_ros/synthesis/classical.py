"""The ``classical`` engine: posed multi-view geometry and pull-push fill, no network. The bar for every model."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status
from gld_ros.geometry import sparse
from gld_ros.geometry.blend import Blend, blend, exposure_gains
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.fill import smooth_fill
from gld_ros.geometry.images import resize_area, resize_depth
from gld_ros.geometry.plane_sweep import WorkView
from gld_ros.geometry.target_depth import TargetDepth, refine, sweep_target
from gld_ros.geometry.view_depth import ViewDepth, cross_check, sweep_view
from gld_ros.synthesis.clouds import clouds_of
from gld_ros.synthesis.types import (
    GENERATED,
    OBSERVED,
    UNKNOWN,
    CancelCheck,
    PosedView,
    Progress,
    ProgressCallback,
    Request,
    Result,
    SynthesizedView,
)


@dataclass(frozen=True)
class ClassicalPreset:
    """Working size (longer side) and number of depth planes."""

    work_px: int
    planes: int


PRESETS = {
    "reference": ClassicalPreset(256, 96),
    "full": ClassicalPreset(256, 96),
    "balanced": ClassicalPreset(256, 64),
    "fast": ClassicalPreset(128, 32),
}
FASTEST = "fast"
MAX_CACHED = 64  # keyframes kept at most; the node forgets them earlier
NOTHING_SEEN = "no condition view saw anything of this view: choose a pose that looks at seen space"
MIN_SEEN_FRACTION = 0.02  # below this share of pixels with real content a view is NO_OVERLAP
SCALE_BASELINE = 1e-3  # m between condition centres before plane-sweep depth counts as metric


@dataclass(frozen=True, eq=False)
class _Prepared:
    """Depth of one keyframe as swept, before the cross-check, and the keys of the views it was swept against."""

    depth: ViewDepth
    sources: tuple[str, ...]


class ClassicalEngine:
    """Plane sweep, votes, visibility, blending. Deterministic for a given list of views."""

    name = "classical"
    confidence_kind = "plane_sweep"

    def __init__(self, device: str = "auto") -> None:
        chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self.device = torch.device(chosen)
        self._lock = threading.RLock()  # prepare may run in a background thread
        self._features: OrderedDict[str, sparse.Features] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], NDArray[np.float64]] = OrderedDict()
        self._depths: OrderedDict[tuple[str, str], _Prepared] = OrderedDict()  # (key, preset)
        self._seconds_per_target: dict[str, float] = {}

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        """Sweep every view that has no cached depth yet, or one from fewer neighbours than there are now."""
        for view in views:
            with self._lock:  # held per view, so that a request waits for one sweep at most
                self._depth(view, views, preset)

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is cached for these views."""
        gone = set(keys)
        with self._lock:
            for key in gone:
                self._features.pop(key, None)
            for pair in [p for p in self._pairs if gone & set(p)]:
                del self._pairs[pair]
            for entry in [e for e in self._depths if e[0] in gone]:
                del self._depths[entry]

    def synthesize(
        self,
        views: Sequence[PosedView],
        request: Request,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Synthesise all targets; see ``types.Engine``."""
        start = time.perf_counter()
        check_request(views, request)
        notes = ["classical engine: no learned model; unseen parts are smooth fill"]
        preset = self._preset_for(request, notes)
        seconds: dict[str, float] = {}

        def report(stage: str, step: int, steps: int) -> None:
            if cancelled is not None and cancelled():
                raise GldError(f"cancelled before {stage} {step + 1} of {steps}", Status.CANCELLED)
            if progress is not None:
                per_target = self._seconds_per_target.get(preset, 0.5)
                left = per_target * (len(request.targets) - (step if stage == "target" else 0))
                progress(Progress(stage, step, steps, left))

        raw = []
        for i, view in enumerate(views):
            report("depth", i, len(views))
            with self._lock:
                raw.append(self._depth(view, views, preset))
        depths, confirmed = cross_check(raw)
        gains = exposure_gains(depths, confirmed)
        seconds["depth"] = time.perf_counter() - start

        points = self._points(views)
        results: list[SynthesizedView] = []
        blends: list[Blend | None] = []
        for i, target in enumerate(request.targets):
            report("target", i, len(request.targets))
            began = time.perf_counter()
            made, picture = self._target(target, views, depths, gains, points, preset, request)
            results.append(made)
            blends.append(picture)
            self._learn_cost(preset, time.perf_counter() - began)
        seconds["targets"] = time.perf_counter() - start - seconds["depth"]

        scale_valid = request.metric and self._has_scale(views)
        if not scale_valid:
            reason = "no baseline and no sensor depth" if request.metric else "poses are not metric"
            notes.append(f"scale is not metric: {reason}")
        clouds = (
            clouds_of(results, [b.seen_through.cpu().numpy() if b else None for b in blends])
            if request.clouds
            else None
        )
        seconds["total"] = time.perf_counter() - start
        good = any(v.status == Status.OK for v in results)
        first = next((v for v in results if v.status == Status.OK), results[0])
        return Result(
            status=Status.OK if good else first.status,
            message="" if good else first.message,
            views=results,
            points_observed=clouds[0] if clouds else None,
            points_generated=clouds[1] if clouds else None,
            model=self.name,
            preset=preset,
            updates=(0, 0),
            seed=request.seed if request.seed >= 0 else secrets.randbelow(2**31),
            scale=1.0,
            scale_valid=scale_valid,
            carved=True,
            confidence_kind="sensor+plane_sweep" if any(v.depth is not None for v in views) else "plane_sweep",
            seconds=seconds,
            notes=tuple(notes),
        )

    def view_depths(self, views: Sequence[PosedView], preset: str = "balanced") -> list[ViewDepth]:
        """Depth of each view at working size, checked and filled, as ``synthesize`` uses it."""
        with self._lock:
            return cross_check([self._depth(view, views, preset) for view in views])[0]

    def condition_depths(self, views: Sequence[PosedView], preset: str = "balanced") -> list[NDArray[np.float32]]:
        """z-depth of each view in world units, (h, w) at working size."""
        finished = self.view_depths(views, preset)
        return [(1.0 / d.inverse.clamp(min=1e-9)).cpu().numpy().astype(np.float32) for d in finished]

    def _preset_for(self, request: Request, notes: list[str]) -> str:
        """The preset asked for, or a faster one that fits the time budget. Raises BUDGET_EXCEEDED below the floor."""
        if request.preset not in PRESETS:
            raise GldError(f"preset '{request.preset}' is unknown: use one of {', '.join(PRESETS)}", Status.INTERNAL)
        if request.time_budget_s <= 0:
            return request.preset
        for name in dict.fromkeys([request.preset, "balanced", FASTEST]):
            need = self._seconds_per_target.get(name, 0.0) * len(request.targets)
            if need <= request.time_budget_s:
                if name != request.preset:
                    notes.append(f"preset {name} instead of {request.preset} to keep {request.time_budget_s:g} s")
                return name
        floor = self._seconds_per_target[FASTEST] * len(request.targets)
        raise GldError(
            f"time_budget {request.time_budget_s:g} s is below the floor of {floor:.2f} s for {len(request.targets)} "
            f"views with preset {FASTEST}: ask for fewer views or more time",
            Status.BUDGET_EXCEEDED,
        )

    def _learn_cost(self, preset: str, seconds: float) -> None:
        known = self._seconds_per_target.get(preset)
        self._seconds_per_target[preset] = seconds if known is None else 0.7 * known + 0.3 * seconds

    def _work_view(self, view: PosedView, preset: str) -> WorkView:
        camera = work_camera(view.camera, PRESETS[preset].work_px)
        return WorkView(camera, to_tensor(resize_area(view.rgb, camera.width, camera.height), self.device))

    def _depth(self, view: PosedView, views: Sequence[PosedView], preset: str) -> ViewDepth:
        sources = [v for v in views if v.key != view.key]
        cached = self._depths.get((view.key, preset))
        if cached is not None and len(cached.sources) >= min(len(sources), 3):
            self._depths.move_to_end((view.key, preset))
            return cached.depth
        chosen = sorted(sources, key=lambda v: _pair_cost(view.camera, v.camera))[:4]
        work = self._work_view(view, preset)
        sensor = None
        if view.depth is not None:
            small = resize_depth(view.depth, work.camera.width, work.camera.height)
            sensor = torch.from_numpy(np.array(small, np.float32)).to(self.device)
        near_far = self._range(work.camera, views, self._points(views))
        swept = sweep_view(work, [self._work_view(v, preset) for v in chosen], near_far, PRESETS[preset].planes, sensor)
        self._depths[(view.key, preset)] = _Prepared(swept, tuple(v.key for v in chosen))
        _trim(self._depths)
        return swept

    def _points(self, views: Sequence[PosedView]) -> NDArray[np.float64]:
        """Triangulated and measured points of all views, (N, 3)."""
        with self._lock:
            parts = [self._pair_points(a, b) for i, a in enumerate(views) for b in views[:i]]
        parts += [sparse.sensor_points(v.camera, v.depth) for v in views if v.depth is not None]
        return np.concatenate([np.zeros((0, 3)), *parts])

    def _pair_points(self, a: PosedView, b: PosedView) -> NDArray[np.float64]:
        pair = (a.key, b.key)
        if pair not in self._pairs:
            fa, fb = (self._view_features(v) for v in (a, b))
            self._pairs[pair] = sparse.drop_isolated(sparse.triangulate_pair(fa, fb), a.camera)
            _trim(self._pairs, MAX_CACHED**2)
        return self._pairs[pair]

    def _view_features(self, view: PosedView) -> sparse.Features:
        if view.key not in self._features:
            camera = work_camera(view.camera, sparse.FEATURE_PX)
            rgb = resize_area(view.rgb, camera.width, camera.height)
            self._features[view.key] = sparse.detect(rgb, camera)
            _trim(self._features)
        return self._features[view.key]

    def _range(self, camera: Camera, views: Sequence[PosedView], points: NDArray) -> tuple[float, float]:
        wide = sparse.baseline_range([v.camera for v in views])
        anywhere = sparse.depth_range(points, views[0].camera, wide, margin=100.0)
        return sparse.depth_range(points, camera, anywhere)

    def _target(
        self,
        target: Camera,
        views: Sequence[PosedView],
        depths: Sequence[ViewDepth],
        gains: torch.Tensor,
        points: NDArray,
        preset: str,
        request: Request,
    ) -> tuple[SynthesizedView, Blend | None]:
        work = work_camera(target, PRESETS[preset].work_px)
        swept = sweep_target(work, depths, gains, self._range(work, views, points), PRESETS[preset].planes)
        inverse = swept.inverse
        first = self._blend(work, views, depths, gains, swept, inverse)
        if float((first.known > 0.5).float().mean()) < MIN_SEEN_FRACTION:
            return empty_view(
                target, "no condition view saw anything of this view: choose a pose that looks at seen space"
            ), None
        sure = swept.confidence
        filled = smooth_fill(inverse[None], sure[None] ** 2 + 1e-5, first.rgb[None], strength=100.0, edge=0.1)[0]
        inverse = torch.where(sure > 0.4, inverse, filled)
        if (work.width, work.height) != (target.width, target.height):
            inverse = upsample_inverse(inverse, target.height, target.width)
        inverse = refine(target, depths, inverse)
        final = self._blend(target, views, depths, gains, swept, inverse)
        return view_of(target, final, swept, request), final

    def _blend(
        self,
        target: Camera,
        views: Sequence[PosedView],
        depths: Sequence[ViewDepth],
        gains: torch.Tensor,
        swept: TargetDepth,
        inverse: torch.Tensor,
    ) -> Blend:
        pictures = []
        for view in views:  # sources at about the target's resolution: finer ones would alias
            ratio = min(1.0, target.K[0, 0] / view.camera.K[0, 0])
            w, h = (max(2, round(n * ratio)) for n in (view.camera.width, view.camera.height))
            pictures.append(to_tensor(resize_area(view.rgb, w, h), self.device))
        return blend(target, depths, pictures, gains, swept, inverse)

    def _has_scale(self, views: Sequence[PosedView]) -> bool:
        centres = np.array([v.camera.centre for v in views])
        spread = float(np.linalg.norm(centres - centres[0], axis=1).max())
        return spread > SCALE_BASELINE or any(v.depth is not None for v in views)


def check_request(views: Sequence[PosedView], request: Request) -> None:
    """Raise GldError when there is nothing to work with or an option is out of range."""
    if not request.targets:
        raise GldError("no target poses: name at least one", Status.BAD_POSE)
    if not views:
        raise GldError("no condition views: wait for images with TF, or name --condition", Status.NO_KEYFRAMES)
    if len(views) == 1 and views[0].depth is None:
        raise GldError(
            "1 condition view without depth: geometry needs 2 views with a baseline, or a depth image",
            Status.NO_KEYFRAMES,
        )
    if request.compose not in ("observed_first", "generated"):
        raise GldError(f"compose '{request.compose}' is unknown: use observed_first or generated")
    if not 1 <= request.num_samples <= 64:
        raise GldError(f"num_samples is {request.num_samples}, must be 1..64")


def work_camera(camera: Camera, longer_px: int) -> Camera:
    """The camera at working size: longer side ``longer_px`` or less, aspect kept."""
    factor = min(1.0, longer_px / max(camera.width, camera.height))
    return camera.resized(max(8, round(camera.width * factor)), max(8, round(camera.height * factor)))


def to_tensor(rgb: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """(H, W, 3) bytes to (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(rgb)).to(device).permute(2, 0, 1).float() / 255


def upsample_inverse(inverse: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Grow an inverse-depth map: bilinear on surfaces, nearest across edges so that no depth floats between two."""
    smooth = F.interpolate(inverse[None, None], size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    nearest = F.interpolate(inverse[None, None], size=(height, width), mode="nearest-exact")[0, 0]
    return torch.where((smooth - nearest).abs() < 0.05 * nearest, smooth, nearest)


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
    return SynthesizedView(target, Status.OK, "", rgb, rgb, depth, made.confidence.cpu().numpy(), provenance, std)


def empty_view(target: Camera, message: str, status: Status = Status.NO_OVERLAP) -> SynthesizedView:
    """A black view that says why."""
    shape = (target.height, target.width)
    black = np.zeros((*shape, 3), np.uint8)
    nothing = np.full(shape, np.nan, np.float32)
    unknown = np.full(shape, UNKNOWN, np.uint8)
    return SynthesizedView(target, status, message, black, black, nothing, np.zeros(shape, np.float32), unknown)


def _pair_cost(a: Camera, b: Camera) -> float:
    """Low for views that look the same way from a useful distance apart; used to choose sweep neighbours."""
    angle = math.degrees(math.acos(float(np.clip(a.forward @ b.forward, -1, 1))))
    distance = float(np.linalg.norm(a.centre - b.centre))
    return angle / 30.0 + distance * 1e-3 + (2.0 if distance < 1e-6 else 0.0)


def _trim(cache: OrderedDict, limit: int = MAX_CACHED) -> None:
    while len(cache) > limit:
        cache.popitem(last=False)
