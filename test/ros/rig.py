"""A robot for tests: cameras with TF, the node under test as a process of its own, and a client."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from gld_ros.geometry.camera import Camera
from gld_ros.ros.client import GldClient, spinning
from gld_ros.ros.messages import camera_info_message, header, image_message
from gld_ros.ros.streaming import BODY_FROM_OPTICAL
from gld_ros.ros.transforms import static_publisher, transform_message

HERE = Path(__file__).resolve().parent
WAIT_S = 30.0  # bounds a wait, on a busy machine too; nothing sleeps this long
PROFILE = str(HERE / "fastdds_test.xml")
# before the first participant of this process; Jazzy reads the first name, Kilted the second
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = PROFILE
WIDTH, HEIGHT = 160, 120
LENS = Camera(WIDTH, HEIGHT, np.array([[120.0, 0, 79.5], [0, 120.0, 59.5], [0, 0, 1]]), np.eye(4))


def wait_until(check: Callable[[], Any], timeout_s: float = WAIT_S, what: str = "a condition") -> Any:
    """Poll until ``check`` is truthy and return its value; fails the test when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)
    return value


def pose(x: float = 0.0, y: float = 0.0, yaw_deg: float = 0.0) -> np.ndarray:
    """Body pose in the plane, 4x4."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    out = np.eye(4)
    out[:2, :2] = [[c, -s], [s, c]]
    out[:2, 3] = x, y
    return out


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A sharp picture whose content depends on ``seed``."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)


class Robot:
    """Publishes cameras whose optical frames sit on base_link, itself posed in odom at each image's stamp."""

    def __init__(self, node: Node, cameras: tuple[str, ...] = ("camera",)) -> None:
        self.node = node
        self.tf = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
        self.static = static_publisher(node)
        self.static.publish(
            TFMessage(
                transforms=[
                    transform_message("base_link", f"{name}_optical", BODY_FROM_OPTICAL, self.now()) for name in cameras
                ]
            )
        )
        self.images = {
            name: node.create_publisher(Image, f"/{name}/image_raw", qos_profile_sensor_data) for name in cameras
        }
        self.infos = {
            name: node.create_publisher(CameraInfo, f"/{name}/camera_info", qos_profile_sensor_data) for name in cameras
        }

    def now(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def connected(self) -> bool:
        """Whether someone listens to everything we send."""
        return self.tf.get_subscription_count() > 0 and all(
            publisher.get_subscription_count() > 0 for publisher in (*self.images.values(), *self.infos.values())
        )

    def move(self, odom_from_base: np.ndarray, stamp: int) -> None:
        self.tf.publish(TFMessage(transforms=[transform_message("odom", "base_link", odom_from_base, stamp)]))

    def shoot(
        self,
        odom_from_base: np.ndarray | None = None,
        name: str = "camera",
        stamp: int | None = None,
        rgb: np.ndarray | None = None,
        message: Image | None = None,
        info: CameraInfo | None = None,
        lens: Camera = LENS,
    ) -> int:
        """Send TF (unless no pose is given), CameraInfo and Image of one moment; returns its stamp."""
        stamp = self.now() if stamp is None else stamp
        if odom_from_base is not None:
            self.move(odom_from_base, stamp)
        head = header(stamp, f"{name}_optical")
        info = camera_info_message(lens, head) if info is None else info
        info.header = head
        self.infos[name].publish(info)
        if message is None:
            rgb = picture(stamp % 97) if rgb is None else rgb
            message = image_message(rgb, head)
        message.header = head
        self.images[name].publish(message)
        return stamp


def arguments(parameters: dict[str, Any]) -> list[str]:
    """Parameters as command line arguments of a node."""

    def text(value: Any) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, (list, tuple)):
            return "[" + ",".join(text(item) for item in value) + "]"
        return f'"{value}"' if isinstance(value, str) else str(value)

    return [part for key, value in parameters.items() for part in ("-p", f"{key}:={text(value)}")]


@contextlib.contextmanager
def process(command: list[str], stop_s: float = WAIT_S, **environment: str) -> Iterator[subprocess.Popen]:
    """A child process that is ended, and waited for, when the block ends."""
    child = subprocess.Popen(command, env={**os.environ, **environment})
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(stop_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)


class Rig:
    """Robot and client in this process, with the node ``gld`` in another."""

    def __init__(self, node: Node, child: subprocess.Popen, cameras: tuple[str, ...]) -> None:
        self.node, self.child = node, child
        self.robot = Robot(node, cameras)
        self.client = GldClient(node, depth=2000)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.levels: dict[str, int] = {}
        from diagnostic_msgs.msg import DiagnosticArray

        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message: Any) -> None:
        for status in message.status:
            name = status.name.removeprefix("gld: ")
            self.levels[name] = int.from_bytes(status.level, "little")
            self.diagnostics[name] = {"message": status.message, **{v.key: v.value for v in status.values}}

    def count(self, key: str, camera: str = "camera") -> int:
        """A counter of one camera, from diagnostics."""
        return int(self.diagnostics.get(f"camera {camera}", {}).get(key, 0))

    def repeat(self, act: Callable[[], Any], check: Callable[[], Any], what: str, timeout_s: float = WAIT_S) -> None:
        """Act until it has the effect: the first messages of a pair that has just met may be lost."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            act()
            with contextlib.suppress(AssertionError):
                wait_until(check, 0.4)
                return
        raise AssertionError(f"waited {timeout_s} s for {what}; diagnostics: {self.diagnostics}")

    def keyframes(self) -> int:
        """How many the node has."""
        return int(self.diagnostics.get("engine", {}).get("keyframes", 0))

    def first_keyframe(self, odom_from_base: np.ndarray, **shot: Any) -> int:
        """Send one and the same moment until it has become a further keyframe; returns its stamp."""
        count, stamp = self.keyframes() + 1, self.robot.now()
        self.repeat(
            lambda: self.robot.shoot(odom_from_base, stamp=stamp, **shot),
            lambda: self.keyframes() >= count,
            f"keyframe {count}",
        )
        return stamp

    def wait_diagnostics(
        self, check: Callable[[dict[str, dict[str, str]]], Any], what: str, timeout_s: float = WAIT_S
    ) -> Any:
        return wait_until(lambda: check(self.diagnostics), timeout_s, what)


@contextlib.contextmanager
def rig(
    cameras: tuple[str, ...] = ("camera",), wait: bool = True, env: dict[str, str] | None = None, **parameters: Any
):
    """A running node with these parameters (``__`` in a name is a dot) and its robot."""
    parameters = {"cameras": list(cameras), **{key.replace("__", "."): value for key, value in parameters.items()}}
    parameters.setdefault("diagnostics_rate", 10.0)
    context = rclpy.Context()
    rclpy.init(context=context, args=["--ros-args", "--log-level", "error"])
    command = [sys.executable, str(HERE / "fake_node.py"), "--ros-args", "-r", "__node:=gld", *arguments(parameters)]
    try:
        with process(command, **(env or {})) as child:
            node = rclpy.create_node("test_robot", context=context)
            with spinning(node):
                made = Rig(node, child, cameras)
                made.client.wait(WAIT_S)
                if wait:
                    wait_until(made.robot.connected, WAIT_S, "the node to subscribe")
                yield made
            node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
