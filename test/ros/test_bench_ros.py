"""The figures of ``gld bench --ros``: what they measure is what they say, and images are not copied on the way in."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

import rclpy
from rclpy.parameter import Parameter
from rig import HERE, LENS, picture

from gld_ros.cli.main import main
from gld_ros.data.camera_info import CameraModel
from gld_ros.data.image_messages import image_to_rgb
from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera
from gld_ros.ros.bench import Figure, live_figures, publish_figures
from gld_ros.ros.bench_live import LiveResult, run_live
from gld_ros.ros.bench_peer import LENS as BENCH_LENS
from gld_ros.ros.bench_peer import REACH_PX, wall
from gld_ros.ros.bench_publish import PublishTimes, cloud_times, publish_times
from gld_ros.ros.camera_input import PENDING, CameraInput
from gld_ros.ros.durations import Durations
from gld_ros.ros.keyframes import KeyframeSettings, KeyframeStore
from gld_ros.ros.messages import camera_info_message, header, image_message
from gld_ros.ros.settings import Settings
from gld_ros.synthesis.types import PosedView


@pytest.fixture
def context():
    made = rclpy.Context()
    rclpy.init(context=made, args=["--ros-args", "--log-level", "error"])
    yield made
    rclpy.try_shutdown(context=made)


@pytest.fixture
def camera(context):
    node = rclpy.create_node("intake", context=context, parameter_overrides=[Parameter("cameras", value=["camera"])])
    yield CameraInput(node, "camera", Settings(node))
    node.destroy_node()


def test_the_callback_stores_the_message_and_never_looks_at_its_pixels(camera):
    class Message:
        header = header(5, "optical")

        @property
        def data(self):
            raise AssertionError("the callback touched the pixels")

    message = Message()
    camera._on_image_message(message)
    ((stored, _),) = camera.pending()
    assert stored is message
    assert len(camera.counters.callback) == 1


def test_of_a_flood_the_newest_wait_and_the_rest_is_counted(camera):
    messages = [SimpleNamespace(header=header(stamp, "optical")) for stamp in range(1, 2 * PENDING + 2)]
    for message in messages[:PENDING]:
        camera._on_image_message(message)
    camera.pending()
    for message in messages[PENDING:]:
        camera._on_image_message(message)
    assert [stored for stored, _ in camera.pending()] == messages[-PENDING:]
    assert camera.counters.superseded == PENDING + 1
    camera.discard(messages[-1])
    assert [stored for stored, _ in camera.pending()] == messages[-PENDING:-1]
    camera.forget()
    assert camera.pending() == []


def test_an_rgb_image_is_not_copied_between_message_and_keyframe():
    message = image_message(picture(1), header(1, "optical"))
    model = CameraModel(camera_info_message(LENS, message.header), rectified=False)
    rgb = np.ascontiguousarray(model.rectify(image_to_rgb(message)))
    store = KeyframeStore(KeyframeSettings())
    store.add("camera", PosedView("a", Camera(160, 120, LENS.K, np.eye(4)), rgb, None, 1))
    assert np.shares_memory(store.newest().view.rgb, np.frombuffer(message.data, np.uint8))


def test_clouds_are_those_of_the_point_by_point_way_and_far_faster():
    fast, naive = cloud_times((252, 140), repeats=6, naive_repeats=1)  # compares them, too
    assert np.median(naive) / np.median(fast) >= 20


def test_durations():
    durations = Durations(kept=3)
    assert durations.text(50) == "none"
    for _ in range(5):
        with durations.measure():
            pass
    assert len(durations) == 3
    assert 0 <= durations.percentile_ms(50) <= durations.percentile_ms(99) < 1000


@pytest.mark.parametrize(
    ("figure", "met"),
    [
        (Figure("a", 2.0, "ms", 2.0), True),
        (Figure("a", 2.1, "ms", 2.0), False),
        (Figure("a", 19.0, "x", 20.0, at_least=True), False),
        (Figure("a", 1.0, "ms"), None),
    ],
)
def test_targets(figure, met):
    assert figure.met is met
    assert ("NOT MET" in figure.line()) == (met is False)


def test_lost_images_and_times_become_figures():
    diagnostics = {"camera bench": {"image callback p99 (ms)": "3.5", "image callback p50 (ms)": "none"}}
    live = LiveResult(200, 10.0, 0, 196, 200, {"OK": 3}, 2, diagnostics)
    figures = {figure.name: figure for figure in live_figures(live)}
    assert figures["images the synthesising node missed"].value == pytest.approx(2.0)
    assert figures["images the synthesising node missed"].met is False
    assert figures["image callback p99"].met is False
    assert "image callback p50" not in figures
    times = PublishTimes(np.full(3, 0.002), np.full(4, 0.01), np.full(4, 0.005), np.full(2, 0.5), 4)
    figures = {figure.name: figure for figure in publish_figures(times)}
    assert figures["cloud building, how much faster"].value == pytest.approx(250)
    assert figures["publishing p95"].met


def test_the_wall_is_wide_enough_for_the_swing():
    assert wall().shape == (BENCH_LENS.height, BENCH_LENS.width + 2 * REACH_PX, 3)
    assert wall().std() > 20


@pytest.mark.parametrize("seconds", ["0", "-3", "nan", "1e9"])
def test_bad_lengths_are_refused(seconds, capsys):
    assert main(["bench", "--ros", "--seconds", seconds]) == 2
    assert "1 to 3600" in capsys.readouterr().err


@pytest.mark.two_process
def test_a_short_run_with_other_processes():
    """Every figure is there and possible; how good they are depends on what else the machine does."""
    rclpy.init(args=["--ros-args", "--log-level", "error"])
    try:
        times = publish_times(repeats=5, size=(252, 140))
        assert times.heard >= 1
        assert (times.processor <= times.publishing + 1e-3).all()
        live = run_live(1.0, preset="steps2", node_command=(sys.executable, str(HERE / "fake_node.py")))
    finally:
        rclpy.try_shutdown()
    assert live.sent == 30
    assert 0 <= live.received <= 30
    assert live.received >= live.plain - 3
    assert live.answers.get("OK", 0) >= 1
    assert live.diagnostics["engine"]["model"] == "fake"
    figures = {figure.name: figure.value for figure in live_figures(live)}
    assert 0 < figures["image callback p50"] <= figures["image callback p99"]


def test_a_node_that_dies_is_named():
    rclpy.init(args=["--ros-args", "--log-level", "error"])
    try:
        with pytest.raises(GldError, match="ended with 3"):
            run_live(1.0, node_command=(sys.executable, "-c", "import sys; sys.exit(3)"))
    finally:
        rclpy.try_shutdown()
