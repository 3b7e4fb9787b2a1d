"""The action, between two processes: progress, cancel at every stage, and the same refusals as the service."""

import threading
import time

import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.action", reason="needs ROS")

from action_msgs.msg import GoalStatus
from rig import WAIT_S, pose, rig, wait_until

from gld_ros.action import SynthesizeViews
from gld_ros.errors import Status
from gld_ros.ros.client import make_request
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD

pytestmark = pytest.mark.two_process
LONG, LONG_S = "steps1600", 80.0  # nothing waits for its end


@pytest.fixture(scope="module")
def robot():
    with rig(queue_size=2, stale_after=600.0) as made:
        made.first_keyframe(pose(0, 0))
        yield made


def goal(preset, **fields):
    return make_request([AHEAD], "odom", kind=SynthesizeViews.Goal, preset=preset, **fields)


class Goals:
    """Starts goals, and ends those that a test leaves behind: they must not stand in the next one's way."""

    def __init__(self, client):
        self.client, self.handles = client, []

    def start(self, preset, on_feedback=None):
        """Send a goal and wait until it is accepted."""
        self.handles.append(self.client.start(goal(preset), on_feedback, WAIT_S))
        return self.handles[-1]

    def running(self, preset):
        """Start a goal and wait until it works."""
        first = threading.Event()
        handle = self.start(preset, lambda message: first.set())
        assert first.wait(WAIT_S)
        return handle

    def drain(self):
        for handle in self.handles:
            self.client.cancel(handle, WAIT_S)
        for handle in self.handles:
            self.client.result_of(handle, WAIT_S)


@pytest.fixture
def goals(robot):
    made = Goals(robot.client)
    yield made
    made.drain()


def test_feedback_and_result(robot, goals):
    heard = []
    handle = goals.start("steps6", heard.append)
    status, result = robot.client.result_of(handle, WAIT_S)
    assert status == GoalStatus.STATUS_SUCCEEDED
    assert result.status.code == Status.OK
    assert list(result.updates) == [6, 0]
    assert len(result.views) == 1
    wait_until(lambda: heard and heard[-1].step == 6, WAIT_S, "the last feedback")
    assert heard[0].stage == "level1"
    assert {message.steps for message in heard} == {6}
    assert heard[0].seconds_left > heard[-1].seconds_left >= 0


def test_cancel_takes_effect_long_before_the_job_would_end(robot, goals):
    handle = goals.running(LONG)
    asked = time.monotonic()
    robot.client.cancel(handle, WAIT_S)
    status, result = robot.client.result_of(handle, WAIT_S)
    assert time.monotonic() - asked < LONG_S / 5  # a step is 0.05 s; the rest is room for a busy machine
    assert status == GoalStatus.STATUS_CANCELED
    assert result.status.code == Status.CANCELLED
    assert robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S).status.code == Status.OK


def test_cancel_of_a_waiting_goal_ends_it_at_once(robot, goals):
    long = goals.running(LONG)
    waiting = goals.start("steps2")
    robot.client.cancel(waiting, WAIT_S)
    status, result = robot.client.result_of(waiting, WAIT_S)
    assert status == GoalStatus.STATUS_CANCELED
    assert result.status.code == Status.CANCELLED
    assert not robot.client.result_future(long).done()
    robot.client.cancel(long, WAIT_S)
    assert robot.client.result_of(long, WAIT_S)[0] == GoalStatus.STATUS_CANCELED


def test_one_goal_beyond_the_queue_is_busy(robot, goals):
    """The node runs accepted goals side by side up to the queue: which of those sent together is refused is open."""
    goals.running(LONG)
    answers = [robot.client.result_future(goals.start(LONG)) for _ in range(3)]
    wait_until(lambda: any(answer.done() for answer in answers), WAIT_S, "a refusal")
    refused = next(answer for answer in answers if answer.done())
    assert refused.result().status == GoalStatus.STATUS_ABORTED
    assert refused.result().result.status.code == Status.BUSY
    goals.drain()
    others = [answer for answer in answers if answer is not refused]
    assert [answer.result().status for answer in others] == [GoalStatus.STATUS_CANCELED] * 2


def test_the_queue_takes_all_it_promises_whether_or_not_the_node_is_idle(robot, goals):
    for _ in range(3):
        handles = [goals.start("steps2") for _ in range(3)]
        assert [robot.client.result_of(handle, WAIT_S)[1].status.code for handle in handles] == [Status.OK] * 3


@pytest.mark.parametrize(("preset", "status"), [("crash", Status.INTERNAL), ("oom", Status.OUT_OF_MEMORY)])
def test_failures_abort_with_their_status(robot, goals, preset, status):
    ended, result = robot.client.result_of(goals.start(preset), WAIT_S)
    assert ended == GoalStatus.STATUS_ABORTED
    assert result.status.code == status
