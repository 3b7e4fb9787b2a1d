"""What the differences between samples say: how far they vary, and whether they vary where they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Spread:
    """Per pixel, in grey levels: standard deviation over samples, and errors against the truth."""

    std: NDArray[np.float32]  # (H, W) root of the variance, mean over channels
    error: NDArray[np.float32]  # (H, W) absolute error of the mean of all samples, mean over channels: holds no spread
    error_one: NDArray[np.float32]  # (H, W) the same of the first sample


def spread_of(samples: Sequence[NDArray[np.uint8]], truth: NDArray[np.uint8]) -> Spread:
    """The spread of at least two samples (H, W, 3)."""
    stack = np.stack(samples).astype(np.float32)
    real = truth.astype(np.float32)
    return Spread(
        np.sqrt(stack.var(axis=0).mean(axis=-1)),
        np.abs(stack.mean(axis=0) - real).mean(axis=-1),
        np.abs(stack[0] - real).mean(axis=-1),
    )


def spread_figures(spread: Spread, holes: NDArray[np.bool_], enough: int) -> dict[str, float]:
    """Means over one picture; those of the holes are NaN where they have fewer than ``enough`` pixels."""
    inside = spread.std[holes] if holes.sum() >= enough else np.zeros(0)
    return {
        "sample_std": float(spread.std.mean()),
        "sample_std_holes": float(inside.mean()) if inside.size else float("nan"),
        "sample_std_observed": float(spread.std[~holes].mean()) if not holes.all() else float("nan"),
        "spearman_holes_per_view": (spearman(spread.std[holes], spread.error[holes]) if inside.size else float("nan")),
    }


def pooled_figures(spreads: Sequence[tuple[Spread, NDArray[np.bool_]]]) -> dict[str, float]:
    """Rank correlation of spread and error over the hole pixels of all pictures together, and over all pixels."""

    def joined(name: str, inside: bool) -> NDArray:
        return np.concatenate([getattr(s, name)[holes if inside else np.ones_like(holes)] for s, holes in spreads])

    return {
        "spearman_holes": spearman(joined("std", True), joined("error", True)),
        "spearman_holes_one": spearman(joined("std", True), joined("error_one", True)),
        "spearman": spearman(joined("std", False), joined("error", False)),
    }


def spearman(a: NDArray, b: NDArray) -> float:
    """Rank correlation, ties sharing their mean rank; NaN below three values and where one side is constant."""
    if len(a) < 3:
        return float("nan")
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / norm) if norm > 0 else float("nan")


def _ranks(values: NDArray) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place.reshape(-1)]
    return ranks
