"""The action, between two processes: progress, cancel at every stage, and the same refusals as the service."""

import threading
import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.action", reason="needs ROS")

from action_msgs.msg import GoalStatus
from rig import pose, rig, wait_until

from gld_ros.action import SynthesizeViews
from gld_ros.errors import Status
from gld_ros.ros.client import make_request
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD

pytestmark = pytest.mark.two_process


@pytest.fixture(scope="module")
def robot():
    with rig(queue_size=2, stale_after=600.0) as made:
        made.first_keyframe(pose(0, 0))
        yield made


def goal(preset, **fields):
    return make_request([AHEAD], "odom", kind=SynthesizeViews.Goal, preset=preset, **fields)


def test_feedback_and_result(robot):
    heard = []
    handle = robot.client.start(goal("steps6"), heard.append)
    status, result = robot.client.result_of(handle, 20)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.status.code == Status.OK
    assert list(result.updates) == [6, 0]
    assert len(result.views) == 1
    wait_until(lambda: heard and heard[-1].step == 6, 5, "the last feedback")
    assert heard[0].stage == "level1"
    assert {message.steps for message in heard} == {6}
    assert heard[0].seconds_left > heard[-1].seconds_left >= 0


def test_cancel_takes_effect_within_a_step(robot):
    first = threading.Event()
    handle = robot.client.start(goal("steps400"), lambda message: first.set())
    assert first.wait(10)
    asked = time.monotonic()
    robot.client.cancel(handle)
    status, result = robot.client.result_of(handle, 10)
    assert time.monotonic() - asked < 1.0  # a step is 0.05 s, the job would take 20 s
    assert status == GoalStatus.STATUS_CANCELED
    assert result.status.code == Status.CANCELLED
    assert robot.client.synthesize(make_request([AHEAD], "odom"), 20).status.code == Status.OK


def test_cancel_of_a_waiting_goal_ends_it_at_once(robot):
    running = threading.Event()
    long = robot.client.start(goal("steps400"), lambda message: running.set())
    assert running.wait(10)
    waiting = robot.client.start(goal("steps2"))
    robot.client.cancel(waiting)
    status, result = robot.client.result_of(waiting, 5)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.status.code == Status.CANCELLED
    robot.client.cancel(long)
    assert robot.client.result_of(long, 5)[0] == GoalStatus.STATUS_CANCELED


def test_goals_beyond_the_queue_are_busy(robot):
    running = threading.Event()
    goals = [robot.client.start(goal("steps400"), lambda message: running.set()) for _ in range(3)]
    assert running.wait(10)
    status, result = robot.client.result_of(robot.client.start(goal("steps2")), 10)
    assert status == GoalStatus.STATUS_ABORTED
    assert result.status.code == Status.BUSY
    for handle in goals:
        robot.client.cancel(handle)
    for handle in goals:
        assert robot.client.result_of(handle, 10)[0] == GoalStatus.STATUS_CANCELED


@pytest.mark.parametrize(("preset", "status"), [("crash", Status.INTERNAL), ("oom", Status.OUT_OF_MEMORY)])
def test_failures_abort_with_their_status(robot, preset, status):
    ended, result = robot.client.result_of(robot.client.start(goal(preset)), 10)
    assert ended == GoalStatus.STATUS_ABORTED
    assert result.status.code == status
