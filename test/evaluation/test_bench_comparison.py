"""Presets side by side: paired figures, pictures, the page, and what a run of a small model leaves."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gld_ros.cli.main import main
from gld_ros.errors import GldError
from gld_ros.evaluation.bench.compare import PLAIN, TINY, Comparison, Measured, compare, modes_of, run_request
from gld_ros.evaluation.bench.memory import noise_scene, request_peak
from gld_ros.evaluation.bench.page import SECTIONS, fill_page, marks
from gld_ros.evaluation.bench.pictures import chosen_targets, write_side_by_side
from gld_ros.evaluation.bench.presets import PRESETS, preset_cost, rotated
from gld_ros.evaluation.bench.quality import quality
from gld_ros.evaluation.bench.rows import Row, report
from gld_ros.evaluation.bench.run import Bench, BenchConfig, network_engine, preset_rows
from gld_ros.evaluation.bench.targets import BenchScene, starting_noise
from gld_ros.evaluation.bench.verdict import preset_verdicts
from gld_ros.model.checkpoint import save_model
from gld_ros.model.config import SamplerConfig
from gld_ros.model.gld_model import GldModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from small_model import random_model, small_config

SIZE = (56, 56)
VIEWS = (2, 1)


@pytest.fixture(scope="module")
def model() -> GldModel:
    torch.set_num_threads(1)
    return random_model(small_config(trained_sizes=(SIZE,)))


@pytest.fixture(scope="module")
def scene() -> BenchScene:
    made = noise_scene(SIZE, VIEWS)
    made.truth[:] = 128
    made.holes[:, :, :20] = True
    return made


def measured(*offsets: int, spread: tuple[int, ...] = ()) -> Measured:
    """One target per scene, off the grey truth by these many grey levels in alternating columns."""
    stripes = np.where(np.arange(SIZE[0]) % 2, 1, -1)[None, None, :, None]
    pictures = [np.broadcast_to(128 + o * stripes, (1, *SIZE, 3)).astype(np.uint8) for o in offsets]
    return Measured([0.1] * len(offsets), pictures, {0: [np.full((1, *SIZE, 3), s, np.uint8) for s in spread]})


def test_quality_is_paired_with_the_reference_and_the_best(scene: BenchScene) -> None:
    result = Comparison(
        [scene, scene],
        {(TINY, "reference"): measured(4, 8), (TINY, "fast"): measured(2, 4), (TINY, "full"): measured(8, 16)},
    )
    found = quality(result, TINY, None)
    two_times = 20 * np.log10(2)
    assert found["fast"]["psnr_drop_vs_reference"] == pytest.approx(-two_times)
    assert found["fast"]["psnr_drop_vs_best"] == 0
    assert found["full"]["psnr_drop_vs_best"] == pytest.approx(2 * two_times)
    assert found["full"]["psnr_drop_vs_best_se"] == pytest.approx(0, abs=1e-9)  # the same on every target
    assert found["full"]["targets"] == 2
    assert "psnr_to_reference" not in found["reference"]
    assert found["fast"]["psnr_to_reference"] == pytest.approx(found["fast"]["psnr"])  # as far from 4 as from 0
    assert "perceptual" not in found["fast"]


def test_spread_is_the_deviation_over_samples_in_holes(scene: BenchScene) -> None:
    flat = Measured([0.1], [np.full((1, *SIZE, 3), 100, np.uint8)], {0: [np.full((1, *SIZE, 3), 104, np.uint8)]})
    found = quality(Comparison([scene], {(TINY, "reference"): flat}), TINY, None)
    assert found["reference"]["sample_std_holes"] == pytest.approx(np.std([100, 104], ddof=1))


def test_pictures_without_holes_have_no_hole_figures(scene: BenchScene) -> None:
    whole = noise_scene(SIZE, VIEWS)
    found = quality(Comparison([whole], {(TINY, "reference"): measured(4)}), TINY, None)
    assert not {"psnr_holes", "sharpness_holes", "sample_std_holes"} & set(found["reference"])


def test_every_preset_sees_the_same_noise_and_every_scene_another(scene: BenchScene, model: GldModel) -> None:
    first, again = starting_noise(scene, model.config), starting_noise(scene, model.config)
    assert torch.equal(first.level1, again.level1)
    assert not torch.equal(first.level0, first.level1)
    assert not torch.equal(first.level1, starting_noise(scene, model.config, sample=1).level1)


def test_compare_runs_all_presets_on_each_scene(scene: BenchScene, model: GldModel) -> None:
    result = compare(model, [scene, scene], ("full", "fast"), spread_scenes=1)
    assert set(result.measured) == {(PLAIN, "full"), (PLAIN, "fast")}  # this model has no geometric guess
    for entry in result.measured.values():
        assert len(entry.pictures) == len(entry.seconds) == 2
        assert np.array_equal(entry.pictures[0], entry.pictures[1])  # same scene, same noise
        assert set(entry.more_samples) == {0}
        assert min(entry.seconds) > 0


def test_presets_differ_in_what_they_draw_and_cost(scene: BenchScene, model: GldModel) -> None:
    fast, full = (run_request(model, scene, PLAIN, preset)[0] for preset in ("fast", "full"))
    assert fast.shape == full.shape == (1, *SIZE, 3)
    assert not np.array_equal(fast, full)
    costs = [preset_cost(model.config, preset, SIZE, VIEWS) for preset in PRESETS]
    assert costs[0].updates == (49, 49)
    assert costs[0].evaluations == 4 * 49
    assert costs[0].flops > costs[1].flops > costs[-1].flops


def test_counted_operations_are_those_that_run(scene: BenchScene, model: GldModel) -> None:
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # which torch's counter misses
    for preset in ("full", "fast"):
        with FlopCounterMode(
            display=False, custom_mapping={attention: lambda q, k, v, *a, **b: sdpa_flop_count(q, k, v)}
        ) as real:
            run_request(model, scene, PLAIN, preset)
        assert preset_cost(model.config, preset, SIZE, VIEWS).flops == pytest.approx(real.get_total_flops(), rel=0.02)


def test_a_model_with_a_guess_is_also_measured_without() -> None:
    plain = small_config()
    guided = small_config(level1=dataclasses.replace(plain.level1, warp_channels=plain.level1.latent_channels + 1))
    assert modes_of(random_model(guided)) == (TINY, PLAIN)


def test_peak_memory_of_a_request(model: GldModel, tmp_path: Path) -> None:
    file = tmp_path / "small.safetensors"
    save_model(file, model, torch.float32)
    assert request_peak(file, PLAIN, "fast", VIEWS, "cpu", 1) > 5e7  # no process with torch is smaller


def test_the_order_of_presets_rotates() -> None:
    assert [rotated("abc", i)[0] for i in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rotated("abc", 2)) == ["a", "b", "c"]


def row(preset: str, seconds: float, **more: object) -> Row:
    return Row("tiny", TINY, preset, (2, 2), (64, 64), seconds, seconds, (49, 0), 98, 10**9, 10**8, **more)  # type: ignore[arg-type]


def test_side_by_side_shows_each_target_once(scene: BenchScene, tmp_path: Path) -> None:
    result = Comparison([scene, scene], {(TINY, "reference"): measured(4, 8), (TINY, "fast"): measured(2, 4)})
    assert len(set(chosen_targets(result))) == len(chosen_targets(result)) == 2
    write_side_by_side(result, tmp_path / "a.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape[1] % 5 == 0  # input, truth, holes and two presets
    with pytest.raises(GldError, match="cannot be written"):
        write_side_by_side(result, tmp_path / "a.unknown")


def test_plot_of_what_was_measured(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from gld_ros.evaluation.bench.plot import write_pareto

    rows = [row("reference", 2.0, psnr=22.0, sharpness_holes=0.5), row("fast", 0.1, psnr=23.0, sharpness_holes=0.4)]
    write_pareto(rows, tmp_path / "plot.png", "title")
    picture = cv2.imread(str(tmp_path / "plot.png"))
    assert picture.std() > 10
    with pytest.raises(GldError, match="cannot be written"):
        write_pareto(rows, tmp_path / "plot.unknown", "title")


def test_the_page_keeps_what_is_around_the_figures(tmp_path: Path) -> None:
    page, (begin, end) = tmp_path / "bench.md", marks("presets")
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    found = report(
        [row("reference", 2.0, psnr=22.0, runs=50, targets=100), row("fast", 0.1, psnr=23.0)], notes=["a note"]
    )
    fill_page(page, "presets", json.loads(json.dumps(found)))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "20.0x" in text
    assert "* a note" in text
    fill_page(page, "presets", found)
    assert page.read_text() == text
    page.write_text("no marks")
    with pytest.raises(GldError, match="must hold the lines"):
        fill_page(page, "presets", found)
    with pytest.raises(GldError, match="cannot be read"):
        fill_page(tmp_path / "missing.md", "presets", found)


def test_hole_sharpness_is_a_share_of_the_truths() -> None:
    striped = noise_scene(SIZE, VIEWS)
    striped.holes[:] = True
    striped.truth[:] = measured(8).pictures[0]
    half = Comparison([striped], {(TINY, "reference"): measured(4)})
    # neighbours two columns apart are equal, so that only the edge columns have a gradient: 4 of 8
    found = quality(half, TINY, None)["reference"]
    assert found["sharpness_holes"] == pytest.approx(0.5, abs=0.02)
    assert found["gradient_energy_holes"] == pytest.approx(0.25, abs=0.02)


def test_rows_of_a_small_model_that_uses_a_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    level1 = dataclasses.replace(small_config().level1, latent_channels=128, warp_channels=129, prediction="data")
    quick = SamplerConfig(points=2, shift=1.0, guidance=1.0, last=0.0)
    config = small_config(level1=level1, cascade=None, sampler=quick, trained_sizes=(SIZE,), trained_views=4)
    file = tmp_path / "small.safetensors"
    save_model(file, random_model(config), torch.float32)
    bench = BenchConfig(str(file), targets=2, spread_scenes=0, memory=False)
    rows, comparison, notes = preset_rows(bench, network_engine(bench))
    assert [(row.mode, row.preset) for row in rows] == [(mode, preset) for mode in (TINY, PLAIN) for preset in PRESETS]
    for made in rows:
        assert (made.targets, made.runs, made.views, made.size) == (2, 1, (2, 2), SIZE)
        assert made.psnr is not None
        assert made.sample_std_holes is None
    assert rows[0].updates == (49, 0)
    assert rows[0].evaluations == 98
    assert rows[0].flops > 5 * rows[3].flops
    assert rows[0].seconds_p50 > rows[3].seconds_p50
    assert any("perceptual" in note for note in notes)

    verdicts = preset_verdicts(rows)
    canned = Bench(rows, comparison, verdicts, {"notes": notes, "verdict": [v.to_dict() for v in verdicts]})
    monkeypatch.setattr("gld_ros.evaluation.bench.run.run_bench", lambda _: canned)
    outputs = {
        name: tmp_path / f"out.{ending}" for name, ending in (("json", "json"), ("pictures", "png"), ("page", "md"))
    }
    outputs["page"].write_text("\n".join(marks("presets")))
    assert main(["bench", *(text for name, path in outputs.items() for text in (f"--{name}", str(path)))]) == 0
    found = json.loads(outputs["json"].read_text())
    assert {"machine", "versions", "revision", "rows", "verdict", "notes"} <= set(found)
    assert {"psnr", "psnr_drop_vs_reference", "psnr_drop_vs_best", "seconds_p50", "flops"} <= set(found["rows"][1])
    assert outputs["pictures"].stat().st_size > 1000
    assert "speed-up" in outputs["page"].read_text()


def test_the_page_of_the_docs_has_all_marks() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/bench.md").read_text()
    for section in SECTIONS:
        assert all(text.count(mark) == 1 for mark in marks(section))


def test_figures_of_the_ros_side_have_their_table(tmp_path: Path) -> None:
    page = tmp_path / "bench.md"
    page.write_text("\n".join(marks("ros")))
    figure = {
        "name": "publishing",
        "value": 12.0,
        "unit": "ms",
        "target": 15.0,
        "at_least": False,
        "note": "",
        "met": True,
    }
    fill_page(page, "ros", report([], ros={"rows": [figure], "model": "m", "seconds": 60, "load_before": 0.5}))
    assert "| publishing | 12 ms | <= 15 | yes |" in page.read_text()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--model", "classical"], "no network"),
        (["--model", "missing.safetensors"], "not a file|nor a file"),
        (["--targets", "1"], "must lie in 2 to 200"),
        (["--threads", "1000"], "0 .* to 256"),
        (["--ros", "--full-size"], "give one of them"),
        (["--full-size", "--plot", "a.png"], "leave out --full-size"),
        (["--json", "missing_folder/a.json"], "does not exist"),
    ],
)
def test_refusals_come_before_the_measuring(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(["bench", *options]) == 2
    assert re.search(reason, capsys.readouterr().err)
