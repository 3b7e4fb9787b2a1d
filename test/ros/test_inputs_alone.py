"""Inputs that need a node with parameters of their own: compressed and distorted, rectified topics, full rate."""

import sys
import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from rclpy.qos import qos_profile_sensor_data
from rig import HERE, LENS, WAIT_S, picture, pose, process, rig, wait_until
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import UInt32

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
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
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
    """640x480 at 30 Hz for 10 s: less than 1 % of the images may be missing at the image callback.

    What a plain subscriber in a process of its own misses too is the machine's doing, not the node's.
    """
    lens = Camera(640, 480, np.array([[500.0, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]), np.eye(4))
    seconds, rate = 10, 30
    plain = [sys.executable, str(HERE / "plain_subscriber.py"), "/camera/image_raw"]
    with rig(stale_after=60.0) as robot, process(plain):
        counts = [0]
        robot.node.create_subscription(UInt32, "/plain_subscriber/heard", lambda heard: counts.append(heard.data), 10)
        message = image_message(picture(5, 640, 480), header(0, ""))
        robot.first_keyframe(pose(), message=message, lens=lens)
        robot.repeat(
            lambda: robot.robot.shoot(pose(), message=message, lens=lens), lambda: counts[-1] > 0, "the plain one", 30
        )

        def tally():
            heard = len(counts)
            wait_until(lambda: len(counts) > heard + 2, 30, "the plain subscriber")
            return robot.count("received"), counts[-1]

        def settled():
            """What both have received, once nothing is under way any more."""
            last, now = None, tally()
            while now != last:
                last, now = now, tally()
            return now

        before, plain_before = settled()
        stop = threading.Event()
        served = []

        def ask():
            while not stop.is_set():
                served.append(
                    robot.client.synthesize(make_request([AHEAD], "odom", lens, preset="steps10"), 60).status.code
                )

        asking = threading.Thread(target=ask)
        asking.start()
        begin = time.monotonic()
        for i in range(seconds * rate):
            robot.robot.shoot(pose(0, 0.002 * i), message=message, lens=lens)
            threading.Event().wait(max(0.0, begin + (i + 1) / rate - time.monotonic()))
        stop.set()
        asking.join(60)
        lost_by_all = seconds * rate - (settled()[1] - plain_before)
        at_least = 0.99 * seconds * rate - lost_by_all
        wait_until(
            lambda: robot.count("received") - before > at_least,
            5,
            f"more than {at_least:g} images (a plain subscriber missed {lost_by_all} of {seconds * rate})",
        )
        assert lost_by_all < 0.5 * seconds * rate, "too little arrived anywhere to tell"
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
        for topic in ("/camera/camera_info", "/camera/image_raw"):
            robot.wait_diagnostics(lambda d, topic=topic: topic in d["camera camera"]["message"], f"silent {topic}")
        assert robot.diagnostics["camera camera"]["message"].startswith("no data on ")
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
        assert reply.status.code == Status.NO_KEYFRAMES
        assert "camera/image_raw" in reply.status.message
