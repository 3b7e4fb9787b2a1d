"""What the geometry knows of each keyframe: features, matched points, swept depth. Computed once, memory bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.geometry import sparse
from gld_ros.geometry.blend import exposure_gains
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.images import resize_area, resize_depth
from gld_ros.geometry.matching import FULL_PARALLAX_DEG, parallax_deg
from gld_ros.geometry.plane_sweep import WorkView
from gld_ros.geometry.view_depth import ViewDepth, cross_check, sweep_view
from gld_ros.synthesis.presets import ClassicalPreset, work_camera
from gld_ros.synthesis.types import PosedView

MAX_KEYFRAMES = 64  # kept at most, least recently used out first; the node forgets them earlier
MAX_SETS = 8  # sets of views whose cross-check is kept: two of them with every preset that a budget may choose
MAX_PICTURE_BYTES = 64 << 20  # resized pictures kept on the device
SWEEP_SOURCES = 4  # neighbours a view is swept against at most
ENOUGH_SOURCES = 2  # a sweep against this many useful neighbours is not redone when more arrive
USEFUL_DEG = 0.5  # parallax from which a neighbour tells about depth
USEFUL_TURN_DEG = 60.0  # and the angle between the optical axes up to which it does


@dataclass(frozen=True, eq=False)
class KeyframeSet:
    """Views that have been checked against each other."""

    depths: list[ViewDepth]
    gains: torch.Tensor  # (V, 3) log exposure gains
    points: sparse.PairPoints  # of all pairs, triangulated and measured


@dataclass(frozen=True, eq=False)
class _Swept:
    """Depth of one keyframe before the cross-check, and the cameras it was swept against."""

    depth: ViewDepth
    sources: list[Camera]

    @cached_property
    def typical_inverse(self) -> float:
        """Median inverse depth."""
        return float(self.depth.inverse.median())


@dataclass(eq=False)
class _Keyframe:
    features: sparse.Features | None = None
    swept: dict[ClassicalPreset, _Swept] = field(default_factory=dict)


def to_tensor(rgb: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """(H, W, 3) bytes to (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.array(rgb)).to(device).permute(2, 0, 1).float().div_(255)


