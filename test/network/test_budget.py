"""Time budgets: what fits is chosen, said and kept; and streams that start from their last picture."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.model.checkpoint import save_model
from gld_ros.model.config import SamplerConfig
from gld_ros.model.gld_model import Latents
from gld_ros.synthesis import budget
from gld_ros.synthesis.budget import Deadline, NetworkCosts, Work, fit_updates
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.presets import CostModel, NetworkPreset
from gld_ros.synthesis.streams import MAX_STREAMS, Streams, warm
from gld_ros.synthesis.types import PosedView, Request
from gld_ros.synthesis.warm_up import warm_up_scene

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from small_model import random_model, small_config

SAMPLER = SamplerConfig(points=9, shift=2.0, guidance=1.0)
PRESET = NetworkPreset(SAMPLER, SAMPLER, "fast")
WORK = Work(to_encode=2, views=3, samples=1, tokens=48, pixels=160 * 120)
Scene = tuple[list[PosedView], Request]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> NetworkEngine:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    config = small_config(trained_sizes=((112, 84),), sampler=SamplerConfig(points=7, shift=3.0, guidance=1.0))
    save_model(path, random_model(config), torch.float32)
    return NetworkEngine(path, "cpu")


@pytest.fixture(scope="module")
def updates(engine: NetworkEngine) -> int:
    """Of preset fast."""
    return engine.presets["fast"].level1.points - 1


@pytest.fixture
def scene(engine: NetworkEngine) -> Scene:
    engine.clear()
    return warm_up_scene(96)


def test_costs_are_known_once_the_engine_is_loaded(engine: NetworkEngine, scene: Scene) -> None:
    views, request = scene
    expected = [engine.planner.expected_seconds(views, request, p) for p in engine.presets.values()]
    assert expected == sorted(expected, reverse=True)
    assert expected[-1] > 1e-3
    engine.prepare(views, "fast")
    assert engine.planner.expected_seconds(views, request, engine.presets["fast"]) < expected[-1]  # depth is there now


def test_budget_below_the_floor_is_refused_unrun(engine: NetworkEngine, scene: Scene) -> None:
    views, request = scene
    with pytest.raises(GldError, match=r"time_budget 1e-05 s is below the floor of \d\S* s for 1 views") as caught:
        engine.synthesize(views, dataclasses.replace(request, time_budget_s=1e-5), lambda _: pytest.fail("it ran"))
    assert caught.value.status == Status.BUDGET_EXCEEDED


def test_no_budget_runs_all_updates(engine: NetworkEngine, scene: Scene, updates: int) -> None:
    result = engine.synthesize(scene[0], scene[1])
    assert (result.preset, result.updates) == ("fast", (updates, updates))
    assert {"depth", "targets", "encode", "level1", "cascade", "decode", "compose", "total"} <= set(result.seconds)


def test_generous_budget_changes_nothing(engine: NetworkEngine, scene: Scene, updates: int) -> None:
    result = engine.synthesize(scene[0], dataclasses.replace(scene[1], time_budget_s=1000.0))
    assert (result.preset, result.updates) == ("fast", (updates, updates))
    assert not any("to keep" in note for note in result.notes)


def cost_by_updates(preset: NetworkPreset) -> float:
    """A machine on which an update takes a second, and the reference's geometry ten times that of the others."""
    return preset.level1.points - 1 + (10 if preset.geometry == "reference" else 1)


@pytest.mark.parametrize(
    ("asked", "seconds", "name", "updates"),
    [
        ("reference", 70.0, "reference", 49),
        ("reference", 50.0, "reference", 35),
        ("reference", 30.0, "full", 6),
        ("full", 6.0, "full", 4),
        ("full", 2.5, "fast", 1),
    ],
)
def test_preset_and_updates_that_fit(
    engine: NetworkEngine,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    seconds: float,
    name: str,
    updates: int,
) -> None:
    monkeypatch.setattr(engine.planner, "expected_seconds", lambda _views, _request, preset: cost_by_updates(preset))
    notes: list[str] = []
    request = dataclasses.replace(scene[1], preset=asked, time_budget_s=seconds)
    chosen, preset = engine.planner.choose(scene[0], request, notes)
    assert (chosen, preset.level1.points - 1) == (name, updates)
    assert bool(notes) == (preset != engine.presets[asked])


