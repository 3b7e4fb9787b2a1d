"""Which speed and quality targets one run meets, with the figures that decide it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gld_ros.evaluation.bench.presets import REFERENCE
from gld_ros.evaluation.bench.rows import Row

# preset -> how many times faster than reference, at which PSNR drop against the best preset (dB)
SPEED_TARGETS = {"full": (3.0, 0.05), "balanced": (8.0, 0.2), "fast": (20.0, 0.7)}
WORSE_LIMIT = 0.05  # perceptual distance and sharpness in holes may be this share worse than reference's
MIN_TARGETS = 100  # fewer pictures say too little


@dataclass(frozen=True)
class Verdict:
    """One target: what was asked, what was found. ``met`` is None where it could not be measured."""

    target: str
    asked: str
    found: str
    met: bool | None
    figures: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def line(self) -> str:
        """One line for a terminal."""
        mark = {True: "met", False: "NOT MET", None: "not measured"}[self.met]
        return f"{mark:>12}  {self.target}: {self.found} (asked: {self.asked})"


def preset_verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Speed of every preset of every mode, which counts only while its quality holds."""
    made = []
    by_key = {(row.mode, row.preset): row for row in rows}
    for (mode, preset), row in by_key.items():
        reference = by_key.get((mode, REFERENCE))
        if preset in SPEED_TARGETS and reference is not None:
            made.append(_preset_verdict(row, reference))
    return made


def _preset_verdict(row: Row, reference: Row) -> Verdict:
    times, drop = SPEED_TARGETS[row.preset]
    figures = {"speedup": reference.seconds_p50 / row.seconds_p50}
    checks = [figures["speedup"] >= times]
    found = [f"{figures['speedup']:.1f}x"]
    if row.request_seconds_p50 and reference.request_seconds_p50:
        figures["speedup_whole"] = reference.request_seconds_p50 / row.request_seconds_p50
        found.append(f"{figures['speedup_whole']:.1f}x of the whole request with its geometry")
    if row.psnr_drop_vs_best is not None:
        figures["psnr_drop_vs_best"] = row.psnr_drop_vs_best
        checks.append(row.psnr_drop_vs_best <= drop)
        found.append(f"drop {row.psnr_drop_vs_best:.2f} dB")
    unmeasured = []
    for name, own, plain, less_is_better in (
        ("perceptual", row.perceptual, reference.perceptual, True),
        ("sharpness_holes", row.sharpness_holes, reference.sharpness_holes, False),
    ):
        if own is None or plain is None:
            unmeasured.append(name)
            continue
        worse = own / plain - 1 if less_is_better else 1 - own / plain
        figures[f"{name}_worse"] = worse
        checks.append(worse <= WORSE_LIMIT)
        found.append(f"{name} {abs(worse):.1%} {'worse' if worse > 0 else 'better'}")
    if unmeasured:
        found.append(f"not measured: {', '.join(unmeasured)}")
    enough = row.targets is not None and row.targets >= MIN_TARGETS
    if not enough:
        found.append(f"only {row.targets or 0} targets, {MIN_TARGETS} are needed")
    met: bool | None = all(checks)
    if met and (unmeasured or not enough):
        met = None
    asked = (
        f">= {times:g}x at <= {drop:g} dB below the best preset, perceptual and hole sharpness "
        f"<= {WORSE_LIMIT:.0%} worse than reference's"
    )
    return Verdict(f"{row.mode} {row.preset}", asked, ", ".join(found), met, figures)


def dominance(rows: Sequence[Row]) -> list[str]:
    """A sentence for each mode where a faster preset is also the better picture."""
    lines = []
    for mode in dict.fromkeys(row.mode for row in rows):
        own = [row for row in rows if row.mode == mode and row.psnr is not None]
        plain = next((row for row in own if row.preset == REFERENCE), None)
        if plain is None:
            continue
        better = [row for row in own if row.preset != REFERENCE and _is_better(row, plain)]
        if better:
            names = ", ".join(row.preset for row in better)
            lines.append(f"{mode}, few steps dominate: faster than reference and no worse in any figure: {names}")
    return lines


def _is_better(row: Row, plain: Row) -> bool:
    pairs = [(row.psnr, plain.psnr, 1), (row.perceptual, plain.perceptual, -1)]
    pairs.append((row.sharpness_holes, plain.sharpness_holes, 1))
    known = [(a, b, sign) for a, b, sign in pairs if a is not None and b is not None]
    return all(sign * a >= sign * b for a, b, sign in known)


def limit(target: str, name: str, value: float | None, bound: float, at_most: bool, text: str) -> Verdict:
    """A target that one figure decides."""
    asked = f"{'<=' if at_most else '>='} {text.format(bound)}"
    if value is None:
        return Verdict(target, asked, "no figure", None, {})
    met = value <= bound if at_most else value >= bound
    return Verdict(target, asked, text.format(value), met, {name: value})
