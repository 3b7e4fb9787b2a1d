"""The service, between two processes over DDS."""

import time

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.srv", reason="needs ROS")

from fake_engine import STUCK_S
from rig import LENS, WAIT_S, pose, rig, wait_until

from gld_ros.data.image_messages import image_to_rgb
from gld_ros.errors import Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.client import make_request
from gld_ros.ros.streaming import BODY_FROM_OPTICAL
from gld_ros.ros.tf_buffer import nanoseconds

pytestmark = pytest.mark.two_process
AHEAD = BODY_FROM_OPTICAL  # optical pose of a camera at the origin of odom, looking along x
TIME_LIMIT_S = 4.0  # far beyond what good requests take, on a busy machine too


@pytest.fixture(scope="module")
def robot():
    with rig(
        queue_size=3, service_time_limit=TIME_LIMIT_S, tf_timeout=0.3, stale_after=600.0, keyframe_refresh=600.0
    ) as made:
        made.first_keyframe(pose(0, 0))
        made.first_keyframe(pose(0, 0.3))
        made.stamp = made.first_keyframe(pose(0, 0.6))
        yield made


def test_round_trip(robot):
    reply = robot.client.synthesize(make_request([AHEAD, AHEAD], "odom", seed=7), WAIT_S)
    assert reply.status.code == Status.OK, reply.status.message
    assert (reply.model, reply.preset, reply.seed) == ("fake", "balanced", 7)
    assert list(reply.updates) == [1, 0]
    assert reply.seconds > 0
    assert nanoseconds(reply.newest_input_stamp) == robot.stamp
    assert nanoseconds(reply.oldest_input_stamp) < robot.stamp
    assert len(reply.views) == 2
    for i, view in enumerate(reply.views):
        assert view.image.header.frame_id == f"gld_view_{i}"
        assert nanoseconds(view.image.header.stamp) == robot.stamp
        assert view.pose.header.frame_id == "odom"
        assert image_to_rgb(view.image).shape == (120, 160, 3)
        assert view.depth.encoding == view.confidence.encoding == "32FC1"
        assert view.provenance.encoding == "mono8"
        assert (view.camera_info.width, view.camera_info.height) == (160, 120)
        np.testing.assert_allclose(view.camera_info.k, LENS.K.ravel())
    depth = np.frombuffer(reply.views[0].depth.data, np.float32).reshape(120, 160)
    assert np.isnan(depth[0, 0])
    assert depth[5, 5] == 2.0
    assert reply.points_observed.header.frame_id == "odom"
    assert reply.points_observed.width == 1
    assert reply.points_generated.width == 0


def test_intrinsics_of_the_request_are_used(robot):
    lens = Camera(64, 48, np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]), np.eye(4))
    reply = robot.client.synthesize(make_request([AHEAD], "odom", lens), WAIT_S)
    assert (reply.views[0].image.width, reply.views[0].image.height) == (64, 48)
    np.testing.assert_allclose(reply.views[0].camera_info.p[:3], [50, 0, 31.5])


def test_pose_in_a_tf_frame(robot):
    reply = robot.client.synthesize(make_request([np.eye(4)], "camera_optical"), WAIT_S)
    assert reply.status.code == Status.OK, reply.status.message
    p = reply.views[0].pose.pose.position
    np.testing.assert_allclose([p.x, p.y, p.z], [0, 0.6, 0], atol=1e-9)


def test_no_clouds_without_scale(robot):
    reply = robot.client.synthesize(make_request([AHEAD], "odom", preset="unscaled"), WAIT_S)
    assert not reply.scale_valid
    assert reply.points_observed.width == 0


