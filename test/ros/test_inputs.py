"""Cameras into the node over DDS: several at once, every encoding, and everything that can be wrong with an image."""

import threading

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from rclpy.qos import qos_profile_sensor_data
from rig import LENS, WAIT_S, picture, pose, rig, wait_until
from sensor_msgs.msg import Image

from gld_ros.data.image_messages import image_to_rgb
from gld_ros.errors import Status
from gld_ros.ros.client import make_request
from gld_ros.ros.messages import camera_info_message, header, image_message
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD

pytestmark = pytest.mark.two_process
S = 1_000_000_000


@pytest.fixture(scope="module")
def robot():
    # every image is new: no novelty limit
    with rig(
        cameras=("front", "rear"),
        keyframe_refresh=0.0,
        keyframe_sharpness=0.0,
        tf_timeout=0.3,
        front__depth_transport="none",
        rear__depth_transport="raw",
    ) as made:
        made.wait_diagnostics(lambda d: "camera rear" in d, "diagnostics")
        yield made


def kept_after(robot, camera, shoot):
    """Shoot, and wait until the image has become a keyframe."""
    before = robot.count("kept as keyframe", camera)
    robot.repeat(shoot, lambda: robot.count("kept as keyframe", camera) > before, f"a keyframe from {camera}")


def bad_after(robot, camera, shoot, text):
    """Shoot, and wait until diagnostics name the problem; the node must still take a good image afterwards."""
    robot.repeat(
        shoot, lambda: text in robot.diagnostics[f"camera {camera}"]["last problem"], f"'{text}' in diagnostics"
    )
    kept_after(robot, camera, lambda: robot.robot.shoot(pose(), camera))


def test_two_cameras_at_once(robot):
    stop = threading.Event()

    def run(name, x):
        while not stop.wait(0.03):
            robot.robot.shoot(pose(), name, rgb=picture(x))

    threads = [threading.Thread(target=run, args=(name, i)) for i, name in enumerate(("front", "rear"))]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: min(robot.count("kept as keyframe", name) for name in ("front", "rear")) > 3, what="both")
        assert robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S).status.code == Status.OK
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("encoding", ["mono8", "bgra8", "16-bit big endian", "yuv422_yuy2", "bayer_rggb8", "padded"])
def test_encodings_over_the_wire(robot, encoding):
    colour = np.full((120, 160, 3), (40, 120, 200), np.uint8)
    grey = np.full((120, 160), 120, np.uint8)
    message = image_message(colour, header(0, ""))
    expected = (40, 120, 200)
    if encoding == "mono8":
        message, expected = image_message(grey, header(0, "")), (120, 120, 120)
    elif encoding == "bgra8":
        message = Image(height=120, width=160, encoding="bgra8", step=640)
        message.data = cv2.cvtColor(colour, cv2.COLOR_RGB2BGRA).tobytes()
    elif encoding == "16-bit big endian":
        message = Image(height=120, width=160, encoding="mono16", step=320, is_bigendian=1)
        message.data, expected = (grey.astype(">u2") * 257).astype(">u2").tobytes(), (120, 120, 120)
    elif encoding == "yuv422_yuy2":
        message = Image(height=120, width=160, encoding="yuv422_yuy2", step=320)
        message.data, expected = np.full((120, 160, 2), (126, 128), np.uint8).tobytes(), (128, 128, 128)
    elif encoding == "bayer_rggb8":
        message = Image(height=120, width=160, encoding="bayer_rggb8", step=160, data=grey.tobytes())
        expected = (120, 120, 120)
    else:
        message.step = 160 * 3 + 32
        message.data = np.pad(colour.reshape(120, -1), ((0, 0), (0, 32))).tobytes()

    def shown():
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
        return np.allclose(image_to_rgb(reply.views[0].image)[5, 5], expected, atol=2)

    robot.repeat(lambda: robot.robot.shoot(pose(), "front", message=message), shown, f"the colour {expected}")


