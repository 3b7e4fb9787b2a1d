"""The full-size row: measured in a child process, complete, and honest about failure."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from gld_ros.cli.main import main
from gld_ros.errors import GldError
from gld_ros.evaluation.bench.child import in_child
from gld_ros.evaluation.bench.full_size import write_random_model
from gld_ros.evaluation.bench.machine import peak_bytes
from gld_ros.evaluation.bench.rows import Row
from gld_ros.model.checkpoint import ModelFile

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from small_model import small_config


@pytest.fixture(scope="module")
def random_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "random.safetensors"
    write_random_model(path, small_config())
    return path


def test_row_of_a_given_model(random_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    options = ["--full-size", "--model", str(random_file), "--updates", "1", "--threads", "1", "--json", str(out)]
    assert main(["bench", *options]) == 0
    content = json.loads(out.read_text())
    assert set(content) == {"machine", "versions", "revision", "rows", "verdict"}
    assert content["verdict"][0]["met"] is True
    (row,) = content["rows"]
    assert row["views"] == [1, 1]
    assert row["size"] == [504, 280]
    assert row["updates"] == [1, 1]
    assert row["evaluations"] == 4
    assert row["flops"] > 1e9
    assert 5e7 < row["peak_bytes"] < 4e9
    assert 0 < row["seconds_p50"] <= row["seconds_p95"]
    assert set(row["seconds"]) == {"encode", "level1", "cascade"}


def test_random_weights_say_so(random_file: Path) -> None:
    assert ModelFile(random_file).metadata["weights"] == "random"


@pytest.mark.parametrize(
    "options", [["--model", "classical"], ["--full-size", "--updates", "0"], ["--full-size", "--dtype", "int4"]]
)
def test_bad_options(options: list[str]) -> None:
    assert main(["bench", *options]) == 2


def fail_in_child(reason: str) -> Row:
    raise GldError(reason)


def die_in_child() -> Row:
    import os

    os._exit(7)


def test_failure_in_the_child_is_reported() -> None:
    with pytest.raises(GldError, match="went wrong"):
        in_child(fail_in_child, reason="went wrong")
    with pytest.raises(GldError, match="code 7"):
        in_child(die_in_child)


def test_peak_memory_grows_with_use() -> None:
    before = peak_bytes(torch.device("cpu"))
    block = torch.ones(200_000_000 // 4)
    assert peak_bytes(torch.device("cpu")) >= min(before + 1, block.nbytes)
