"""One virtual camera that follows the robot: a view from warm caches against one from empty ones, and its rate."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gld_ros.errors import GldError
from gld_ros.evaluation.bench.sequence import MovingSequence, window
from gld_ros.evaluation.metrics import psnr
from gld_ros.synthesis.types import Engine, PosedView, Request, Result

KEYFRAME_EVERY = 3  # pictures between keyframes
KEYFRAMES = 3  # condition views of a request
SKIPPED = 2 * KEYFRAME_EVERY  # first ticks, until there are enough keyframes: not measured
STREAM = "bench"
STREAM_SEED = 0  # the same noise for every picture, so that a still camera shows a still picture


@dataclass(frozen=True)
class StreamRow:
    """A virtual camera with one preset. Seconds are of whole requests, target-side geometry included."""

    preset: str
    size: tuple[int, int]  # (W, H)
    ticks: int
    cold_p50: float  # s, from an engine whose caches are empty
    cold_p95: float
    steady_p50: float  # s, keyframe depths there, features and the last picture kept
    steady_p95: float
    cold_over_steady: float  # of the medians
    prepare_p50: float  # s of background work per new keyframe
    hz: float  # views per second of wall time, background work on the same cores included
    psnr_cold: float  # of the composed picture
    psnr_steady: float
    psnr_generated_cold: float  # of the network's own picture
    psnr_generated_steady: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


class StreamEngine(Engine, Protocol):
    """An engine whose caches can be emptied."""

    def clear(self) -> None:
        """Drop everything that is kept between requests."""
        ...


def stream_row(warm: StreamEngine, cold: StreamEngine, sequence: MovingSequence, preset: str) -> StreamRow:
    """Follow a sequence twice: tick by tick against empty caches, then as fast as it goes with a background thread.

    ``warm`` and ``cold`` are two engines of the same model; what they keep is lost.
    """
    warm.clear()
    seconds: dict[str, list[float]] = {"cold": [], "steady": [], "prepare": []}
    quality: dict[str, list[tuple[float, float]]] = {"cold": [], "steady": []}
    last: list[str] = []
    for tick in tqdm(range(len(sequence.views)), desc=f"streaming, {preset}", unit="view"):
        views = window(sequence.views, tick, KEYFRAME_EVERY, KEYFRAMES)
        if [v.key for v in views] != last:
            last = [v.key for v in views]
            begun = time.perf_counter()
            warm.prepare(views, preset)
            seconds["prepare"].append(time.perf_counter() - begun)
        if tick < SKIPPED:
            _view(warm, views, sequence, tick, preset)
            continue
        cold.clear()
        for name, engine in (("steady", warm), ("cold", cold)):
            begun = time.perf_counter()
            result = _view(engine, views, sequence, tick, preset)
            seconds[name].append(time.perf_counter() - begun)
            quality[name].append(_quality(result, sequence.truth[tick]))
    camera = sequence.targets[0]
    taken, kept = np.array(seconds["cold"]), np.array(seconds["steady"])
    means = {name: np.mean(values, axis=0) for name, values in quality.items()}
    return StreamRow(
        preset=preset,
        size=(camera.width, camera.height),
        ticks=len(taken),
        cold_p50=float(np.median(taken)),
        cold_p95=float(np.percentile(taken, 95)),
        steady_p50=float(np.median(kept)),
        steady_p95=float(np.percentile(kept, 95)),
        cold_over_steady=float(np.median(taken) / np.median(kept)),
        prepare_p50=float(np.median(seconds["prepare"][1:])),
        hz=_rate(warm, sequence, preset),
        psnr_cold=float(means["cold"][0]),
        psnr_steady=float(means["steady"][0]),
        psnr_generated_cold=float(means["cold"][1]),
        psnr_generated_steady=float(means["steady"][1]),
    )


def _rate(engine: StreamEngine, sequence: MovingSequence, preset: str) -> float:
    """Views per second while a background thread prepares each keyframe one keyframe ahead of its first use."""
    ticks = range(SKIPPED, len(sequence.views))
    engine.clear()
    engine.prepare(window(sequence.views, SKIPPED, KEYFRAME_EVERY, KEYFRAMES), preset)
    _view(engine, window(sequence.views, SKIPPED, KEYFRAME_EVERY, KEYFRAMES), sequence, SKIPPED, preset)
    failures: list[Exception] = []

    def prepare(views: list[PosedView]) -> None:
        try:
            engine.prepare(views, preset)
        except Exception as error:  # reported by the caller: a thread's own traceback would end nothing
            failures.append(error)

    background: threading.Thread | None = None
    begun = time.perf_counter()
    for tick in ticks:
        if tick % KEYFRAME_EVERY == 0:
            if background is not None:
                background.join()
            ahead = window(sequence.views, tick + KEYFRAME_EVERY, KEYFRAME_EVERY, KEYFRAMES)
            background = threading.Thread(target=prepare, args=(ahead,))
            background.start()
        _view(engine, window(sequence.views, tick, KEYFRAME_EVERY, KEYFRAMES), sequence, tick, preset)
    if background is not None:
        background.join()
    seconds = time.perf_counter() - begun
    if failures:
        raise GldError(f"preparing keyframes in the background failed: {failures[0]}") from failures[0]
    return len(ticks) / seconds


def _view(engine: Engine, views: list[PosedView], sequence: MovingSequence, tick: int, preset: str) -> Result:
    request = Request([sequence.targets[tick]], preset=preset, seed=STREAM_SEED, clouds=False, stream=STREAM)
    return engine.synthesize(views, request)


def _quality(result: Result, truth: NDArray[np.uint8]) -> tuple[float, float]:
    view = result.views[0]
    return psnr(view.rgb, truth), psnr(view.generated, truth)
