"""The rows of a benchmark and the file they are written to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gld_ros.evaluation.bench.machine import machine, revision, versions


@dataclass(frozen=True)
class Row:
    """One line of the benchmark. ``None`` means not measured in this mode, and is left out of the JSON.

    Pictures are the network's own, before observed pixels are put over them; PSNR in dB over all pixels of 8-bit
    pictures; figures are means over the targets, differences are paired by target and starting noise.
    """

    model: str
    mode: str
    preset: str
    views: tuple[int, int]  # condition, target
    size: tuple[int, int]  # (W, H)
    seconds_p50: float
    seconds_p95: float
    updates: tuple[int, int]  # level 1, cascade
    evaluations: int
    flops: int
    peak_bytes: int  # of the device for the network; of a process of its own on a CPU
    runs: int = 1
    device: str = "cpu"
    dtype: str = "fp32"
    seconds: dict[str, float] = field(default_factory=dict)  # per stage of the last run
    request_seconds_p50: float | None = None  # of a whole request through the engine, target-side geometry included
    targets: int | None = None  # pictures that the quality figures are over
    psnr: float | None = None
    psnr_holes: float | None = None
    psnr_drop_vs_reference: float | None = None
    psnr_drop_vs_reference_se: float | None = None  # standard error of that mean
    psnr_drop_vs_best: float | None = None
    psnr_drop_vs_best_se: float | None = None
    psnr_to_reference: float | None = None  # against the picture of ``reference`` instead of the truth
    perceptual: float | None = None
    sharpness_holes: float | None = None  # mean gradient in holes, as a share of the truth's
    gradient_energy_holes: float | None = None  # the same of the mean squared gradient
    sample_std_holes: float | None = None  # in grey levels of 255, over pictures from several starting noises

    def line(self) -> str:
        """One line for a terminal."""
        stages = ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items())
        (width, height), (conditions, targets) = self.size, self.views
        speed = self.flops / self.seconds_p50 / 1e9
        parts = [
            f"{self.model} {self.mode} {self.preset} {width}x{height} {conditions}+{targets} views: "
            f"{self.seconds_p50:.3f} s" + (f" ({stages})" if stages else f", p95 {self.seconds_p95:.3f} s"),
            f"{self.evaluations} evaluations, {self.flops / 1e9:.1f} GF, {speed:.0f} GF/s",
            f"peak {self.peak_bytes / 1e9:.2f} GB on {self.device} in {self.dtype}",
        ]
        for name, text in (
            ("psnr", "{:.2f} dB"),
            ("perceptual", "perceptual {:.4f}"),
            ("sharpness_holes", "sharpness {:.2f}"),
        ):
            value = getattr(self, name)
            if value is not None:
                parts.append(text.format(value))
        return ", ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def report(rows: Sequence[Row], **sections: Any) -> dict[str, Any]:
    """The whole benchmark file: where it ran, with what, the rows, and further ``sections``."""
    return {
        "machine": machine(),
        "versions": versions(),
        "revision": revision(),
        "rows": [row.to_dict() for row in rows],
        **sections,
    }
