"""Training neither learns nor chooses on the rooms that figures are reported on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gld_ros.data.rooms import frozen
from gld_ros.errors import GldError
from gld_ros.training.batches import open_rooms, resized, to_batch, validation_batch
from gld_ros.training.config import read_config

NANO = Path(__file__).parents[2] / "config" / "train" / "nano.yaml"


def test_validation_rooms_are_not_of_the_test_set():
    config = read_config(NANO)
    held_out = validation_batch(replace(config, data=replace(config.data, validation_scenes=2)))
    assert held_out.cond_num == 2
    tested = to_batch(resized(frozen.frozen_arrays(2), *config.size)).rgb
    assert held_out.rgb.shape == tested.shape
    differences = [(a - b).abs().mean() for a in held_out.rgb.flatten(0, 1) for b in tested.flatten(0, 1)]
    assert torch.stack(differences).min() > 0.02


@pytest.mark.parametrize("seed", [frozen.FIRST_SEED - 10, frozen.FIRST_SEED + 3])
def test_seeds_of_test_rooms_are_refused_for_training(tmp_path, seed):
    config = read_config(NANO)
    data = replace(config.data, seed=seed, scenes=20, folder=str(tmp_path / "rooms"))
    with pytest.raises(GldError, match="rooms beyond are for tests"):
        open_rooms(replace(config, data=data))
    assert not (tmp_path / "rooms").exists()
