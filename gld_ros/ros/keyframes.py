"""Which real images are kept, and which of them serve a target pose."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.types import PosedView

NS = 1_000_000_000
GRID = 6  # target pixels per side that are tested for overlap
# Depths at which a target's view cone is compared with a keyframe's, in units of the keyframes' usual depth.
RELATIVE_DEPTHS = (0.5, 1.0, 2.0)
USUAL_DEPTH_M = 3.0  # of keyframes without depth: a room
# A picture is the same as an older one when taken within these, and few pixels of both, reduced to this width (which
# averages camera noise away), differ by more than this level.
SAME_PLACE_M, SAME_PLACE_DEG, THUMBNAIL, CHANGED_LEVEL, CHANGED_SHARE = 0.005, 0.25, 80, 6, 0.002
MIN_OVERLAP = 0.02  # share of the target's view cone below which a keyframe says nothing about it


@dataclass(frozen=True)
class KeyframeSettings:
    """Limits of the store; the node's parameters of the same names describe them."""

    translation_m: float = 0.10
    rotation_deg: float = 8.0
    refresh_s: float = 2.0
    sharpness: float = 0.35
    max_count: int = 32
    max_bytes: int = 512 << 20
    max_age_s: float = 600.0


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A real view that is kept: its picture, camera and stamp, and the name of the camera it came from."""

    camera_name: str
    view: PosedView
    sharpness: float

    @property
    def size_bytes(self) -> int:
        """Memory of picture and depth."""
        return self.view.rgb.nbytes + (0 if self.view.depth is None else self.view.depth.nbytes)

    @property
    def usual_depth(self) -> float:
        """Median sensor depth, or a room's."""
        if self.view.depth is None:
            return USUAL_DEPTH_M
        sample = self.view.depth[::16, ::16]
        good = sample[np.isfinite(sample)]
        return float(np.median(good)) if good.size else USUAL_DEPTH_M


