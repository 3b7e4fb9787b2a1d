"""The default run of ``gld bench``: every section, one after the other, and the verdict."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gld_ros.errors import GldError
from gld_ros.evaluation.bench.budget import BudgetRows, budget_rows
from gld_ros.evaluation.bench.child import in_child
from gld_ros.evaluation.bench.compare import SAMPLES, SPREAD_SCENES, TINY, Comparison, compare, modes_of
from gld_ros.evaluation.bench.memory import request_peak
from gld_ros.evaluation.bench.presets import PRESETS, preset_cost
from gld_ros.evaluation.bench.quality import quality
from gld_ros.evaluation.bench.rows import Row
from gld_ros.evaluation.bench.sequence import moving_sequence
from gld_ros.evaluation.bench.streaming import StreamRow, stream_row
from gld_ros.evaluation.bench.targets import bench_scenes
from gld_ros.evaluation.bench.verdict import Verdict, dominance, limit, preset_verdicts
from gld_ros.evaluation.bench.whole import room_jobs, whole_seconds
from gld_ros.evaluation.frozen_rooms import rooms_identity
from gld_ros.evaluation.perceptual import installed_distance
from gld_ros.model.config import released_config
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.shipped import NAME as SHIPPED
from gld_ros.synthesis.shipped import verified_file

TARGETS_PER_SCENE = 2
MAX_TARGETS = 200  # all of the frozen set
STREAM_PRESETS = ("fast", "balanced")
FULL_VIEWS, FULL_SIZE = (4, 4), (504, 280)
FULL_SIZE_PFLOP = {"balanced": 0.25, "fast": 0.08}
BUDGET_P95 = 1.1
STREAM_GAIN, STREAM_HZ, EQUAL_QUALITY_DB = 3.0, 5.0, 0.1
RUN_SECONDS = 600.0


@dataclass(frozen=True)
class BenchConfig:
    """What to measure. ``model`` is ``tiny`` or a checkpoint file."""

    model: str = SHIPPED
    device: str = "cpu"
    targets: int = 100  # pictures per row
    spread_scenes: int = SPREAD_SCENES
    request_scenes: int = 4  # rooms of whole requests and time budgets
    stream_ticks: int = 18
    memory: bool = True

    def __post_init__(self) -> None:
        if not TARGETS_PER_SCENE <= self.targets <= MAX_TARGETS:
            raise GldError(f"--targets is {self.targets}, must lie in {TARGETS_PER_SCENE} to {MAX_TARGETS}")

    @property
    def scenes(self) -> int:
        """Scenes that hold so many targets."""
        return -(-self.targets // TARGETS_PER_SCENE)


@dataclass(frozen=True, eq=False)
class Bench:
    """Everything a run found."""

    rows: list[Row]
    comparison: Comparison
    verdicts: list[Verdict]
    sections: dict[str, Any]  # plain data for the JSON, verdicts and notes included


def run_bench(config: BenchConfig) -> Bench:
    """Measure all presets of a network, its time budgets and its streaming.

    Raises GldError for a model without a network, or when the rooms cannot be rendered.
    """
    begun = time.perf_counter()
    engine = network_engine(config)
    rows, comparison, notes = preset_rows(config, engine)
    jobs = room_jobs(config.request_scenes)
    whole = whole_seconds(engine, jobs, PRESETS)
    rows = [replace(row, request_seconds_p50=whole[row.preset]) if row.mode == TINY else row for row in rows]
    budget = budget_rows(engine, jobs[: max(1, config.request_scenes // 2)])
    sequence = moving_sequence(config.stream_ticks, comparison.scenes[0].size)
    other = network_engine(config)
    streams = [stream_row(engine, other, sequence, preset) for preset in STREAM_PRESETS]
    computed = full_size_costs()
    seconds = time.perf_counter() - begun
    verdicts = [
        *preset_verdicts(rows),
        *_full_size_verdicts(computed),
        *_budget_verdicts(budget),
        *_stream_verdicts(streams[0]),
        limit("whole run", "seconds", seconds, RUN_SECONDS, True, "{:.0f} s"),
    ]
    notes += dominance(rows)
    sections = {
        "targets": rooms_identity(config.scenes),
        "full_size": computed,
        "budget": budget.to_dict(),
        "streaming": [row.to_dict() for row in streams],
        "verdict": [verdict.to_dict() for verdict in verdicts],
        "notes": notes,
        "seconds": seconds,
    }
    return Bench(rows, comparison, verdicts, sections)


def network_engine(config: BenchConfig) -> NetworkEngine:
    """The engine to measure. Raises GldError for ``classical``, which has no presets of a network."""
    engine = load_engine(config.model, config.device)
    if not isinstance(engine, NetworkEngine):
        raise GldError(f"model '{config.model}' has no network whose presets could be compared: use tiny or a file")
    return engine


def model_file(config: BenchConfig) -> Path:
    """Where the weights are."""
    return verified_file() if config.model == SHIPPED else Path(config.model)


def preset_rows(config: BenchConfig, engine: NetworkEngine) -> tuple[list[Row], Comparison, list[str]]:
    """One row per mode and preset, all over the same targets; and what to know about them."""
    model, notes, path = engine.model, [], model_file(config)
    keys = [(mode, preset) for mode in modes_of(model) for preset in PRESETS]
    scenes = bench_scenes(model.config, engine.geometry, config.scenes)
    result = compare(model, scenes, PRESETS, config.scenes, config.spread_scenes)
    views, size = result.scenes[0].views, result.scenes[0].size
    threads = torch.get_num_threads()
    peaks = {}
    for mode, preset in tqdm(keys if config.memory else [], desc="peak memory", unit="row"):
        peaks[mode, preset] = in_child(
            request_peak, path=path, mode=mode, preset=preset, views=views, device=config.device, threads=threads
        )
    perceptual, backbone = installed_distance()
    notes.append(f"perceptual: {backbone}" if perceptual is not None else backbone)
    drawn = min(config.spread_scenes, config.scenes)
    notes.append(f"sample_std_holes: {SAMPLES} pictures per target of the first {drawn} scenes")
    figures = {mode: quality(result, mode, perceptual) for mode in modes_of(model)}
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.").replace("float32", "fp32")
    if dtype != "fp32":
        notes.append(f"reference ran in {dtype} too: its plain path is fp32 on a CPU")
    rows = []
    for mode, preset in keys:
        cost = preset_cost(model.config, preset, size, views, guess=mode == TINY)
        seconds = result.measured[mode, preset].seconds
        rows.append(
            Row(
                model=engine.name,
                mode=mode,
                preset=preset,
                views=views,
                size=size,
                seconds_p50=float(np.median(seconds)),
                seconds_p95=float(np.percentile(seconds, 95)),
                updates=cost.updates,
                evaluations=cost.evaluations,
                flops=cost.flops,
                peak_bytes=peaks.get((mode, preset), 0),
                runs=len(seconds),
                device=str(model.device),
                dtype=dtype,
                **figures[mode][preset],  # type: ignore[arg-type]
            )
        )
    return rows, result, notes


def full_size_costs() -> list[dict[str, Any]]:
    """Operations of the presets at the published sizes: computed, nothing is run."""
    made = []
    for preset in tqdm(PRESETS, desc="published sizes, computed", unit="preset"):
        cost = preset_cost(released_config(), preset, FULL_SIZE, FULL_VIEWS)
        made.append(
            {
                "model": released_config().name,
                "mode": "computed",
                "preset": preset,
                "views": list(FULL_VIEWS),
                "size": list(FULL_SIZE),
                "updates": list(cost.updates),
                "evaluations": cost.evaluations,
                "flops": cost.flops,
                "quality": "unproven on released weights",
            }
        )
    return made


def _full_size_verdicts(computed: Sequence[dict[str, Any]]) -> list[Verdict]:
    return [
        limit(f"published sizes {row['preset']}", "pflop", row["flops"] / 1e15, bound, True, "{:.3g} PFLOP")
        for row in computed
        if (bound := FULL_SIZE_PFLOP.get(row["preset"])) is not None
    ]


def _budget_verdicts(budget: BudgetRows) -> list[Verdict]:
    p95 = budget.actual_over_budget_p95
    return [
        limit("time budget", "actual_over_budget_p95", p95, BUDGET_P95, True, "{:.2f} p95 of actual / budget"),
        limit(
            "budgets above the floor", "refused", float(budget.refused_above_floor), 0.0, True, "{:.0f} of them refused"
        ),
    ]


def _stream_verdicts(stream: StreamRow) -> list[Verdict]:
    drop = stream.psnr_cold - stream.psnr_steady
    return [
        limit("streaming gain", "cold_over_steady", stream.cold_over_steady, STREAM_GAIN, False, "{:.1f}x over cold"),
        limit("streaming quality", "psnr_drop", drop, EQUAL_QUALITY_DB, True, "{:.2f} dB below cold"),
        limit("streaming rate", "hz", stream.hz, STREAM_HZ, False, "{:.1f} Hz"),
    ]
