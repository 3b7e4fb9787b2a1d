"""``gld bench --ros``: what the ROS side adds to a synthesis, as figures with their targets.

Runs in a DDS domain of its own on this host. Every figure comes from one run; the load of the machine stands beside.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import rclpy

from gld_ros.ros.bench_live import LiveResult, run_live
from gld_ros.ros.bench_publish import PublishTimes, publish_times
from gld_ros.ros.session import isolate


@dataclass(frozen=True)
class Figure:
    """One measured figure; ``target`` is an upper limit, or a lower one where ``at_least`` says so."""

    name: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target

    def line(self) -> str:
        """The figure for people."""
        goal = ""
        if self.target is not None:
            goal = f"  (target {'>=' if self.at_least else '<='} {self.target:g}: {'met' if self.met else 'NOT MET'})"
        note = f"  [{self.note}]" if self.note else ""
        return f"{self.name:<52}{self.value:>10.4g} {self.unit}{goal}{note}"


@dataclass(frozen=True)
class RosReport:
    """All figures of a run and what they were measured with."""

    figures: list[Figure]
    seconds: float
    model: str
    load_before: float  # 1-minute load average, in processes that want to run
    load_after: float
    answers: dict[str, int]  # requests during the run, by status

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        rows = [{**asdict(figure), "met": figure.met} for figure in self.figures]
        rest = {name: value for name, value in asdict(self).items() if name != "figures"}
        return {**rest, "cores": os.cpu_count(), "rows": rows}


def measure(
    model: str = "default",
    device: str = "auto",
    preset: str = "balanced",
    seconds: float = 60.0,
    on_second: Callable[[float], None] | None = None,
) -> RosReport:
    """Run everything; ``on_second`` hears how much of the live run has passed."""
    isolate()  # before rclpy starts
    load_before = os.getloadavg()[0]
    rclpy.init(args=[])
    try:
        publishing = publish_times()
        live = run_live(seconds, model, device, preset, on_second)
    finally:
        rclpy.try_shutdown()
    figures = publish_figures(publishing) + live_figures(live)
    name = live.diagnostics["engine"]["model"]
    return RosReport(figures, live.seconds, name, load_before, os.getloadavg()[0], live.answers)


def publish_figures(times: PublishTimes) -> list[Figure]:
    """What the way out costs."""
    clouds, naive = float(np.median(times.clouds)), float(np.median(times.naive))
    every = 1e3 * times.publishing
    what = (
        "colour, depth, confidence, provenance, 2 clouds of 504x280, clouds built too; a subscriber in another process"
    )
    return [
        Figure("cloud building p50", 1e3 * clouds, "ms", note="2 messages of 504x280, every pixel known"),
        Figure("cloud building, point by point", 1e3 * naive, "ms"),
        Figure("cloud building, how much faster", naive / clouds, "x", 20.0, at_least=True, note="in turns, medians"),
        Figure("publishing p50", float(np.median(every)), "ms", 15.0, note=what),
        Figure("publishing p95", float(np.percentile(every, 95)), "ms", 15.0),
        Figure("publishing, processor time p50", 1e3 * float(np.median(times.processor)), "ms"),
        Figure("pictures the subscriber received", 1e2 * times.heard / len(every), "%"),
    ]


def live_figures(live: LiveResult) -> list[Figure]:
    """What the loaded node did."""
    camera, stream = "camera bench", "virtual camera bench_view"
    wanted = [
        ("image callback p50", camera, "image callback p50 (ms)", None),
        ("image callback p99", camera, "image callback p99 (ms)", 2.0),
        ("image to keyframe p50, on a thread of its own", camera, "image to keyframe p50 (ms)", None),
        ("image to keyframe p99", camera, "image to keyframe p99 (ms)", None),
        ("publishing in the loaded node p50", stream, "publishing p50 (ms)", None),
    ]
    found = [(name, live.number(status, key), target) for name, status, key, target in wanted]
    figures = [Figure(name, value, "ms", target, note="640x480") for name, value, target in found if value is not None]

    def lost(received: int) -> float:
        return 1e2 * (1 - received / live.sent)

    rate = live.sent / live.seconds
    sent = f"{live.received} of {live.sent} images at {rate:.1f} Hz over {live.seconds:.0f} s, {live.late} sent late"
    return [
        *figures,
        Figure("images the synthesising node missed", lost(live.received), "%", 1.0, note=sent),
        Figure("images a plain subscriber missed", lost(live.plain), "%", note="what this machine loses by itself"),
        Figure("requests answered meanwhile", sum(live.answers.values()), "", note=str(live.answers)),
        Figure("pictures streamed meanwhile", live.published, ""),
    ]
