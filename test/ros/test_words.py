"""What the node says of itself, from its counters, without a network: diagnostics, messages."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy", reason="needs ROS")
pytest.importorskip("gld_ros.msg", reason="needs ROS")

from diagnostic_msgs.msg import DiagnosticStatus

from gld_ros.ros import diagnostics
from gld_ros.ros.camera_input import Counters, Heard
from gld_ros.ros.core import Core
from gld_ros.ros.diagnostics import Reporter
from gld_ros.ros.transforms import MOST_NAMED, frames_text
from gld_ros.synthesis.types import PREPARING, Progress


def camera(**counts):
    heard = {"image": Heard("/front/image_raw")}
    return SimpleNamespace(
        name="front", counters=Counters(**counts), heard=heard, silent=lambda limit_s: [], skew_s=lambda: None
    )


@pytest.mark.parametrize(("lost", "level"), [(1, DiagnosticStatus.OK), (6, DiagnosticStatus.WARN)])
def test_many_images_dropped_for_tf_are_a_warning_with_count_and_remedy(lost, level):
    status = Reporter("gld").camera(camera(kept=9, no_transform=lost, last_no_transform="no 'base'"), 0, 5.0)
    assert status.level == level
    for named in (f"{lost} of the last {9 + lost} images", "no 'base'", "tf_timeout"):
        assert (named in status.message) == (level == DiagnosticStatus.WARN)


def test_the_warning_ends_when_transforms_come_again(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(diagnostics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reporter, levels = Reporter("gld"), []
    for kept, lost in ((0, 0), (0, 8), (5, 8), (50, 8), (60, 8)):
        levels.append(reporter.camera(camera(kept=kept, no_transform=lost), 0, 5.0).level)
        now[0] += 0.6 * diagnostics.TF_PERIOD_S
    assert [level == DiagnosticStatus.WARN for level in levels] == [False, True, True, False, False]


def test_counting_begins_anew_with_an_activation():
    reporter = Reporter("gld")
    reporter.camera(camera(kept=100), 0, 5.0)
    assert reporter.camera(camera(no_transform=3), 0, 5.0).message.startswith("3 of the last 3 images")


def test_known_frames_are_named_up_to_a_bound():
    assert "/tf" in frames_text(set())
    assert frames_text({"map", "base_link"}) == "TF knows 2 frames: base_link, map"
    assert frames_text([f"f{i:02}" for i in range(50)]).endswith(f"f{MOST_NAMED - 1:02}, …")


def test_the_wait_for_keyframes_is_logged_once():
    said = []
    logger = SimpleNamespace(info=said.append)
    core = SimpleNamespace(_said_preparing=False, node=SimpleNamespace(get_logger=lambda: logger))
    for progress in (Progress("target", 0, 1, 0.1), Progress(PREPARING, 0, 4, 2.5), Progress(PREPARING, 1, 4, 2.0)):
        Core.note_progress(core, progress)
    assert len(said) == 1
    assert "4 keyframes" in said[0]
