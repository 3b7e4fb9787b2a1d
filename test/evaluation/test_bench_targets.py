"""Verdicts, time budgets and streaming against engines whose behaviour is known."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np
import planes
import pytest

from gld_ros.errors import GldError, Status
from gld_ros.evaluation.bench import budget, streaming, whole
from gld_ros.evaluation.bench.rows import Row
from gld_ros.evaluation.bench.sequence import MovingSequence, beside, moving_sequence, window
from gld_ros.evaluation.bench.streaming import SKIPPED
from gld_ros.evaluation.bench.verdict import dominance, limit, preset_verdicts
from gld_ros.synthesis.classical import empty_view
from gld_ros.synthesis.types import PosedView, Request, Result

BASE = Row("tiny", "tiny", "reference", (2, 2), (64, 64), 10.0, 11.0, (49, 0), 98, 10**9, 10**8, targets=100, psnr=22.0,
           psnr_drop_vs_best=0.5, perceptual=0.1, sharpness_holes=0.5)  # fmt: skip


def fast(**changes: object) -> Row:
    """A row that meets its targets but for the changes."""
    good = dataclasses.replace(BASE, preset="fast", seconds_p50=0.5, psnr=22.5, psnr_drop_vs_best=0.0)
    return dataclasses.replace(good, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, True),
        ({"seconds_p50": 0.51}, False),
        ({"psnr_drop_vs_best": 0.71}, False),
        ({"perceptual": 0.106}, False),
        ({"perceptual": 0.104}, True),
        ({"sharpness_holes": 0.47}, False),
        ({"sharpness_holes": 0.9}, True),
        ({"targets": 50}, None),
        ({"perceptual": None}, None),
        ({"perceptual": None, "seconds_p50": 1.0}, False),
    ],
)
def test_speed_counts_only_while_quality_holds(changes: dict[str, object], met: bool | None) -> None:
    (verdict,) = preset_verdicts([BASE, fast(**changes)])
    assert verdict.met is met
    assert verdict.target == "tiny fast"


def test_a_verdict_says_what_was_missing() -> None:
    (verdict,) = preset_verdicts([BASE, fast(targets=50, perceptual=None)])
    assert "only 50 targets" in verdict.line()
    assert "not measured: perceptual" in verdict.line()


def test_the_whole_request_gains_less_and_says_so() -> None:
    rows = [dataclasses.replace(BASE, request_seconds_p50=11.0), fast(request_seconds_p50=1.5)]
    (verdict,) = preset_verdicts(rows)
    assert verdict.figures["speedup_whole"] == pytest.approx(11 / 1.5)
    assert "7.3x of the whole request" in verdict.line()


def test_few_steps_that_win_everywhere_are_named() -> None:
    assert "fast" in dominance([BASE, fast()])[0]
    assert dominance([BASE, fast(perceptual=0.2)]) == []


def test_limits_in_both_directions() -> None:
    assert limit("a", "x", 1.0, 1.1, True, "{:.1f}").met is True
    assert limit("a", "x", 1.0, 1.1, False, "{:.1f}").met is False
    assert limit("a", "x", None, 1.1, False, "{:.1f}").met is None


class Clock:
    """Time that passes only where an engine says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(budget, "time", made)
    monkeypatch.setattr(streaming, "time", made)
    return made


class FakeEngine:
    """Takes a fixed time a view, more for views that are not prepared; refuses budgets below it, overruns others."""

    name = "fake"

    def __init__(self, clock: Clock, seconds: float, unprepared: float = 0.0, overrun: float = 1.0) -> None:
        self.clock, self.seconds, self.unprepared, self.overrun = clock, seconds, unprepared, overrun
        self.prepared: set[str] = set()
        self.presets: set[str] = set()

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        self.prepared |= {v.key for v in views}

    def forget(self, keys: Sequence[str]) -> None:
        self.prepared -= set(keys)

    def clear(self) -> None:
        self.prepared = set()

    def synthesize(self, views: Sequence[PosedView], request: Request) -> Result:
        self.presets.add(request.preset)
        if 0 < request.time_budget_s < self.seconds:
            raise GldError("below the floor", Status.BUDGET_EXCEEDED)
        taken = self.seconds + self.unprepared * len({v.key for v in views} - self.prepared)
        self.clock.now += max(taken, self.overrun * request.time_budget_s)
        made = [empty_view(target, "") for target in request.targets]
        return Result(Status.OK, "", made, None, None, "fake", request.preset, (1, 0), 0, 1.0, True, False, "head")


