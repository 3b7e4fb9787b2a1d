"""What the figures say in words: who loses to whom, where composing does harm, and how far the goals are met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gld_ros.evaluation.predictors import BASELINES, ENGINE_PREDICTORS, in_order, kind

Table = Mapping[str, Mapping[str, float | None]]  # figures by predictor and key
# key, heading, decimals, whether more is better
COLUMNS = (
    ("psnr", "PSNR", 2, True),
    ("ssim", "SSIM", 3, True),
    ("perceptual", "perceptual", 3, False),
    ("psnr_holes", "PSNR holes", 2, True),
    ("perceptual_holes", "perceptual holes", 3, False),
    ("psnr_observed", "PSNR observed", 2, True),
    ("psnr_network_size", "PSNR network size", 2, None),
    ("observed_share", "observed", 2, None),
    ("sharpness", "sharpness", 2, None),
    ("gradient_energy_holes_ratio", "gradients holes", 2, None),
    ("depth_absrel", "AbsRel", 3, False),
    ("depth_absrel_median", "AbsRel (median)", 3, False),
    ("depth_delta1", "delta1", 3, True),
    ("sample_std_holes", "sample std holes", 2, None),
    ("spearman_holes", "Spearman holes", 2, None),
    ("pnp_recovered", "cameras recovered", 2, None),
    ("pnp_deg", "camera deg", 2, None),
    ("pnp_centre", "camera centre", 3, None),
    ("pnp_centre_share", "centre / baseline", 2, None),
    ("pnp_ate", "ATE", 3, None),
    ("pnp_rpe", "RPE", 3, None),
    ("pnp_rpe_deg", "RPE deg", 2, None),
    ("ate", "ATE (ray head)", 3, None),
    ("ate_share", "ATE / spread (ray head)", 2, None),
    ("rpe", "RPE (ray head)", 3, None),
    ("rpe_deg", "RPE deg (ray head)", 1, None),
)
WORSE_DB, WORSE_SSIM = 0.1, 0.005  # composing may cost this much against geometry alone


@dataclass(frozen=True)
class Loss:
    """A baseline is better than a predictor of the engine."""

    predictor: str
    baseline: str
    key: str
    mine: float
    theirs: float

    def __str__(self) -> str:
        heading, decimals = next((c[1], c[2]) for c in COLUMNS if c[0] == self.key)
        return (
            f"{self.predictor} loses to {self.baseline} in {heading}: "
            f"{self.mine:.{decimals}f} against {self.theirs:.{decimals}f}"
        )


def losses(figures: Table, baselines: Sequence[str] = BASELINES) -> list[Loss]:
    """Each figure in which a predictor of the engine is worse than a baseline, with the best such baseline."""
    found = []
    for name in in_order(figures):
        if kind(name) not in ENGINE_PREDICTORS:
            continue
        for key, _, _, more_is_better in COLUMNS:
            mine = figures[name].get(key)
            others = {b: v for b in baselines if (v := figures.get(b, {}).get(key)) is not None}
            if mine is None or more_is_better is None or not others:
                continue
            best = (max if more_is_better else min)(others, key=others.__getitem__)
            if others[best] > mine if more_is_better else others[best] < mine:
                found.append(Loss(name, best, key, mine, others[best]))
    return found


def fair(sensor: bool) -> tuple[str, ...]:
    """Baselines that know no more than an engine with or without the conditions' depth images."""
    return tuple(name for name in BASELINES if name != "warp_true" or sensor)


def harm(figures: Table) -> str | None:
    """Says so when the composed picture is worse than the classical engine's by more than the tolerance."""
    ours, theirs = figures.get("composed", {}), figures.get("classical", {})
    parts = []
    for key, name, limit, decimals in (("psnr", "dB", WORSE_DB, 2), ("ssim", "SSIM", WORSE_SSIM, 4)):
        a, b = ours.get(key), theirs.get(key)
        if a is not None and b is not None and b - a > limit:
            parts.append(f"{b - a:.{decimals}f} {name} ({a:.{decimals}f} against {b:.{decimals}f}, allowed {limit:g})")
    return "composed is worse than the classical engine by " + " and ".join(parts) if parts else None


@dataclass(frozen=True)
class Goal:
    """What the default model is to reach on the test rooms: a figure of a predictor, or its lead over another's."""

    text: str
    sensor: bool  # of the set with the conditions' depth images
    predictor: str
    key: str
    wanted: float
    over: str = ""
    more_is_better: bool = True

    def value(self, figures: Table) -> float | None:
        """The figure, or the lead; None where one is missing."""
        mine = figures.get(self.predictor, {}).get(self.key)
        if mine is None or not self.over:
            return mine
        theirs = figures.get(self.over, {}).get(self.key)
        return None if theirs is None else mine - theirs

    def met(self, value: float) -> bool:
        """Whether ``value`` suffices."""
        return value >= self.wanted if self.more_is_better else value <= self.wanted


GOALS = (
    Goal("generated@1 over the warp with sensor depth, dB", True, "generated@1", "psnr", 1.5, "warp_true"),
    Goal("the same inside holes (pull-push), dB", True, "generated@1", "psnr_holes", 4.0, "warp_true"),
    Goal("no sensor depth: generated@1 over the classical engine, dB", False, "generated@1", "psnr", 1.0, "classical"),
    Goal("no sensor depth: generated@1 over copy_nearest, dB", False, "generated@1", "psnr", 6.0, "copy_nearest"),
    Goal("no sensor depth: AbsRel of the target", False, "generated@1", "depth_absrel", 0.2, more_is_better=False),
    Goal("plain@1 (no warp) over copy_nearest, dB", False, "plain@1", "psnr", 4.0, "copy_nearest"),
    Goal("oracle decode, dB", True, "oracle_decode", "psnr", 32.0),
    Goal(
        "generated@4: gradient energy in holes over the truth's", True, "generated@4", "gradient_energy_holes_ratio",
        0.7,
    ),
    Goal(
        "generated@4: perceptual distance in holes against pull-push", True, "generated@4", "perceptual_holes", 0.0,
        "warp_true", more_is_better=False,
    ),
    Goal("generated@4: Spearman of sample spread and error in holes", True, "generated@4", "spearman_holes", 0.3),
)  # fmt: skip


def goal_rows(sensor: Table, blind: Table) -> list[dict[str, Any]]:
    """Value, wish and outcome of every goal that the two sets of figures have something to say about."""
    rows = []
    for goal in GOALS:
        value = goal.value(sensor if goal.sensor else blind)
        if value is not None:
            rows.append({
                "goal": goal.text, "value": value, "wanted": goal.wanted, "more_is_better": goal.more_is_better,
                "met": goal.met(value),
            })  # fmt: skip
    return rows


def goal_line(row: Mapping[str, Any]) -> str:
    """One goal in words."""
    sign = ">=" if row["more_is_better"] else "<="
    return f"{'met   ' if row['met'] else 'MISSED'} {row['goal']}: {row['value']:.2f} (wanted {sign} {row['wanted']:g})"
