"""TF for the node: the real tf2_ros where it imports, else our buffer fed from /tf and /tf_static."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import yaml
from geometry_msgs.msg import TransformStamped, Vector3
from numpy.typing import NDArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from gld_ros.geometry.transform_tree import NS, quaternion_to_matrix
from gld_ros.ros.messages import header, pose_message
from gld_ros.ros.tf_buffer import HAVE_TF2, Buffer, TransformException, nanoseconds

MOST_NAMED = 8  # frames in a message
JUMP_BACK_S = 1.0  # a stamp this far behind its predecessor is a restarted clock or bag, not a late message


def transform_message(parent: str, child: str, parent_from_child: NDArray, stamp_ns: int) -> TransformStamped:
    """geometry_msgs/TransformStamped of a rigid 4x4 transform."""
    message = TransformStamped(header=header(stamp_ns, parent), child_frame_id=child)
    pose = pose_message(parent_from_child)
    message.transform.rotation = pose.orientation
    p = pose.position
    message.transform.translation = Vector3(x=p.x, y=p.y, z=p.z)
    return message


def frames_text(frames: Collection[str]) -> str:
    """The first MOST_NAMED frames in words."""
    if not frames:
        return "TF knows no frames: is /tf published?"
    named = ", ".join(sorted(frames)[:MOST_NAMED]) + (", …" if len(frames) > MOST_NAMED else "")
    return f"TF knows {len(frames)} frames: {named}"


def static_publisher(node: Node) -> Any:
    """A publisher of /tf_static; it keeps only what fits its depth, so send all transforms in one message."""
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return node.create_publisher(TFMessage, "/tf_static", latched)


class Transforms:
    """Looks up poses as 4x4 matrices; ``on_jump`` hears of time that went back, as far as TF shows it."""

    def __init__(self, node: Node, cache_s: float, on_jump: Callable[[str], None]) -> None:
        self._node = node
        self._on_jump = on_jump
        self._newest: dict[str, int] = {}
        self._subscriptions: list[Any] = []
        self._listener: Any = None
        if HAVE_TF2:
            import tf2_ros  # type: ignore[import-not-found]

            self.buffer: Any = tf2_ros.Buffer(cache_time=Duration(seconds=cache_s))
            self._listener = tf2_ros.TransformListener(self.buffer, node, spin_thread=False)
            return
        self.buffer = Buffer(cache_s)
        group = MutuallyExclusiveCallbackGroup()
        latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(TFMessage, "/tf", self._on_tf, QoSProfile(depth=100), callback_group=group),
            node.create_subscription(TFMessage, "/tf_static", self._on_static, latched, callback_group=group),
        ]

    def _on_tf(self, message: Any) -> None:
        for transform in message.transforms:
            stamp = nanoseconds(transform.header.stamp)
            before = self._newest.get(transform.child_frame_id, 0)
            if stamp < before - JUMP_BACK_S * NS:
                self._newest.clear()
                self._on_jump(f"TF of '{transform.child_frame_id}' went back by {(before - stamp) / NS:.3f} s")
            self._newest[transform.child_frame_id] = stamp
            self.buffer.set_transform(transform)

    def _on_static(self, message: Any) -> None:
        for transform in message.transforms:
            self.buffer.set_transform_static(transform)

    def lookup(
        self, target: str, source: str, stamp_ns: int, timeout_s: float = 0.0
    ) -> tuple[NDArray[np.float64], int]:
        """(target_from_source 4x4, its stamp in ns) at ``stamp_ns`` (0: newest). Raises TransformException."""
        found = self.buffer.lookup_transform(
            target, source, Time(nanoseconds=stamp_ns), Duration(nanoseconds=int(timeout_s * NS))
        )
        p, q = found.transform.translation, found.transform.rotation
        matrix = np.eye(4)
        matrix[:3, :3] = quaternion_to_matrix((q.x, q.y, q.z, q.w))
        matrix[:3, 3] = p.x, p.y, p.z
        return matrix, nanoseconds(found.header.stamp)

    def known_frames(self) -> str:
        """The frames TF has heard of, for a message."""
        if HAVE_TF2:
            edges = yaml.safe_load(self.buffer.all_frames_as_yaml()) or {}
            return frames_text({*edges, *(edge["parent"] for edge in edges.values())})
        return frames_text(self.buffer.frames())

    def clear(self) -> None:
        """Forget what moves."""
        self._newest.clear()
        self.buffer.clear()

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        if self._listener is not None:
            self._listener.unregister()
            self._listener = None


__all__ = ["JUMP_BACK_S", "TransformException", "Transforms", "frames_text", "static_publisher", "transform_message"]
