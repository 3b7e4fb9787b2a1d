"""Engines by name: what cannot be had is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gld_ros.errors import GldError
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.output import remove_previous


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(GldError, match=f"device '{device}' cannot be used"):
        load_engine("classical", device)


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(GldError, match="model 'no/such/file'"):
        load_engine("no/such/file", "cpu")


def test_only_the_files_of_an_earlier_result_are_removed(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"views": [{"stem": "003"}, {"stem": "../outside"}]}))
    for name in ("003.png", "003.depth.png", "mine.png", "points_observed.ply"):
        (tmp_path / name).write_bytes(b"x")
    outside = tmp_path.parent / "outside.png"
    outside.write_bytes(b"x")
    remove_previous(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.png"]
    assert outside.exists()