def test_clock_ends_a_stage_early_and_the_result_says_so(
    engine: NetworkEngine, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine turns slow after the plan was made."""
    monkeypatch.setattr(Deadline, "hurry", lambda self, stage, step, steps: step == (2 if stage == "level1" else 0))
    request = dataclasses.replace(scene[1], preset="balanced", time_budget_s=1000.0)
    result = engine.synthesize(scene[0], request)
    assert result.updates == (3, 1)
    assert result.status == Status.OK


def test_deadline_leaves_time_for_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(budget.time, "perf_counter", lambda: now[0])
    expected = {"level1": 8.0, "cascade": 4.0, "decode": 1.0, "compose": 1.0}
    deadline = Deadline(14.5, expected, PRESET)
    ran = []
    for step in range(8):  # updates take twice what was expected
        ran.append(deadline.hurry("level1", step, 8))
        if ran[-1]:
            break
        now[0] += 2.0
    assert ran == [False, False, False, True]  # 8 s are left then: this update, and 6 s for what follows
    assert not deadline.hurry("cascade", 0, 8)


def test_updates_are_fitted_from_the_top() -> None:
    chosen = fit_updates(PRESET, lambda p: p.level1.points <= 6)
    assert chosen is not None
    assert chosen.level1.points == 6
    assert fit_updates(PRESET, lambda p: p.level1.points <= 6, fewest=7) is None


def test_costs_follow_updates_and_learning() -> None:
    costs = NetworkCosts(small_config(), CostModel())
    costs.learn(PRESET, WORK, (4, 4), {"encode": 0.1, "level1": 0.4, "cascade": 0.2, "decode": 0.1, "compose": 0.05})
    assert costs.seconds(PRESET.with_updates(4), WORK) == pytest.approx(0.85)
    assert costs.seconds(PRESET, WORK) == pytest.approx(0.85 + 0.6)
    twice = dataclasses.replace(WORK, samples=2)
    assert costs.stages(PRESET, twice)["cascade"] == pytest.approx(0.8)


def moved(camera: Camera, metres: float) -> Camera:
    pose = camera.world_from_cam.copy()
    pose[0, 3] += metres
    return camera.moved(pose)


def test_stream_starts_from_its_last_picture(engine: NetworkEngine, scene: Scene, updates: int) -> None:
    views, request = scene
    cold, few = (updates, updates), -(-updates // 3)
    streamed = dataclasses.replace(request, stream="behind")
    assert engine.synthesize(views, streamed).updates == cold
    near = dataclasses.replace(streamed, targets=[moved(request.targets[0], 0.005)])
    assert engine.synthesize(views, near).updates == (few, few)
    assert engine._streams._last["behind"].camera is request.targets[0]  # no picture starts from one that did so
    far = dataclasses.replace(streamed, targets=[moved(request.targets[0], 0.5)])
    assert engine.synthesize(views, far).updates == cold
    assert engine.synthesize(views, dataclasses.replace(near, stream="other")).updates == cold


def test_later_requests_reuse_features(engine: NetworkEngine, scene: Scene) -> None:
    views, request = scene
    first = engine.synthesize(views, request)
    held = engine._features.bytes_held()
    assert held > 0
    again = engine.synthesize(views, request)
    assert engine._features.bytes_held() == held
    assert np.array_equal(first.views[0].generated, again.views[0].generated)
    engine.forget([views[0].key])
    assert engine._features.bytes_held() < held


def test_streams_are_bounded() -> None:
    streams, latents = Streams(), Latents(torch.zeros(1), torch.zeros(1))
    camera = warm_up_scene(96)[1].targets[0]
    for n in range(MAX_STREAMS + 1):
        streams.keep(str(n), camera, camera, latents)
    assert streams.start("0", camera, camera, 2.0, 14) is None
    assert streams.start("1", camera, camera, 2.0, 14) is latents


def test_warm_preset_has_fewer_updates_but_at_least_one() -> None:
    assert warm(PRESET).level1.points - 1 == 3
    assert warm(PRESET.with_updates(1)) == PRESET.with_updates(1)
