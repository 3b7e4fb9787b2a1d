"""The classical engine on a rendered scene: quality, invariances, budgets, cancelling."""

import time
from dataclasses import replace

import numpy as np
import pytest
from rendered import ASIDE, CONDITIONS, TARGET, look, moved_world, posed, render, seen_by

from gld_ros.errors import GldError, Status
from gld_ros.evaluation.baselines import trivial_predictions
from gld_ros.evaluation.metrics import psnr
from gld_ros.geometry.target_depth import sweep_target
from gld_ros.synthesis import classical
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.presets import PRESETS
from gld_ros.synthesis.types import GENERATED, OBSERVED, PREPARING, UNKNOWN, Request

BEHIND = look(0.0, yaw_deg=180)


@pytest.fixture(scope="module")
def views():
    return [posed(f"view{i}", c) for i, c in enumerate(CONDITIONS)]


@pytest.fixture(scope="module")
def engine():
    return ClassicalEngine("cpu")


@pytest.fixture(scope="module")
def result(views, engine):
    return engine.synthesize(views, Request([TARGET, ASIDE], preset="fast", seed=7))


def test_beats_every_trivial_prediction(views, result):
    for made, target in zip(result.views, (TARGET, ASIDE), strict=True):
        truth = render(target).rgb
        trivial = trivial_predictions(views, target, (target.width, target.height))
        assert psnr(made.rgb, truth) > 3 + max(psnr(p, truth) for p in trivial.values())
    assert psnr(result.views[0].rgb, render(TARGET).rgb) > 24


def test_result_says_what_it_is(views, result):
    assert (result.status, result.model, result.preset, result.seed) == (Status.OK, "classical", "fast", 7)
    assert result.scale_valid
    assert result.carved
    assert result.confidence_kind == "plane_sweep"
    assert result.seconds["total"] >= result.seconds["targets"] > 0
    for made in result.views:
        assert made.rgb.dtype == np.uint8
        assert made.depth.dtype == np.float32
        assert np.isfinite(made.depth).all()
        assert made.depth.min() > 0
        assert made.confidence.min() >= 0
        assert made.confidence.max() <= 1
        assert set(np.unique(made.provenance)) <= {GENERATED, OBSERVED}
        assert made.confidence[made.provenance == OBSERVED].min() > 0.2


def test_depth_and_provenance_agree_with_the_truth(result):
    made, truth = result.views[1], render(ASIDE)
    visible = np.any([seen_by(truth, c) for c in CONDITIONS], axis=0)
    observed = made.provenance == OBSERVED
    assert visible[observed].mean() > 0.9
    assert np.median(np.abs(made.depth / truth.depth - 1)[observed]) < 0.03


def test_clouds_lie_on_the_scene_and_are_not_mixed(result):
    counts = [int((v.provenance == OBSERVED).sum()) for v in result.views]
    assert len(result.points_observed.xyz) == sum(counts)
    assert 0 < len(result.points_generated.xyz) <= 2 * 112 * 84 - sum(counts)
    z = result.points_observed.xyz[:, 2]
    assert np.mean((z > 1.4) & (z < 4.5)) > 0.95


def test_same_request_same_answer(views, result):
    again = ClassicalEngine("cpu").synthesize(views, Request([TARGET, ASIDE], preset="fast"))
    for a, b in zip(result.views, again.views, strict=True):
        assert np.array_equal(a.rgb, b.rgb)
        assert np.array_equal(a.depth, b.depth)
        assert np.array_equal(a.provenance, b.provenance)