@pytest.fixture(scope="module")
def job() -> tuple[list[PosedView], list[planes.Camera]]:
    views = [PosedView(str(i), planes.camera(0.1 * i), np.zeros((planes.H, planes.W, 3), np.uint8)) for i in range(2)]
    return views, [planes.camera(0.05)]


def test_budgets_that_are_kept_and_one_that_is_refused(job, clock) -> None:  # type: ignore[no-untyped-def]
    found = budget.budget_rows(FakeEngine(clock, 1.0, overrun=0.9), [job], factors=(0.3, 2.0, 4.0))
    assert found.floor == 1.0
    assert found.refused == 1
    assert found.refused_above_floor == 0
    assert found.actual_over_budget_p95 == pytest.approx(0.9)
    assert len(found.runs) == 3
    assert {run.message for run in found.runs if run.refused} == {"below the floor"}


def test_overruns_show(job, clock) -> None:  # type: ignore[no-untyped-def]
    found = budget.budget_rows(FakeEngine(clock, 1.0, overrun=1.5), [job], factors=(2.0, 4.0))
    assert found.actual_over_budget_p95 == pytest.approx(1.5)


def test_an_engine_that_refuses_everything_has_no_ratio(job, clock) -> None:  # type: ignore[no-untyped-def]
    found = budget.budget_rows(FakeEngine(clock, 1.0), [job], factors=(0.1,))
    assert found.actual_over_budget_p95 is None
    assert found.refused == 1


def test_whole_requests_find_their_keyframes_prepared(job, clock, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(whole, "time", clock)
    engine = FakeEngine(clock, 1.0, unprepared=5.0)
    assert whole.whole_seconds(engine, [job, job], ("full", "fast")) == {"full": 1.0, "fast": 1.0}
    assert engine.presets == {"full", "fast"}


def sequence(ticks: int) -> MovingSequence:
    black = np.zeros((planes.H, planes.W, 3), np.uint8)
    real = [planes.camera(0.05 * i) for i in range(ticks)]
    views = [PosedView(str(i), camera, black) for i, camera in enumerate(real)]
    return MovingSequence(views, [beside(camera) for camera in real], [black] * ticks)


def test_warm_caches_are_told_from_cold_ones(clock: Clock) -> None:
    engines = [FakeEngine(clock, 0.1, unprepared=0.2) for _ in range(2)]
    found = streaming.stream_row(*engines, sequence(SKIPPED + 4), "fast")
    assert found.ticks == 4
    assert found.cold_p50 == pytest.approx(0.7)  # three keyframes to sweep
    assert found.steady_p50 == pytest.approx(0.1)
    assert found.cold_over_steady == pytest.approx(7)
    assert found.hz > 1
    assert found.psnr_cold == found.psnr_steady  # black on black
    assert {preset for engine in engines for preset in engine.presets} == {"fast"}


def test_background_failures_are_not_lost(clock: Clock) -> None:
    class Failing(FakeEngine):
        def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
            if threading.current_thread() is not threading.main_thread():
                raise ValueError("no depth")

    with pytest.raises(GldError, match="no depth"):
        streaming.stream_row(Failing(clock, 0.1), Failing(clock, 0.1), sequence(SKIPPED + 1), "fast")


def test_keyframes_in_use_are_the_newest() -> None:
    views = sequence(9).views
    assert [v.key for v in window(views, 7, 3, 2)] == ["3", "6"]
    assert [v.key for v in window(views, 1, 3, 2)] == ["0"]


def test_the_virtual_camera_rides_beside_the_real_one() -> None:
    real = planes.camera(1.0, yaw_deg=90)
    moved = beside(real).centre - real.centre
    assert np.linalg.norm(moved) == pytest.approx(np.hypot(0.12, 0.08))
    assert abs(moved @ real.forward) < 1e-9


def test_rendered_sequence_moves_straight_on() -> None:
    pytest.importorskip("numba")
    made = moving_sequence(3, (32, 24))
    steps = np.diff([v.camera.centre for v in made.views], axis=0)
    assert np.linalg.norm(steps, axis=1) == pytest.approx([0.04, 0.04], rel=0.01)
    assert len(made.truth) == len(made.targets) == 3
    assert made.truth[0].shape == (24, 32, 3)
    assert made.views[0].depth is not None
    assert not np.array_equal(made.truth[0], made.views[0].rgb)
