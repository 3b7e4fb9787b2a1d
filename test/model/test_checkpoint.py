"""One file holds one model: it comes back equal, is read lazily on request, and damaged files are refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_model import lens, orbit, random_model, small_config

from gld_ros.cli.main import main
from gld_ros.errors import GldError
from gld_ros.model import checkpoint
from gld_ros.model.checkpoint import Entry, ModelFile, load_model, save_model, write_stream
from gld_ros.model.gld_model import GldModel
from gld_ros.synthesis.gld import GldRequest, generate


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, GldModel]:
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    model = random_model(small_config(), seed=4)
    save_model(path, model, notes={"licence": "none"})
    return path, model


def request_28() -> GldRequest:
    return GldRequest(
        torch.rand(1, 1, 3, 28, 28, generator=torch.Generator().manual_seed(0)), orbit(2), lens(2, (28, 28))
    )


def test_round_trip(saved: tuple[Path, GldModel]) -> None:
    path, model = saved
    loaded = load_model(path)
    assert loaded.config == model.config
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    # Any safetensors reader can open it.
    assert set(load_file(path)) == set(model.state_dict())
    assert ModelFile(path).metadata["licence"] == "none"


def test_lazy_model_gives_the_same_and_holds_no_transformer(saved: tuple[Path, GldModel]) -> None:
    path, model = saved
    lazy = load_model(path, lazy=True)
    assert not any(name.startswith(("level1", "cascade")) for name in lazy.state_dict())
    for _ in range(2):  # weights of a file may be aligned otherwise in memory, which changes how sums round
        torch.testing.assert_close(
            generate(lazy, request_28()).latents.level0, generate(model, request_28()).latents.level0
        )


def test_lent_transformer_is_freed(saved: tuple[Path, GldModel]) -> None:
    lazy = load_model(saved[0], lazy=True)
    with lazy.diffusion("level1") as dit:
        assert dit.dtype == torch.float32
        assert dit.s_projector.weight.device.type == "cpu"
    assert all(parameter.device.type == "meta" for parameter in dit.parameters())


def test_16_bit_file_is_half_the_size(saved: tuple[Path, GldModel], tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_model(path, saved[1], torch.float16)
    assert ModelFile(path).nbytes("rgb_decoder.") * 2 == ModelFile(saved[0]).nbytes("rgb_decoder.")
    assert ModelFile(path).nbytes("depth_head.") == ModelFile(saved[0]).nbytes("depth_head.")


@pytest.mark.parametrize(
    ("device", "small", "free", "held"),
    [("cpu", 1 << 40, 0, True), ("cpu", 0, 1 << 40, False), ("cuda", 0, 1 << 40, True), ("cuda", 0, 1 << 10, False)],
)
def test_large_model_is_held_where_a_gpu_has_room(
    saved: tuple[Path, GldModel], monkeypatch: pytest.MonkeyPatch, device: str, small: int, free: int, held: bool
) -> None:
    monkeypatch.setattr(checkpoint, "SMALL_BYTES", small)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, free))
    assert ModelFile(saved[0]).to_be_held(torch.device(device), torch.float32) == held


def test_room_is_reckoned_in_the_type_it_runs_in(saved: tuple[Path, GldModel], monkeypatch: pytest.MonkeyPatch) -> None:
    file = ModelFile(saved[0])  # fp32
    monkeypatch.setattr(checkpoint, "SMALL_BYTES", 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (file.nbytes() * 3 // 2, 0))
    assert file.to_be_held(torch.device("cuda"), torch.bfloat16)
    assert not file.to_be_held(torch.device("cuda"), torch.float32)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_truncated_file(saved: tuple[Path, GldModel], tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved[0].read_bytes()[:keep])
    with pytest.raises(GldError, match=r"cut\.safetensors is damaged"):
        load_model(path)


def test_header_that_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(GldError, match="damaged"):
        load_model(path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(GldError, match="not a file"):
        load_model(tmp_path / "absent")
    save_file({"conv1.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(GldError, match="not a model file of this package"):
        load_model(tmp_path / "other.safetensors")
    torch.save({"ema": {}}, tmp_path / "da3_level1.pt")
    with pytest.raises(GldError, match="gld weights import"):
        load_model(tmp_path / "da3_level1.pt")


def test_file_that_does_not_fit_its_configuration(saved: tuple[Path, GldModel], tmp_path: Path) -> None:
    tensors = load_file(saved[0])
    metadata = ModelFile(saved[0]).metadata
    del tensors["encoder.norm.bias"]
    tensors["rgb_decoder.decoder_norm.bias"] = torch.zeros(3)
    tensors["more"] = torch.zeros(1)
    save_file(tensors, tmp_path / "bent.safetensors", metadata)
    with pytest.raises(GldError) as error:
        load_model(tmp_path / "bent.safetensors")
    for words in ("1 missing: encoder.norm.bias", "1 unexpected: more", "1 mismatched: rgb_decoder.decoder_norm.bias"):
        assert words in str(error.value)


def test_bad_configuration_in_metadata(saved: tuple[Path, GldModel], tmp_path: Path) -> None:
    metadata = {**ModelFile(saved[0]).metadata, "config": json.dumps({"encoder": {"heads": 5}})}
    save_file(load_file(saved[0]), tmp_path / "bent.safetensors", metadata)
    with pytest.raises(GldError, match="heads"):
        load_model(tmp_path / "bent.safetensors")


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> torch.Tensor:
        raise GldError("source went away")

    entries = [Entry("a", (2,), torch.float32, lambda: torch.ones(2)), Entry("b", (2,), torch.float32, fail)]
    with pytest.raises(GldError, match="went away"):
        write_stream(tmp_path / "x.safetensors", entries, {})
    assert not list(tmp_path.iterdir())
    with pytest.raises(GldError, match="cannot be written"):
        write_stream(tmp_path / "no" / "x.safetensors", entries[:1], {})


def test_info_prints_parts_and_operations(saved: tuple[Path, GldModel], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "info", str(saved[0]), "--views", "3", "--condition", "1"]) == 0
    out = capsys.readouterr().out
    for words in ("small", "licence: none", "rgb_decoder", "level-1 transformer, one forward", "504x280", "504x504"):
        assert words in out
    assert main(["weights", "info", str(saved[0]), "--condition", "8"]) == 2
    assert main(["weights", "info", "nowhere"]) == 2
