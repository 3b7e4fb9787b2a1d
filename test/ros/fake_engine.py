"""An engine for tests of the node: paints what it was asked, takes as long as it is told, fails on demand."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from gld_ros.errors import GldError, Status
from gld_ros.synthesis.types import (
    GENERATED,
    OBSERVED,
    Cloud,
    PosedView,
    Progress,
    Request,
    Result,
    SynthesizedView,
)

STEP_S = 0.05
FLOOR_S = 0.5  # budgets below are refused: large against what a busy machine adds
STUCK_S = 8.0


class FakeEngine:
    """Step count comes from the preset (``steps20``); presets ``crash``, ``oom`` and ``stuck`` do what they say."""

    name = "fake"

    def __init__(self) -> None:
        self.busy = False
        self.prepared: list[str] = []
        self.forgotten: list[str] = []

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        self.prepared += [view.key for view in views]

    def forget(self, keys: Sequence[str]) -> None:
        self.forgotten += keys

    def synthesize(self, views, request: Request, progress=None, cancelled=None) -> Result:
        assert not self.busy, "an engine is used by one thread at a time"
        self.busy = True
        try:
            return self._synthesize(views, request, progress, cancelled)
        finally:
            self.busy = False

    def _synthesize(self, views, request: Request, progress, cancelled) -> Result:
        started = time.monotonic()
        if request.preset == "crash":
            raise ValueError("the engine is broken")
        if request.preset == "oom":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if request.preset == "stuck":
            time.sleep(STUCK_S)
        steps = int(request.preset.removeprefix("steps")) if request.preset.startswith("steps") else 1
        if request.time_budget_s and request.time_budget_s < FLOOR_S:
            raise GldError(
                f"time_budget {request.time_budget_s:g} s is below the least time {FLOOR_S} s", Status.BUDGET_EXCEEDED
            )
        for step in range(1, steps + 1):
            if cancelled is not None and cancelled():
                raise GldError("cancelled", Status.CANCELLED)
            self._work(STEP_S if steps > 1 else 0.001)
            if progress is not None:
                progress(Progress("level1", step, steps, (steps - step) * STEP_S))
        pictures = [self._view(target, views) for target in request.targets]
        cloud = Cloud(
            np.array([[1.0, 2.0, 3.0]], np.float32), np.array([[10, 20, 30]], np.uint8), np.array([0.5], np.float32)
        )
        return Result(
            status=Status.OK,
            message="",
            views=pictures,
            points_observed=cloud if request.clouds else None,
            points_generated=None,
            model=self.name,
            preset=request.preset,
            updates=(steps, 0),
            seed=max(request.seed, 0),
            scale=1.0,
            scale_valid=request.preset != "unscaled",
            carved=False,
            confidence_kind="fake",
            seconds={"total": time.monotonic() - started},
            notes=(f"{len(views)} views",),
        )

    def _work(self, seconds: float) -> None:
        """Keep a core busy, mostly outside the interpreter's lock, as torch does."""
        end = time.monotonic() + seconds
        a = np.ones((256, 256), np.float32)
        while time.monotonic() < end:
            a = (a @ a) / 256

    def _view(self, target, views) -> SynthesizedView:
        """The newest view's mean colour; left half observed, right half generated."""
        shape = (target.height, target.width)
        colour = max(views, key=lambda view: view.stamp_ns).rgb.reshape(-1, 3).mean(axis=0)
        rgb = np.broadcast_to(colour.astype(np.uint8), (*shape, 3)).copy()
        provenance = np.full(shape, OBSERVED, np.uint8)
        provenance[:, target.width // 2 :] = GENERATED
        depth = np.full(shape, 2.0, np.float32)
        depth[0, 0] = np.nan
        confidence = np.full(shape, 0.5, np.float32)
        return SynthesizedView(target, Status.OK, "", rgb, rgb, depth, confidence, provenance)
