"""The processes around a measured node: a camera at 30 Hz, and subscribers that only count. Driven by lines on stdin.

``camera``: ``go N`` sends N images with CameraInfo and TF and answers when they are sent.
``count KIND TOPIC ...``: ``count`` answers how many messages each topic has brought.
Answers are one line of JSON.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera

CAMERA = "bench"
FIXED_FRAME, OPTICAL_FRAME, VIRTUAL_FRAME = "odom", "bench_optical", "bench_virtual"
IMAGE_TOPIC = f"/{CAMERA}/image_rect"
RATE_HZ = 30.0
LENS = Camera(640, 480, np.array([[500.0, 0, 319.5], [0, 500.0, 239.5], [0, 0, 1]]), np.eye(4))
WALL_M = 2.0  # everything seen is a wall at this distance
REACH_PX = 125  # the camera swings this far to either side, in pixels of the wall: +-0.5 m
PERIOD = 240  # images of one swing
LATE_S = 0.5 / RATE_HZ
READY_S = 60.0  # a busy machine takes long to start a process


@contextmanager
def peer(*arguments: str) -> Iterator[Callable[[str, float], Any]]:
    """Start one of these processes; what is yielded sends it a line and returns its answer."""
    command = [sys.executable, "-m", "gld_ros.ros.bench_peer", *arguments]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None
    answers: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            answers.put(line)
        answers.put("")

    threading.Thread(target=read, daemon=True).start()

    def ask(line: str, timeout_s: float) -> Any:
        assert child.stdin is not None
        try:
            child.stdin.write(line + "\n")
            child.stdin.flush()
            answer = answers.get(timeout=timeout_s)
        except (queue.Empty, OSError):
            answer = ""
        if not answer:
            how = "still runs" if child.poll() is None else f"ended with {child.returncode}"
            raise GldError(f"the benchmark's {' '.join(arguments[:2])} process {how} without an answer to '{line}'")
        return json.loads(answer)

    try:
        yield ask
    finally:
        child.stdin.close()  # ends its loop
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wall(seed: int = 0) -> NDArray[np.uint8]:
    """A picture with detail at many scales, wide enough for the whole swing."""
    rng = np.random.default_rng(seed)
    shape = (LENS.height, LENS.width + 2 * REACH_PX)
    total = np.zeros((*shape, 3), np.float32)
    for cell in (4, 12, 40, 120):
        small = rng.uniform(0, 1, (shape[0] // cell + 2, shape[1] // cell + 2, 3)).astype(np.float32)
        total += cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.clip(total * 63, 0, 255).astype(np.uint8)


def _camera_loop() -> None:
    import rclpy
    from rclpy.qos import QoSProfile, qos_profile_sensor_data
    from sensor_msgs.msg import CameraInfo, Image
    from tf2_msgs.msg import TFMessage

    from gld_ros.ros.messages import camera_info_message, header, image_message
    from gld_ros.ros.streaming import BODY_FROM_OPTICAL
    from gld_ros.ros.transforms import static_publisher, transform_message

    node = rclpy.create_node("bench_camera")
    images = node.create_publisher(Image, IMAGE_TOPIC, qos_profile_sensor_data)
    infos = node.create_publisher(CameraInfo, f"/{CAMERA}/camera_info", qos_profile_sensor_data)
    tf = node.create_publisher(TFMessage, "/tf", QoSProfile(depth=100))
    beside = np.eye(4)
    beside[:3, 3] = 0.15, -0.05, 0.1
    static = static_publisher(node)
    static.publish(TFMessage(transforms=[transform_message(OPTICAL_FRAME, VIRTUAL_FRAME, beside, 0)]))
    picture = wall()
    index = 0

    def send() -> None:
        nonlocal index
        shift = round(REACH_PX * np.sin(2 * np.pi * index / PERIOD))
        index += 1
        pose = BODY_FROM_OPTICAL.copy()
        pose[1, 3] = -shift * WALL_M / LENS.K[0, 0]  # to the right is -y
        head = header(node.get_clock().now().nanoseconds, OPTICAL_FRAME)
        moved = transform_message(FIXED_FRAME, OPTICAL_FRAME, pose, 0)
        moved.header.stamp = head.stamp
        tf.publish(TFMessage(transforms=[moved]))
        infos.publish(camera_info_message(LENS, head))
        images.publish(image_message(picture[:, REACH_PX + shift : REACH_PX + shift + LENS.width], head))

    pause = threading.Event()
    for line in sys.stdin:
        count = int(line.split()[1])
        late, begun = 0, time.monotonic()
        for i in range(count):
            left = begun + i / RATE_HZ - time.monotonic()
            late += left < -LATE_S
            pause.wait(max(0.0, left))
            send()
        pause.wait(max(0.0, begun + count / RATE_HZ - time.monotonic()))  # the next command goes on in step
        _answer({"sent": count, "late": late, "seconds": time.monotonic() - begun})
    node.destroy_node()


def _count_loop(kind: str, topics: Sequence[str]) -> None:
    import rclpy
    from rclpy.qos import QoSProfile, qos_profile_sensor_data

    from gld_ros.ros.client import spinning
    from gld_ros.ros.streaming import TOPICS

    node = rclpy.create_node(f"bench_{kind}")
    heard = dict.fromkeys(topics, 0)

    def listen(topic: str) -> None:
        def on_message(message: Any) -> None:
            heard[topic] += 1

        message_type = next(kind for name, kind in TOPICS.items() if topic.endswith(name))
        # camera topics are best effort, the node's own reliable, as RViz asks for
        qos = qos_profile_sensor_data if topic == IMAGE_TOPIC else QoSProfile(depth=10)
        node.create_subscription(message_type, topic, on_message, qos)

    for topic in topics:
        listen(topic)
    with spinning(node):
        for _ in sys.stdin:
            _answer(heard)


def _answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def main(arguments: Sequence[str]) -> None:
    """Run as ``camera`` or ``count`` until stdin ends."""
    import rclpy

    rclpy.init(args=[])
    try:
        if arguments[0] == "camera":
            _camera_loop()
        else:
            _count_loop(arguments[1], arguments[2:])
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main(sys.argv[1:])
