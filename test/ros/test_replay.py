"""Scenes and bags replayed as a live camera into the node."""

import json
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")
pytest.importorskip("rosbags")

from geometry_msgs.msg import TransformStamped
from rclpy.serialization import deserialize_message, serialize_message
from rig import LENS, WAIT_S, picture, pose, process, rig, wait_until
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage

from gld_ros.errors import SceneError, Status
from gld_ros.ros.client import make_request
from gld_ros.ros.messages import camera_info_message, header, image_message
from gld_ros.ros.replay_bag import shift_stamps
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD
from gld_ros.ros.tf_buffer import nanoseconds
from gld_ros.ros.transforms import transform_message

S = 1_000_000_000
OLD = 1_500_000_000 * S  # 2017


def gld(*arguments):
    return [sys.executable, "-m", "gld_ros.cli.main", *map(str, arguments)]


def scene_folder(path):
    """Three metric frames with depth."""
    (path / "images").mkdir(parents=True)
    frames = []
    for i in range(3):
        cv2.imwrite(str(path / f"images/{i}.png"), picture(i))
        cv2.imwrite(str(path / f"images/{i}_depth.png"), np.full((120, 160), 2000, np.uint16))
        world_from_cam = pose(0, 0.3 * i) @ AHEAD
        frames.append(
            {
                "file": f"images/{i}.png",
                "depth": f"images/{i}_depth.png",
                "depth_scale": 1000.0,
                "width": 160,
                "height": 120,
                "K": LENS.K.tolist(),
                "c2w": world_from_cam.tolist(),
            }
        )
    splits = {"ends": {"condition": [0, 2], "target": [1]}}
    (path / "cameras.json").write_text(json.dumps({"frames": frames, "metric": True, "splits": splits}))
    return path


def bag_folder(path, storage):
    """Twenty images in two seconds with CameraInfo, TF and a static mount, stamped in the past."""
    store = get_typestore(Stores.ROS2_JAZZY)
    with Writer(path, version=9, storage_plugin=storage) as writer:
        topics = {
            "/camera/image_raw": "sensor_msgs/msg/Image",
            "/camera/camera_info": "sensor_msgs/msg/CameraInfo",
            "/tf": "tf2_msgs/msg/TFMessage",
            "/tf_static": "tf2_msgs/msg/TFMessage",
        }
        link = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in topics.items()}
        mount = transform_message("base_link", "camera_optical", AHEAD, OLD)
        writer.write(link["/tf_static"], OLD, serialize_message(TFMessage(transforms=[mount])))
        for i in range(20):
            stamp = OLD + i * S // 10
            head = header(stamp, "camera_optical")
            body = transform_message("odom", "base_link", pose(0, 0.1 * i), stamp)
            writer.write(link["/tf"], stamp, serialize_message(TFMessage(transforms=[body])))
            writer.write(link["/camera/camera_info"], stamp, serialize_message(camera_info_message(LENS, head)))
            writer.write(link["/camera/image_raw"], stamp, serialize_message(image_message(picture(i), head)))
    return path


def test_stamps_of_serialised_messages_move():
    image = image_message(picture(0), header(OLD, "a"))
    info = camera_info_message(LENS, header(OLD, "frame"))
    for message in (image, info):
        kind = type(message)
        moved = shift_stamps(serialize_message(message), f"sensor_msgs/msg/{kind.__name__}", True, 5 * S + 7)
        back = deserialize_message(moved, kind)
        assert nanoseconds(back.header.stamp) == OLD + 5 * S + 7
        back.header.stamp = message.header.stamp
        assert back == message


def test_stamps_of_every_transform_move_whatever_the_names_lengths():
    transforms = []
    for i in range(6):
        t = TransformStamped(header=header(OLD + i, "p" * i), child_frame_id="c" * (11 - 2 * i))
        t.transform.translation.x, t.transform.rotation.w = 1.5 * i, 1.0
        transforms.append(t)
    raw = serialize_message(TFMessage(transforms=transforms))
    back = deserialize_message(shift_stamps(raw, "tf2_msgs/msg/TFMessage", False, -S), TFMessage)
    for i, (new, old) in enumerate(zip(back.transforms, transforms, strict=True)):
        assert nanoseconds(new.header.stamp) == OLD + i - S
        assert (new.header.frame_id, new.child_frame_id, new.transform) == (
            old.header.frame_id,
            old.child_frame_id,
            old.transform,
        )


