"""Small files in every published layout are imported, with each trap; unsafe, partial and foreign files are refused."""

from __future__ import annotations

import argparse
import collections
import os
import pathlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_model import random_model, small_config
from torch import Tensor

from gld_ros.cli.main import main
from gld_ros.errors import GldError
from gld_ros.model.checkpoint import load_model
from gld_ros.model.gld_model import GldModel
from gld_ros.model.released import import_released

State = dict[str, Tensor]
CONFIG = small_config()


class Released:
    """The files of one small model, as the authors lay them out; tests bend them before writing."""

    def __init__(self, model: GldModel) -> None:
        head = model.depth_head.state_dict()
        encoder = {f"model.backbone.pretrained.{k}": v for k, v in model.encoder.state_dict().items()}
        stock = {f"model.head.{k}": torch.zeros_like(v) for k, v in head.items()}
        unused = {"model.cam_enc.x": torch.ones(2), "model.cam_dec.fc_t.weight": torch.ones(3)}
        self.stock: State = {**encoder, **stock, **unused}
        self.files: dict[str, Any] = {
            "da3_level1.pt": {"ema": model.level1.state_dict(), "model": {}, "epoch": 3},
            "da3_cascade.pt": {"model": model.cascade.state_dict()},
            "mae_decoder.pt": {f"decoder.{k}": v for k, v in model.rgb_decoder.state_dict().items()},
            "dpt_decoder.pt": {"model": {f"decoder.{k}": v for k, v in head.items()}},
        }
        for level in range(2):
            statistics = model.level_statistics(level)
            mean, var = statistics.mean.view(1, -1, 1, 1).clone(), statistics.var.view(1, -1, 1, 1).clone()
            self.files[f"normalization_stats_level{level}.pt"] = {
                "mean": mean,
                "var": var,
                "std": var.sqrt(),
                "count": 179568640,
                "level": level,
            }

    def write(self, folder: Path) -> Path:
        (folder / "deep").mkdir(parents=True)
        save_file(
            {name: value.contiguous().clone() for name, value in self.stock.items()}, folder / "model.safetensors"
        )
        for name, content in self.files.items():
            torch.save(content, folder / "deep" / name)
        return folder


@pytest.fixture(scope="module")
def model() -> GldModel:
    return random_model(CONFIG, seed=3)


@pytest.fixture
def released(model: GldModel) -> Released:
    return Released(model)


def run_import(folder: Path, **options: Any) -> tuple[GldModel, list[str]]:
    out = folder / "gld.safetensors"
    report = import_released(folder, out, CONFIG, progress=False, **options)
    return load_model(out), report


def assert_equal(imported: GldModel, model: GldModel) -> None:
    ours, theirs = imported.state_dict(), model.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def refused(folder: Path, *words: str, **options: Any) -> None:
    with pytest.raises(GldError) as error:
        run_import(folder, **options)
    for word in words:
        assert word in str(error.value)
    assert not list(folder.glob("gld.safetensors*"))


def test_released_files_give_the_same_model(released: Released, model: GldModel, tmp_path: Path) -> None:
    imported, report = run_import(released.write(tmp_path / "in"))
    assert_equal(imported, model)
    assert any("da3_level1 [ema]" in line for line in report)
    with safe_open(tmp_path / "in" / "gld.safetensors", "pt") as file:
        assert len(file.metadata()["sha256 of da3_level1.pt"]) == 64


