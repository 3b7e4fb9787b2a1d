"""The demo's ROS half: replay, node and client as processes, isolated from any robot on the network."""

import os
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from rig import HERE, LENS, pose
from test_replay import scene_folder

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.session import SessionSettings, isolate, run_session
from gld_ros.ros.streaming import BODY_FROM_OPTICAL as AHEAD

pytestmark = pytest.mark.two_process
FAKE = (sys.executable, str(HERE / "fake_node.py"))


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """``isolate`` writes into the environment: give it back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def test_views_come_back_as_a_result(tmp_path):
    scene = scene_folder(tmp_path / "scene")
    # two lenses: two requests behind one result
    sizes = ((80, 60), (80, 60), (64, 48))
    targets = [Camera(w, h, LENS.resized(w, h).K, pose(0, 0.1 * i) @ AHEAD) for i, (w, h) in enumerate(sizes)]
    heard = []
    settings = SessionSettings(scene, [0, 2], targets, preset="steps4", logs=tmp_path, node_command=FAKE, start_s=30)
    back = run_session(settings, heard.append)
    assert back.result.status == Status.OK
    assert back.result.model == "fake"
    assert back.keyframes == 2
    assert [progress.step for progress in heard] == [1, 2, 3, 4] * 2
    assert set(back.seconds) == {"start", "keyframes", "synthesis"}
    for view, target in zip(back.result.views, targets, strict=True):
        np.testing.assert_allclose(view.camera.world_from_cam, target.world_from_cam, atol=1e-9)
        np.testing.assert_allclose(view.camera.K, target.K)
        assert view.rgb.shape == (target.height, target.width, 3)
        assert set(np.unique(view.provenance)) == {1, 2}
    cloud = back.result.points_observed
    np.testing.assert_allclose(cloud.xyz, [[1, 2, 3]] * 2)
    assert cloud.rgb.tolist() == [[10, 20, 30]] * 2


def test_a_node_that_dies_is_reported_with_its_log(tmp_path):
    scene = scene_folder(tmp_path / "scene")
    command = (sys.executable, "-c", "print('no such weights'); raise SystemExit(3)")
    settings = SessionSettings(scene, [0], [LENS], logs=tmp_path, node_command=command, start_s=20)
    with pytest.raises(GldError, match="no such weights"):
        run_session(settings)


def test_isolation_is_from_the_network_and_from_other_domains(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    domain = isolate()
    assert 1 <= domain <= 101
    assert os.environ["ROS_DOMAIN_ID"] == str(domain)
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
