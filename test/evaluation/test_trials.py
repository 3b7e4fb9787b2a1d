"""The network alone over many scenes: batches equal single scenes, samples differ, plain sees no warp."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import planes
import pytest
import torch

from gld_ros.evaluation import trials
from gld_ros.evaluation.trials import Trial, run_oracle, run_trial, scene_task, trials_of
from gld_ros.model.checkpoint import save_model
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.types import PosedView, Request

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "model"))
from small_model import random_model, small_config  # noqa: E402


@pytest.fixture(scope="module", params=[0, 2], ids=["colour", "with-depth"])
def engine(request, tmp_path_factory):
    config = small_config(trained_sizes=((84, 84),), trained_views=4)
    encoder = dataclasses.replace(config.encoder, depth_cells=request.param)
    joint = dataclasses.replace(config.level1, latent_channels=128, warp_channels=129)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, random_model(dataclasses.replace(config, encoder=encoder, level1=joint, cascade=None)))
    return NetworkEngine(path, "cpu")


@pytest.fixture(scope="module")
def tasks(engine):
    made = []
    for n in range(3):
        cams = [planes.camera(x=0.2 * i + 0.03 * n) for i in range(4)]
        shown = [planes.render(c) for c in cams]
        views = [PosedView(f"{n}/{i}", cams[i], shown[i][0], shown[i][1]) for i in (0, 3)]
        request = Request(cams[1:3], preset="fast", clouds=False)
        targets = engine.geometry.synthesize(views, request).views
        targets = [dataclasses.replace(t, rgb=np.full_like(t.rgb, 7)) for t in targets]
        real = [PosedView(str(i), cams[i], *shown[i]) for i in (0, 3, 1, 2)]
        made.append(scene_task(engine, views, targets, real, "fast"))
    return made


def test_trials_of_a_model_with_and_without_a_warp(engine):
    names = [t.name for t in trials_of(engine.model, 8)]
    assert names == ["generated@1", "generated@4", "plain@1", "plain@4"]
    assert [t.samples for t in trials_of(engine.model, 8)] == [1, 8, 1, 1]
    assert [t.name for t in trials_of(random_model(small_config()), 1)] == ["generated@1", "generated@4"]


def test_pictures_have_the_targets_pixels_and_the_surroundings_outside_the_field(engine, tasks):
    drawn = run_trial(engine, tasks, Trial(1), 0)
    assert len(drawn) == 3
    for scene in drawn:
        assert [p.rgb.shape for p in scene.predictions] == [(planes.H, planes.W, 3)] * 2
        inside = np.isfinite(scene.predictions[0].depth)
        assert 0.5 < inside.mean() < 1  # a square network in a wide picture
        assert (scene.predictions[0].rgb[~inside] == 7).all()
        assert set(scene.cameras) == {"ate", "ate_share", "rpe", "rpe_deg"}
        assert np.isfinite(scene.cameras["ate"])


def test_batches_do_not_mix_scenes(engine, tasks, monkeypatch):
    """The oracle draws no noise: one scene at a time must give the same."""
    together = run_oracle(engine, tasks)
    monkeypatch.setattr(trials, "BATCH_TOKENS", 1)
    apart = run_oracle(engine, tasks)
    for a, b in zip(together, apart, strict=True):
        assert np.abs(a.predictions[1].rgb.astype(int) - b.predictions[1].rgb).max() <= 1
        np.testing.assert_allclose(a.predictions[0].depth, b.predictions[0].depth, rtol=1e-3)
        assert a.cameras["ate"] == pytest.approx(b.cameras["ate"], rel=1e-3)


def test_samples_differ_and_the_first_is_the_prediction(engine, tasks):
    said = []
    (scene,) = run_trial(engine, tasks[:1], Trial(1, samples=3), 5, said.append)
    assert said[-1] == "generated@1, sample 3 of 3"
    first, second, third = scene.samples[0]
    np.testing.assert_array_equal(first, scene.predictions[0].rgb)
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)
    (again,) = run_trial(engine, tasks[:1], Trial(1), 6)
    np.testing.assert_array_equal(again.predictions[0].rgb, second)


def test_plain_does_not_see_the_warp(engine, tasks):
    other = dataclasses.replace(tasks[0].request, warp_rgb=torch.rand_like(tasks[0].request.warp_rgb))
    changed = dataclasses.replace(tasks[0], request=other)
    one, two = (run_trial(engine, [t], Trial(1, warp=False), 0)[0].predictions[0].rgb for t in (tasks[0], changed))
    np.testing.assert_array_equal(one, two)
    one, two = (run_trial(engine, [t], Trial(1), 0)[0].predictions[0].rgb for t in (tasks[0], changed))
    assert not np.array_equal(one, two)


def test_known_depth_reaches_the_network_and_scales_its_depth(engine, tasks):
    request = tasks[0].request
    if not engine.model.config.encoder.depth_cells:
        assert request.cond_depth is None
        assert tasks[0].real.cond_depth is None
        return
    assert tasks[0].real.cond_depth.confidence.min() == 1
    np.testing.assert_array_equal(
        trials.joined([t.request for t in tasks]).cond_depth.depth[1], tasks[1].request.cond_depth.depth[0]
    )
    twice = [dataclasses.replace(d, depth=2 * d.depth) for d in (request.cond_depth, request.warp_depth)]
    poses = request.world_from_cam.clone()
    poses[..., :3, 3] *= 2
    larger = dataclasses.replace(request, cond_depth=twice[0], warp_depth=twice[1], world_from_cam=poses)
    small, large = (
        run_trial(engine, [dataclasses.replace(tasks[0], request=r)], Trial(1), 0)[0].predictions[0]
        for r in (request, larger)
    )
    assert np.abs(small.rgb.astype(int) - large.rgb).max() <= 2
    np.testing.assert_allclose(large.depth, 2 * small.depth, rtol=1e-2)
