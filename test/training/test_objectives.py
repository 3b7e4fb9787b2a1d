"""What the diffusion stages train for: the defaults of GLD specification section 11, drawn scene by scene."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gld_ros.data.rooms.shards import SceneArrays
from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model, save_model
from gld_ros.model.dit import DiTInputs
from gld_ros.model.gld_model import GldModel
from gld_ros.training.batches import Batch, draw_diffusion
from gld_ros.training.config import DataConfig, DiffusionLoss, StageConfig, TrainConfig, read_config
from gld_ros.training.latent_spaces import PixelSpace
from gld_ros.training.latent_stages import Judges, PlainDiffusionStage, SpaceDiffusion
from gld_ros.training.losses import diffusion_time, noised_source
from gld_ros.training.run import run_stage, starting_model
from gld_ros.training.stages import DiffusionStage

FOLDER = Path(__file__).parents[2] / "config" / "train"
SCENES = 16


def toy(loss: DiffusionLoss) -> TrainConfig:
    """The nano sizes in the released layout: velocity, two transformers, no warp."""
    nano = read_config(FOLDER / "nano.yaml")
    level1 = replace(nano.model.level1, latent_channels=96, warp_channels=0, prediction="velocity")
    cascade = replace(level1, source_channels=96, split_embedders=False, uncond_intrinsics="keep")
    return replace(nano, model=replace(nano.model, level1=level1, cascade=cascade), diffusion=loss)


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng = torch.Generator().manual_seed(0)
    poses = torch.eye(4, dtype=torch.float64).repeat(SCENES, 2, 1, 1)
    poses[..., :3, 3] = torch.rand(SCENES, 2, 3, generator=rng).double()
    K = torch.tensor([[50.0, 0, 31.5], [0, 50.0, 31.5], [0, 0, 1]], dtype=torch.float64).repeat(SCENES, 2, 1, 1)
    return Batch(torch.rand(SCENES, 2, 3, 64, 64, generator=rng), torch.ones(SCENES, 2, 64, 64), K, poses, 1)


class Seen(Exception):
    """Carries what a transformer was called with."""

    def __init__(self, _noisy: torch.Tensor, t: torch.Tensor, inputs: DiTInputs) -> None:
        self.t, self.inputs = t, inputs


def seen_by(name: str, loss: DiffusionLoss, batch: Batch) -> tuple[Seen, GldModel]:
    """Time and inputs that a stage gives its transformer."""
    config = toy(loss)
    torch.manual_seed(0)
    if name == "plain":
        space = PixelSpace(8)
        space.measure([batch])
        stage = PlainDiffusionStage(config, SpaceDiffusion(space, config), Judges(GldModel(config.model)), (1,))
        return called(stage, stage.model.level1, batch), stage.judges.own
    model = GldModel(config.model)
    return called(DiffusionStage(name, config, model), model.get_submodule(name), batch), model


def called(stage: torch.nn.Module, dit: torch.nn.Module, batch: Batch) -> Seen:
    def stop(*values: object) -> None:
        raise Seen(*values)  # type: ignore[arg-type]

    dit.forward = stop  # type: ignore[assignment]
    with pytest.raises(Seen) as found:
        stage(batch, 0)
    return found.value


@pytest.mark.parametrize("name", ["level1", "cascade", "plain"])
def test_cameras_are_dropped_scene_by_scene(name: str, batch: Batch) -> None:
    seen, _ = seen_by(name, DiffusionLoss(drop_cameras=0.5), batch)
    without = (seen.inputs.camera_map[:, :, 1:] == 0).flatten(1).all(1)
    assert 0 < without.sum() < SCENES
    identity = torch.eye(4, dtype=torch.float64)
    still = (seen.inputs.cam_from_ref == identity).flatten(1).all(1)
    assert torch.equal(still, without)


@pytest.mark.parametrize("name", ["level1", "cascade", "plain"])
def test_the_training_shift_draws_the_times(name: str, batch: Batch) -> None:
    assert seen_by(name, DiffusionLoss(shift=1e6), batch)[0].t.min() > 0.99
    assert seen_by(name, DiffusionLoss(shift=1e-3), batch)[0].t.max() < 0.9


def test_the_cascade_reads_exact_level_1_unless_told_otherwise(batch: Batch) -> None:
    seen, model = seen_by("cascade", DiffusionLoss(), batch)
    assert seen.inputs.source is not None
    torch.testing.assert_close(seen.inputs.source, model.encode(batch.rgb).level1)


def test_source_noise_has_a_level_of_its_own_in_every_scene_and_keeps_the_variance() -> None:
    rng = torch.Generator().manual_seed(0)
    whole = noised_source(torch.randn(1000, 1, 64, 2, 2, generator=rng), 0.5, rng)
    assert whole.std() == pytest.approx(1, abs=0.01)
    added = noised_source(torch.zeros(1000, 1, 64, 2, 2), 0.5, rng).flatten(1).std(dim=1)
    sigma = added / (1 - added.square()).sqrt()
    assert sigma.median() == pytest.approx(0.6745 * 0.5, rel=0.1)  # of |N(0, tau^2)|
    assert sigma.square().mean().sqrt() == pytest.approx(0.5, rel=0.1)


def test_defaults_are_those_of_the_released_training() -> None:
    stage, loss = StageConfig(), DiffusionLoss()
    assert (stage.rate, stage.decay_from, stage.weight_decay, stage.clip) == (5e-5, 1.0, 0.0, 1.0)
    assert (stage.beta2, stage.ema, stage.optimizer, stage.warmup) == (0.95, 0.9995, "adamw", 0)
    assert loss.shift == pytest.approx(19.5959, abs=1e-4)
    assert (loss.conditions, loss.targets, DataConfig().views) == ((1, 4), None, 8)
    assert (loss.drop_cameras, loss.source_noise, loss.nearest_first, loss.warp_depth) == (0.1, 0.0, 0.0, (0.0, 0.0))
    assert (loss.pixel_share, loss.hole_weight, loss.condition_weight) == (0.0, 0.0, 1.0)
    assert TrainConfig().size == (504, 504)


def test_a_stage_goes_on_from_a_given_file_with_a_fresh_optimiser(tmp_path: Path) -> None:
    config = toy(DiffusionLoss())
    few = StageConfig(steps=1, batch=1, rate=1e-9)
    data = replace(config.data, folder=str(tmp_path / "rooms"), scenes=1, validation_scenes=1)
    config = replace(config, out=str(tmp_path / "run"), data=data, level1=few, bf16=False)
    torch.manual_seed(7)
    given = GldModel(config.model)
    for level in (0, 1):  # measured, as released files are
        given.level_statistics(level).mean.fill_(0.1)
    save_model(tmp_path / "given.safetensors", given)
    run_stage("level1", config, init_from=tmp_path / "given.safetensors")
    state = load_model(Path(config.out) / "level1" / "model.safetensors").state_dict()
    for name, value in given.state_dict().items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=1e-7)
    kept = torch.load(Path(config.out) / "level1" / "checkpoint.pt", weights_only=True)
    steps = {float(entry["step"]) for entry in kept["optimizer"]["adamw"]["state"].values()}
    assert (kept["step"], steps) == (1, {1.0})


class NoRooms:
    """Eight grey views of any scene."""

    def __len__(self) -> int:
        return 3

    def take(self, scenes: np.ndarray, views: np.ndarray) -> SceneArrays:
        shape = views.shape
        return SceneArrays(np.zeros((*shape, 64, 64, 3), np.uint8), np.ones((*shape, 64, 64), np.float16),
                           np.tile(np.eye(3), (*shape, 1, 1)), np.tile(np.eye(4), (*shape, 1, 1)))  # fmt: skip


def test_all_views_of_a_scene_are_drawn_by_default() -> None:
    config = toy(DiffusionLoss())
    config = replace(config, data=replace(config.data, views=8))
    drawn = [draw_diffusion(NoRooms(), config, "level1", step) for step in range(20)]  # type: ignore[arg-type]
    assert {b.rgb.shape[1] for b in drawn} == {8}
    assert {b.cond_num for b in drawn} == {1, 2, 3, 4}


def test_data_prediction_draws_its_times_around_the_logit() -> None:
    """Half of the times lie above the sigmoid of the mean, 84 % below that of the mean and one deviation."""
    t = diffusion_time(4000, (1.5, 1.2), 0.0, torch.Generator().manual_seed(0))
    assert float((t > 1 / (1 + math.exp(-1.5))).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert float((t < 1 / (1 + math.exp(-2.7))).float().mean()) == pytest.approx(0.841, abs=0.03)
    noise = diffusion_time(4000, (1.5, 1.2), 0.4, torch.Generator().manual_seed(0)) == 1
    assert float(noise.float().mean()) == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("nano", "10f38de5d8"),
        ("tiny", "0049d2a598"),
        ("tiny64", "6a636205e9"),
        ("tiny_more", "57b62ef08a"),
        ("tiny_colours", "758220fbe4"),
        ("tiny_most", "9d52965fef"),
    ],
)
def test_checkpoints_of_shipped_configurations_stay_valid(name: str, digest: str) -> None:
    assert read_config(FOLDER / f"{name}.yaml").digest() == digest


def test_only_a_shift_that_is_read_changes_the_digest() -> None:
    loss = DiffusionLoss(shift=math.pi)
    assert toy(loss).digest() != toy(DiffusionLoss()).digest()
    nano = read_config(FOLDER / "nano.yaml")
    assert replace(nano, diffusion=replace(nano.diffusion, shift=math.pi)).digest() == nano.digest()


def test_further_training_may_see_more_views_but_not_another_model(tmp_path):
    config = read_config(FOLDER / "nano.yaml")
    save_model(tmp_path / "given.safetensors", GldModel(config.model))
    more = replace(config, model=replace(config.model, trained_views=8))
    assert starting_model("encoder", more, tmp_path / "given.safetensors").config == more.model
    other = replace(config, model=replace(config.model, rgb=replace(config.model.rgb, layers=3)))
    with pytest.raises(GldError, match="another model than the configuration describes"):
        starting_model("encoder", other, tmp_path / "given.safetensors")
