"""Inputs that need a node with parameters of their own: compressed and distorted, rectified topics, full rate."""

import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from rclpy.qos import qos_profile_sensor_data
from rig import LENS, picture, pose, rig, wait_until
from sensor_msgs.msg import CompressedImage, Image

from gld_ros.data.image_messages import image_to_rgb
from gld_ros.errors import Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.client import make_request
from gld_ros.ros.messages import camera_info_message, header, image_message
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD
from gld_ros.ros.tf_buffer import nanoseconds

pytestmark = pytest.mark.two_process


def test_compressed_and_distorted_input():
    """A jpeg stream of a distorting lens: rectified with its CameraInfo, and served."""
    with rig(wait=False, camera__transport="compressed", keyframe_refresh=0.0) as robot:
        publisher = robot.node.create_publisher(
            CompressedImage, "/camera/image_raw/compressed", qos_profile_sensor_data
        )
        head = header(robot.robot.now(), "camera_optical")
        info = camera_info_message(LENS, head)
        info.d = [-0.2, 0.05, 0.0, 0.0, 0.0]
        _, data = cv2.imencode(".jpg", np.full((120, 160, 3), (200, 120, 40), np.uint8))

        def shoot():
            robot.robot.move(pose(), nanoseconds(head.stamp))
            robot.robot.infos["camera"].publish(info)
            publisher.publish(CompressedImage(header=head, format="jpeg", data=data.tobytes()))

        robot.repeat(shoot, lambda: robot.keyframes() == 1, "a keyframe")
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), 20)
        np.testing.assert_allclose(image_to_rgb(reply.views[0].image)[60, 80], (40, 120, 200), atol=3)


def test_image_rect_is_preferred_once_it_is_published():
    with rig() as robot:
        assert robot.wait_diagnostics(lambda d: d.get("camera camera"), "diagnostics")["image topic"].endswith(
            "image_raw"
        )
        publisher = robot.node.create_publisher(Image, "/camera/image_rect", qos_profile_sensor_data)
        robot.wait_diagnostics(lambda d: d["camera camera"]["image topic"] == "/camera/image_rect", "the switch")
        wait_until(lambda: publisher.get_subscription_count() > 0)


def test_thirty_hertz_while_synthesising():
    """640x480 at 30 Hz for 10 s: less than 1 % of the images may be missing at the image callback."""
    lens = Camera(640, 480, np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), np.eye(4))
    seconds, rate = 10, 30
    with rig(stale_after=60.0) as robot:
        rgb = picture(5, 640, 480)
        message = image_message(rgb, header(0, ""))
        robot.first_keyframe(pose(), message=message, lens=lens)
        before = robot.count("received")
        stop = threading.Event()
        served = []

        def ask():
            while not stop.is_set():
                served.append(
                    robot.client.synthesize(make_request([AHEAD], "odom", lens, preset="steps10"), 20).status.code
                )

        asking = threading.Thread(target=ask)
        asking.start()
        begin = time.monotonic()
        for i in range(seconds * rate):
            robot.robot.shoot(pose(0, 0.002 * i), message=message, lens=lens)
            threading.Event().wait(max(0.0, begin + (i + 1) / rate - time.monotonic()))
        stop.set()
        asking.join(20)
        sent = seconds * rate
        wait_until(lambda: robot.count("received") - before > 0.99 * sent, 3, f"more than 99 % of {sent} images")
        assert len(served) >= 5
        assert set(served) == {Status.OK}


def test_incompatible_qos_and_silence_are_named():
    """The robot publishes best effort: a node that insists on reliable hears nothing, and says why."""
    with rig(wait=False, input_qos="reliable", no_data_warning=0.5) as robot:
        robot.wait_diagnostics(
            lambda d: "sensor_data" in d.get("camera camera", {}).get("last problem", ""), "the QoS mismatch"
        )
        problem = robot.diagnostics["camera camera"]["last problem"]
        assert "RELIABILITY" in problem
        assert "/camera/" in problem
        robot.robot.shoot(pose())
        robot.wait_diagnostics(lambda d: robot.levels["camera camera"] == 2, "an error level")
        assert "no data on /camera/image_raw" in robot.diagnostics["camera camera"]["message"]
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), 20)
        assert reply.status.code == Status.NO_KEYFRAMES
        assert "camera/image_raw" in reply.status.message
