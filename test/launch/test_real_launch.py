"""`gld launch` with the real node: names, namespace and values arrive, and it ends in good order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

rclpy = pytest.importorskip("rclpy", reason="needs ROS")
pytestmark = pytest.mark.two_process

ARGUMENTS = ("autostart:=false", "namespace:=robot1", "cameras:=front,rear", "fastdds:=true", "use_sim_time:=true")


@pytest.fixture
def launched() -> Iterator[subprocess.Popen[str]]:
    """`gld launch` as a user starts it."""
    command = [sys.executable, "-m", "gld_ros.cli.main", "launch", *ARGUMENTS]
    process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_values_arrive_and_ctrl_c_ends_it(launched: subprocess.Popen[str]) -> None:
    from rcl_interfaces.srv import GetParameters

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("asker", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        client = node.create_client(GetParameters, "/robot1/gld/get_parameters")
        assert client.wait_for_service(30.0), "the node did not come up"
        names = ["cameras", "virtual_cameras", "use_sim_time", "virtual.axes", "rear.depth_topic"]
        future = client.call_async(GetParameters.Request(names=names))
        executor.spin_until_future_complete(future, 20.0)
        cameras, virtual, sim_time, axes, depth_topic = future.result().values
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)
    assert list(cameras.string_array_value) == ["front", "rear"]  # the argument
    assert list(virtual.string_array_value) == ["virtual"]  # the file
    assert axes.string_value == "body"
    assert sim_time.bool_value is True
    assert depth_topic.string_value == ""  # declared for each camera the argument names
    started = time.monotonic()
    launched.send_signal(signal.SIGINT)
    output, _ = launched.communicate(timeout=30)
    assert launched.returncode == 0, output
    assert "Traceback" not in output, output
    assert time.monotonic() - started < 15