def test_cached_keyframes_give_the_same_answer(views, engine, result):
    again = engine.synthesize(views, Request([TARGET], preset="fast"))
    assert np.array_equal(again.views[0].rgb, result.views[0].rgb)
    assert again.seconds["depth"] < result.seconds["depth"]


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1e4, 1.0), (0.0, 0.05), (0.0, 200.0)])
def test_turning_shifting_and_scaling_the_world_changes_nothing(views, result, offset, scale):
    turn = moved_world(look(0.0, yaw_deg=70), np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]]))
    world = turn.world_from_cam.copy()
    world[:3, 3] = offset, -offset, 0.3 * offset
    moved = [replace(v, camera=moved_world(v.camera, world, scale)) for v in views]
    made = ClassicalEngine("cpu").synthesize(moved, Request([moved_world(TARGET, world, scale)], preset="fast"))
    one, other = result.views[0], made.views[0]
    assert np.mean(np.abs(one.rgb.astype(int) - other.rgb)) < 1.0
    assert np.median(np.abs(other.depth / scale / one.depth - 1)) < 0.003
    assert np.mean(one.provenance != other.provenance) < 0.03


def test_order_of_views_hardly_matters(views, result):
    made = ClassicalEngine("cpu").synthesize(views[::-1], Request([TARGET], preset="fast")).views[0]
    assert np.mean(np.abs(made.rgb.astype(int) - result.views[0].rgb)) < 1.0
    assert np.mean(made.provenance != result.views[0].provenance) < 0.02


def test_different_exposures_do_not_show(views):
    gains = (1.0, 0.75, 1.1, 0.85)
    uneven = [posed(f"view{i}", c, gain=g) for i, (c, g) in enumerate(zip(CONDITIONS, gains, strict=True))]
    made = ClassicalEngine("cpu").synthesize(uneven, Request([TARGET], preset="fast")).views[0]
    best = max(psnr(made.rgb, render(TARGET, g).rgb) for g in np.linspace(0.8, 1.1, 7))
    assert best > 23


@pytest.mark.parametrize("stop_at", range(6))
def test_cancel_takes_effect_within_one_step(views, stop_at):
    steps = []

    def progress(p):
        steps.append((p.stage, p.step))

    request = Request([TARGET, ASIDE], preset="fast")
    with pytest.raises(GldError) as error:
        ClassicalEngine("cpu").synthesize(views, request, progress, lambda: len(steps) == stop_at)
    assert len(steps) == stop_at
    assert error.value.status == Status.CANCELLED


def test_progress_counts_views_and_targets_and_names_what_only_the_first_request_does(views):
    engine = ClassicalEngine("cpu")
    for first in (PREPARING, "depth"):
        seen = []
        engine.synthesize(views, Request([TARGET, ASIDE], preset="fast"), seen.append)
        assert [(p.stage, p.step, p.steps) for p in seen] == [
            *((first, i, 4) for i in range(4)),
            *(("target", i, 2) for i in range(2)),
        ]
        assert all(p.seconds_left > 0 for p in seen)
    assert seen[-1].seconds_left < seen[0].seconds_left  # the first time it could only guess


def test_budget_below_the_floor_is_refused_and_the_floor_named(views, engine, result):
    started = time.process_time()
    with pytest.raises(GldError, match=r"floor of .* s for 2 views with preset fast") as error:
        engine.synthesize(views, Request([TARGET, ASIDE], time_budget_s=1e-4))
    assert error.value.status == Status.BUDGET_EXCEEDED
    assert time.process_time() - started < 0.5


def test_budget_is_refused_by_a_new_engine_too(views):
    with pytest.raises(GldError, match="floor"):
        ClassicalEngine("cpu").synthesize(views, Request([TARGET], time_budget_s=1e-6))


def test_tight_budget_takes_a_faster_preset_and_says_so(views):
    engine = ClassicalEngine("cpu")
    big = look(0.0, size=(256, 192))
    engine.synthesize(views, Request([big], preset="balanced"))
    engine.synthesize(views, Request([big], preset="fast"))
    fast, slow = (engine._target_seconds(big, views, PRESETS[n]) for n in ("fast", "balanced"))
    made = engine.synthesize(views, Request([big], preset="balanced", time_budget_s=(fast + slow) / 2))
    assert made.preset == "fast"
    assert any("preset fast instead of balanced" in n for n in made.notes)