def _wrap(files: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    for name in ("da3_level1.pt", "da3_cascade.pt"):
        content = files[name]
        files[name] = change(content.get("ema") or content["model"])


LAYOUTS: dict[str, Callable[[State], Any]] = {
    "flat": lambda state: state,
    "model": lambda state: {"model": state},
    "ema_wins": lambda state: {"ema": state, "model": {k: v + 1 for k, v in state.items()}},
    "ema_empty": lambda state: {"ema": {}, "model": state},
    "module_prefix": lambda state: {"ema": {f"module.{k}": v for k, v in state.items()}},
    "module_inside": lambda state: {"model": {k.replace("blocks.", "blocks.module."): v for k, v in state.items()}},
    "ordered": lambda state: collections.OrderedDict(ema=collections.OrderedDict(state)),
    "training": lambda state: {
        "ema": state,
        "opt": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 5e-5}]},
        "scheduler": {"last_epoch": 3},
        "train_steps": 7,
        "config_path": pathlib.PurePosixPath("configs/level1.yaml"),
        "cli_overrides": ["a=1"],
        "training_cfg": argparse.Namespace(lr=5e-5, nested=argparse.Namespace(views=8)),
    },
    "label_embedder": lambda state: {"ema": {**state, "y_embedder.embedding_table.weight": torch.ones(2, 2)}},
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_released_transformer_layouts(released: Released, model: GldModel, tmp_path: Path, layout: str) -> None:
    _wrap(released.files, LAYOUTS[layout])
    assert_equal(run_import(released.write(tmp_path / "in"))[0], model)


def test_released_posix_path_in_checkpoint(released: Released, model: GldModel, tmp_path: Path) -> None:
    _wrap(released.files, lambda state: {"ema": state, "config_path": pathlib.Path("configs/x.yaml")})
    assert_equal(run_import(released.write(tmp_path / "in"))[0], model)


@pytest.mark.parametrize("container", ["ema", "model", None])
def test_released_rgb_decoder_layouts(
    released: Released, model: GldModel, tmp_path: Path, container: str | None
) -> None:
    state = released.files["mae_decoder.pt"]
    state = {**state, "encoder.left_out": torch.ones(2)}
    released.files["mae_decoder.pt"] = {container: state} if container else state
    assert_equal(run_import(released.write(tmp_path / "in"))[0], model)


def test_released_depth_head_pred_prefix_and_stock_names(released: Released, model: GldModel, tmp_path: Path) -> None:
    state = released.files["dpt_decoder.pt"]["model"]
    borrowed = "projects.0.bias"
    released.stock[f"model.head.{borrowed}"] = state.pop(f"decoder.{borrowed}")
    state["pred.norm.weight"] = state.pop("decoder.norm.weight")
    imported, report = run_import(released.write(tmp_path / "in"))
    assert_equal(imported, model)
    assert any("stock head" in line and borrowed in line for line in report)


@pytest.mark.parametrize("also_tuned", [False, True])
def test_released_shared_norm_may_be_saved_once(
    released: Released, model: GldModel, tmp_path: Path, also_tuned: bool
) -> None:
    copies = [f"scratch.output_conv2_aux.{index}.2.{name}" for index in (1, 2, 3) for name in ("weight", "bias")]
    for name in copies:
        del released.stock[f"model.head.{name}"]
        if also_tuned:
            del released.files["dpt_decoder.pt"]["model"][f"decoder.{name}"]
    assert_equal(run_import(released.write(tmp_path / "in"))[0], model)


def _aliases(state: State) -> State:
    copies = {}
    for name, value in state.items():
        if name.startswith(("x_embedder.", "s_embedder.")):
            for suffix in ("_ref.", "_tgt."):
                copies[name.replace(".", suffix, 1)] = value.clone()
    return copies


def test_released_cascade_aliases_are_dropped_when_equal(released: Released, model: GldModel, tmp_path: Path) -> None:
    state = released.files["da3_cascade.pt"]["model"]
    released.files["da3_cascade.pt"] = {"ema": {**state, **_aliases(state)}}
    assert_equal(run_import(released.write(tmp_path / "in"))[0], model)


def test_released_cascade_aliases_alone_are_enough(released: Released, model: GldModel, tmp_path: Path) -> None:
    state = dict(released.files["da3_cascade.pt"]["model"])
    copies = _aliases(state)
    for name in list(state):
        if name.startswith(("x_embedder.", "s_embedder.")):
            del state[name]
    released.files["da3_cascade.pt"] = {"ema": {**state, **copies}}
    assert_equal(run_import(released.write(tmp_path / "in"))[0], model)


