"""The shipped model: found, verified, announced; anything else is refused by name."""

from __future__ import annotations

import importlib.util
import logging
import sys
from pathlib import Path

import planes
import pytest

from gld_ros.cli.doctor import check_weights
from gld_ros.errors import GldError, Status
from gld_ros.model.checkpoint import ModelFile, save_model
from gld_ros.ros.findings import ERROR, OK, WARNING
from gld_ros.synthesis import shipped
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.types import PosedView, Request

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "model"))
from small_model import random_model, small_config  # noqa: E402


@pytest.fixture(scope="module")
def ship():
    spec = importlib.util.spec_from_file_location("ship_model", ROOT / "tools" / "ship_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ship


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "model.safetensors"
    save_model(path, random_model(small_config(trained_sizes=((84, 84),))))
    return path


@pytest.fixture
def folder(ship, trained, tmp_path, monkeypatch):
    """A weights folder with a small model in it, in place of the package's."""
    ship(trained, tmp_path)
    use(tmp_path, monkeypatch)
    return tmp_path


def use(folder, monkeypatch):
    shipped._say_once.cache_clear()
    monkeypatch.setattr(shipped, "FOLDER", folder)


@pytest.mark.parametrize("model", ["default", "tiny"])
def test_it_is_loaded_by_name_and_says_once_what_it_is(folder, caplog, model):
    for _ in range(2):
        engine = load_engine(model, "cpu")
        assert (engine.name, engine.model.config.name) == ("tiny", "tiny")
    assert caplog.text.count(shipped.DEMONSTRATION) == 1
    assert [r.levelno for r in caplog.records if shipped.DEMONSTRATION in r.message] == [logging.WARNING]


def test_every_result_says_what_it_is(folder):
    views = [PosedView(str(i), c, planes.render(c)[0]) for i, c in enumerate(planes.cameras()[::2])]
    result = load_engine("tiny", "cpu").synthesize(views, Request([planes.cameras()[1]], preset="fast", seed=0))
    assert result.status == Status.OK
    assert result.model == "tiny"
    assert result.notes[0] == shipped.DEMONSTRATION


def test_a_changed_file_is_refused_with_both_hashes_and_a_remedy(folder):
    path = folder / "tiny.safetensors"
    recorded = shipped.sha256(path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for model in ("tiny", "default"):
        with pytest.raises(GldError) as caught:
            load_engine(model, "cpu")
        for part in (str(path), recorded, shipped.sha256(path), "install gld_ros anew"):
            assert part in str(caught.value)
    assert [f.level for f in check_weights()] == [ERROR]


@pytest.mark.parametrize("sums", [None, "", "0" * 64 + "  other.safetensors\n"])
def test_a_file_nobody_recorded_is_refused(folder, sums):
    if sums is None:
        (folder / shipped.SUMS).unlink()
    else:
        (folder / shipped.SUMS).write_text(sums)
    with pytest.raises(GldError, match=r"SHA256SUMS has no SHA-256 of tiny\.safetensors"):
        load_engine("tiny", "cpu")


def test_without_it_the_default_is_classical_and_says_so(tmp_path, monkeypatch, caplog):
    use(tmp_path, monkeypatch)
    assert load_engine("default", "cpu").name == "classical"
    assert "no trained model" in caplog.text
    with pytest.raises(GldError, match=r"tiny\.safetensors is missing.*install gld_ros anew"):
        load_engine("tiny", "cpu")
    assert [f.level for f in check_weights()] == [WARNING]


def test_doctor_names_it(folder):
    (finding,) = check_weights()
    assert finding.level == OK
    assert shipped.DEMONSTRATION in finding.text


def test_too_large_a_file_is_neither_written_nor_loaded(ship, folder, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "LIMIT_BYTES", 1000)
    with pytest.raises(GldError, match="at most 1000"):
        load_engine("tiny", "cpu")
    monkeypatch.setitem(ship.__globals__, "LIMIT_BYTES", 1000)
    before = sorted(p.name for p in tmp_path.iterdir()), shipped.sha256(tmp_path / "tiny.safetensors")
    with pytest.raises(GldError, match="at most 1000 may ship"):
        ship(trained, tmp_path)
    assert before == (sorted(p.name for p in tmp_path.iterdir()), shipped.sha256(tmp_path / "tiny.safetensors"))


def test_it_is_written_in_half_precision_and_finite(ship, trained, folder, tmp_path):
    assert ModelFile(folder / "tiny.safetensors").metadata["dtype"] == "float16"
    model = ModelFile(trained).load()
    next(model.level1.parameters()).fill_(1e6)
    save_model(tmp_path / "large.safetensors", model)
    with pytest.raises(GldError, match="not finite in half precision"):
        ship(tmp_path / "large.safetensors", tmp_path / "elsewhere")


def test_what_is_in_the_package_is_what_was_recorded():
    """The file of this tree, where there is one: recorded, of the right size, loadable."""
    folder = ROOT / "gld_ros" / "weights"
    assert sum(p.stat().st_size for p in folder.iterdir()) <= shipped.LIMIT_BYTES + (1 << 20)
    if shipped.shipped_file(folder) is None:
        assert not shipped.recorded_hashes(folder)
    else:
        ModelFile(shipped.verified_file(folder))
