"""Paired quality of presets: differences on the same target from the same noise, then means."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gld_ros.evaluation.bench.compare import Comparison, Measured
from gld_ros.evaluation.bench.presets import REFERENCE
from gld_ros.evaluation.bench.targets import BenchScene
from gld_ros.evaluation.evaluate import MIN_HOLE_PIXELS
from gld_ros.evaluation.metrics import gradient_energy, psnr, sharpness
from gld_ros.evaluation.perceptual import PerceptualDistance


@dataclass(frozen=True, eq=False)
class Figures:
    """Of every target in order; NaN where a target has no holes to speak of."""

    psnr: NDArray[np.float64]
    psnr_holes: NDArray[np.float64]
    psnr_to_reference: NDArray[np.float64]
    perceptual: NDArray[np.float64]
    sharpness_holes: NDArray[np.float64]  # grey levels per pixel
    sharpness_holes_truth: NDArray[np.float64]
    gradient_energy_holes: NDArray[np.float64]  # its square
    gradient_energy_holes_truth: NDArray[np.float64]
    sample_std_holes: NDArray[np.float64]  # grey levels; only of the targets that were drawn again


def figures_of(
    scenes: Sequence[BenchScene], own: Measured, reference: Measured, perceptual: PerceptualDistance | None
) -> Figures:
    """Figures of one preset in one mode."""
    found: dict[str, list[float]] = {field.name: [] for field in dataclasses.fields(Figures)}
    for i, scene in enumerate(scenes):
        for t, (truth, holes) in enumerate(zip(scene.truth, scene.holes, strict=True)):
            mask = holes if int(holes.sum()) >= MIN_HOLE_PIXELS else np.zeros_like(holes)
            picture = own.pictures[i][t]
            found["psnr"].append(psnr(picture, truth))
            found["psnr_holes"].append(psnr(picture, truth, mask))
            found["psnr_to_reference"].append(psnr(picture, reference.pictures[i][t]))
            found["perceptual"].append(float("nan") if perceptual is None else perceptual(picture, truth, None))
            found["sharpness_holes"].append(sharpness(picture, mask))
            found["sharpness_holes_truth"].append(sharpness(truth, mask))
            found["gradient_energy_holes"].append(gradient_energy(picture, mask))
            found["gradient_energy_holes_truth"].append(gradient_energy(truth, mask))
            drawn = [picture, *(sample[t] for sample in own.more_samples.get(i, []))]
            if len(drawn) > 1 and mask.any():
                spread = np.stack(drawn)[:, mask].astype(np.float64).var(axis=0, ddof=1)
                found["sample_std_holes"].append(float(np.sqrt(spread.mean())))  # unbiased however few samples
    return Figures(**{name: np.array(values) for name, values in found.items()})


def quality(result: Comparison, mode: str, perceptual: PerceptualDistance | None) -> dict[str, dict[str, float | int]]:
    """Fields of ``Row`` per preset of a mode."""
    presets = [p for m, p in result.measured if m == mode]
    plain = result.measured[mode, REFERENCE]
    figures = {p: figures_of(result.scenes, result.measured[mode, p], plain, perceptual) for p in presets}
    best = max(presets, key=lambda p: float(figures[p].psnr.mean()))
    return {p: _summary(figures[p], figures[REFERENCE], figures[best], p) for p in presets}


def _summary(own: Figures, reference: Figures, best: Figures, preset: str) -> dict[str, float | int]:
    found: dict[str, float | int] = {"targets": len(own.psnr), "psnr": float(own.psnr.mean())}
    for name, other in (("reference", reference), ("best", best)):
        drop = other.psnr - own.psnr
        found[f"psnr_drop_vs_{name}"] = float(drop.mean())
        found[f"psnr_drop_vs_{name}_se"] = float(drop.std(ddof=1) / np.sqrt(len(drop))) if len(drop) > 1 else 0.0
    if preset != REFERENCE:
        found["psnr_to_reference"] = float(own.psnr_to_reference.mean())
    optional = {
        "psnr_holes": _mean(own.psnr_holes),
        "perceptual": _mean(own.perceptual),
        "sample_std_holes": _mean(own.sample_std_holes),
        "sharpness_holes": _share(own.sharpness_holes, own.sharpness_holes_truth),
        "gradient_energy_holes": _share(own.gradient_energy_holes, own.gradient_energy_holes_truth),
    }
    return {**found, **{name: value for name, value in optional.items() if value is not None}}


def _mean(values: NDArray[np.float64]) -> float | None:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else None


def _share(values: NDArray[np.float64], truth: NDArray[np.float64]) -> float | None:
    """Of the truth's sum; None where there are no holes, or the truth is flat in all of them."""
    shown = truth > 0
    return float(values[shown].sum() / truth[shown].sum()) if shown.any() else None