def test_released_cascade_aliases_that_differ_are_refused(released: Released, tmp_path: Path) -> None:
    state = released.files["da3_cascade.pt"]["model"]
    copies = _aliases(state)
    copies["x_embedder_tgt.proj.bias"] += 1
    released.files["da3_cascade.pt"] = {"ema": {**state, **copies}}
    refused(released.write(tmp_path / "in"), "x_embedder_tgt.proj.bias", "differs")


def test_released_old_pickle_format(released: Released, model: GldModel, tmp_path: Path) -> None:
    folder = released.write(tmp_path / "in")
    path = folder / "deep" / "da3_level1.pt"
    torch.save(released.files["da3_level1.pt"], path, _use_new_zipfile_serialization=False)
    assert_equal(run_import(folder)[0], model)


def test_released_bf16_keeps_what_must_stay_fp32(released: Released, model: GldModel, tmp_path: Path) -> None:
    folder = released.write(tmp_path / "in")
    imported, _ = run_import(folder, dtype=torch.bfloat16)
    with safe_open(folder / "gld.safetensors", "pt") as file:
        kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    kept = ("statistics.", "depth_head.", "level1.t_embedder.", "cascade.t_embedder.")
    assert all((kind == "F32") == name.startswith(kept) for name, kind in kinds.items())
    assert torch.equal(imported.depth_head.norm.weight, model.depth_head.norm.weight)
    weight = model.level1.s_projector.weight
    assert torch.equal(imported.level1.s_projector.weight, weight.to(torch.bfloat16).float())


