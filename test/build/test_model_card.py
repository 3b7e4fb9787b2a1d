"""The tool that writes the model card's generated half."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import pytest

from gld_ros.errors import GldError
from gld_ros.synthesis.shipped import recorded_hashes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def card():
    spec = importlib.util.spec_from_file_location("model_card", ROOT / "tools" / "model_card.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FOUND = {
    "config": {
        "model": "tiny", "preset": "balanced", "seed": 0, "samples": 8,
        "rooms": {"name": "rooms/test", "hash": "abc", "scenes": 100},
    },
    "revision": "1234-dirty",
    "sets": {
        "rooms/test": {
            "warp_true": {"psnr": 25.0, "depth_absrel": 0.1},
            "composed": {"psnr": 26.126, "depth_absrel": None},
            "generated@4": {"psnr": 24.0, "sample_std_holes": 4.0, "sample_std_observed": 1.0, "spearman_holes": 0.31},
        }
    },
    "goals": [{"goal": "a goal", "value": 1.234, "wanted": 2.0, "more_is_better": True, "met": False}],
}  # fmt: skip


def test_figures_goals_and_command(card):
    text = "\n".join(card.rooms_section(FOUND))
    assert "gld eval --rooms --model tiny --preset balanced --seed 0 --samples 8" in text
    assert "revision 1234." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "| | PSNR | AbsRel |"
    assert rows[2] == "| composed | 26.13 | – |"
    assert "| a goal | ≥ 2 | 1.23 | **missed** |" in rows
    assert "0.31 in holes" in text


def test_cameras_of_pictures_and_of_the_ray_head_are_told_apart(card):
    rows = {
        "generated@4": {"pnp_recovered": 0.4, "pnp_deg": None, "ate": 0.1, "rpe_deg": 10.2},
        "real": {"pnp_recovered": 1.0, "pnp_deg": 0.124, "pnp_centre": 0.005, "pnp_centre_share": 0.014},
    }
    text = "\n".join(card.rooms_section({**FOUND, "sets": {"rooms/test": FOUND["sets"]["rooms/test"] | rows}}))
    assert "| generated@4 | 0.40 | – | – | – |" in text
    assert "| real | 1.00 | 0.12 | 0.005 | 0.01 |" in text
    assert text.count("| real |") == 1  # it has no figures of a picture
    assert text.index("### Cameras") < text.index("own ray head")


def test_photographs_name_commands_worse_sets_and_goals(card):
    figures = {"composed": {"psnr": 20.0, "ssim": 0.8, "perceptual": 0.7}, "classical": {"psnr": 21.0, "ssim": 0.8},
               "mean": {"psnr": 9.0}, "oracle_decode": {"psnr": 25.0, "psnr_network_size": 29.9}}  # fmt: skip
    blind = {"model": "tiny", "preset": "balanced", "seed": 0, "size": [256, 144], "use_depth": False}
    worse = {"config": blind, "revision": "12-dirty", "sets": {"a/b": figures}, "harm": {"a/b": "worse"}}
    fine = {**FOUND, "sets": {"gld_dl3dv/interp": figures}}
    rows = card.real_section([worse, fine, {**fine, "config": blind}])
    assert "* `gld eval a --model tiny --preset balanced --seed 0 --no-depth --size 256 144 --out DIR` at revision 12" in rows
    assert "| a/b | 20.00 / 0.800 / 0.700 | 21.00 / 0.800 / – | 9.00 | 29.90 | worse |" in rows
    assert "| gld_dl3dv/interp with depth images | 20.00 / 0.800 / 0.700 | 21.00 / 0.800 / – | 9.00 | 29.90 |  |" in rows
    assert "| a/b: oracle decode, dB | ≥ 30 | 29.90 | **missed** |" in rows
    assert [row for row in rows if ": composed, dB" in row] == [
        "| gld_dl3dv/interp: composed, dB | ≥ 15 | 20.00 | met |"
    ]


def test_cost_counts_what_a_kill_lost_and_curves_are_drawn(card, tmp_path):
    (tmp_path / "runs" / "encoder").mkdir(parents=True)
    lines = [
        {"step": 10, "seconds": 1800.0, "held_out/psnr": 20.0, "held_out/absrel": 0.4},
        {"step": 20, "seconds": 3600.0, "held_out/psnr": 25.0, "held_out/absrel": 0.3},
        {"step": 15, "seconds": 3000.0, "loss": 1.0},  # resumed from a checkpoint at 3000 s
        {"step": 30, "seconds": 4800.0, "loss": 1.0},
    ]
    (tmp_path / "runs/encoder/curve.jsonl").write_text("\n".join(map(json.dumps, lines)))
    curves = card.stage_curves([tmp_path / "runs"])
    text = card.cost_section(curves, 0.5)
    assert "| encoder | 30 | 1.50 |" in text
    assert "| sum | | 2.0 |" in text
    assert [v["step"] for v in curves["encoder"]] == [10, 15, 30]
    twice = card.stage_curves([tmp_path / "runs", tmp_path / "runs"])
    assert [v["step"] for v in twice["encoder"]] == [10, 15, 30, 40, 45, 60]
    assert card.trained_hours(twice["encoder"]) == pytest.approx(3.0)
    card.draw_curves(curves, tmp_path / "docs" / "curves.png")
    picture = cv2.imread(str(tmp_path / "docs" / "curves.png"))
    assert picture.shape == (300, 1040, 3)
    assert (picture < 200).any(axis=2).mean() > 0.003
    with pytest.raises(GldError, match=r"curve\.jsonl"):
        card.stage_curves([tmp_path / "nowhere"])


def test_what_was_written_by_hand_stays(card, tmp_path):
    file = tmp_path / "README.md"
    file.write_text(f"by hand\n\n{card.MARKER}\n\nold\n")
    card.write_card(file, ["new"])
    assert file.read_text() == f"by hand\n\n{card.MARKER}\n\nnew\n"
    file.write_text("no marker")
    with pytest.raises(GldError, match="lacks the line"):
        card.write_card(file, ["new"])


def test_the_card_in_the_package_is_of_the_model_in_it(card):
    text = card.CARD.read_text()
    assert card.MARKER in text
    assert f"SHA-256 `{recorded_hashes()['tiny.safetensors']}`" in text
