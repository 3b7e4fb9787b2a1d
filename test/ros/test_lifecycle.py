"""The node's states, and its parameters on the wire."""

import signal
import subprocess
import sys
import threading

import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter
from rig import HERE, WAIT_S, arguments, pose, rig

from gld_ros.action import SynthesizeViews
from gld_ros.errors import GldError, Status
from gld_ros.ros.client import make_request, wait_for
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD

pytestmark = pytest.mark.two_process


def call(robot, kind, name, request, again=True):
    """Ask a service of the node; ``again``: twice if need be, for requests that change nothing the second time.

    On a busy machine DDS may drop an answer that comes before it has found the new client's reader.
    """
    client = robot.node.create_client(kind, f"/gld/{name}")
    assert client.wait_for_service(WAIT_S)
    try:
        try:
            return wait_for(client.call_async(request), WAIT_S / 3 if again else WAIT_S, name)
        except GldError:
            if not again:
                raise
            return wait_for(client.call_async(request), WAIT_S, name)
    finally:
        robot.node.destroy_client(client)


def change(robot, transition):
    return call(
        robot, ChangeState, "change_state", ChangeState.Request(transition=Transition(id=transition)), False
    ).success


def state(robot):
    return call(robot, GetState, "get_state", GetState.Request()).current_state.label


def set_parameter(robot, name, value):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return call(robot, SetParameters, "set_parameters", request).results[0]


def test_through_all_states_by_hand():
    """Every request is answered in every state, and the node serves after each round."""
    with rig(wait=False, autostart=False) as robot:
        request = make_request([AHEAD], "odom")

        def code():
            reply = robot.client.synthesize(request, WAIT_S)
            return Status(reply.status.code), reply.status.message

        assert state(robot) == "unconfigured"
        assert code()[0] == Status.NOT_ACTIVE
        assert "configure" in code()[1]
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        assert state(robot) == "inactive"
        assert code()[0] == Status.NOT_ACTIVE
        for _ in range(2):
            assert change(robot, Transition.TRANSITION_ACTIVATE)
            assert code()[0] == Status.NO_KEYFRAMES
            robot.first_keyframe(pose())
            assert code()[0] == Status.OK
            assert change(robot, Transition.TRANSITION_DEACTIVATE)
            assert code()[0] == Status.NOT_ACTIVE
            robot.wait_diagnostics(lambda d: d["state"]["state"] == "inactive" and robot.keyframes() == 0, "inactive")
        assert change(robot, Transition.TRANSITION_CLEANUP)
        assert state(robot) == "unconfigured"
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        assert change(robot, Transition.TRANSITION_CLEANUP)


def test_a_model_that_cannot_be_loaded_is_explained_and_can_be_replaced():
    with rig(wait=False, model="missing") as robot:
        try:
            reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S / 3)
        except GldError:  # on a busy machine DDS may drop an answer that comes before it has found the client's reader
            reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
        assert reply.status.code == Status.NOT_ACTIVE
        assert "missing" in reply.status.message
        assert state(robot) == "unconfigured"
        assert set_parameter(robot, "model", "classical").successful
        assert change(robot, Transition.TRANSITION_CONFIGURE)
        assert change(robot, Transition.TRANSITION_ACTIVATE)


def test_parameters_on_the_wire():
    with rig(cameras=("front", "rear"), virtual_cameras=["top"]) as robot:
        listed = call(robot, ListParameters, "list_parameters", ListParameters.Request()).result.names
        own = [
            n for n in listed if n not in ("use_sim_time", "start_type_description_service") and "qos_overr" not in n
        ]
        assert {"model", "front.image_topic", "rear.transport", "top.hfov_deg"} <= set(own)
        described = call(robot, DescribeParameters, "describe_parameters", DescribeParameters.Request(names=own))
        for one in described.descriptors:
            assert one.description, one.name
            assert one.additional_constraints or one.integer_range or one.floating_point_range, one.name
        for name, bad in (
            ("keyframe_rotation", 500.0),
            ("condition_views", 0),
            ("compose", "both"),
            ("front.depth_slop", float("nan")),
        ):
            result = set_parameter(robot, name, bad)
            assert not result.successful, name
            assert result.reason
        fixed = set_parameter(robot, "fixed_frame", "map")
        assert not fixed.successful
        assert "cleanup" in fixed.reason
        assert set_parameter(robot, "condition_views", 3).successful
        robot.first_keyframe(pose(), name="front")
        for i in range(1, 6):
            robot.first_keyframe(pose(0, 0.2 * i), name="front")
        reply = robot.client.synthesize(make_request([AHEAD], "odom"), WAIT_S)
        assert list(reply.notes) == ["3 views"]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"condition_views": 1000}, "condition_views"),
        ({"fixed_frame": "two words"}, "fixed_frame"),
        ({"cameras": ["a", "a"]}, "more than once"),
        ({"cameras": ["a"], "virtual_cameras": ["a"]}, "both"),
        ({"tf_timeout": "soon"}, "tf_timeout"),
    ],
)
def test_bad_parameters_at_start_end_the_node_with_a_reason(parameters, named):
    command = [sys.executable, str(HERE / "fake_node.py"), "--ros-args", *arguments(parameters)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_node_ends_cleanly_and_answers_who_still_waits(number):
    with rig() as robot:
        robot.first_keyframe(pose())
        running = threading.Event()
        handle = robot.client.start(
            make_request([AHEAD], "odom", kind=SynthesizeViews.Goal, preset="steps1600"), lambda message: running.set()
        )
        result = robot.client.result_future(handle)
        assert running.wait(WAIT_S)
        waiting = robot.client.ask(make_request([AHEAD], "odom"))
        robot.wait_diagnostics(lambda d: d["engine"]["waiting requests"] == "1", "the request to wait")
        robot.child.send_signal(number)
        answer = wait_for(result, WAIT_S, "the goal")
        assert answer.status == GoalStatus.STATUS_ABORTED
        assert answer.result.status.code == Status.NOT_ACTIVE
        assert wait_for(waiting, WAIT_S, "the request").status.code == Status.NOT_ACTIVE
        assert robot.child.wait(WAIT_S) == 0
