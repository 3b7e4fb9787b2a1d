"""Every stage trains a model whose encoder reads poses; batches, digests and the tool that measures what they bring."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model
from gld_ros.model.gld_model import GldModel
from gld_ros.training.batches import Batch, open_rooms, to_batch
from gld_ros.training.comparison import Comparison, prepare_config
from gld_ros.training.config import StageConfig, TrainConfig, read_config
from gld_ros.training.depth_noise import DepthNoise
from gld_ros.training.known_views import network_unit, place_views, rescaled
from gld_ros.training.run import run_stage
from gld_ros.training.stages import EncoderStage, prepare_new_model

ROOT = Path(__file__).parents[2]
NANO = ROOT / "config" / "train" / "nano.yaml"


def toy(folder: Path, pose_input: str, depth_cells: int = 4) -> TrainConfig:
    config = read_config(NANO)
    few = StageConfig(steps=2, batch=2, warmup=1, ema=0.5)
    encoder = replace(config.model.encoder, pose_input=pose_input, depth_cells=depth_cells)
    return replace(
        config, out=str(folder / pose_input), bf16=False, encoder=few, rgb=few, level1=few, statistics_scenes=2,
        model=replace(config.model, encoder=encoder), depth_noise=DepthNoise(), log_every=1,
        data=replace(config.data, folder=str(folder / "rooms"), scenes=2, views=4, validation_scenes=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("poses")


@pytest.mark.parametrize("kind", ["rays", "prope"])
def test_all_stages_run(folder: Path, kind: str) -> None:
    config = toy(folder, kind)
    figures = run_stage("all", config)
    assert {"true_1", "swept_1", "plain_1", "oracle_decode"} <= set(figures)
    model = load_model(Path(config.out) / "level1" / "model.safetensors")
    assert model.config.encoder.pose_input == kind
    if kind == "rays":
        assert model.encoder.ray_embed.weight.abs().max() > 0


def some_batch(folder: Path, config: TrainConfig) -> Batch:
    return to_batch(next(open_rooms(config).chunks(2)))


@pytest.mark.parametrize(("kind", "depth_cells"), [("rays", 0), ("prope", 4)])
def test_the_encoder_stage_sees_the_poses(folder: Path, kind: str, depth_cells: int) -> None:
    config = toy(folder, kind, depth_cells)
    batch = some_batch(folder, config)
    torch.manual_seed(0)
    stage = EncoderStage("encoder", config, GldModel(config.model))
    prepare_new_model(stage.model, batch.rgb.flatten(0, 1))
    if kind == "rays":
        stage(batch, 0)["loss"].backward()
        assert stage.model.encoder.ray_embed.weight.grad.abs().max() > 0
        torch.nn.init.normal_(stage.model.encoder.ray_embed.weight)
    others = replace(batch, world_from_cam=batch.world_from_cam.roll(1, dims=1))
    with torch.no_grad():
        assert not torch.allclose(stage(batch, 1)["depth"], stage(others, 1)["depth"], atol=1e-7)


def test_cameras_follow_the_depth_into_its_unit_only_where_depth_is_read(folder: Path) -> None:
    config = toy(folder, "prope")
    batch, unit = some_batch(folder, config), torch.tensor([2.0, 0.5])
    assert torch.allclose(network_unit(batch.depth * unit.view(-1, 1, 1, 1), batch.depth), unit)
    reads, blind = (GldModel(toy(folder, "prope", cells).model) for cells in (4, 0))
    metres = place_views(reads, batch).cam_from_ref_scaled()
    scaled = place_views(reads, batch, unit).cam_from_ref_scaled()
    assert torch.allclose(scaled[..., :3, 3], metres[..., :3, 3] * unit.view(-1, 1, 1).double())
    assert torch.equal(place_views(blind, batch, unit).cam_from_ref_scaled(), metres)
    assert torch.allclose(place_views(blind, rescaled(batch, unit)).cam_from_ref_scaled(), scaled)
    assert place_views(GldModel(toy(folder, "none").model), batch) is None


def test_checkpoints_from_before_the_switch_stay_valid(folder: Path) -> None:
    config = toy(folder, "none")
    fields = asdict(replace(config, out="", checkpoint_seconds=0, log_every=1, data=replace(config.data, folder="")))
    del fields["data"]["furniture"], fields["model"]["encoder"]["pose_input"]
    del fields["diffusion"]["shift"], fields["diffusion"]["time_logit"]
    for stage in ("encoder", "rgb", "level1", "cascade"):
        del fields[stage]["optimizer"]
    assert config.digest() == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:10]
    digests = {toy(folder, kind).digest() for kind in ("none", "rays", "prope")}
    assert len(digests) == 3


def test_the_latent_comparison_refuses_a_model_that_reads_poses(folder: Path) -> None:
    with pytest.raises(GldError, match="pose_input"):
        prepare_config(toy(folder, "rays"), Comparison(), folder)


def test_arms_differ_in_the_two_inputs_alone(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("encoder_inputs", ROOT / "tools" / "encoder_inputs.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    options = tool.parse(["--out", str(folder / "arms")])
    base = read_config(NANO)
    arms = {arm: tool.arm_config(base, arm, 0, options) for arm in tool.ARMS}
    inputs = {(c.model.encoder.pose_input, c.model.encoder.depth_cells > 0) for c in arms.values()}
    assert len(inputs) == len(arms) == 6
    plain = arms["nothing"]
    for config in arms.values():
        encoder = replace(config.model.encoder, pose_input="none", depth_cells=0)
        same = replace(config, name=plain.name, out=plain.out, model=replace(config.model, encoder=encoder))
        assert same == plain
    found = {"rays/0": {"absrel": 0.25, "psnr": 30.0, "cpu_minutes": 4.0}, "rays/1": {"absrel": 0.35, "psnr": 32.0,
             "cpu_minutes": 4.0}}  # fmt: skip
    assert "| rays | 0.300 ± 0.050 | - |" in tool.table(found, ["rays"], [0, 1])
