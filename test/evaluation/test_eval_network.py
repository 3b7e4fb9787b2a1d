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
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    save_model(path, random_model(small_config(trained_sizes=((84, 84),))), torch.float32)
    return path


def evaluate(checkpoint, folder, *arguments):
    command = ["eval", *map(str, arguments), "--model", str(checkpoint), "--preset", "fast", "--device", "cpu"]
    assert main([*command, "--out", str(folder)]) == 0
    return json.loads((folder / "metrics.json").read_text())


@pytest.fixture(scope="module")
def found(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("room")
    room = planes.write_folder(folder / "room", splits={"interp": ([0, 2], [1])})
    return evaluate(checkpoint, folder / "out", room)


@pytest.fixture(scope="module")
def figures(found):
    return found["sets"]["room/interp"]


def test_the_decoders_bound_stands_beside_the_rest(figures):
    assert set(figures) >= {"composed", "generated", "oracle_decode", "warp_true", "copy_nearest"}
    assert figures["oracle_decode"]["psnr"] > 5
    assert abs(figures["oracle_decode"]["psnr_network_size"] - figures["oracle_decode"]["psnr"]) < 5
    assert "psnr_network_size" not in figures["composed"]


def test_depth_belongs_to_the_composed_picture(figures):
    assert figures["composed"]["depth_absrel"] is not None
    assert figures["generated"]["depth_absrel"] is None


def test_random_weights_lose_to_geometry(figures):
    assert figures["composed"]["psnr"] > figures["generated"]["psnr"] + 3
    assert figures["warp_predicted"]["psnr"] > figures["generated"]["psnr"]


def test_composing_is_compared_with_geometry_alone(found, figures):
    assert figures["classical"]["psnr"] > figures["generated"]["psnr"]
    assert figures["classical"]["depth_absrel"] is not None
    assert any(x.startswith("generated loses to ") for x in found["losses"]["room/interp"])
    worse = figures["classical"]["psnr"] - figures["composed"]["psnr"] > 0.1
    assert not worse or "room/interp" in found["harm"]
    assert "goals" not in found


def test_the_frozen_rooms_with_the_network_alone(checkpoint, tmp_path, capsys):
    pytest.importorskip("numba")
    found = evaluate(checkpoint, tmp_path, "--rooms", "--scenes", 2, "--samples", 2)
    sensor, blind = (found["sets"][f"rooms/test[:2]{tail}"] for tail in ("", "-no-depth"))
    both = {"composed", "generated", "classical", "generated@1", "generated@4", "oracle_decode", "warp_true"}
    assert set(sensor) >= both
    assert set(blind) >= both
    assert sensor["classical"]["depth_absrel"] < blind["classical"]["depth_absrel"]
    assert sensor["oracle_decode"] == blind["oracle_decode"]
    assert 0 < sensor["composed"]["observed_share"] <= 1
    row = sensor["generated@4"]
    assert row["sample_std_holes"] > 0
    assert -1 <= row["spearman_holes"] <= 1
    assert row["gradient_energy_holes_ratio"] > 0
    assert row["ate"] > 0
    assert all("pnp_recovered" in sensor[name] for name in both - {"warp_true"})
    assert sensor["real"]["pnp_recovered"] == 1
    assert sensor["real"]["pnp_deg"] < 0.5
    assert sensor["real"] == blind["real"]  # known 3-D is the same with and without depth for the engine
    assert sensor["generated@4"]["pnp_recovered"] < 0.5  # random weights
    assert row["depth_absrel"] is not None
    assert sensor["generated@1"].get("sample_std") is None
    assert [r["met"] for r in found["goals"] if r["goal"] == "oracle decode, dB"] == [False]
    printed = capsys.readouterr().out
    assert "MISSED oracle decode" in printed
    assert "s for the engine" in printed
    page = (tmp_path / "index.html").read_text()
    assert "Goals of the default model" in page
    assert "std of samples" in page


@pytest.mark.parametrize("samples", ["0", "65"])
def test_a_number_of_samples_out_of_range_is_named(checkpoint, tmp_path, capsys, samples):
    assert main(["eval", "--rooms", "--samples", samples, "--model", str(checkpoint), "--out", str(tmp_path)]) == 2
    assert f"--samples {samples}" in capsys.readouterr().err
