"""An unrelated DDS implementation as external client: what the node says on the wire is not a private dialect."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from rig import HERE, pose, rig

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.two_process, pytest.mark.cyclone]


def clean_environment():
    """Without what the ROS wheels put there: the client's Python would load their libraries."""
    drop = ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
    return {key: value for key, value in os.environ.items() if key not in drop}


@pytest.fixture(scope="module")
def cyclone(tmp_path_factory):
    """A Python with cyclonedds and rosbags: the one named by GLD_CYCLONE_PYTHON, else a new environment."""
    named = os.environ.get("GLD_CYCLONE_PYTHON")
    if named:
        return named
    folder = tmp_path_factory.mktemp("cyclone")
    commands = (
        [sys.executable, "-m", "venv", folder],
        [folder / "bin/python", "-m", "pip", "install", "-q", "cyclonedds==11.*", "rosbags", "numpy"],
    )
    for command in commands:
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=100)
        if done.returncode:
            pytest.skip(f"no environment with the external client could be made: {done.stderr[-300:]}")
    return str(folder / "bin/python")


def test_topics_and_service_from_cyclone_dds(cyclone):
    stream = {"top__frame": "camera_optical", "top__width": 160, "top__height": 120, "top__rate": 10.0}
    with rig(virtual_cameras=["top"], stale_after=600.0, **stream) as robot:
        robot.first_keyframe(pose())
        command = [cyclone, str(HERE / "cyclone_client.py"), str(ROOT)]
        done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done.stderr
        heard = json.loads(done.stdout.splitlines()[-1])
    assert heard["stream"] == [160, 120, "rgb8", "camera_optical", 57600]
    assert heard["cloud"] == [1, "odom", ["x", "y", "z", "rgb", "confidence"]]
    assert heard["status"] == [0, ""]
    assert heard["seed"] == 5
    assert heard["view"] == [64, 48, 64 * 48 * 3]