def test_released_import_command(
    released: Released, model: GldModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = released.write(tmp_path / "in")
    (tmp_path / "config.json").write_text(CONFIG.to_json())
    options = ["--config", str(tmp_path / "config.json"), "--dtype", "fp32", "--out", str(tmp_path / "out.safetensors")]
    assert main(["weights", "import", str(folder), *options]) == 0
    assert_equal(load_model(tmp_path / "out.safetensors"), model)
    assert "level1: " in capsys.readouterr().out
    # Without the configuration these are files of another model than the published one.
    assert main(["weights", "import", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "mismatched" in error
    assert "nothing written" in error


# -- refusals -----------------------------------------------------------------------------------------------------


class Hostile:
    """Unpickles to a call of the given function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("file", ["da3_level1.pt", "mae_decoder.pt", "normalization_stats_level1.pt"])
@pytest.mark.parametrize("new_format", [True, False])
def test_released_hostile_pickle_is_refused_and_not_run(
    released: Released, tmp_path: Path, file: str, new_format: bool
) -> None:
    folder = released.write(tmp_path / "in")
    trace = tmp_path / "was_run"
    content = {**released.files[file], "extra": Hostile(os.system, f"touch {trace}")}
    torch.save(content, folder / "deep" / file, _use_new_zipfile_serialization=new_format)
    refused(folder, "system", file, "nothing of it was executed")
    assert not trace.exists()


@pytest.mark.parametrize(
    "function", [eval, exec, __import__, getattr, open, os.remove, pathlib.Path.unlink], ids=lambda f: f.__qualname__
)
def test_released_hostile_functions(released: Released, tmp_path: Path, function: Callable[..., Any]) -> None:
    victim = tmp_path / "victim"
    victim.write_text("here")
    folder = released.write(tmp_path / "in")
    torch.save({"ema": Hostile(function, str(victim))}, folder / "deep" / "da3_level1.pt")
    refused(folder, "da3_level1.pt")
    assert victim.read_text() == "here"


def test_released_plain_pickle_is_refused(released: Released, tmp_path: Path) -> None:
    folder = released.write(tmp_path / "in")
    trace = tmp_path / "was_run"
    (folder / "deep" / "da3_level1.pt").write_bytes(pickle.dumps(Hostile(os.system, f"touch {trace}")))
    refused(folder, "da3_level1.pt")
    assert not trace.exists()


def test_released_unknown_class_is_named(released: Released, tmp_path: Path) -> None:
    folder = released.write(tmp_path / "in")
    torch.save({"ema": {}, "cfg": collections.Counter(), "x": CONFIG}, folder / "deep" / "da3_level1.pt")
    refused(folder, "gld_ros.model.config.ModelConfig")


def test_released_missing_file_is_named(released: Released, tmp_path: Path) -> None:
    del released.files["da3_cascade.pt"]
    refused(released.write(tmp_path / "in"), "lacks da3_cascade.pt")


def test_released_file_twice_is_refused(released: Released, tmp_path: Path) -> None:
    folder = released.write(tmp_path / "in")
    torch.save({}, folder / "da3_level1.pt")
    refused(folder, "more than once")


@pytest.mark.parametrize("keep", [0, 10, 2000, -100])
def test_released_truncated_file(released: Released, tmp_path: Path, keep: int) -> None:
    folder = released.write(tmp_path / "in")
    path = folder / "deep" / "da3_level1.pt"
    path.write_bytes(path.read_bytes()[:keep])
    refused(folder, "da3_level1.pt", "damaged")


def test_released_truncated_safetensors(released: Released, tmp_path: Path) -> None:
    folder = released.write(tmp_path / "in")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(folder, "model.safetensors", "damaged")


@pytest.mark.parametrize("content", [[1, 2], "text", None, {"ema": {"a": 1}}, {}])
def test_released_file_without_tensors(released: Released, tmp_path: Path, content: Any) -> None:
    released.files["da3_level1.pt"] = content
    refused(released.write(tmp_path / "in"), "da3_level1")


def test_released_missing_names_are_listed(released: Released, tmp_path: Path) -> None:
    del released.files["da3_level1.pt"]["ema"]["blocks.1.attn.qkv.bias"]
    refused(released.write(tmp_path / "in"), "1 missing", "level1.blocks.1.attn.qkv.bias", "nothing written")


def test_released_unexpected_names_are_listed(released: Released, model: GldModel, tmp_path: Path) -> None:
    released.files["da3_level1.pt"]["ema"]["blocks.9.extra"] = torch.ones(1)
    folder = released.write(tmp_path / "in")
    refused(folder, "1 unexpected", "level1.blocks.9.extra")
    assert_equal(run_import(folder, ignore=["level1.blocks.9.*"])[0], model)


def test_released_strange_backbone_name_is_refused(released: Released, tmp_path: Path) -> None:
    released.stock["other.weight"] = torch.ones(1)
    refused(released.write(tmp_path / "in"), "other.weight", "unexpected")


def test_released_other_model_is_refused(released: Released, tmp_path: Path) -> None:
    for name in ("da3_level1.pt", "da3_cascade.pt"):
        released.files[name] = {"model": {"conv1.weight": torch.ones(3, 3)}}
    refused(released.write(tmp_path / "in"), "missing", "unexpected", "conv1.weight")


def test_released_wrong_shape_is_named(released: Released, tmp_path: Path) -> None:
    released.files["da3_level1.pt"]["ema"]["s_projector.bias"] = torch.ones(7)
    refused(released.write(tmp_path / "in"), "1 mismatched", "level1.s_projector.bias is (7,), must be (48,)")


def test_released_statistics_of_wrong_width(released: Released, tmp_path: Path) -> None:
    released.files["normalization_stats_level0.pt"]["mean"] = torch.zeros(1, 10, 1, 1)
    refused(released.write(tmp_path / "in"), "statistics.0.mean is (10,), must be (64,)")


def test_released_statistics_swapped(released: Released, tmp_path: Path) -> None:
    files = released.files
    one, zero = "normalization_stats_level1.pt", "normalization_stats_level0.pt"
    files[one], files[zero] = files[zero], files[one]
    refused(released.write(tmp_path / "in"), "must be level 0")


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_released_statistics_damaged(released: Released, tmp_path: Path, bad: float) -> None:
    released.files["normalization_stats_level0.pt"]["var"][0, 3] = bad
    refused(released.write(tmp_path / "in"), "normalization_stats_level0", "damaged")


def test_released_weights_that_are_not_finite(released: Released, tmp_path: Path) -> None:
    bias = released.files["da3_level1.pt"]["ema"]["s_projector.bias"].clone()
    bias[0] = float("inf")
    released.files["da3_level1.pt"]["ema"]["s_projector.bias"] = bias
    refused(released.write(tmp_path / "in"), "level1.s_projector.bias", "finite")
