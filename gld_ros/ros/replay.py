"""A posed image sequence as a live camera: Image, CameraInfo, depth and TF, stamped with the present."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from tqdm import tqdm

from gld_ros.data.scene import Scene
from gld_ros.geometry.camera import invert_rigid
from gld_ros.ros.messages import camera_info_message, header, image_message
from gld_ros.ros.spin import spin
from gld_ros.ros.streaming import BODY_FROM_OPTICAL
from gld_ros.ros.transforms import static_publisher, transform_message


@dataclass(frozen=True)
class ReplaySettings:
    """How a scene or bag becomes a camera."""

    camera: str = "camera"  # topic prefix of a scene's frames; a bag has its own topics
    fixed_frame: str = "odom"
    base_frame: str = ""  # a robot frame at the camera, x forward; none when empty
    rate: float = 5.0  # frames per second of a scene; factor on a bag's own speed
    loop: bool = False
    depth: bool = True
    wait_s: float = 10.0  # for subscribers, before the first message


class Stopped(Exception):
    """The replay was ended from outside."""


class Pacer:
    """Waits for moments in time, and notices that the context went away meanwhile."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._pause = threading.Event()

    def until(self, moment: float) -> None:
        """Wait until a monotonic time; raises Stopped when ROS shuts down."""
        while True:
            if not rclpy.ok(context=self._node.context):
                raise Stopped
            left = moment - time.monotonic()
            if left <= 0:
                return
            self._pause.wait(min(left, 0.2))

    def subscribers(self, publishers: Sequence[Any], wait_s: float) -> bool:
        """Wait until every publisher has a subscriber; False when the time is over first."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if all(publisher.get_subscription_count() > 0 for publisher in publishers):
                return True
            self.until(time.monotonic() + 0.02)
        return False


class ScenePlayer:
    """Publishes frames of a scene as ``<camera>/image_rect``, ``camera_info``, ``depth`` and TF."""

    def __init__(self, node: Node, scene: Scene, indices: Sequence[int], settings: ReplaySettings) -> None:
        self._node, self._scene, self._settings = node, scene, settings
        self._indices = scene.check_indices(indices, "replayed")
        self._pacer = Pacer(node)
        self.frame = f"{settings.camera}_optical_frame"
        self.sent = 0
        qos = QoSProfile(depth=10)
        self._tf = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self._static = None
        if settings.base_frame:
            self._static = static_publisher(node)
            stamp = node.get_clock().now().nanoseconds
            at_camera = transform_message(self.frame, settings.base_frame, invert_rigid(BODY_FROM_OPTICAL), stamp)
            self._static.publish(TFMessage(transforms=[at_camera]))
        self._info = node.create_publisher(CameraInfo, f"{settings.camera}/camera_info", qos)
        self._image = node.create_publisher(Image, f"{settings.camera}/image_rect", qos)
        self._depth = None
        if settings.depth and any(scene.frames[i].read_depth is not None for i in self._indices):
            self._depth = node.create_publisher(Image, f"{settings.camera}/depth", qos)

    def run(self) -> None:
        """Play all frames (for ever with ``loop``); raises Stopped when ROS shuts down."""
        if not self._scene.metric:
            self._node.get_logger().warning(
                f"scene {self._scene.name} has no metric poses: its unit is published as if it were the metre"
            )
        if not self._pacer.subscribers((self._tf, self._info, self._image), self._settings.wait_s):
            self._node.get_logger().warning(
                f"nobody subscribes to {self._image.topic_name} yet, playing anyway after {self._settings.wait_s:g} s"
            )
        said = f"playing {len(self._indices)} frames at {self._settings.rate:g} Hz"
        self._node.get_logger().info(said + (", again and again" if self._settings.loop else ""))
        moment = time.monotonic()
        while True:
            for index in tqdm(self._indices, unit="frame", leave=False, disable=None):
                self._send(index)
                moment += 1.0 / self._settings.rate
                self._pacer.until(moment)
            if not self._settings.loop:
                return

    def _send(self, index: int) -> None:
        frame = self._scene.frames[index]
        rgb = frame.load_rgb()
        depth = frame.load_depth() if self._depth is not None else None
        stamp = self._node.get_clock().now().nanoseconds
        head = header(stamp, self.frame)
        pose = transform_message(self._settings.fixed_frame, self.frame, frame.camera.world_from_cam, stamp)
        self._tf.publish(TFMessage(transforms=[pose]))
        self._info.publish(camera_info_message(frame.camera, head))
        if self._depth is not None and depth is not None:
            self._depth.publish(image_message(depth, head))
        self._image.publish(image_message(rgb, head))
        self.sent += 1


def play(make_player: Callable[[Node], Any], ros_args: Sequence[str] = ()) -> int:
    """Run a player on a node of its own until it ends or is interrupted; returns the number of messages sent."""
    rclpy.init(args=["--ros-args", *ros_args] if ros_args else [])
    node = rclpy.create_node("gld_replay")
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    # answers parameter services and hears /clock while the player publishes
    spinner = threading.Thread(target=spin, args=(executor,), daemon=True)
    spinner.start()
    player = make_player(node)
    try:
        player.run()
        # the middleware needs a moment to deliver what was published last
        Pacer(node).until(time.monotonic() + 0.5)
        node.get_logger().info(f"replay ended: {player.sent} sent")
    except (KeyboardInterrupt, ExternalShutdownException, Stopped):
        pass
    finally:
        executor.shutdown(timeout_sec=1.0)
        rclpy.try_shutdown()
        spinner.join(1.0)
    return int(player.sent)