class KeyframeCache:
    """Per-view work, done on first use. Safe to use from a background thread: one sweep holds the lock at a time."""

    def __init__(self, device: torch.device, limit: int = MAX_KEYFRAMES) -> None:
        self.device = device
        self._limit = limit
        self._lock = threading.RLock()
        self._keyframes: OrderedDict[str, _Keyframe] = OrderedDict()
        self._pairs: dict[tuple[str, str], sparse.PairPoints] = {}
        self._sets: OrderedDict[tuple[ClassicalPreset, tuple[str, ...]], tuple[list[ViewDepth], KeyframeSet]]
        self._sets = OrderedDict()
        self._pictures: OrderedDict[tuple[str, int, int], torch.Tensor] = OrderedDict()

    def forget(self, keys: Sequence[str]) -> None:
        """Drop everything known of these views."""
        gone = set(keys)
        with self._lock:
            for key in gone:
                self._keyframes.pop(key, None)
            self._pairs = {pair: points for pair, points in self._pairs.items() if not gone & set(pair)}
            for entry in [e for e in self._sets if gone & set(e[1])]:
                del self._sets[entry]
            for picture in [p for p in self._pictures if p[0] in gone]:
                del self._pictures[picture]

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self.forget(list(self._keyframes))
            self._pictures.clear()

    def bytes_held(self) -> int:
        """Memory of what is kept, without the cameras."""
        with self._lock:
            depths = [s.depth for k in self._keyframes.values() for s in k.swept.values()]
            depths += [d for _, made in self._sets.values() for d in made.depths]
            tensors = [t for d in depths for t in (d.inverse, d.confidence, d.sigma, d.measured)]
            tensors += [d.view.rgb for d in depths] + list(self._pictures.values())
            arrays = [a for pair in self._pairs.values() for a in (pair.points, pair.distant)] + [
                a for k in self._keyframes.values() if k.features for a in (k.features.xy, k.features.descriptors)
            ]
            unique = {t.data_ptr(): t.numel() * t.element_size() for t in tensors}
            return sum(unique.values()) + sum(a.nbytes for a in arrays)

    def is_swept(self, view: PosedView, views: Sequence[PosedView], preset: ClassicalPreset) -> bool:
        """Whether ``depth`` would return at once."""
        with self._lock:
            return self._swept(view, _others(view, views), preset) is not None

    def depth(self, view: PosedView, views: Sequence[PosedView], preset: ClassicalPreset) -> ViewDepth:
        """Depth of ``view``, swept against the most useful of the other ``views`` unless that has been done."""
        others = _others(view, views)
        with self._lock:
            known = self._swept(view, others, preset)
            if known is not None:
                return known.depth
            work = self._work_view(view, preset)
            near_far = self.depth_range(work.camera, views, self.points(views))
            middle = 0.5 * (1 / near_far[0] + 1 / near_far[1])
            ranked = sorted(others, key=lambda v: (_source_cost(view.camera, v.camera, middle), v.key))
            chosen = ranked[:SWEEP_SOURCES]
            sensor = None
            if view.depth is not None:
                small = resize_depth(view.depth, work.camera.width, work.camera.height)
                sensor = torch.from_numpy(np.array(small, np.float32)).to(self.device)
            sources = [self._work_view(v, preset) for v in chosen]
            swept = _Swept(sweep_view(work, sources, near_far, preset.planes, sensor), [v.camera for v in chosen])
            self._keyframe(view.key).swept[preset] = swept
            return swept.depth

    def checked(
        self, views: Sequence[PosedView], preset: ClassicalPreset, report: Callable[[int], None] | None = None
    ) -> KeyframeSet:
        """The depths of ``views`` after the cross-check, with exposure gains. ``report(i)`` comes before view i."""
        raw = []
        for i, view in enumerate(views):
            if report is not None:
                report(i)
            raw.append(self.depth(view, views, preset))
        entry = (preset, tuple(v.key for v in views))
        with self._lock:
            known = self._sets.get(entry)
            if known is not None and all(a is b for a, b in zip(known[0], raw, strict=True)):
                self._sets.move_to_end(entry)
                return known[1]
        depths, confirmed = cross_check(raw)
        made = KeyframeSet(depths, exposure_gains(depths, confirmed), self.points(views))
        with self._lock:
            self._sets[entry] = (raw, made)
            while len(self._sets) > MAX_SETS:
                self._sets.popitem(last=False)
        return made

    def points(self, views: Sequence[PosedView]) -> sparse.PairPoints:
        """Triangulated and measured points of all views, and what all pairs say of distant ones."""
        with self._lock:
            pairs = [self._pair_points(a, b) for a, b in combinations(sorted(views, key=lambda v: v.key), 2)]
        parts = [pair.points for pair in pairs]
        for view in views:
            if view.depth is not None:
                camera = view.camera.resized(view.depth.shape[1], view.depth.shape[0])
                parts.append(sparse.sensor_points(camera, view.depth))
        none = np.zeros((0, 3))
        return sparse.PairPoints(
            np.concatenate([none, *parts]), np.concatenate([none, *(pair.distant for pair in pairs)])
        )

    def depth_range(self, camera: Camera, views: Sequence[PosedView], points: sparse.PairPoints) -> tuple[float, float]:
        """Near and far z-depth that ``camera`` may see; by its nearest view where it sees too few points."""
        wide = sparse.distant_range(points.distant, camera, sparse.baseline_range([v.camera for v in views]))
        nearest = min(views, key=lambda v: (float(np.linalg.norm(v.camera.centre - camera.centre)), v.key))
        by_nearest = sparse.depth_range(points.points, nearest.camera, wide, margin=100.0)
        return sparse.depth_range(points.points, camera, by_nearest)

    def picture(self, view: PosedView, width: int, height: int) -> torch.Tensor:
        """The view's picture at another size, (3, height, width) on the device."""
        entry = (view.key, width, height)
        with self._lock:
            known = self._pictures.get(entry)
            if known is not None:
                self._pictures.move_to_end(entry)
                return known
        made = to_tensor(resize_area(view.rgb, width, height), self.device)
        with self._lock:
            self._pictures[entry] = made
            total = sum(p.numel() * p.element_size() for p in self._pictures.values())
            while total > MAX_PICTURE_BYTES and len(self._pictures) > 1:
                total -= (dropped := self._pictures.popitem(last=False)[1]).numel() * dropped.element_size()
        return made

    def _work_view(self, view: PosedView, preset: ClassicalPreset) -> WorkView:
        camera = work_camera(view.camera, preset.work_px)
        return WorkView(camera, self.picture(view, camera.width, camera.height))

    def _keyframe(self, key: str) -> _Keyframe:
        keyframe = self._keyframes.setdefault(key, _Keyframe())
        self._keyframes.move_to_end(key)
        if len(self._keyframes) > self._limit:
            self.forget([next(iter(self._keyframes))])
        return keyframe

    def _swept(self, view: PosedView, others: Sequence[PosedView], preset: ClassicalPreset) -> _Swept | None:
        """A sweep of ``view`` that is as good as one against ``others`` would be."""
        keyframe = self._keyframes.get(view.key)
        known = keyframe.swept.get(preset) if keyframe else None
        if known is None:
            return None
        self._keyframes.move_to_end(view.key)
        inverse = known.typical_inverse
        available = sum(_is_useful(view.camera, v.camera, inverse) for v in others)
        used = sum(_is_useful(view.camera, c, inverse) for c in known.sources)
        return known if used >= min(available, ENOUGH_SOURCES) else None

    def _pair_points(self, a: PosedView, b: PosedView) -> sparse.PairPoints:
        pair = (a.key, b.key)
        if pair not in self._pairs:
            matched = sparse.triangulate_pair(self._features(a), self._features(b))
            self._pairs[pair] = replace(matched, points=sparse.drop_isolated(matched.points, a.camera))
        return self._pairs[pair]

    def _features(self, view: PosedView) -> sparse.Features:
        keyframe = self._keyframe(view.key)
        if keyframe.features is None:
            camera = work_camera(view.camera, sparse.FEATURE_PX)
            keyframe.features = sparse.detect(resize_area(view.rgb, camera.width, camera.height), camera)
        return keyframe.features


def _others(view: PosedView, views: Sequence[PosedView]) -> list[PosedView]:
    return [v for v in views if v.key != view.key]


def _turn_deg(a: Camera, b: Camera) -> float:
    return float(np.degrees(np.arccos(np.clip(a.forward @ b.forward, -1, 1))))


def _is_useful(a: Camera, b: Camera, inverse_depth: float) -> bool:
    return parallax_deg(a, b, inverse_depth) >= USEFUL_DEG and _turn_deg(a, b) <= USEFUL_TURN_DEG


def _source_cost(a: Camera, b: Camera, inverse_depth: float) -> float:
    """Low for views that look the same way from a place enough, but not too far, apart."""
    parallax = parallax_deg(a, b, inverse_depth)
    return (_turn_deg(a, b) + parallax) / 30.0 + 2.0 * max(0.0, 1.0 - parallax / FULL_PARALLAX_DEG)
