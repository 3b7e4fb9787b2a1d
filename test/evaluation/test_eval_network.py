"""``gld eval`` of a checkpoint: what a network adds to the table."""

import json
import sys
from pathlib import Path

import planes
import pytest
import torch

from gld_ros.cli.main import main
from gld_ros.model.checkpoint import save_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from small_model import random_model, small_config


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    room = planes.write_folder(folder / "room", splits={"interp": ([0, 2], [1])})
    checkpoint = folder / "small.safetensors"
    save_model(checkpoint, random_model(small_config(trained_sizes=((84, 84),))), torch.float32)
    command = ["eval", str(room), "--model", str(checkpoint), "--preset", "fast", "--device", "cpu"]
    assert main([*command, "--out", str(folder / "out")]) == 0
    return json.loads((folder / "out/metrics.json").read_text())["sets"]["room/interp"]


def test_the_decoders_bound_stands_beside_the_rest(figures):
    assert set(figures) >= {"composed", "generated", "oracle_decode", "warp_true", "copy_nearest"}
    assert figures["oracle_decode"]["psnr"] > 5


def test_depth_belongs_to_the_composed_picture(figures):
    assert figures["composed"]["depth_absrel"] is not None
    assert figures["generated"]["depth_absrel"] is None


def test_random_weights_lose_to_geometry(figures):
    assert figures["composed"]["psnr"] > figures["generated"]["psnr"] + 3
    assert figures["warp_predicted"]["psnr"] > figures["generated"]["psnr"]
