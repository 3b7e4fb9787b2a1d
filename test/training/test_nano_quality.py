"""The nano configuration, trained as it is shipped, must beat copying the nearest view by 3 dB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gld_ros.training.config import read_config
from gld_ros.training.run import run_stage

NANO = Path(__file__).parents[2] / "config" / "train" / "nano.yaml"


@pytest.mark.timeout(900)  # about 90 CPU-seconds; shared machines are slower
def test_nano_beats_copying_by_three_decibels(tmp_path):
    config = read_config(NANO)
    config = replace(config, out=str(tmp_path / "run"), data=replace(config.data, folder=str(tmp_path / "rooms")))
    figures = run_stage("all", config)
    assert 15 < figures["copy_nearest"] < 18
    assert figures["true_1"] > figures["copy_nearest"] + 3
    assert figures["predicted_1"] > figures["copy_nearest"] + 2
    assert figures["oracle_decode"] > 25
