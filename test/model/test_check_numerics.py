"""``gld check-numerics`` on other sizes, view counts, grids and guidance than the shipped files, and on broken ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gld_ros.cli.main import main
from gld_ros.evaluation.goldens import GoldenFolder, check_folder
from gld_ros.model.config import SamplerConfig
from gld_ros.model.gld_model import Latents
from gld_ros.model.sampler import time_grid
from gld_ros.synthesis.gld import GldRequest, generate

GOLDEN = Path(__file__).parents[1] / "golden"
PARAMETER_FILES = ("da3_encoder", "ddt_level1", "ddt_cascade", "mae_decoder", "dpt_decoder")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(GOLDEN / "tiny_config.json", tmp_path)
    return tmp_path


def put(folder: Path, name: str, tensors: dict[str, Tensor]) -> None:
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, folder / f"{name}.safetensors")


def parameters_only(folder: Path, *names: str) -> None:
    for name in names:
        tensors = load_file(GOLDEN / f"{name}.safetensors")
        put(folder, name, {key: value for key, value in tensors.items() if key.startswith("param/")})


def run(folder: Path, *options: str) -> int:
    return main(["check-numerics", str(folder), *options])


def test_shipped_files_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("camera", "prope", "mae_decoder"):
        shutil.copy(GOLDEN / f"{name}.safetensors", folder)
    assert run(folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "PASS: 28 of 28 outputs within tolerance"
    assert all(line.startswith("ok ") and "max deviation" in line for line in lines[:-1])


def test_other_guidance_and_time_grid(folder: Path) -> None:
    tensors = load_file(GOLDEN / "ddt_level1.safetensors")
    free, cond = tensors["out/velocity_uncond"], tensors["out/velocity"]
    tensors = {key: value for key, value in tensors.items() if not key.startswith("out/")}
    put(folder, "ddt_level1", {**tensors, "out/velocity_cfg2.25": free + 2.25 * (cond - free)})
    sampler = load_file(GOLDEN / "sampler.safetensors")
    inputs = {key: value for key, value in sampler.items() if key.startswith("in/")}
    grids = {f"out/t_grid/shift_9.5000_points_{n}": time_grid(9.5, n).float() for n in (2, 7, 33)}
    three = sampler["out/shift6_nocfg/trajectory"][:1]
    put(folder, "sampler", {**inputs, **grids, "out/shift6_nocfg/trajectory": three.repeat(3, 1, 1, 1, 1)})
    outcomes = {outcome.output: outcome for outcome in check_folder(folder)}
    assert outcomes.pop("out/shift6_nocfg/trajectory").problem == ""  # recomputed on a grid of 3, with wrong states
    assert len(outcomes) == 4
    assert all(outcome.passed for outcome in outcomes.values())


@pytest.mark.parametrize(("views", "cond_num", "size"), [(5, 3, (42, 70)), (2, 1, (98, 14))])
def test_whole_requests_of_other_sizes(folder: Path, views: int, cond_num: int, size: tuple[int, int]) -> None:
    shipped = load_file(GOLDEN / "e2e.safetensors")
    parameters_only(folder, *PARAMETER_FILES)
    stats = {key: value for key, value in shipped.items() if "stats_" in key}
    model = GoldenFolder(GOLDEN, torch.device("cpu"), torch.float32).model
    for level in range(2):
        mean, var = (stats[f"in/stats_level{level}_{name}"] for name in ("mean", "var"))
        model.level_statistics(level).set(mean, var)
    torch.manual_seed(1)
    (width, height), sampler = size, SamplerConfig(4, 3.0, 2.0)
    poses = shipped["in/c2w"][:, [0, 1, 2, 3, 1]][:, :views].clone()
    poses[:, -1, :3, 3] += 0.5
    K = shipped["in/K"][:, :1].repeat(1, views, 1, 1)
    rgb = torch.rand(1, cond_num, 3, height, width)
    noise = Latents(*(torch.randn(1, views, 128, height // 14, width // 14) for _ in range(2)))
    output = generate(model, GldRequest(rgb, poses, K, sampler, sampler, noise=noise))
    assert output.rgb is not None
    case = {
        "in/zz/cond_rgb01": rgb,
        "in/zz/c2w": poses,
        "in/zz/K": K,
        "in/zz/noise_level0": noise.level0[0],
        "in/zz/noise_level1": noise.level1[0],
        "in/zz/shift": torch.tensor(3.0),
        "in/zz/cfg_scale": torch.tensor(2.0),
        "in/zz/grid_points": torch.tensor(4),
        "in/zz/cond_num": torch.tensor(cond_num),
        "out/zz/rgb": output.rgb,
        "out/zz/level1_norm": output.latents.level1[0],
        "out/zz/level2_ln": model.encoder.layer_normed(output.levels[2]),
    }
    put(folder, "e2e", {**stats, **case})
    outcomes = list(check_folder(folder))
    assert len(outcomes) == 3
    assert all(outcome.passed and outcome.deviation < 1e-5 for outcome in outcomes)


def test_encoder_of_another_size_and_view_count(folder: Path) -> None:
    tensors = load_file(GOLDEN / "da3_encoder.safetensors")
    kept = {key: value for key, value in tensors.items() if key.startswith("param/")}
    kept |= {"in/rgb01_70x56": tensors["in/rgb01_70x56"], "in/rgb01": tensors["in/rgb01"][:, :1]}
    kept["out/joint_level3_raw_70x56"] = tensors["out/joint_level3_raw_70x56"]
    kept["out/joint_level0_raw"] = tensors["out/single_level0_raw"][:1]
    put(folder, "da3_encoder", kept)
    assert [outcome.passed for outcome in check_folder(folder)] == [True, True]


def test_statistics_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    var = torch.rand(1, 1536, 1, 1) + 0.1
    level = {"level0/mean": torch.randn_like(var), "level0/var": var, "level0/std": var.sqrt()}
    put(folder, "da3_stats", level)
    assert run(folder) == 0
    assert "da3_stats level0/std" in capsys.readouterr().out
    put(folder, "da3_stats", {**level, "level0/std": var})
    assert run(folder) == 1


def test_wrong_output_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(GOLDEN / "camera.safetensors")
    tensors["out/camera_map"][0, 3, 5, 7] += 1e-2
    put(folder, "camera", tensors)
    assert run(folder) == 1
    out = capsys.readouterr().out
    assert "FAIL camera out/camera_map" in out
    assert out.splitlines()[-1] == "FAIL: 4 of 5 outputs within tolerance"
    assert run(folder, "--tolerance", "0.1") == 0


def test_nan_in_expected_output_fails(folder: Path) -> None:
    tensors = load_file(GOLDEN / "camera.safetensors")
    tensors["out/scale"][:] = float("nan")
    put(folder, "camera", tensors)
    assert run(folder) == 1


def test_missing_parameter_file_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(GOLDEN / "propagate.safetensors", folder)
    assert run(folder) == 1
    assert "da3_encoder.safetensors is missing" in capsys.readouterr().out


def test_unknown_output_and_file_fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(GOLDEN / "camera.safetensors")
    put(folder, "camera", {**tensors, "out/new_thing": torch.zeros(1)})
    put(folder, "surprise", {"out/x": torch.zeros(1)})
    assert run(folder) == 1
    out = capsys.readouterr().out
    assert "out/new_thing: this output is unknown" in out
    assert "unknown kind of golden file" in out


def test_missing_input_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(GOLDEN / "camera.safetensors")
    del tensors["in/K"]
    put(folder, "camera", tensors)
    assert run(folder) == 1
    assert "in/K is missing" in capsys.readouterr().out


def test_missing_parameter_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = load_file(GOLDEN / "mae_decoder.safetensors")
    del tensors["param/decoder.decoder_norm.bias"]
    put(folder, "mae_decoder", tensors)
    assert run(folder) == 1
    assert "decoder_norm.bias" in capsys.readouterr().out


def test_truncated_file_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "camera.safetensors"
    path.write_bytes((GOLDEN / "camera.safetensors").read_bytes()[:-5])
    assert run(folder) == 1
    assert "cannot be read" in capsys.readouterr().out


def test_sizes_come_from_tensors_not_from_the_json(folder: Path) -> None:
    shutil.copy(GOLDEN / "dpt_decoder.safetensors", folder)
    shutil.copy(GOLDEN / "prope.safetensors", folder)
    config = json.loads((folder / "tiny_config.json").read_text())
    config["common"] = {"latent_channels": 7, "patch": 16, "grid_hw": [1, 1], "views": 9}
    config["dpt_decoder"] = {}
    (folder / "tiny_config.json").write_text(json.dumps(config))
    assert run(folder) == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "not JSON"), ("[1]", "must map"), ('{"da3": {"heads": "many"}}', "does not describe da3_encoder")],
)
def test_bad_json(folder: Path, capsys: pytest.CaptureFixture[str], content: str, words: str) -> None:
    shutil.copy(GOLDEN / "da3_encoder.safetensors", folder)
    (folder / "tiny_config.json").write_text(content)
    assert run(folder) != 0
    captured = capsys.readouterr()
    assert words in captured.out + captured.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--dtype", "int8"], "dtype"),
        (["--device", "nosuch"], "device"),
        (["--tolerance", "0"], "--tolerance"),
        (["--tolerance", "nan"], "--tolerance"),
    ],
)
def test_bad_options(folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    shutil.copy(GOLDEN / "camera.safetensors", folder)
    assert run(folder, *options) == 2
    assert words in capsys.readouterr().err


def test_no_json_no_folder_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "absent") == 2
    assert run(tmp_path) == 2
    shutil.copy(GOLDEN / "tiny_config.json", tmp_path)
    assert run(tmp_path) == 2
    err = capsys.readouterr().err
    assert "tiny_config.json is missing" in err
    assert "no .safetensors" in err


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_16_bit_types_stay_close(folder: Path, dtype: str) -> None:
    for name in ("da3_encoder", "ddt_level1", "mae_decoder", "prope", "propagate"):
        shutil.copy(GOLDEN / f"{name}.safetensors", folder)
    torch_dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    outcomes = list(check_folder(folder, dtype=torch_dtype))
    limit = {"bf16": 0.03, "fp16": 0.005}[dtype]
    assert all(outcome.passed and outcome.relative_l2 < limit for outcome in outcomes)
    assert max(outcome.relative_l2 for outcome in outcomes) > 1e-4  # the type was used
