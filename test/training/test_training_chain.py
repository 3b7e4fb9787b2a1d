"""The whole training chain at toy size: it learns, resumes to the step, survives bad numbers and bad input."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model, skeleton
from gld_ros.model.gld_model import GldModel
from gld_ros.training import stages, trainer
from gld_ros.training.batches import open_rooms, to_batch
from gld_ros.training.config import StageConfig, TrainConfig, read_config
from gld_ros.training.run import run_stage
from gld_ros.training.run_folder import Curve
from gld_ros.training.stages import DiffusionStage
from gld_ros.training.trainer import Trainer, learning_rate

NANO = Path(__file__).parents[2] / "config" / "train" / "nano.yaml"


def toy(folder: Path, out: str = "run") -> TrainConfig:
    """The nano model on a handful of rooms, for a few steps."""
    config = read_config(NANO)
    few = StageConfig(steps=6, batch=2, warmup=2, ema=0.5)
    data = replace(config.data, folder=str(folder / "rooms"), scenes=3, validation_scenes=2, views=4)
    return replace(config, out=str(folder / out), data=data, encoder=few, rgb=few, level1=few, cascade=few,
                   statistics_scenes=3, log_every=1, bf16=False)  # fmt: skip


def losses(folder: Path) -> dict[int, float]:
    """Step -> loss of a curve."""
    lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A finished toy run and its figures."""
    config = toy(tmp_path_factory.mktemp("chain"))
    return config, run_stage("all", config)


def test_every_stage_leaves_a_model_and_a_curve(chain):
    config, figures = chain
    for stage in ("encoder", "rgb", "level1"):
        folder = Path(config.out) / stage
        assert len(losses(folder)) == 6
        assert (folder / "curve.png").is_file()
        assert load_model(folder / "model.safetensors").config == config.model
    assert np.isfinite(list(figures.values())).all()
    assert {"copy_nearest", "warp_true", "true_1", "predicted_1", "plain_1", "oracle_decode"} <= set(figures)


def test_later_stages_leave_the_encoder_alone(chain):
    config, _ = chain
    before, after = (
        load_model(Path(config.out) / s / "model.safetensors").state_dict() for s in ("statistics", "level1")
    )
    assert all(torch.equal(v, after[k]) for k, v in before.items() if k.startswith(("encoder.", "depth_head.")))
    assert any(not torch.equal(v, after[k]) for k, v in before.items() if k.startswith("level1."))


def test_a_configuration_extends_another_value_by_value(tmp_path):
    (tmp_path / "base.yaml").write_text("name: base\nsize: [504, 504]\ndata: {scenes: 7}\nlevel1: {steps: 3}\n")
    (tmp_path / "more.yaml").write_text("extends: base.yaml\ndata: {scenes: 9}\nrgb: {steps: 2}\n")
    base, more = (read_config(tmp_path / f"{n}.yaml") for n in ("base", "more"))
    assert more == replace(base, data=replace(base.data, scenes=9), rgb=StageConfig(steps=2))


