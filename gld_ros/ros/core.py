"""What the parts of an active node share: engine, keyframes, transforms, settings, worker."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

from rclpy.node import Node

from gld_ros.ros.keyframes import KeyframeSettings, KeyframeStore, select_for
from gld_ros.ros.settings import Settings
from gld_ros.ros.transforms import Transforms
from gld_ros.ros.worker import Job, Worker
from gld_ros.synthesis.types import PREPARING, Engine, PosedView, Progress, Result

MB = 1 << 20
WARN_PERIOD_S = 5.0
SETTLE_S = 2.0  # without a new keyframe, after which few are all there are


@dataclass
class Measured:
    """What the last syntheses took, for diagnostics."""

    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    stages: dict[str, float] = field(default_factory=dict)
    prepare_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    scale_valid: bool | None = None
    failures: int = 0
    last_failure: str = ""


class Core:
    """The configured node without its topics."""

    def __init__(self, node: Node, settings: Settings, engine: Engine) -> None:
        self.node = node
        self.settings = settings
        self.engine = engine
        self.measured = Measured()
        self.fixed_frame = str(settings["fixed_frame"])
        self.jumps = 0
        self.in_use: frozenset[str] = frozenset()  # keys of the views that served last
        self._prepared: set[str] = set()
        self._removed: list[str] = []
        self.problems: dict[str, str] = {}  # the last one of each camera, in words
        self._said_preparing = False
        self._warned: dict[str, float] = {}
        self._lock = threading.Lock()
        self.store = KeyframeStore(self._keyframe_settings(), self._on_removed)
        self.transforms = Transforms(node, settings["tf_cache"], self.time_jumped)
        self.worker = Worker(settings["queue_size"], self._prepare_one, settings["inference_nice"])
        self.worker.start()

    def _keyframe_settings(self) -> KeyframeSettings:
        get = self.settings
        return KeyframeSettings(
            translation_m=get["keyframe_translation"],
            rotation_deg=get["keyframe_rotation"],
            # a robot that stands still must not turn stale between two refreshes
            refresh_s=min(get["keyframe_refresh"], get["stale_after"] / 2),
            sharpness=get["keyframe_sharpness"],
            max_count=get["keyframes_max"],
            max_bytes=int(get["keyframe_memory"] * MB),
            max_age_s=get["max_age"],
        )

    def reread(self) -> None:
        """Take over live parameters."""
        self.store.settings = self._keyframe_settings()

    def now_ns(self) -> int:
        """The node's clock (simulated time where configured)."""
        return self.node.get_clock().now().nanoseconds

    def warn(self, key: str, text: str) -> None:
        """Log a warning: the first of its kind, then at most one in five seconds."""
        now = time.monotonic()
        if now - self._warned.get(key, -WARN_PERIOD_S) >= WARN_PERIOD_S:
            self._warned[key] = now
            self.node.get_logger().warning(text)

    def time_jumped(self, why: str) -> None:
        """Forget keyframes and moving transforms after time went back."""
        self.jumps += 1
        dropped = self.store.clear()
        self.transforms.clear()
        self.node.get_logger().warning(
            f"time jumped: {why}. Cleared {dropped} keyframes and the transform buffer (a looping bag or a reset clock)"
        )

    def _on_removed(self, keys: list[str]) -> None:
        with self._lock:
            self._removed += keys
            self._prepared.difference_update(keys)
        if not self.worker.stopping:  # an engine is only spoken to on the worker's thread
            self.worker.submit_newest("forget", Job("forget", lambda job: self.forget_removed()))

    def forget_removed(self) -> None:
        """Let the engine drop its caches of views that have left the store; on the worker's thread only."""
        with self._lock:
            keys, self._removed = self._removed, []
        if keys:
            self.engine.forget(keys)

    def _prepare_one(self) -> bool:
        """Prepare the newest keyframe that has not been yet, among its neighbours; False when none is left.

        Requests come first: they compute what they need themselves. While only few keyframes are there and more keep
        coming, it waits: depth from one neighbour would be computed again with the next.
        """
        if not self.settings["prepare"] or self.worker.busy_since is not None:
            return False
        frames = self.store.all()
        with self._lock:
            fresh = [frame for frame in frames if frame.view.key not in self._prepared]
        if not fresh or len(frames) < 2:
            return False
        if len(frames) <= self.settings["condition_views"] and self.store.since_last_add_s() < SETTLE_S:
            return False
        frame = fresh[-1]
        others = [other for other in frames if other is not frame]
        neighbours = select_for(frame.view.camera, others, self.settings["condition_views"])
        started = time.monotonic()
        try:
            self.engine.prepare([frame.view, *(other.view for other in neighbours)], self.settings["preset"])
        finally:
            with self._lock:
                self._prepared.add(frame.view.key)
        self.measured.prepare_seconds.append(time.monotonic() - started)
        return True

    def note_progress(self, progress: Progress) -> None:
        """Say once why the first answer takes longer."""
        if progress.stage == PREPARING and not self._said_preparing:
            self._said_preparing = True
            self.node.get_logger().info(
                f"a request prepares its {progress.steps} keyframes first, so it takes longer: depth is computed "
                "once, ahead of requests where parameter prepare is true and time allows"
            )

    def record(self, result: Result, views: list[PosedView]) -> None:
        """Keep what diagnostics and the keyframe markers show of a synthesis."""
        self.measured.seconds.append(result.seconds.get("total", 0.0))
        self.measured.stages = dict(result.seconds)
        self.measured.scale_valid = result.scale_valid
        self.in_use = frozenset(view.key for view in views)

    def close(self) -> bool:
        """Stop the threads and let the engine go; False when it did not come back in time."""
        stopped = self.worker.stop()
        self.transforms.close()
        return stopped
