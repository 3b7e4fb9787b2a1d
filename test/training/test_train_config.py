"""Impossible training and model configurations end in a clear error before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gld_ros.errors import GldError
from gld_ros.model.config import config_from_dict, released_config
from gld_ros.training.config import DiffusionLoss, StageConfig, TrainConfig, read_config

NANO = Path(__file__).parents[2] / "config" / "train" / "nano.yaml"


def changed(folder: Path, text: str) -> TrainConfig:
    """The nano configuration with some values replaced."""
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump({"extends": str(NANO), **yaml.safe_load(text)}))
    return read_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("diffusion: {conditions: [2, 1]}", r"diffusion: conditions is \[2, 1\]"),
        ("diffusion: {targets: [3, 2]}", r"targets is \[3, 2\]"),
        ("diffusion: {min_time: 0}", "min_time is 0.0"),
        ("diffusion: {pure_noise: 3}", "pure_noise is 3"),
        ("diffusion: {time_logit: [0, -1]}", "the second is a standard deviation"),
        ("diffusion: {time_logit: [99, 1]}", "time_logit is"),
        ("diffusion: {warp_depth: [-0.5, 0.9]}", "warp_depth"),
        ("diffusion: {warp_depth: [0.6, 0.6]}", "sum to 1.2"),
        ("diffusion: {drop_cameras: -1}", "drop_cameras is -1"),
        ("diffusion: {hole_weight: .nan}", "hole_weight is nan"),
        ("model: {trained_sizes: [[60, 60]]}", "multiples of the patch 8"),
        ("model: {trained_sizes: []}", "at least one"),
        ("model: {trained_sizes: [[128, 128]]}", "fits into rooms of size"),
        ("model: {encoder: {whiten: 500}}", "model.encoder: whiten is 500, out of range: it must be in 0 to 192"),
        ("model: {rgb: {whiten: 193}}", "model.rgb: whiten is 193"),
        ("model: {rgb: {layers: 0}}", "layers is 0"),
        ("model: {depth: {features: 0}}", "features is 0"),
        ("model: {encoder: {rope_base: 0}}", "rope_base is 0"),
        ("model: {sampler: {guidance: .nan}}", "guidance is nan"),
        ("model: {encoder: {width: 0}}", "width is 0"),
        ("model: {level1: {source_channels: 96}}", "nothing precedes it"),
        ("size: [64000, 64000]", "TB"),
        ("data: {scenes: 100000000}", "lower data.scenes"),
        ("level1: {batch: 100000000}", "lower level1.batch"),
        ("data: {colour_jitter: 2}", "colour_jitter is 2"),
        ("data: {seed: -1}", "data: seed is -1"),
        ("log_every: 0", "log_every is 0"),
        ("validate_every: 0", "validate_every is 0"),
        ("statistics_scenes: 0", "statistics_scenes is 0"),
        ("rgb_noise: -1", "rgb_noise is -1"),
        ("encoder_loss: {rays_every: 0}", "rays_every is 0"),
        ("encoder_loss: {views: 0}", "views is 0"),
        ("encoder_loss: {depth: -1}", "encoder_loss: depth is -1"),
        ("level1: {beta2: 1.5}", "level1: beta2 is 1.5"),
        ("level1: {decay_from: -1}", "decay_from is -1"),
        ("level1: {weight_decay: -1}", "weight_decay is -1"),
        ("level1: {warmup: -1}", "warmup is -1"),
        ("depth_noise: {gap_error: -1}", "gap_error is -1"),
        ("depth_noise: {views_without: 1.5}", "views_without is 1.5"),
    ],
)
def test_a_value_that_cannot_work_is_named_with_its_limit(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GldError, match=message):
        changed(tmp_path, text)


def test_a_cascade_reads_as_many_channels_as_level_1_has() -> None:
    with pytest.raises(GldError, match=r"model: cascade\.source_channels is 64"):
        config_from_dict(TrainConfig, {"size": [504, 504], "model": {"cascade": {"source_channels": 64}}})


def test_the_released_recipe_is_the_released_model_and_its_training() -> None:
    config = read_config(NANO.with_name("released.yaml"))
    assert config.model == released_config()
    assert config.diffusion == DiffusionLoss()
    assert config.level1 == config.cascade == StageConfig(steps=20000, batch=1, warmup=500)


def test_sizes_of_real_trainings_pass(tmp_path: Path) -> None:
    changed(tmp_path, "level1: {batch: 1024, ema: 0.9999, clip: .inf}\ndata: {scenes: 1000000}\nlog_every: 1")