def malformed(kind):
    message = image_message(picture(1), header(0, ""))
    if kind == "encoding":
        message.encoding = "hologram8"
    elif kind == "truncated":
        message.data = bytes(message.data)[:1000]
    elif kind == "empty":
        message = Image(encoding="rgb8")
    elif kind == "size":
        message = image_message(picture(1, 80, 60), header(0, ""))
    return message


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("encoding", "hologram8"),
        ("truncated", "needs 57600"),
        ("empty", "0x0"),
        ("size", "80x60"),
    ],
)
def test_malformed_images_are_named_and_survived(robot, kind, text):
    bad_after(robot, "front", lambda: robot.robot.shoot(pose(), "front", message=malformed(kind)), text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda info: setattr(info, "k", [0.0] * 9) or setattr(info, "p", [0.0] * 12), "focal"),
        (lambda info: setattr(info, "k", [float("nan")] * 9), "finite"),
        (lambda info: setattr(info, "width", 0), "0x120"),
        (lambda info: setattr(info, "distortion_model", "barrel") or setattr(info, "d", [0.1] * 3), "barrel"),
    ],
)
def test_bad_calibrations_are_named_and_survived(robot, change, text):
    info = camera_info_message(LENS, header(0, ""))
    change(info)
    bad_after(robot, "front", lambda: robot.robot.shoot(pose(), "front", info=info), text)


def test_stamp_in_the_future_is_refused(robot):
    bad_after(robot, "front", lambda: robot.robot.shoot(pose(), "front", stamp=robot.robot.now() + 60 * S), "future")


def test_tf_that_never_comes(robot):
    """The image waits for tf_timeout, is dropped with the reason, and later images are served."""
    dropped = robot.count("dropped for TF", "rear")
    info = camera_info_message(LENS, header(0, ""))
    message = image_message(picture(3), header(0, ""))
    original = robot.robot.images["rear"].publish

    def publish(msg):
        msg.header.frame_id = "floating"
        original(msg)

    robot.robot.images["rear"].publish = publish
    try:
        robot.robot.shoot(None, "rear", message=message, info=info)
    finally:
        del robot.robot.images["rear"].publish
    wait_until(lambda: robot.count("dropped for TF", "rear") > dropped, what="the drop")
    assert "floating" in robot.diagnostics["camera rear"]["last problem"]
    kept_after(robot, "rear", lambda: robot.robot.shoot(pose(), "rear"))


def test_depth_is_matched_by_stamp(robot):
    depth = robot.node.create_publisher(Image, "/rear/depth", qos_profile_sensor_data)
    wait_until(lambda: depth.get_subscription_count() > 0, what="the depth subscription")
    stamp = robot.robot.now()
    depth.publish(image_message(np.full((120, 160), 1500, np.uint16), header(stamp, "rear_optical")))
    kept_after(robot, "rear", lambda: robot.robot.shoot(pose(), "rear", stamp=stamp))
    assert "depth" not in robot.diagnostics["camera rear"]["last problem"]
    wrong = image_message(np.full((100, 160), 1500, np.uint16), header(0, "rear_optical"))

    def shoot():
        wrong.header.stamp = header(robot.robot.now(), "").stamp
        depth.publish(wrong)
        robot.robot.shoot(pose(), "rear", stamp=wrong.header.stamp.sec * S + wrong.header.stamp.nanosec)

    bad_after(robot, "rear", shoot, "160x100")
    robot.node.destroy_publisher(depth)


def test_time_going_back_clears_and_goes_on(robot):
    start = robot.robot.now() - 500 * S
    jumps = int(robot.diagnostics["engine"]["time jumps"])
    kept_after(robot, "front", lambda: robot.robot.shoot(pose(), "front"))

    def again():  # TF of the first moment after the jump may be cleared with the old one, as when a bag loops
        nonlocal start
        start += S // 10
        robot.robot.shoot(pose(), "front", stamp=start)

    before = robot.count("kept as keyframe", "front")
    robot.repeat(again, lambda: robot.count("kept as keyframe", "front") >= before + 3, "keyframes after the jump")
    assert int(robot.diagnostics["engine"]["time jumps"]) > jumps
    assert robot.diagnostics["engine"]["keyframes"] == "1"  # of one place; those from before the jump are gone
