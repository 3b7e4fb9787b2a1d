"""A rosbag2 (mcap or sqlite3) as live topics: messages go out as they were recorded, without being decoded.

Stamps are moved to the present by default, so that the robot's software needs no simulated time; with ``keep_stamps``
they stay and /clock is published, as `ros2 bag play --clock` does.
"""

from __future__ import annotations

import importlib
import struct
import time
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from tqdm import tqdm

from gld_ros.errors import SceneError
from gld_ros.geometry.transform_tree import NS
from gld_ros.ros.messages import time_message
from gld_ros.ros.replay import Pacer, ReplaySettings

TF_TYPE = "tf2_msgs/msg/TFMessage"
CLOCK_PERIOD_NS = 5_000_000
SHOWN_S = 0.1  # of the bag, between two updates of the progress bar


def message_class(name: str) -> Any | None:
    """The Python class of ``package/msg/Type``, or None where it is not installed."""
    package, _, kind = name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError):
        return None


def starts_with_header(kind: Any) -> bool:
    """Whether the message's first field is a std_msgs/Header."""
    fields = kind.get_fields_and_field_types()
    return next(iter(fields.values()), "") == "std_msgs/Header"


def shift_stamps(raw: bytes, type_name: str, with_header: bool, offset_ns: int) -> bytes:
    """A serialised message (CDR) with its header stamps moved by ``offset_ns``; others come back as they are."""
    data = bytearray(raw)
    order = "<" if data[1] & 1 else ">"

    def shift(at: int) -> None:
        sec, nanosec = struct.unpack_from(f"{order}iI", data, at)
        stamp = max(0, sec * NS + nanosec + offset_ns)
        struct.pack_into(f"{order}iI", data, at, stamp // NS, stamp % NS)

    if type_name == TF_TYPE:
        (count,) = struct.unpack_from(f"{order}I", data, 4)
        at = 8
        for _ in range(count):
            shift(at)
            at += 8
            for _string in ("frame_id", "child_frame_id"):
                at = 4 + -(-(at - 4) // 4) * 4
                (length,) = struct.unpack_from(f"{order}I", data, at)
                at += 4 + length
            at = 4 + -(-(at - 4) // 8) * 8 + 56  # seven doubles, aligned behind the 4 byte encapsulation
    elif with_header:
        shift(4)
    return bytes(data)


class BagPlayer:
    """Publishes a bag's topics; ``settings.rate`` is a factor on its own speed."""

    def __init__(self, node: Node, path: Path, settings: ReplaySettings, keep_stamps: bool = False) -> None:
        try:
            from rosbags.highlevel import AnyReader
            from rosbags.typesys import Stores, get_typestore
        except ImportError:
            raise SceneError("bags are read with the package rosbags: pip install rosbags") from None
        self._node, self._settings, self._keep = node, settings, keep_stamps
        self._pacer = Pacer(node)
        self.sent = 0
        self._open = lambda: AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY))
        self._publishers: dict[str, tuple[Any, str, bool]] = {}
        self._clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=10)) if keep_stamps else None
        try:
            with self._open() as reader:
                connections = {connection.topic: connection.msgtype for connection in reader.connections}
        except Exception as error:  # rosbags has an exception type per storage
            raise SceneError(f"{path} cannot be read as a rosbag2: {error}") from error
        unknown = {}
        for topic, name in sorted(connections.items()):
            kind = message_class(name)
            if kind is None or topic == "/clock":
                unknown[topic] = name
                continue
            durability = DurabilityPolicy.TRANSIENT_LOCAL if topic == "/tf_static" else DurabilityPolicy.VOLATILE
            publisher = node.create_publisher(kind, topic, QoSProfile(depth=100, durability=durability))
            self._publishers[topic] = (publisher, name, starts_with_header(kind))
        if not self._publishers:
            raise SceneError(f"{path} has no topic of a known message type: it holds {connections or 'nothing'}")
        if unknown:
            node.get_logger().info(f"not played, type not installed or own clock: {unknown}")

    def run(self) -> None:
        """Play the bag (for ever with ``loop``); raises Stopped when ROS shuts down."""
        needed = [
            publisher
            for topic, (publisher, name, _) in self._publishers.items()
            if topic == "/tf" or name in ("sensor_msgs/msg/CameraInfo",)
        ]
        if not self._pacer.subscribers(needed, self._settings.wait_s):
            topics = ", ".join(publisher.topic_name for publisher in needed)
            self._node.get_logger().warning(f"not everything of {topics} has subscribers, playing anyway")
        said = f"playing {len(self._publishers)} topics at {self._settings.rate:g} x the bag's speed"
        self._node.get_logger().info(said + (", again and again" if self._settings.loop else ""))
        while True:
            self._play_once()
            if not self._settings.loop:
                return

    def _play_once(self) -> None:
        began, first, ticked = time.monotonic(), None, 0
        now = self._node.get_clock().now().nanoseconds
        with self._open() as reader, tqdm(unit="s", leave=False, disable=None) as bar:
            bar.total = round(reader.duration / NS, 1)
            for connection, stamp, raw in reader.messages():
                if connection.topic not in self._publishers:
                    continue
                first = stamp if first is None else first
                if bar.n + SHOWN_S <= (played := (stamp - first) / NS):
                    bar.update(round(played - bar.n, 1))
                self._pacer.until(began + (stamp - first) / NS / self._settings.rate)
                if self._clock is not None and stamp - ticked >= CLOCK_PERIOD_NS:
                    self._clock.publish(Clock(clock=time_message(stamp)))
                    ticked = stamp
                publisher, name, with_header = self._publishers[connection.topic]
                data = bytes(raw)
                if not self._keep:
                    moved = now + int((stamp - first) / self._settings.rate) - stamp
                    data = shift_stamps(data, name, with_header, moved)
                publisher.publish(data)
                self.sent += 1