def sharpness(rgb: NDArray[np.uint8]) -> float:
    """Mean squared image gradient over the variance of brightness: falls with blur, not with contrast or light."""
    step = max(1, rgb.shape[1] // 320)
    grey = rgb[::step, ::step].astype(np.float32).mean(axis=2)
    if min(grey.shape) < 3:
        return 0.0
    gradient = float(np.square(np.diff(grey, axis=0)).mean() + np.square(np.diff(grey, axis=1)).mean())
    return gradient / (float(grey.var()) + 1.0)


def angle_deg(a: NDArray, b: NDArray) -> float:
    """Angle between two rotation matrices, in degrees."""
    cosine = (np.trace(a[:3, :3].T @ b[:3, :3]) - 1.0) / 2.0
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def overlap(target: Camera, view: Camera, depths: Sequence[float]) -> NDArray[np.bool_]:
    """Which points of the target's view cone, (len(depths) * GRID * GRID,), lie in another camera's picture."""
    u = (np.arange(GRID) + 0.5) / GRID * target.width - 0.5
    v = (np.arange(GRID) + 0.5) / GRID * target.height - 0.5
    uu, vv = np.meshgrid(u, v)
    rays = np.linalg.inv(target.K) @ np.stack([uu.ravel(), vv.ravel(), np.ones(GRID * GRID)])  # (3, GRID^2)
    points = np.concatenate([rays * depth for depth in depths], axis=1)
    view_from_target = view.cam_from_world @ target.world_from_cam
    seen = view_from_target[:3, :3] @ points + view_from_target[:3, 3:]
    pixel = view.K @ seen
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = pixel[0] / pixel[2], pixel[1] / pixel[2]
    return (seen[2] > 1e-6) & (x > -0.5) & (x < view.width - 0.5) & (y > -0.5) & (y < view.height - 0.5)


def _unchanged(old: PosedView, new: PosedView) -> bool:
    """Whether a new picture shows, from the same place, the same thing: then the old one's depth need not be redone."""
    poses = old.camera.world_from_cam, new.camera.world_from_cam
    if old.rgb.shape != new.rgb.shape or (old.depth is None) != (new.depth is None):
        return False
    if np.linalg.norm(poses[0][:3, 3] - poses[1][:3, 3]) > SAME_PLACE_M or angle_deg(*poses) > SAME_PLACE_DEG:
        return False
    size = (THUMBNAIL, max(1, THUMBNAIL * old.rgb.shape[0] // old.rgb.shape[1]))
    thumbnails = [cv2.resize(view.rgb, size, interpolation=cv2.INTER_AREA).astype(np.int16) for view in (old, new)]
    change = np.abs(thumbnails[0] - thumbnails[1]).max(axis=2)
    return float((change > CHANGED_LEVEL).mean()) < CHANGED_SHARE


class KeyframeStore:
    """A bounded, thread-safe set of keyframes; ``on_removed`` hears the keys that left, outside the lock."""

    def __init__(self, settings: KeyframeSettings, on_removed: Callable[[list[str]], None] | None = None) -> None:
        self.settings = settings
        self.blurred = 0  # images refused for their sharpness
        self._on_removed = on_removed
        self._grown_at = time.monotonic()
        self._frames: dict[str, Keyframe] = {}
        self._usual_sharpness: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wants(self, camera_name: str, world_from_cam: NDArray, stamp_ns: int) -> bool:
        """Whether an image from this pose would be kept: asked before the pixels are touched."""
        with self._lock:
            near = self._nearest(camera_name, world_from_cam)
            return near is None or stamp_ns - near.view.stamp_ns >= self.settings.refresh_s * NS

    def add(self, camera_name: str, view: PosedView) -> bool:
        """Keep a view: as a new keyframe, or in place of the older one taken from the same spot. False if blurred."""
        score = sharpness(view.rgb)
        with self._lock:
            usual = self._usual_sharpness.setdefault(camera_name, deque(maxlen=30))
            usual.append(score)
            near = self._nearest(camera_name, view.camera.world_from_cam)
            # a blurred picture is better than none, and than one from before the scene changed
            if len(self._frames) >= 2 and score < self.settings.sharpness * float(np.median(usual)):
                self.blurred += 1
                return False
            removed = []
            if near is not None:
                del self._frames[near.view.key]
                if _unchanged(near.view, view):
                    view = replace(near.view, stamp_ns=view.stamp_ns)
                else:
                    removed.append(near.view.key)
            self._frames[view.key] = Keyframe(camera_name, view, score)
            if near is None:
                self._grown_at = time.monotonic()
            removed += self._shrink(view.stamp_ns)
        self._tell(removed)
        return True

    def _nearest(self, camera_name: str, world_from_cam: NDArray) -> Keyframe | None:
        """The nearest keyframe of the same camera within the novelty limits."""
        best, best_distance = None, np.inf
        for frame in self._frames.values():
            if frame.camera_name != camera_name:
                continue
            pose = frame.view.camera.world_from_cam
            distance = float(np.linalg.norm(pose[:3, 3] - world_from_cam[:3, 3]))
            if distance > self.settings.translation_m or distance >= best_distance:
                continue
            if angle_deg(pose, world_from_cam) <= self.settings.rotation_deg:
                best, best_distance = frame, distance
        return best

    def _shrink(self, now_ns: int) -> list[str]:
        """Drop what is too old, then the most redundant, until the limits hold; never the newest of a camera."""
        limit = now_ns - self.settings.max_age_s * NS
        removed = [key for key, frame in self._frames.items() if frame.view.stamp_ns < limit]
        for key in removed:
            del self._frames[key]
        while len(self._frames) > 1 and (
            len(self._frames) > self.settings.max_count
            or sum(frame.size_bytes for frame in self._frames.values()) > self.settings.max_bytes
        ):
            key = min(self._frames, key=lambda key: self._worth(self._frames[key], now_ns))
            removed.append(key)
            del self._frames[key]
        return removed

    def _worth(self, frame: Keyframe, now_ns: int) -> float:
        """How much a keyframe differs from its nearest neighbour, fading with age."""
        pose = frame.view.camera.world_from_cam
        if now_ns <= frame.view.stamp_ns:
            return np.inf
        novelty = min(
            (
                float(np.linalg.norm(other.view.camera.centre - pose[:3, 3])) / max(self.settings.translation_m, 1e-3)
                + angle_deg(other.view.camera.world_from_cam, pose) / max(self.settings.rotation_deg, 1e-3)
                for other in self._frames.values()
                if other is not frame
            ),
            default=np.inf,
        )
        age_s = (now_ns - frame.view.stamp_ns) / NS
        return novelty * float(np.exp(-age_s / self.settings.max_age_s))

    def expire(self, now_ns: int) -> None:
        """Drop what is older than the limit."""
        with self._lock:
            removed = self._shrink(now_ns)
        self._tell(removed)

    def clear(self) -> int:
        """Drop everything (time jumped); the number dropped."""
        with self._lock:
            removed = list(self._frames)
            self._frames.clear()
            self._usual_sharpness.clear()
        self._tell(removed)
        return len(removed)

    def _tell(self, removed: list[str]) -> None:
        if removed and self._on_removed is not None:
            self._on_removed(removed)

    def all(self) -> list[Keyframe]:
        """All keyframes, newest last."""
        with self._lock:
            return sorted(self._frames.values(), key=lambda frame: frame.view.stamp_ns)

    def views(self) -> list[PosedView]:
        """The views of all keyframes, newest last."""
        return [frame.view for frame in self.all()]

    def since_last_add_s(self) -> float:
        """Seconds since a view from a new place came."""
        return time.monotonic() - self._grown_at

    def newest(self) -> Keyframe | None:
        """The keyframe with the newest stamp."""
        frames = self.all()
        return frames[-1] if frames else None

    def select(self, targets: Sequence[Camera], count: int) -> list[PosedView]:
        """The views that serve the targets, up to ``count`` for each, best first; empty where nothing overlaps."""
        frames = self.all()
        chosen: dict[str, PosedView] = {}
        for target in targets:
            for frame in select_for(target, frames, count):
                chosen.setdefault(frame.view.key, frame.view)
        return list(chosen.values())


def select_for(target: Camera, frames: Sequence[Keyframe], count: int) -> list[Keyframe]:
    """Greedy choice: each next keyframe adds most of the target's view cone that few have covered yet.

    A point covered k times counts 2^-k, so that a second look (which gives a baseline) still has worth. Nearness in
    place and direction (sharp, unoccluded pictures) and freshness weigh the gain.
    """
    if not frames:
        return []
    usual = float(np.median([frame.usual_depth for frame in frames]))
    depths = [usual * ratio for ratio in RELATIVE_DEPTHS]
    newest = max(frame.view.stamp_ns for frame in frames)
    candidates = []
    for frame in frames:
        seen = overlap(target, frame.view.camera, depths)
        if seen.mean() < MIN_OVERLAP:
            continue
        distance = float(np.linalg.norm(frame.view.camera.centre - target.centre))
        turn = angle_deg(frame.view.camera.world_from_cam, target.world_from_cam)
        nearness = 1.0 / (1.0 + distance / usual + turn / 45.0)
        age_s = (newest - frame.view.stamp_ns) / NS
        candidates.append((frame, seen, nearness * (0.5 + 0.5 * float(np.exp(-age_s / 60.0)))))
    covered = np.zeros(len(depths) * GRID * GRID)
    chosen: list[Keyframe] = []
    while candidates and len(chosen) < count:
        gains = [float((0.5**covered)[seen].sum()) * weight for _, seen, weight in candidates]
        frame, seen, _ = candidates.pop(int(np.argmax(gains)))
        covered += seen
        chosen.append(frame)
    return chosen