def test_budget_running_out_returns_what_is_done(views):
    engine = ClassicalEngine("cpu")  # knows no costs yet, so that it starts
    made = engine.synthesize(views, Request([TARGET] * 100, preset="fast", time_budget_s=0.5))
    done = [v.status == Status.OK for v in made.views]
    assert done == sorted(done, reverse=True)
    assert not done[-1]
    assert made.views[-1].status == Status.BUDGET_EXCEEDED
    assert "time_budget 0.5 s" in made.views[-1].message
    assert made.seconds["total"] < 30


def test_looking_away_is_no_overlap_and_black(views, engine):
    made = engine.synthesize(views, Request([BEHIND, TARGET], preset="fast"))
    away = made.views[0]
    assert (made.status, away.status) == (Status.OK, Status.NO_OVERLAP)
    assert "choose a pose" in away.message
    assert not away.rgb.any()
    assert not away.generated.any()
    assert not away.confidence.any()
    assert np.isnan(away.depth).all()
    assert (away.provenance == UNKNOWN).all()
    assert made.views[1].status == Status.OK
    alone = engine.synthesize(views, Request([BEHIND], preset="fast"))
    assert alone.status == Status.NO_OVERLAP
    assert alone.message
    assert len(alone.points_observed.xyz) == len(alone.points_generated.xyz) == 0


def test_depth_spread_where_samples_are_asked_for(views, engine):
    made = engine.synthesize(views, Request([ASIDE], preset="fast", num_samples=3)).views[0]
    assert made.depth_std.shape == made.depth.shape
    assert np.isfinite(made.depth_std).all()
    assert made.depth_std.min() >= 0
    observed = made.provenance == OBSERVED
    assert np.median(made.depth_std[observed]) < np.median(made.depth_std[~observed])


def test_a_stream_is_swept_once_while_it_moves_little_and_loses_nothing(views, monkeypatch):
    engine, sweeps = ClassicalEngine("cpu"), []

    def counted(*args):
        sweeps.append(args)
        return sweep_target(*args)

    monkeypatch.setattr(classical, "sweep_target", counted)
    pose = TARGET.world_from_cam.copy()
    pose[:3, 3] += 0.04 * pose[:3, 0]
    near = TARGET.moved(pose)
    engine.synthesize(views, Request([TARGET], preset="fast", stream="beside", clouds=False))
    carried = engine.synthesize(views, Request([near], preset="fast", stream="beside", clouds=False)).views[0]
    assert len(sweeps) == 1
    swept = engine.synthesize(views, Request([near], preset="fast", clouds=False)).views[0]
    assert len(sweeps) == 2
    truth = render(near).rgb
    assert psnr(carried.rgb, truth) > psnr(swept.rgb, truth) - 0.3
    engine.clear()
    engine.synthesize(views, Request([near], preset="fast", stream="beside", clouds=False))
    assert len(sweeps) == 3


@pytest.mark.parametrize("baseline_m", [0.004, 0.016])
def test_views_millimetres_apart_neither_see_obstacles_nor_call_depth_observed(baseline_m):
    """A robot that has hardly moved knows no depth: nothing may stand centimetres before its camera."""
    views = [posed(str(i), look(x, size=(192, 144))) for i, x in enumerate((0.0, baseline_m))]
    truth = render(look(0.05, size=(192, 144)))
    made = ClassicalEngine().synthesize(views, Request((truth.camera,))).views[0]
    observed = made.provenance == OBSERVED
    wrong = np.abs(made.depth - truth.depth) > 0.25 * truth.depth
    assert (observed & wrong).mean() < 0.01
    assert np.median(made.depth) > 0.3 * np.median(truth.depth)
    assert psnr(made.rgb, truth.rgb) > psnr(views[1].rgb, truth.rgb) - 0.5