def broken(kind):
    request = make_request([AHEAD], "odom")
    if kind == "nan":
        request.poses[0].pose.position.x = float("nan")
    elif kind == "quaternion":
        request.poses[0].pose.orientation.w = 3.0
    elif kind == "zero quaternion":
        o = request.poses[0].pose.orientation
        o.x = o.y = o.z = o.w = 0.0
    elif kind == "no pose":
        request.poses = []
    elif kind == "too many":
        request.poses = request.poses * 17
    elif kind == "focal":
        request.camera.width, request.camera.height = 10, 10
    elif kind == "nan focal":
        request.camera.width, request.camera.height = 10, 10
        request.camera.k = [float("nan")] * 9
    elif kind == "no height":
        request.camera.width = 10
    elif kind == "huge":
        request.camera.width = request.camera.height = 2**31
    elif kind == "unknown frame":
        request.poses[0].header.frame_id = "nowhere"
    elif kind == "no frame":
        request.poses[0].header.frame_id = ""
    elif kind == "old stamp":
        request.poses[0].header.frame_id = "base_link"
        request.poses[0].header.stamp.sec = 5
    elif kind == "away":
        request = make_request([pose(-1, 0, 180) @ BODY_FROM_OPTICAL], "odom")
    elif kind == "budget":
        request.time_budget = 0.4
    elif kind == "negative budget":
        request.time_budget = -1.0
    elif kind == "compose":
        request.compose = "sideways"
    elif kind == "samples":
        request.num_samples = 4000000000
    elif kind == "seed":
        request.seed = -5
    else:
        request.preset = kind
    return request


@pytest.mark.parametrize(
    ("kind", "status", "named"),
    [
        ("nan", Status.BAD_POSE, "finite"),
        ("quaternion", Status.BAD_POSE, "normalise"),
        ("zero quaternion", Status.BAD_POSE, "length 0"),
        ("no pose", Status.BAD_POSE, "max_views"),
        ("too many", Status.BAD_POSE, "17"),
        ("focal", Status.BAD_INTRINSICS, "fx=0"),
        ("nan focal", Status.BAD_INTRINSICS, "finite"),
        ("no height", Status.BAD_INTRINSICS, "height"),
        ("huge", Status.BAD_INTRINSICS, "max_pixels"),
        ("unknown frame", Status.NO_TRANSFORM, "TF knows"),
        ("no frame", Status.NO_TRANSFORM, "frame_id"),
        ("old stamp", Status.NO_TRANSFORM, "tf_timeout"),
        ("away", Status.NO_OVERLAP, "-1.00"),
        ("budget", Status.BUDGET_EXCEEDED, "least time 0.5"),
        ("negative budget", Status.BUDGET_EXCEEDED, "-1"),
        ("compose", Status.INTERNAL, "sideways"),
        ("samples", Status.INTERNAL, "max_samples"),
        ("seed", Status.INTERNAL, "-5"),
        ("crash", Status.INTERNAL, "the engine is broken"),
        ("oom", Status.OUT_OF_MEMORY, "smaller"),
    ],
)
def test_bad_requests_name_the_problem_and_good_ones_follow(robot, kind, status, named):
    reply = robot.client.synthesize(broken(kind), WAIT_S)
    assert Status(reply.status.code) == status, reply.status.message
    assert named in reply.status.message
    assert not reply.views
    assert robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S).status.code == Status.OK


def test_a_thousand_requests_at_once_all_end(robot):
    futures = [robot.client.ask(make_request([AHEAD], "odom", preset="steps3")) for _ in range(1000)]
    wait_until(lambda: all(future.done() for future in futures), 2 * WAIT_S, "all replies")
    codes = [future.result().status.code for future in futures]
    # on a busy machine one that was queued may meet its own time limit before its turn
    assert set(codes) <= {Status.OK, Status.BUSY, Status.BUDGET_EXCEEDED}
    assert codes.count(Status.OK) >= 1
    assert len(codes) - codes.count(Status.BUSY) >= 4  # the running one and the queue
    busy = next(future.result() for future in futures if future.result().status.code == Status.BUSY)
    assert "retry" in busy.status.message
    assert robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S).status.code == Status.OK


def test_a_stuck_engine_is_answered_for_and_blocks_no_image(robot):
    started = time.monotonic()
    stuck = robot.client.ask(make_request([AHEAD], "odom", preset="stuck"))
    before = robot.count("received")
    for i in range(8):  # within the depth of the subscription
        robot.robot.shoot(pose(0, 0.6), stamp=robot.robot.now() + i)
    wait_until(lambda: robot.count("received") >= before + 8, STUCK_S - 1, "images to arrive while the engine is stuck")
    assert not stuck.done() or time.monotonic() - started >= TIME_LIMIT_S
    wait_until(stuck.done, what="the reply of a stuck request")
    assert stuck.result().status.code == Status.BUDGET_EXCEEDED
    assert "service_time_limit" in stuck.result().status.message
    # once the engine is back, requests are served again
    wait_until(
        lambda: robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S).status.code == Status.OK, what="recovery"
    )
