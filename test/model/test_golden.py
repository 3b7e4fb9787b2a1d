"""Every golden output is reproduced; see test/golden/README.md for what the files hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gld_ros.evaluation.golden_geometry import GEOMETRY_FILES
from gld_ros.evaluation.golden_parts import PART_FILES
from gld_ros.evaluation.golden_runs import RUN_FILES
from gld_ros.evaluation.goldens import GoldenFolder, check_file

GOLDEN = Path(__file__).parents[1] / "golden"
KINDS = {kind.name: kind for kind in GEOMETRY_FILES + PART_FILES + RUN_FILES}
# How many outputs each file holds: a check that silently skips some would not be noticed otherwise.
OUTPUTS = {
    "camera": 5,
    "camera_from_ray": 4,
    "da3_encoder": 26,
    "ddt_cascade": 11,
    "ddt_level1": 15,
    "dpt_decoder": 11,
    "e2e": 28,
    "mae_decoder": 5,
    "preprocess": 9,
    "propagate": 11,
    "prope": 18,
    "sampler": 11,
}


@pytest.fixture(scope="module")
def folder() -> GoldenFolder:
    torch.set_num_threads(1)
    return GoldenFolder(GOLDEN, torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("name", sorted(OUTPUTS))
def test_golden_file(folder: GoldenFolder, name: str) -> None:
    outcomes = list(check_file(KINDS[name](folder), tolerance=2e-4))
    assert len(outcomes) == OUTPUTS[name]
    assert not [str(outcome) for outcome in outcomes if not outcome.passed]


def test_golden_files_are_all_listed() -> None:
    assert {path.stem for path in GOLDEN.glob("*.safetensors")} == set(OUTPUTS) == set(KINDS) - {"da3_stats"}