@pytest.mark.parametrize(
    ("text", "message"),
    [("extends: a.yaml", "extends itself"), ("extends: [1]", "must be the name"), ("extends: no.yaml", "cannot read")],
)
def test_what_cannot_be_extended_is_refused(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(GldError, match=message):
        read_config(tmp_path / "a.yaml")


def test_statistics_make_levels_unit_scale(chain):
    config, _ = chain
    model = load_model(Path(config.out) / "statistics" / "model.safetensors")
    latents = model.encode(to_batch(next(open_rooms(config).chunks(3))).rgb)
    for level in (latents.level0, latents.level1):
        assert level.mean().abs() < 0.02
        assert level.std() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("stage", ["encoder", "level1"])
def test_a_killed_run_resumes_on_the_same_curve(chain, tmp_path, stage, monkeypatch):
    config, _ = chain
    other = replace(config, out=str(tmp_path / "again"), checkpoint_seconds=0.0)
    if stage != "encoder":
        target = Path(other.out) / "rgb" / "model.safetensors"
        target.parent.mkdir(parents=True)
        target.write_bytes((Path(config.out) / "rgb" / "model.safetensors").read_bytes())
    killed(monkeypatch, stage, other)
    run_stage(stage, other, resume=True)
    expected, found = losses(Path(config.out) / stage), losses(Path(other.out) / stage)
    assert found == pytest.approx(expected, rel=1e-4)


def killed(monkeypatch, stage: str, config: TrainConfig, init_from: Path | None = None) -> None:
    """Begin a stage and die before its fourth step."""
    update = Trainer._update

    def dies(self, batch):
        if self.step == 3:
            raise RuntimeError("kill")
        return update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", dies)
        with pytest.raises(RuntimeError, match="kill"):
            run_stage(stage, config, init_from=init_from)


def test_a_killed_run_of_a_given_model_resumes_without_it(chain, tmp_path, monkeypatch):
    config, _ = chain
    given = tmp_path / "given.safetensors"
    given.write_bytes((Path(config.out) / "level1" / "model.safetensors").read_bytes())
    whole, again = (replace(config, out=str(tmp_path / n), checkpoint_seconds=0.0) for n in ("whole", "again"))
    run_stage("level1", whole, init_from=given)
    killed(monkeypatch, "level1", again, given)
    given.unlink()
    run_stage("level1", again, resume=True)
    expected, found = losses(Path(whole.out) / "level1"), losses(Path(again.out) / "level1")
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_pixel_metric_is_fitted_where_the_model_is(chain, monkeypatch):
    """The meta device stands for a GPU: it too refuses operations on tensors of several devices."""
    config, _ = chain
    monkeypatch.setattr(GldModel, "_check_pictures", lambda *_: None)  # looks at values, of which meta has none
    config = replace(config, diffusion=replace(config.diffusion, pixel_share=0.5))
    stage = DiffusionStage("level1", config, skeleton(config.model))
    stage.begin(open_rooms(config))
    assert stage.pixels.to_pixels.device.type == "meta"


@pytest.mark.parametrize("prediction", ["velocity", "data"])
def test_two_transformers_in_a_cascade_train_too(tmp_path, prediction):
    """The released layout at toy size: no warp, level 1, then level 0 from it."""
    config = toy(tmp_path)
    level1 = replace(config.model.level1, latent_channels=96, warp_channels=0, prediction=prediction)
    cascade = replace(level1, source_channels=96, split_embedders=False)
    config = replace(config, model=replace(config.model, level1=level1, cascade=cascade))
    figures = run_stage("all", config)
    assert {"plain_1", "plain_4", "copy_nearest"} <= set(figures)
    assert len(losses(Path(config.out) / "level1")) == len(losses(Path(config.out) / "cascade")) > 0
    state = load_model(Path(config.out) / "cascade" / "model.safetensors").state_dict()
    assert any(bool(v.any()) for k, v in state.items() if k.startswith("cascade.final_layer.linear"))


def test_a_checkpoint_of_another_configuration_is_refused(chain):
    config, _ = chain
    with pytest.raises(GldError, match="restore the configuration"):
        run_stage("encoder", replace(config, seed=5), resume=True)


def test_a_damaged_checkpoint_is_said(chain, tmp_path):
    config, _ = chain
    folder = tmp_path / "run" / "encoder"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(GldError, match="cannot be read"):
        run_stage("encoder", replace(config, out=str(tmp_path / "run")), resume=True)


def test_a_full_disk_keeps_the_old_checkpoint(chain, monkeypatch):
    config, _ = chain
    checkpoint = Path(config.out) / "rgb" / "checkpoint.pt"
    before = checkpoint.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(GldError, match="free some space"):
        run_stage("rgb", config, resume=True)
    assert checkpoint.read_bytes() == before


def test_too_little_space_is_said_before_anything_is_rendered(tmp_path, monkeypatch):
    config = toy(tmp_path)
    free = shutil.disk_usage(tmp_path)
    model = sum(t.nbytes for t in skeleton(config.model).state_dict().values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free._replace(free=2 * model))
    with pytest.raises(
        GldError, match=r"too little disk space: .* GB in .*rooms and .* GB in .*encoder will be written"
    ):
        run_stage("encoder", config)
    assert not list((tmp_path / "rooms").glob("shard_*"))


def test_a_curve_that_cannot_be_written_is_said_and_keeps_its_lines(tmp_path, monkeypatch):
    curve = Curve(tmp_path / "curve.jsonl")
    for step in (1, 2, 3):
        curve.add(step, 0.5, {"loss": 1.0})
    curve.trim(2)
    assert losses(tmp_path) == {1: 1.0, 2: 1.0}

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(GldError, match="No space left on device: free some space"):
            curve.trim(1)
    assert losses(tmp_path) == {1: 1.0, 2: 1.0}
    with pytest.raises(GldError, match="free some space"):
        Curve(tmp_path).add(1, 0.5, {})  # a folder


def test_bad_numbers_skip_steps_and_then_stop(chain, tmp_path, monkeypatch):
    config, _ = chain
    config = replace(config, out=str(tmp_path), checkpoint_seconds=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "picture_loss", lambda *_: torch.tensor(float("nan"), requires_grad=True))
        patch.setattr(trainer, "MOST_BAD_STEPS", 2)
        with pytest.raises(GldError, match=r"for 2 steps in a row at step 1: lower encoder.rate .* with --overwrite"):
            run_stage("encoder", config)
    lower = replace(config, encoder=replace(config.encoder, rate=1e-4))
    run_stage("encoder", lower, overwrite=True)  # the remedy it names
    assert len(losses(tmp_path / "encoder")) == 6


def test_an_earlier_training_is_not_lost_without_a_word(chain, tmp_path):
    config, _ = chain
    folder = Path(config.out) / "level1"
    before = {name: (folder / name).read_bytes() for name in ("checkpoint.pt", "curve.jsonl")}
    for stage in ("level1", "all"):
        with pytest.raises(GldError, match="--resume, start again with --overwrite"):
            run_stage(stage, config)
    for stage in ("level1", "all"):
        with pytest.raises(GldError, match="move it elsewhere"):
            run_stage(stage, config, init_from=folder / "model.safetensors", overwrite=True)
    assert (folder.parent / "encoder" / "checkpoint.pt").is_file()
    assert before == {name: (folder / name).read_bytes() for name in before}
    only = tmp_path / "rgb" / "model.safetensors"  # its checkpoint was deleted to save space
    only.parent.mkdir()
    only.write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(GldError, match="--resume, start again with --overwrite"):
        run_stage("rgb", replace(config, out=str(tmp_path)), init_from=folder / "model.safetensors")


def test_all_keeps_no_stage_of_another_configuration(chain):
    config, _ = chain
    assert run_stage("all", config, resume=True) == {}  # all is finished
    other = replace(config, level1=replace(config.level1, steps=7))
    with pytest.raises(GldError, match=f"configuration {config.digest()}, this is {other.digest()}"):
        run_stage("all", other, resume=True)


def test_stages_out_of_order_are_refused(tmp_path):
    with pytest.raises(GldError, match="needs a trained encoder"):
        run_stage("level1", toy(tmp_path))
    with pytest.raises(GldError, match="no cascade"):
        run_stage("cascade", toy(tmp_path))


@pytest.mark.parametrize("stage", ["rgb", "level1"])
def test_latents_must_be_measured_before_anything_learns_them(chain, tmp_path, stage):
    config, _ = chain
    encoder = Path(config.out) / "encoder" / "model.safetensors"
    with pytest.raises(GldError, match="run 'gld train statistics' on it first"):
        run_stage(stage, replace(config, out=str(tmp_path)), init_from=encoder)
    run_stage("statistics", replace(config, out=str(tmp_path)), init_from=encoder)
    run_stage(stage, replace(config, out=str(tmp_path)))


def test_unwritable_output_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(GldError, match="writable folder"):
        run_stage("encoder", toy(tmp_path, "file"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size: [500, 504]", "multiples of the patch"),
        ("size: [504, 504]\nsizes: [64, 64]", "unknown names"),
        ("size: [504, 504]\nencoder: {steps: 0}", "out of range"),
        ("size: [504, 504]\ndata: {views: 2}", "render more views"),
        ("size: [504, 504]\nmodel: {encoder: {width: 100}}", "heads"),
        ("{", "not YAML"),
    ],
)
def test_impossible_configurations_are_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(GldError, match=message):
        read_config(path)


def test_learning_rate_warms_up_stays_and_falls():
    stage = StageConfig(steps=100, rate=1e-2, warmup=10, decay_from=0.5)
    assert learning_rate(0, stage) == pytest.approx(1e-3)
    assert learning_rate(30, stage) == 1e-2
    assert learning_rate(99, stage) == pytest.approx(4e-4, rel=0.2)


@pytest.mark.parametrize(
    "name",
    ["nano", "nano_latents", "tiny64", "tiny", "tiny_more", "tiny_colours", "tiny_most", "tiny_last", "released"],
)
def test_shipped_configurations_are_readable(name):
    assert read_config(NANO.with_name(f"{name}.yaml")).name == name.split("_")[0]
