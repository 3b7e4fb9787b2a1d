"""Virtual cameras that stream: pictures at a rate, made only while someone is subscribed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.core import Core
from gld_ros.ros.durations import Durations
from gld_ros.ros.messages import camera_info_message, cloud_message, header, image_message
from gld_ros.ros.requests import condition_views, no_keyframes
from gld_ros.ros.settings import Settings
from gld_ros.ros.transforms import TransformException
from gld_ros.ros.worker import Job, as_gld_error
from gld_ros.synthesis.types import Request, Result

# optical axes (x right, y down, z forward) seen from body axes (x forward, y left, z up): REP 103
BODY_FROM_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
STREAM_SEED = 0  # a stream of ever new random pictures would flicker

TOPICS: dict[str, type] = {
    "image_rect": Image,
    "camera_info": CameraInfo,
    "depth/image_rect": Image,
    "depth/camera_info": CameraInfo,
    "confidence": Image,
    "provenance": Image,
    "points_observed": PointCloud2,
    "points_generated": PointCloud2,
}
CLOUDS = ("points_observed", "points_generated")


def output_qos(settings: Settings) -> QoSProfile:
    """QoS of everything that is published."""
    reliable = settings["output_qos"] == "reliable"
    return QoSProfile(
        depth=settings["output_qos_depth"],
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


@dataclass(frozen=True)
class StreamSettings:
    """A virtual camera's parameters; ``lens`` is its pinhole at the origin."""

    name: str
    frame: str
    body_axes: bool
    lens: Camera
    rate: float
    clouds: bool

    @property
    def optical_frame(self) -> str:
        """The frame of the pictures: ``frame`` itself, or with body axes one that is broadcast beside it."""
        return f"{self.name}_optical_frame" if self.body_axes else self.frame

    @property
    def frame_from_optical(self) -> NDArray[np.float64]:
        """4x4 from the pictures' frame to ``frame``."""
        return BODY_FROM_OPTICAL if self.body_axes else np.eye(4)

    @classmethod
    def read(cls, settings: Settings, name: str) -> StreamSettings:
        """From the node's parameters."""

        def get(key: str) -> Any:
            return settings[f"{name}.{key}"]

        width, height = get("width"), get("height")
        fx = get("fx") or width / 2 / np.tan(np.radians(get("hfov_deg")) / 2)
        fy = get("fy") or fx
        cx = get("cx") if get("cx") >= 0 else (width - 1) / 2
        cy = get("cy") if get("cy") >= 0 else (height - 1) / 2
        lens = Camera(width, height, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]]), np.eye(4))
        return cls(name, get("frame").lstrip("/"), get("axes") == "body", lens, get("rate"), get("clouds"))


@dataclass
class StreamCounters:
    """What a stream did, for diagnostics."""

    published: int = 0
    failed: int = 0
    skipped: int = 0  # ticks at which the previous picture was not ready
    last_error: str = ""
    publishing: Durations = field(default_factory=Durations)  # messages of one picture made and handed to DDS


