"""The transform tree behind the calls of tf2_ros, for machines that lack it.

The node uses the real tf2_ros buffer where it imports, else this one, which raises the exceptions of
``geometry.transform_tree``; they have tf2's names.
"""

from __future__ import annotations

import time as wall
from typing import Any

import numpy as np

from gld_ros.geometry import transform_tree
from gld_ros.geometry.transform_tree import NS, InvalidArgumentException, Pose, TransformTree

try:
    from tf2_ros import TransformException  # type: ignore[import-not-found]

    HAVE_TF2 = True
except ImportError:
    HAVE_TF2 = False
    TransformException = transform_tree.TransformException


def nanoseconds(time: Any) -> int:
    """Nanoseconds of an int, an rclpy Time or Duration, a builtin_interfaces Time or a datetime.timedelta-like."""
    if isinstance(time, (int, np.integer)):
        return int(time)
    if hasattr(time, "nanoseconds"):
        return int(time.nanoseconds)
    return int(time.sec) * NS + int(time.nanosec)


class Buffer(TransformTree):
    """``tf2_ros.Buffer``'s calls over ``TransformTree``; takes any objects with the fields of TransformStamped."""

    def set_transform(self, transform: Any, authority: str = "") -> None:
        """Store a moving transform; malformed ones are counted in ``rejected``."""
        self._set(transform, static=False)

    def set_transform_static(self, transform: Any, authority: str = "") -> None:
        """Store a transform that holds for all times."""
        self._set(transform, static=True)

    def _set(self, message: Any, static: bool) -> None:
        p, q = message.transform.translation, message.transform.rotation
        stamp = nanoseconds(message.header.stamp)
        self.insert(
            message.header.frame_id, message.child_frame_id, stamp, (p.x, p.y, p.z), (q.x, q.y, q.z, q.w), static
        )

    def wait(self, target: str, source: str, time: Any, timeout: Any = 0) -> tuple[int, Pose]:
        """``lookup`` that waits for data until ``timeout``; never call it on the thread that feeds the buffer."""
        deadline = wall.monotonic() + nanoseconds(timeout) / NS
        with self.changed:
            while True:
                try:
                    return self.lookup(target, source, nanoseconds(time))
                except InvalidArgumentException:
                    raise
                except transform_tree.TransformException:
                    left = deadline - wall.monotonic()
                    if left <= 0:
                        raise
                    self.changed.wait(left)

    def lookup_transform(self, target_frame: str, source_frame: str, time: Any, timeout: Any = 0) -> Any:
        """A geometry_msgs/TransformStamped, as tf2_ros gives; raises its exceptions."""
        from builtin_interfaces.msg import Time
        from geometry_msgs.msg import Quaternion, TransformStamped, Vector3

        stamp, (p, q) = self.wait(target_frame, source_frame, time, timeout)
        message = TransformStamped()
        message.header.stamp = Time(sec=stamp // NS, nanosec=stamp % NS)
        message.header.frame_id, message.child_frame_id = target_frame, source_frame
        message.transform.translation = Vector3(x=p[0], y=p[1], z=p[2])
        message.transform.rotation = Quaternion(x=q[0], y=q[1], z=q[2], w=q[3])
        return message

    def can_transform(self, target_frame: str, source_frame: str, time: Any, timeout: Any = 0) -> bool:
        """Whether ``lookup_transform`` would answer."""
        try:
            self.wait(target_frame, source_frame, time, timeout)
        except transform_tree.TransformException:
            return False
        return True
