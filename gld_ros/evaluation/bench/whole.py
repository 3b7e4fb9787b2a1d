"""Whole requests through the engine, as a user has them: geometry of the targets, network, composition."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from gld_ros.evaluation.bench.presets import rotated
from gld_ros.evaluation.frozen_rooms import room_scenes
from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.types import Engine, PosedView, Request

SEED = 0
Job = tuple[list[PosedView], list[Camera]]  # condition views and targets


def room_jobs(count: int) -> list[Job]:
    """The first rooms of the frozen set with all their targets."""
    jobs = []
    for scene in room_scenes(count):
        conditions, targets = scene.splits["test"]
        jobs.append(([scene.posed_view(i) for i in conditions], [scene.frames[i].camera for i in targets]))
    return jobs


def whole_seconds(engine: Engine, jobs: Sequence[Job], presets: Sequence[str]) -> dict[str, float]:
    """Median seconds of a request per preset, all presets on each job in turn.

    Depth of the keyframes is prepared before, as it is when keyframes arrive; nothing else is kept.
    """
    seconds: dict[str, list[float]] = {preset: [] for preset in presets}
    for i, (views, targets) in enumerate(tqdm(jobs, desc="whole requests", unit="room")):
        for preset in rotated(presets, i):
            engine.forget([v.key for v in views])
            engine.prepare(views, preset)
            begun = time.perf_counter()
            engine.synthesize(views, Request(targets, preset=preset, seed=SEED, clouds=False))
            seconds[preset].append(time.perf_counter() - begun)
    return {preset: float(np.median(taken)) for preset, taken in seconds.items()}