class VirtualCamera:
    """One streamed camera: its publishers, its timer and its jobs on the worker."""

    def __init__(self, node: Node, settings: Settings, name: str) -> None:
        self.settings = StreamSettings.read(settings, name)
        self.counters = StreamCounters()
        self._node = node
        self._core: Core | None = None
        self._timer: Any = None
        self._last: tuple[Any, tuple[Result, int]] | None = None  # what was made from, and what came out
        qos = output_qos(settings)
        self._publishers = {
            topic: node.create_publisher(kind, f"~/{name}/{topic}", qos) for topic, kind in TOPICS.items()
        }

    def start(self, core: Core, clock: Clock) -> None:
        """Stream from now on, at a rate by this clock."""
        self._core = core
        group = MutuallyExclusiveCallbackGroup()
        self._timer = self._node.create_timer(1.0 / self.settings.rate, self._tick, group, clock)

    def stop(self) -> None:
        """No more pictures."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        self._core, self._last = None, None

    def close(self) -> None:
        """Take the topics from the graph."""
        self.stop()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)

    def wanted(self) -> set[str]:
        """Topics that someone subscribes to."""
        return {topic for topic, publisher in self._publishers.items() if publisher.get_subscription_count() > 0}

    def _tick(self) -> None:
        core = self._core
        if core is None or not self.wanted():
            return
        key = f"stream {self.settings.name}"
        if core.worker.stream_pending(key):
            self.counters.skipped += 1
            return
        try:
            core.worker.submit_newest(key, Job(key, lambda job: self._make(core, job)))
        except GldError as error:
            self._failed(error)

    def _make(self, core: Core, job: Job[None]) -> None:
        wanted = self.wanted()
        if not wanted:
            return
        try:
            result, stamp = self._synthesize(core, job, bool(wanted & set(CLOUDS)))
            if result.status != Status.OK and not result.views:
                raise GldError(result.message, result.status)
            view = result.views[0]
            if view.status != Status.OK:
                raise GldError(view.message, view.status)
        except Exception as error:
            known = as_gld_error(error)
            if known.status not in (Status.CANCELLED, Status.NOT_ACTIVE):
                self._failed(known)
            return
        with self.counters.publishing.measure():
            self.publish(result, stamp, core.fixed_frame, wanted)

    def _synthesize(self, core: Core, job: Job[None], clouds: bool) -> tuple[Result, int]:
        """The picture and its stamp: the newest real image used; the camera's pose is taken at that stamp."""
        newest = core.store.newest()
        if newest is None:
            raise no_keyframes(core)
        target = self._target(core, newest.view.stamp_ns)
        views = condition_views(core, [target])
        stamp = max(view.stamp_ns for view in views)
        if stamp != newest.view.stamp_ns:
            target = self._target(core, stamp)
        get = core.settings
        made_from = (
            tuple((view.key, view.stamp_ns) for view in views),
            target.world_from_cam.tobytes(),
            (get["preset"], get["compose"], clouds),
        )
        if self._last is not None and self._last[0] == made_from:
            return self._last[1]
        core.forget_removed()
        request = Request(
            targets=[target],
            preset=get["preset"],
            time_budget_s=0.0,
            seed=STREAM_SEED,
            stream=self.settings.name,
            compose=get["compose"],
            clouds=clouds,
        )
        result = core.engine.synthesize(views, request, None, job.cancelled)
        core.record(result, views)
        self._last = (made_from, (result, stamp))
        return result, stamp

    def _target(self, core: Core, stamp_ns: int) -> Camera:
        try:
            fixed_from_frame, _ = core.transforms.lookup(core.fixed_frame, self.settings.frame, stamp_ns)
        except TransformException as error:
            raise GldError(
                f"frame '{self.settings.frame}' is not connected to '{core.fixed_frame}' at the images' stamp: {error}"
                f"; {core.transforms.known_frames()}",
                Status.NO_TRANSFORM,
            ) from None
        return self.settings.lens.moved(fixed_from_frame @ self.settings.frame_from_optical)

    def publish(self, result: Result, stamp: int, fixed_frame: str, wanted: Collection[str]) -> None:
        """Publish the first view of a result, and its clouds, on the ``wanted`` topics."""
        view = result.views[0]
        head = header(stamp, self.settings.optical_frame)
        fixed = header(stamp, fixed_frame)
        info = camera_info_message(view.camera, head)
        makers = {
            "image_rect": lambda: image_message(view.rgb, head),
            "camera_info": lambda: info,
            "depth/image_rect": lambda: image_message(view.depth.astype(np.float32, copy=False), head),
            "depth/camera_info": lambda: info,
            "confidence": lambda: image_message(view.confidence.astype(np.float32, copy=False), head),
            "provenance": lambda: image_message(view.provenance, head),
        }
        if result.scale_valid and self.settings.clouds:
            makers["points_observed"] = lambda: cloud_message(result.points_observed, fixed)
            makers["points_generated"] = lambda: cloud_message(result.points_generated, fixed)
        for topic, make in makers.items():
            if topic in wanted:
                self._publishers[topic].publish(make())
        self.counters.published += 1

    def _failed(self, error: GldError) -> None:
        self.counters.failed += 1
        self.counters.last_error = f"{error.status.name}: {error}"
        if self._core is not None:
            self._core.warn(self.settings.name, f"virtual camera {self.settings.name}: {self.counters.last_error}")
