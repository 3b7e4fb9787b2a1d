"""Three latent spaces under one diffusion network: equal terms, honest step counts, and a run that goes on."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gld_ros.errors import GldError
from gld_ros.model.gld_model import GldModel
from gld_ros.training import comparison
from gld_ros.training.batches import Batch
from gld_ros.training.comparison import Comparison, Cost, compare, prepare_config, ratios, steps_to_reach
from gld_ros.training.config import StageConfig, TrainConfig, read_config
from gld_ros.training.latent_spaces import GeometricSpace, PixelSpace, VaeSpace, kl_divergence
from gld_ros.training.latent_stages import Judges, PlainDiffusionStage, SpaceDiffusion, SpaceTrainer, apparent_turn_deg
from gld_ros.training.stages import prepare_autoencoder, prepare_new_model

ROOT = Path(__file__).parents[2]
SHORT = Comparison(steps=2, every=1, seeds=(0,), autoencoder_steps=2, decoder_steps=1, updates=(1, 2))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> TrainConfig:
    """Nano for a few steps on a handful of rooms."""
    nano = read_config(ROOT / "config" / "train" / "nano.yaml")
    few = StageConfig(steps=2, batch=2, warmup=1, ema=0.5)
    data = replace(nano.data, scenes=3, validation_scenes=2, views=4)
    nano = replace(nano, data=data, encoder=few, rgb=few, level1=few, statistics_scenes=3, bf16=False)
    return prepare_config(nano, SHORT, tmp_path_factory.mktemp("comparison"))


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Two scenes of four random views."""
    rng = torch.Generator().manual_seed(0)
    poses = torch.eye(4, dtype=torch.float64).repeat(2, 4, 1, 1)
    poses[..., :3, 3] = torch.rand(2, 4, 3, generator=rng).double()
    K = torch.tensor([[50.0, 0, 31.5], [0, 50.0, 31.5], [0, 0, 1]], dtype=torch.float64).repeat(2, 4, 1, 1)
    rgb = torch.rand(2, 4, 3, 64, 64, generator=rng)
    return Batch(rgb, 1 + torch.rand(2, 4, 64, 64, generator=rng), K, poses, 2)


@pytest.fixture(scope="module")
def spaces(config, batch):
    """All three, measured on the batch."""
    torch.manual_seed(0)
    model = GldModel(config.model)
    prepare_new_model(model, batch.rgb.flatten(0, 1))
    vae = VaeSpace(config.model)
    prepare_autoencoder(vae.encoder, vae.rgb_decoder, batch.rgb.flatten(0, 1))
    made = {"geometric": GeometricSpace(model), "vae": vae, "pixels": PixelSpace(8)}
    for space in made.values():
        space.measure([batch])
    return made


@pytest.mark.parametrize(("name", "channels"), [("geometric", 96), ("vae", 96), ("pixels", 192)])
def test_latents_have_unit_scale_on_one_grid(spaces, batch, name, channels):
    latents = spaces[name].encode(batch.rgb).detach()
    assert latents.shape == (2, 4, channels, 8, 8)
    assert latents.mean().abs() < 0.01
    assert latents.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", ["geometric", "vae", "pixels"])
def test_every_space_decodes_to_pictures(spaces, batch, name):
    decoded = spaces[name].decode(spaces[name].encode(batch.rgb), batch.rgb[:, :2])
    assert decoded.rgb.shape == batch.rgb.shape
    assert (decoded.geometry is not None) == (name == "geometric")


def test_pixels_come_back_exactly(spaces, batch):
    space = spaces["pixels"]
    assert torch.allclose(space.decode(space.encode(batch.rgb), batch.rgb).rgb, batch.rgb, atol=1e-5)


def test_the_vae_sees_one_view_at_a_time(spaces, batch):
    vae = spaces["vae"]
    assert torch.allclose(vae.encode(batch.rgb)[:, 2:3], vae.encode(batch.rgb[:, 2:3]), atol=1e-5)


def test_kl_of_the_prior_is_zero_and_else_positive():
    zero = torch.zeros(4)
    assert kl_divergence(zero, zero) == 0
    assert kl_divergence(zero + 2, zero) == pytest.approx(2.0)
    assert kl_divergence(zero, zero - 3) > 0.5


def test_arms_differ_in_nothing_but_the_space(config, spaces, batch):
    judge = Judges(spaces["geometric"].model)
    arms = [PlainDiffusionStage(config, SpaceDiffusion(s, config), judge, (1,)) for s in spaces.values()]
    noises = [arm.noise(batch, arm.generator(5)) for arm in arms]
    assert torch.equal(noises[0], noises[1])
    assert torch.equal(noises[0], noises[2][:, :, :96])
    geometric, vae = (dict(arm.model.level1.named_parameters()) for arm in arms[:2])
    assert all(torch.equal(geometric[name], vae[name]) for name in geometric)
    widths = {arm.model.level1.s_projector.weight.shape for arm in arms}
    assert len(widths) == 1
    learning = {name for arm in arms for name, p in arm.named_parameters() if p.requires_grad}
    assert learning
    assert all(name.startswith("model.level1.") for name in learning)


