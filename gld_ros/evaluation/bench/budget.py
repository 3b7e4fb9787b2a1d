"""Whether a time budget is kept: actual over allowed seconds for a range of budgets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from gld_ros.errors import GldError, Status
from gld_ros.evaluation.bench.whole import Job
from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.types import Engine, PosedView, Request

FACTORS = (0.3, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)  # times the seconds of the cheapest request
PRESETS = ("reference", "full", "balanced", "fast")
SEED = 0


@dataclass(frozen=True)
class BudgetRun:
    """One request under a budget. A refusal has run nothing; its message names the floor."""

    budget: float  # s
    seconds: float
    preset: str  # that ran
    updates: tuple[int, int]
    refused: bool
    message: str = ""


@dataclass(frozen=True)
class BudgetRows:
    """All runs, and the figure that counts."""

    floor: float  # s of the cheapest request, measured without a budget
    actual_over_budget_p50: float | None
    actual_over_budget_p95: float | None  # None where every budget was refused
    refused: int
    refused_above_floor: int  # by more than a fifth: refusals nobody wants
    runs: list[BudgetRun]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def budget_rows(engine: Engine, jobs: Sequence[Job], factors: Sequence[float] = FACTORS) -> BudgetRows:
    """Ask for a job's first target with the best preset under every budget, ``factors`` times the floor.

    Keyframes are prepared before, as they are when they arrive.

    Nothing but the cheapest preset has run before, beside what the engine measured when it was loaded.
    """
    floor = min(_run(engine, *jobs[0], PRESETS[-1], 0.0).seconds for _ in range(2))
    order = np.random.default_rng(SEED).permutation([(k, f) for k in range(len(jobs)) for f in factors])
    runs = []
    for k, factor in tqdm(order, desc="time budgets", unit="request"):
        runs.append(_run(engine, *jobs[int(k)], PRESETS[0], float(factor) * floor))
    ratios = [run.seconds / run.budget for run in runs if not run.refused]
    return BudgetRows(
        floor=floor,
        actual_over_budget_p50=float(np.median(ratios)) if ratios else None,
        actual_over_budget_p95=float(np.percentile(ratios, 95)) if ratios else None,
        refused=sum(run.refused for run in runs),
        refused_above_floor=sum(run.refused and run.budget > 1.2 * floor for run in runs),
        runs=runs,
    )


def _run(engine: Engine, views: list[PosedView], targets: list[Camera], preset: str, budget: float) -> BudgetRun:
    for name in PRESETS:
        engine.prepare(views, name)  # keyframes are prepared when they arrive, not when a view is asked for
    request = Request(targets[:1], preset=preset, time_budget_s=budget, seed=SEED, clouds=False)
    begun = time.perf_counter()
    try:
        result = engine.synthesize(views, request)
    except GldError as error:
        if error.status != Status.BUDGET_EXCEEDED:
            raise
        return BudgetRun(budget, time.perf_counter() - begun, "", (0, 0), True, str(error))
    return BudgetRun(budget, time.perf_counter() - begun, result.preset, result.updates, False)
