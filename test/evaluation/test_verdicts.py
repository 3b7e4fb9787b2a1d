"""Figures in words: losses, harm and goals."""

import re

import pytest

from gld_ros.evaluation.evaluate import EvaluatedSet
from gld_ros.evaluation.predictors import in_order
from gld_ros.evaluation.report import text_table
from gld_ros.evaluation.verdicts import COLUMNS, GOALS, fair, goal_line, goal_rows, harm, losses


def test_the_best_better_baseline_is_named_once_per_figure():
    figures = {
        "composed": {"psnr": 20.0, "depth_absrel": 0.3, "sharpness": 1.0},
        "mean": {"psnr": 21.0, "depth_absrel": 0.4, "sharpness": 9.0},
        "blur": {"psnr": 22.0, "depth_absrel": None},
        "oracle_decode": {"psnr": 40.0},
    }
    (found,) = losses(figures)
    assert str(found) == "composed loses to blur in PSNR: 20.00 against 22.00"
    assert losses(figures, ("copy_nearest",)) == []


def test_smaller_is_better_for_errors_and_numbered_predictors_are_judged_too():
    figures = {"plain@4": {"depth_absrel": 0.3}, "warp_true": {"depth_absrel": 0.1}}
    assert [x.predictor for x in losses(figures)] == ["plain@4"]
    assert losses(figures, fair(sensor=False)) == []
    assert "warp_true" in fair(sensor=True)


def test_order_of_tables():
    names = ["oracle_decode", "plain@1", "generated@10", "generated@4", "generated", "mean", "composed", "other"]
    assert in_order(names) == [
        "composed",
        "generated",
        "generated@4",
        "generated@10",
        "plain@1",
        "mean",
        "oracle_decode",
    ]


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        ((20.0, 0.8), (20.09, 0.8049), ()),
        ((20.0, 0.8), (20.2, 0.8), ("0.20 dB",)),
        ((20.0, 0.8), (19.0, 0.81), ("0.0100 SSIM",)),
        ((20.0, 0.8), (21.0, 0.9), ("1.00 dB", "0.1000 SSIM", "allowed 0.1")),
    ],
)
def test_harm(ours, theirs, words):
    figures = {n: dict(zip(("psnr", "ssim"), v, strict=True)) for n, v in (("composed", ours), ("classical", theirs))}
    said = harm(figures)
    assert (said is None) == (not words)
    assert all(w in said for w in words)


def test_no_harm_without_the_classical_engine():
    assert harm({"composed": {"psnr": 1.0, "ssim": 0.1}}) is None


def test_goals_are_leads_or_figures():
    sensor = {
        "generated@1": {"psnr": 27.0, "psnr_holes": 20.0},
        "warp_true": {"psnr": 25.0, "psnr_holes": 19.0, "perceptual_holes": 0.5},
        "generated@4": {"perceptual_holes": 0.5, "gradient_energy_holes_ratio": 0.6},
    }
    blind = {"generated@1": {"depth_absrel": 0.21, "psnr": 22.0}, "copy_nearest": {"psnr": 15.0}}
    rows = {row["goal"]: row for row in goal_rows(sensor, blind)}
    lead, holes = (rows[g.text] for g in GOALS[:2])
    assert (lead["value"], lead["met"]) == (2.0, True)
    assert (holes["value"], holes["met"]) == (1.0, False)
    assert [r["met"] for t, r in rows.items() if "AbsRel" in t] == [False]
    assert [r["met"] for t, r in rows.items() if "perceptual" in t] == [True]
    assert len(rows) == 6  # the others have a figure missing
    assert goal_line(holes).startswith("MISSED the same inside holes (pull-push), dB: 1.00 (wanted >= 4)")


def test_terminal_table_is_aligned_and_narrow():
    """Every column of a full table ends under its title's last word, and all of them fit 150 characters."""
    row = {key: 0.123456 for key, *_ in COLUMNS}
    lines = text_table(EvaluatedSet("rooms", [], seconds=1.0), {"composed": row, "classical": row}).splitlines()
    assert lines[0] == "rooms (0 views, the engine took 1.0 s)"
    assert {len(line) for line in lines[1:]} == {len(lines[-1])}
    assert len(lines[-1]) <= 150
    ends = [cell.end() for cell in re.finditer(r"\S+", lines[-1])][1:]
    assert [lines[-3][:end].split()[-1] for end in ends[:3]] == ["PSNR", "SSIM", "perceptual"]