def test_a_second_judge_reads_depth_at_a_size_it_knows(spaces, batch):
    model = spaces["geometric"].model
    found = Judges(model, model).figures(batch, batch.rgb[:, 2:])
    assert found["absrel_judge"] == pytest.approx(found["absrel"], rel=1e-2)  # it runs in half precision
    assert "absrel_judge" not in Judges(model).figures(batch, batch.rgb[:, 2:])
    wide = replace(batch, rgb=batch.rgb[..., :32, :], depth=batch.depth[..., :32, :])
    with pytest.raises(GldError, match="knows no size"):
        Judges(model, model).figures(wide, wide.rgb[:, 2:])


def test_apparent_turn_is_the_angle_of_the_shift(batch):
    assert apparent_turn_deg(batch, batch.rgb[:, 2:]) == 0
    right = batch.rgb[:, 2:].roll(6, dims=-1)  # 6 px at a focal length of 50 px
    assert apparent_turn_deg(batch, right) == pytest.approx(6.843, abs=0.01)
    down = batch.rgb[:, 2:].roll(-10, dims=-2)
    assert apparent_turn_deg(batch, down) == pytest.approx(11.31, abs=0.01)


@pytest.mark.parametrize(
    ("values", "goal", "more", "expected"),
    [
        ([10, 12, 16], 14, True, 250.0),
        ([10, 12, 16], 10, True, 100.0),
        ([10, 12, 16], 17, True, None),
        ([0.9, 0.5, 0.1], 0.5, False, 200.0),
        ([0.9, 0.5, 0.1], 0.3, False, 250.0),
        ([10, 9, 12], 10.5, True, 250.0),
    ],
)
def test_steps_to_reach(values, goal, more, expected):
    found = steps_to_reach([100, 200, 300], values, goal, more)
    assert found == (None if expected is None else pytest.approx(expected))


def _curve(values, worse):
    figures = [f"{name}_{count}" for name in comparison.MORE_IS_BETTER for count in (1, 2)]
    return [
        {"step": 100 * (i + 1), **{f: v if f.startswith("psnr") else worse - v for f in figures}}
        for i, v in enumerate(values)
    ]


def test_ratio_says_how_many_steps_the_other_needs_for_each_of_ours():
    curves = {
        "geometric/0": _curve([10, 14, 15], 20),
        "vae/0": _curve([8, 10, 12], 20),
        "pixels/0": _curve([9, 9, 16], 20),
    }
    found = ratios(curves, SHORT)
    for figure in ("psnr_1", "absrel_2"):  # the VAE's best, at step 300, is ours at step 150
        assert found["vae"][figure]["ratio"] == pytest.approx(2.0)
        assert found["vae"][figure]["ratio_reversed"] is None
        assert found["pixels"][figure]["ratio"] is None
    assert found["vae"]["psnr_1"]["ratio_per_seed"] == [pytest.approx(2.0)]


def test_cost_is_kept_also_when_a_part_is_interrupted(tmp_path):
    cost = Cost(tmp_path / "cost.json")
    with pytest.raises(KeyboardInterrupt), cost.of("vae"):
        raise KeyboardInterrupt
    assert Cost(tmp_path / "cost.json").seconds["vae"] >= 0


def _tool():
    spec = importlib.util.spec_from_file_location("latent_comparison", ROOT / "tools" / "latent_comparison.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_comparison_runs_resumes_and_is_drawn(config, monkeypatch):
    out = Path(config.out)
    found = compare(config, SHORT, out)
    assert set(found["curves"]) == {"geometric/0", "vae/0", "pixels/0"}
    for arm, curve in found["curves"].items():
        assert [point["step"] for point in curve] == [1, 2]
        assert ("own_absrel_1" in curve[0]) == arm.startswith("geometric")
    assert found["bounds"]["decoded true latents, pixels"]["psnr"] > 60
    assert (out / "pictures.png").is_file()
    assert set(found["cpu_seconds"]) >= {"encoder", "vae", "vae_decoder", "geometric_0", "pixels_0"}

    def trains(*_args, **_kwargs):
        raise AssertionError("everything was finished")

    monkeypatch.setattr(SpaceTrainer, "run", trains)
    again = compare(config, SHORT, out)
    assert again["curves"] == found["curves"]
    assert json.loads((out / "comparison.json").read_text())["ratios"] == found["ratios"]
    with pytest.raises(GldError, match="choose another folder"):
        compare(config, replace(SHORT, steps=3), out)

    pytest.importorskip("matplotlib")
    tool = _tool()
    tool.plot(found, out / "comparison.png")
    assert (out / "comparison.png").stat().st_size > 10_000
    assert "psnr_1" in tool.table(found)


def test_bad_settings_are_refused(config, tmp_path):
    with pytest.raises(GldError, match="steps and updates"):
        Comparison(steps=0)
    with pytest.raises(GldError, match="distinct"):
        Comparison(seeds=(1, 1))
    (tmp_path / "file").write_text("")
    with pytest.raises(GldError, match="writable folder"):
        compare(config, SHORT, tmp_path / "file")
