"""Virtual cameras over DDS: only while subscribed, posed through TF at the pictures' stamp, for late joiners too."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rig import pose, rig, wait_until
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from tf2_msgs.msg import TFMessage
from visualization_msgs.msg import MarkerArray

from gld_ros.data.image_messages import image_to_rgb
from gld_ros.ros.client import spinning
from gld_ros.ros.tf_buffer import nanoseconds

pytestmark = pytest.mark.two_process


@pytest.fixture(scope="module")
def robot():
    streams = {
        "top__frame": "base_link",
        "top__axes": "body",
        "top__width": 80,
        "top__height": 60,
        "top__hfov_deg": 90.0,
        "top__rate": 10.0,
        "side__frame": "camera_optical",
        "side__fx": 100.0,
        "side__rate": 10.0,
        "lost__frame": "nowhere",
        "lost__rate": 10.0,
    }
    with rig(virtual_cameras=["top", "side", "lost"], stale_after=600.0, **streams) as made:
        made.stamp = made.first_keyframe(pose(1, 2, 90))
        yield made


class Listener:
    def __init__(self, node, kind, topic, qos=10):
        self.node, self.heard = node, []
        self.subscription = node.create_subscription(kind, topic, self.heard.append, qos)

    def first(self):
        return wait_until(lambda: self.heard, what=f"a message on {self.subscription.topic_name}")[0]

    def close(self):
        self.node.destroy_subscription(self.subscription)


def test_nothing_is_made_without_subscribers_and_pictures_come_with_one(robot):
    assert robot.diagnostics["virtual camera top"]["published"] == "0"
    image = Listener(robot.node, Image, "/gld/top/image_rect")
    first = image.first()
    assert first.header.frame_id == "top_optical_frame"
    assert nanoseconds(first.header.stamp) == robot.stamp
    assert image_to_rgb(first).shape == (60, 80, 3)
    image.close()
    count = int(robot.diagnostics["virtual camera top"]["published"])

    def settled(d):
        nonlocal count
        before, count = count, int(d["virtual camera top"]["published"])
        return d["virtual camera top"]["rate (Hz)"] == "0.00" and before == count

    robot.wait_diagnostics(settled, "the stream to stop")


def test_all_topics_of_a_stream_agree(robot):
    kinds = {
        "image_rect": Image,
        "camera_info": CameraInfo,
        "depth/image_rect": Image,
        "depth/camera_info": CameraInfo,
        "confidence": Image,
        "provenance": Image,
        "points_observed": PointCloud2,
        "points_generated": PointCloud2,
    }
    listeners = {topic: Listener(robot.node, kind, f"/gld/top/{topic}") for topic, kind in kinds.items()}
    heard = {topic: listener.first() for topic, listener in listeners.items()}
    for listener in listeners.values():
        listener.close()
    assert {nanoseconds(message.header.stamp) for message in heard.values()} == {robot.stamp}
    for topic, message in heard.items():
        assert message.header.frame_id == ("odom" if topic.startswith("points") else "top_optical_frame"), topic
    info = heard["camera_info"]
    np.testing.assert_allclose(info.k, [40, 0, 39.5, 0, 40, 29.5, 0, 0, 1])  # 90 degrees at 80 px
    assert heard["depth/image_rect"].encoding == heard["confidence"].encoding == "32FC1"
    assert heard["provenance"].encoding == "mono8"
    assert heard["points_observed"].width == 1


def test_optical_frame_of_a_body_camera_is_broadcast(robot):
    latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    tf = Listener(robot.node, TFMessage, "/tf_static", latched)
    wait_until(
        lambda: [t for m in tf.heard for t in m.transforms if t.child_frame_id == "top_optical_frame"], what="tf"
    )
    (found,) = [t for m in tf.heard for t in m.transforms if t.child_frame_id == "top_optical_frame"]
    assert found.header.frame_id == "base_link"
    q = found.transform.rotation
    np.testing.assert_allclose([q.x, q.y, q.z, q.w], [-0.5, 0.5, -0.5, 0.5])
    tf.close()


def test_intrinsics_from_fx_and_an_optical_frame_as_it_is(robot):
    info = Listener(robot.node, CameraInfo, "/gld/side/camera_info")
    message = info.first()
    info.close()
    assert message.header.frame_id == "camera_optical"
    np.testing.assert_allclose(message.k, [100, 0, 159.5, 0, 100, 119.5, 0, 0, 1])


def test_a_lost_frame_is_named_in_diagnostics(robot):
    image = Listener(robot.node, Image, "/gld/lost/image_rect")
    robot.wait_diagnostics(lambda d: "nowhere" in d["virtual camera lost"]["last problem"], "the failure")
    assert robot.levels["virtual camera lost"] == 1
    image.close()


def test_late_joiner_with_sensor_qos_sees_pictures_and_keyframes(robot):
    context = rclpy.Context()
    rclpy.init(context=context)
    late = rclpy.create_node("late", context=context)
    try:
        with spinning(late):
            image = Listener(late, Image, "/gld/top/image_rect", qos_profile_sensor_data)
            markers = Listener(late, MarkerArray, "/gld/keyframes")
            assert nanoseconds(image.first().header.stamp) == robot.stamp
            drawn = [m for m in markers.first().markers if m.points]
            assert len(drawn) == 1
            assert drawn[0].header.frame_id == "odom"
            np.testing.assert_allclose([drawn[0].points[0].x, drawn[0].points[0].y], [1, 2], atol=1e-6)
        late.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
