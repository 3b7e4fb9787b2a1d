"""One real camera: its subscriptions, and what they heard. Callbacks only store messages; ``inputs`` uses them.

They take no lock and wake nobody, for on a busy machine both can cost the executor's thread its turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from gld_ros.geometry.transform_tree import NS
from gld_ros.ros.durations import Durations
from gld_ros.ros.settings import Settings
from gld_ros.ros.tf_buffer import nanoseconds

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks  # type: ignore[no-redef]

PENDING = 8  # images of one camera that may wait for their transform
DEPTHS = 15  # depth images that may wait for their image


@dataclass
class Counters:
    """What happened to the images of one camera since activation."""

    received: int = 0
    superseded: int = 0  # out of order, or pushed out by newer ones
    familiar: int = 0  # nothing new to see: not decoded
    kept: int = 0
    no_transform: int = 0
    last_no_transform: str = ""
    bad: int = 0  # malformed, unknown encoding, wrong size, bad stamp
    last_error: str = ""
    callback: Durations = field(default_factory=Durations)  # what the executor's thread spends on an image
    intake: Durations = field(default_factory=Durations)  # from message to keyframe, on the thread of inputs


@dataclass
class Heard:
    """One input topic: when it last spoke (monotonic), and with which stamp."""

    topic: str
    count: int = 0
    at: float = field(default_factory=time.monotonic)
    stamp_ns: int = 0

    def note(self, message: Any) -> None:
        """Remember a message."""
        self.count += 1
        self.at = time.monotonic()
        self.stamp_ns = nanoseconds(message.header.stamp)


def input_qos(settings: Settings) -> QoSProfile:
    """QoS of image subscriptions; sensor_data matches every publisher."""
    reliable = settings["input_qos"] == "reliable"
    return QoSProfile(
        depth=settings["input_qos_depth"],
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


class CameraInput:
    """Subscriptions of one camera and the messages that wait to be used.

    ``pending``, ``discard`` and ``forget`` are for one thread, beside the executor's.
    """

    def __init__(self, node: Node, name: str, settings: Settings) -> None:
        self.name = name
        self.counters = Counters()
        self.info: CameraInfo | None = None
        self.last_stamp_ns = 0  # of accepted images, to see time going back
        self.heard: dict[str, Heard] = {}
        self._node, self._settings = node, settings
        self._arrived: deque[tuple[Any, float]] = deque(maxlen=PENDING)
        self._pending: list[tuple[Any, float]] = []
        self._depths: deque[Any] = deque(maxlen=DEPTHS)
        self._group = MutuallyExclusiveCallbackGroup()
        self._subscriptions: dict[str, Any] = {}
        self._kinds = {"image": Image, "camera_info": CameraInfo, "depth": Image}
        if settings[f"{name}.transport"] == "compressed":
            self._kinds["image"] = CompressedImage
        if settings[f"{name}.depth_transport"] == "compressedDepth":
            self._kinds["depth"] = CompressedImage
        self._handlers: dict[str, Callable[[Any], None]] = {
            "image": self._on_image_message,
            "camera_info": self._on_info,
            "depth": self._on_depth,
        }
        self._subscribe("camera_info", self._get("info_topic") or f"{name}/camera_info")
        if self._get("depth_transport") != "none":
            self._subscribe("depth", (self._get("depth_topic") or f"{name}/depth") + self._suffix("depth"))
        self.find_image_topic()

    def _get(self, key: str) -> Any:
        return self._settings[f"{self.name}.{key}"]

    def _suffix(self, role: str) -> str:
        if self._kinds[role] is not CompressedImage:
            return ""
        return "/compressed" if role == "image" else "/compressedDepth"

    def _published(self, topic: str) -> bool:
        return self._node.count_publishers(self._node.resolve_topic_name(topic)) > 0

    def find_image_topic(self) -> None:
        """Subscribe to the image topic; without a configured one to image_rect where published, else image_raw."""
        suffix = self._suffix("image")
        topic = self._get("image_topic")
        if not topic:
            rect, raw = f"{self.name}/image_rect", f"{self.name}/image_raw"
            if self._published(rect + suffix):
                topic = rect
            elif "image" in self._subscriptions and not self._published(raw + suffix):
                return  # nobody there: stay
            else:
                topic = raw
        self._subscribe("image", topic + suffix)

    def _subscribe(self, role: str, topic: str) -> None:
        resolved = self._node.resolve_topic_name(topic)
        if role in self.heard and self.heard[role].topic == resolved:
            return
        if role in self._subscriptions:
            self._node.get_logger().info(f"camera {self.name}: {role} now from {resolved}")
            self._node.destroy_subscription(self._subscriptions.pop(role))
        self.heard[role] = Heard(resolved)
        self._subscriptions[role] = self._node.create_subscription(
            self._kinds[role],
            topic,
            self._handlers[role],
            input_qos(self._settings),
            callback_group=self._group,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=lambda event: self._on_qos(resolved, event)),
        )

    def _on_qos(self, topic: str, event: Any) -> None:
        text = (
            f"a publisher of {topic} offers QoS that does not match ours ({event.last_policy_kind}, "
            f"{event.total_count} publishers so far): nothing will arrive from it. input_qos is "
            f"'{self._settings['input_qos']}'; set it to sensor_data, or make the publisher reliable"
        )
        self.counters.last_error = text
        self._node.get_logger().warning(f"camera {self.name}: {text}")

    def _on_image_message(self, message: Any) -> None:
        with self.counters.callback.measure():
            self.counters.received += 1
            self.heard["image"].note(message)
            if len(self._arrived) == PENDING:
                self.counters.superseded += 1
            self._arrived.append((message, time.monotonic()))

    def _on_info(self, message: CameraInfo) -> None:
        self.heard["camera_info"].note(message)
        self.info = message

    def _on_depth(self, message: Any) -> None:
        self.heard["depth"].note(message)
        self._depths.append(message)

    @property
    def is_rectified(self) -> bool:
        """Whether pictures come rectified."""
        choice = self._get("rectified")
        if choice == "auto":
            topic = self.heard["image"].topic.removesuffix("/compressed")
            return topic.rsplit("/", 1)[-1].startswith("image_rect")
        return bool(choice == "yes")

    @property
    def frame_override(self) -> str:
        """Frame set by parameter, or empty."""
        return str(self._get("frame"))

    def pending(self) -> list[tuple[Any, float]]:
        """Waiting images with their arrival times, oldest first."""
        while self._arrived:  # only here does it shrink
            self._pending.append(self._arrived.popleft())
        surplus = max(0, len(self._pending) - PENDING)
        self.counters.superseded += surplus
        del self._pending[:surplus]
        return list(self._pending)

    def discard(self, message: Any) -> None:
        """Remove one image."""
        self._pending = [item for item in self._pending if item[0] is not message]

    def forget(self) -> None:
        """Drop what waits (time jumped)."""
        self._arrived.clear()
        self._pending.clear()
        self._depths.clear()
        self.last_stamp_ns = 0

    def depth_for(self, stamp_ns: int) -> Any | None:
        """The depth message nearest to a stamp, within depth_slop."""
        slop = self._get("depth_slop") * NS
        depths = tuple(self._depths)  # the executor's thread may add to it meanwhile
        near = min(depths, key=lambda m: abs(nanoseconds(m.header.stamp) - stamp_ns), default=None)
        return near if near is not None and abs(nanoseconds(near.header.stamp) - stamp_ns) <= slop else None

    @property
    def depth_flows(self) -> bool:
        """Whether depth has arrived within the last second, so that waiting for it makes sense."""
        heard = self.heard.get("depth")
        return heard is not None and heard.count > 0 and time.monotonic() - heard.at < 1.0

    def silent(self, limit_s: float) -> list[Heard]:
        """Needed topics that have been quiet for longer than the limit."""
        now = time.monotonic()
        return [self.heard[role] for role in ("image", "camera_info") if now - self.heard[role].at > limit_s]

    def skew_s(self) -> float | None:
        """Newest image stamp minus newest camera_info stamp, in seconds."""
        image, info = self.heard["image"], self.heard["camera_info"]
        return (image.stamp_ns - info.stamp_ns) / NS if image.count and info.count else None

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