def test_a_message_without_header_stays():
    raw = serialize_message(CameraInfo())
    assert shift_stamps(raw, "x/msg/Y", False, S) == raw


@pytest.mark.two_process
def test_scene_replayed_into_the_node(tmp_path):
    folder = scene_folder(tmp_path / "scene")
    with rig(cameras=("front",), wait=False, input_qos="reliable", keyframe_translation=0.0) as robot:
        depths = []
        robot.node.create_subscription(Image, "/front/depth", depths.append, 10)
        with process(gld("replay", folder, "--camera", "front", "--split", "ends", "--rate", 10, "--loop")):
            robot.wait_diagnostics(lambda d: int(d.get("engine", {}).get("keyframes", 0)) >= 2, "keyframes")
            target = pose(0, 0.3) @ AHEAD
            reply = robot.client.synthesize(make_request([target], "odom"), WAIT_S)
            assert reply.status.code == Status.OK, reply.status.message
            wait_until(lambda: depths, WAIT_S, "a depth image")
            assert depths[0].encoding == "32FC1"
            assert np.frombuffer(depths[0].data, np.float32)[0] == pytest.approx(2.0)
            robot.wait_diagnostics(
                lambda d: d.get("camera front", {}).get("image topic") == "/front/image_rect", "the rectified topic"
            )


@pytest.mark.two_process
@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def test_bag_replayed_into_the_node(tmp_path, storage):
    folder = bag_folder(tmp_path / "bag", storage)
    with rig(wait=False, input_qos="reliable", keyframe_translation=0.01) as robot:
        with process(gld("replay", folder)) as child:
            robot.wait_diagnostics(lambda d: int(d.get("engine", {}).get("keyframes", 0)) >= 8, "keyframes")
            assert child.wait(WAIT_S) == 0
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
        assert reply.status.code == Status.OK, reply.status.message
        assert abs(nanoseconds(reply.newest_input_stamp) - robot.robot.now()) < 30 * S


@pytest.mark.two_process
def test_bag_with_its_own_time_drives_a_node_on_simulated_time(tmp_path):
    folder = bag_folder(tmp_path / "bag", StoragePlugin.MCAP)
    with (
        rig(wait=False, input_qos="reliable", keyframe_translation=0.01, use_sim_time=True) as robot,
        process(gld("replay", folder, "--stamps", "keep", "--loop")),
    ):

        def old_answer():
            reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
            return reply.status.code == Status.OK and nanoseconds(reply.newest_input_stamp) < OLD + 3 * S

        wait_until(old_answer, what="a view of 2017")
        # the bag starts over: time goes back, the node starts over with it
        wait_until(lambda: int(robot.diagnostics["engine"]["time jumps"]) > 0, what="a time jump")
        wait_until(old_answer, what="a view after the jump")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nowhere",), "nowhere"),
        (("{scene}", "--frames", "0,x"), "0,x"),
        (("{scene}", "--frames", "0-7"), "frame 3"),
        (("{scene}", "--split", "none"), "none"),
        (("{scene}", "--rate", "0"), "--rate"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, named, capsys):
    from gld_ros.cli.main import main

    folder = scene_folder(tmp_path / "scene")
    assert main(["replay", *(argument.format(scene=folder) for argument in arguments)]) == 2
    assert named in capsys.readouterr().err


def test_a_folder_that_is_no_bag(tmp_path):
    import rclpy

    from gld_ros.ros.replay import ReplaySettings
    from gld_ros.ros.replay_bag import BagPlayer

    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information: nonsense")
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        with pytest.raises(SceneError, match="rosbag2"):
            BagPlayer(rclpy.create_node("x", context=context), tmp_path, ReplaySettings())
    finally:
        rclpy.try_shutdown(context=context)
