#!/usr/bin/env python3
"""Write the generated half of the model card: figures, goals, cost and curves of the model that ships.

    gld eval --rooms --model tiny --out runs/tiny_eval
    python tools/model_card.py runs/tiny_eval/metrics.json --runs runs/tiny [--real runs/real/metrics.json …]

Everything above the marker in gld_ros/weights/README.md is written by hand and stays.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gld_ros.errors import GldError
from gld_ros.evaluation.page import number
from gld_ros.evaluation.predictors import in_order
from gld_ros.evaluation.rooms import NO_DEPTH
from gld_ros.evaluation.verdicts import COLUMNS, Table
from gld_ros.model.checkpoint import ModelFile
from gld_ros.synthesis.shipped import FOLDER, sha256, verified_file

MARKER = "<!-- generated: tools/model_card.py writes what follows; edit nothing below -->"
CARD = FOLDER / "README.md"
CURVES = Path(__file__).resolve().parents[1] / "docs" / "weights" / "curves.png"
STAGES = ("encoder", "rgb", "level1", "cascade")
ROOM_KEYS = (
    "psnr", "ssim", "perceptual", "psnr_holes", "perceptual_holes", "gradient_energy_holes_ratio", "depth_absrel",
    "depth_absrel_median", "depth_delta1",
)  # fmt: skip
CAMERA_KEYS = ("pnp_recovered", "pnp_deg", "pnp_centre", "pnp_centre_share", "pnp_ate", "pnp_rpe", "pnp_rpe_deg")
PHOTO_KEYS = (("psnr", 2), ("ssim", 3), ("perceptual", 3))
PHOTO_GOALS = {"gld_re10k/extrapolate": 13.5, "gld_dl3dv/interp": 15.0}  # dB, of the composed picture without a sensor
LEAST_ORACLE_DB = 30.0  # on photographs
ROUTES = (("", "With the condition views' depth images"), (NO_DEPTH, "Without depth images"))  # tail of the set's name
PANEL = (520, 300)  # width, least height
LINE_PX = 15
COLOURS = ((180, 90, 30), (40, 40, 200), (30, 140, 30), (150, 30, 150), (20, 140, 220), (120, 120, 0), (90, 90, 90))


def markdown_table(figures: Table, keys: Sequence[str]) -> str:
    """One row per predictor that has any of the ``keys``; keys that no predictor has are left out."""
    figures = {n: row for n, row in figures.items() if any(row.get(key) is not None for key in keys)}
    columns = [c for c in COLUMNS if c[0] in keys and any(row.get(c[0]) is not None for row in figures.values())]
    lines = ["| | " + " | ".join(c[1] for c in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in in_order(figures):
        lines.append(f"| {name} | " + " | ".join(number(figures[name].get(c[0]), c[2]) for c in columns) + " |")
    return "\n".join(lines)


def rooms_section(found: dict[str, Any]) -> list[str]:
    """Figures on the frozen rooms with the command that gave them."""
    config, name = found["config"], found["config"]["rooms"]["name"]
    command = f"gld eval --rooms --model {config['model']} --preset {config['preset']} --seed {config['seed']}"
    lines = [
        "## Figures",
        "",
        f"`{name}`, definition {config['rooms']['hash']}, {config['rooms']['scenes']} rooms with two targets each;",
        f"`{command} --samples {config['samples']} --out DIR` at revision {found['revision'].removesuffix('-dirty')}.",
        "What the rows and columns are: [docs/evaluation.md](../../docs/evaluation.md).",
        "",
    ]
    for tail, title in ROUTES:
        if name + tail in found["sets"]:
            lines += [f"### {title}", "", markdown_table(found["sets"][name + tail], ROOM_KEYS), ""]
    lines += ["### Goals", "", "| goal | wanted | reached | |", "| --- | ---: | ---: | --- |"]
    for row in found["goals"]:
        sign = "≥" if row["more_is_better"] else "≤"
        reached = "met" if row["met"] else "**missed**"
        lines.append(f"| {row['goal']} | {sign} {row['wanted']:g} | {row['value']:.2f} | {reached} |")
    lines += ["", *_samples(found["sets"][name]), *_cameras(found["sets"], name)]
    return lines


def _samples(figures: Table) -> list[str]:
    many = figures.get("generated@4", {})
    if many.get("sample_std_holes") is None:
        return []
    return [
        f"Samples at 4 updates: standard deviation {number(many.get('sample_std_holes'), 1)} grey levels in holes, "
        f"{number(many.get('sample_std_observed'), 1)} elsewhere; its rank correlation with the error of their "
        f"mean is {number(many.get('spearman_holes'), 2)} in holes and {number(many.get('spearman'), 2)} over all.",
        "",
    ]


def _cameras(sets: dict[str, Table], name: str) -> list[str]:
    """The cameras that the pictures themselves show, and those of the ray head."""
    many, oracle = sets[name].get("generated@4", {}), sets[name].get("oracle_decode", {})
    lines = []
    for tail, title in ROUTES:
        figures = sets.get(name + tail, {})
        if any(row.get("pnp_recovered") is not None for row in figures.values()):
            lines += [f"{title}:", "", markdown_table(figures, CAMERA_KEYS), ""]
    if lines:
        lines = [
            "Where the pictures themselves say they were taken from: their features against known 3-D points of the "
            "condition views. Medians in metres and degrees, a target that is not recovered counting as infinitely "
            "wrong; `real` is what the method makes of the real pictures, its own error.",
            "",
            *lines,
        ]
    if many.get("ate") is not None:
        lines += [
            f"Cameras that the model's own ray head sees in generated features (4 views a room, Sim(3) aligned): ATE "
            f"{number(many.get('ate'), 3)} m ({number(many.get('ate_share'), 2)} of the cameras' spread), RPE "
            f"{number(many.get('rpe'), 3)} m and {number(many.get('rpe_deg'), 1)} degrees; in features of the real "
            f"pictures ATE {number(oracle.get('ate'), 3)} m, {number(oracle.get('rpe_deg'), 1)} degrees.",
            "",
        ]
    return ["### Cameras", "", *lines] if lines else []


def real_section(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Composed against the classical engine on photographs, where composing does harm, and the goals there."""
    lines = ["## Photographs", ""]
    for found in runs:
        config, revision = found["config"], found["revision"].removesuffix("-dirty")
        size = f" --size {config['size'][0]} {config['size'][1]}" if config.get("size") else ""
        depth = "" if config.get("use_depth", True) else " --no-depth"
        scenes = " ".join(dict.fromkeys(name.rpartition("/")[0] for name in found["sets"]))
        command = f"gld eval {scenes} --model {config['model']} --preset {config['preset']} --seed {config['seed']}"
        lines.append(f"* `{command}{depth}{size} --out DIR` at revision {revision}")
    lines += [
        "", "PSNR / SSIM / perceptual distance; *worse*: composing costs more than 0.1 dB or 0.005 SSIM.", "",
        "| set | composed | classical | best trivial PSNR | oracle decode at network size | |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    goals = []
    for found in runs:
        tail = " with depth images" if found["config"].get("use_depth", True) else ""
        for name, figures in found["sets"].items():
            rows = [figures.get(n, {}) for n in ("composed", "classical")]
            trivial = [v for n in ("copy_nearest", "mean", "blur") if (v := figures.get(n, {}).get("psnr")) is not None]
            texts = (" / ".join(number(r.get(k), d) for k, d in PHOTO_KEYS) for r in rows)
            oracle = figures.get("oracle_decode", {}).get("psnr_network_size")
            verdict = "worse" if name in found.get("harm", {}) else ""
            best = number(max(trivial, default=None), 2)
            lines.append(f"| {name}{tail} | {' | '.join(texts)} | {best} | {number(oracle, 2)} | {verdict} |")
            wishes = [("oracle decode", oracle, LEAST_ORACLE_DB)]
            if not tail and name in PHOTO_GOALS:
                wishes.append(("composed", rows[0].get("psnr"), PHOTO_GOALS[name]))
            for what, value, wanted in wishes:
                if value is not None:
                    reached = "met" if value >= wanted else "**missed**"
                    goals.append(f"| {name}{tail}: {what}, dB | ≥ {wanted:g} | {value:.2f} | {reached} |")
    return [*lines, "", "| goal | wanted | reached | |", "| --- | ---: | ---: | --- |", *goals, ""]


def stage_curves(runs: Sequence[Path]) -> dict[str, list[dict[str, float]]]:
    """The logged values of every stage that was trained below ``runs``; later runs of a stage go on from earlier ones.

    Lines that a killed run left beyond the checkpoint it went on from are dropped, their seconds stay.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for stage, folder in itertools.product(STAGES, runs):
        path = folder / stage / "curve.jsonl"
        if path.is_file():
            values = found.setdefault(stage, [])
            steps, seconds = (max((v.get(key, 0.0) for v in values), default=0.0) for key in ("step", "seconds"))
            values += [
                {**v, "step": v["step"] + steps, "seconds": v["seconds"] + seconds}
                for v in _without_lost_steps([json.loads(line) for line in path.read_text().splitlines()])
            ]
    if not found:
        raise GldError(
            f"no curve.jsonl of {', '.join(STAGES)} below {', '.join(map(str, runs))}: give the folders 'out' of the "
            "training"
        )
    return found


def _without_lost_steps(values: list[dict[str, float]]) -> list[dict[str, float]]:
    kept: list[dict[str, float]] = []
    lost = 0.0  # seconds of work that a kill threw away; the clock goes on from the checkpoint
    for value in values:
        if kept and value["seconds"] + lost < kept[-1]["seconds"]:
            lost = kept[-1]["seconds"] - value["seconds"]
        while kept and kept[-1]["step"] > value["step"]:
            kept.pop()
        kept.append({**value, "seconds": value["seconds"] + lost})
    return kept


def trained_hours(values: list[dict[str, float]]) -> float:
    """Hours of a stage over all its runs."""
    return values[-1]["seconds"] / 3600


def cost_section(curves: dict[str, list[dict[str, float]]], data_hours: float | None) -> list[str]:
    """Steps and hours of each stage."""
    lines = ["## Cost", "", "| stage | steps | hours on one CPU thread |", "| --- | ---: | ---: |"]
    if data_hours is not None:
        lines.append(f"| rendering the rooms | | {data_hours:.1f} |")
    total = data_hours or 0.0
    for stage, values in curves.items():
        total += trained_hours(values)
        lines.append(f"| {stage} | {values[-1]['step']:.0f} | {trained_hours(values):.2f} |")
    return [
        *lines,
        f"| sum | | {total:.1f} |",
        "",
        "![Held-out figures while training](../../docs/weights/curves.png)",
        "",
    ]


def draw_curves(curves: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Held-out pictures (dB) and depth (AbsRel) of every stage against its steps, as one png."""
    rows = []
    for stage, values in curves.items():
        series: dict[str, list[tuple[float, float]]] = {}
        for line in values:
            for key, value in line.items():
                if key.startswith("held_out/"):
                    series.setdefault(key.removeprefix("held_out/"), []).append((line["step"], value))
        depth = {k: v for k, v in series.items() if "absrel" in k}
        pictures = {k: v for k, v in series.items() if k not in depth}
        if series:
            height = max(PANEL[1], 50 + LINE_PX * max(len(pictures), len(depth)))
            panels = (_panel(f"{stage}: dB", pictures, height), _panel(f"{stage}: AbsRel", depth, height))
            rows.append(np.hstack(panels))
    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.vstack(rows))


def _panel(title: str, series: dict[str, list[tuple[float, float]]], height: int) -> NDArray[np.uint8]:
    width = PANEL[0]
    image = np.full((height, width, 3), 255, np.uint8)
    text = {"fontFace": cv2.FONT_HERSHEY_SIMPLEX, "fontScale": 0.4, "lineType": cv2.LINE_AA}
    cv2.putText(image, title, (8, 18), color=(0, 0, 0), **text)
    if not series:
        return image
    points = np.concatenate([np.array(v, float) for v in series.values()])
    low, (x1, high) = points[:, 1].min(), points.max(0)
    high = max(high, low + 1e-6)
    left, right, top, bottom = 46, width - 170, 30, height - 24
    cv2.rectangle(image, (left, top), (right, bottom), (200, 200, 200), 1)
    for value, y in ((high, top + 4), (low, bottom)):
        cv2.putText(image, f"{value:.3g}", (4, y), color=(0, 0, 0), **text)
    cv2.putText(image, f"{x1:.0f} steps", (right - 80, height - 8), color=(0, 0, 0), **text)
    ends = sorted(series, key=lambda k: -series[k][-1][1])
    for i, name in enumerate(ends):
        colour = COLOURS[i % len(COLOURS)]
        values = np.array(series[name], float)
        px = left + values[:, 0] / x1 * (right - left)
        py = bottom - (values[:, 1] - low) / (high - low) * (bottom - top)
        line = np.stack([px, py], 1).round().astype(np.int32)
        cv2.polylines(image, [line.reshape(-1, 1, 2)], False, colour, 1, cv2.LINE_AA)
        cv2.circle(image, tuple(int(v) for v in line[-1]), 2, colour, -1, cv2.LINE_AA)
        cv2.putText(image, f"{name} {values[-1, 1]:.3g}", (right + 8, top + 8 + LINE_PX * i), color=colour, **text)
    return image


def write_card(card: Path, sections: Sequence[str]) -> None:
    """Replace what follows the marker. Raises GldError where the card has none."""
    by_hand, marker, _ = card.read_text().partition(MARKER)
    if not marker:
        raise GldError(f"{card} lacks the line {MARKER}")
    card.write_text(f"{by_hand}{MARKER}\n\n" + "\n".join(sections).rstrip() + "\n")


def main() -> None:
    """Read the options and write the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path, help="metrics.json of gld eval --rooms")
    parser.add_argument(
        "--runs", type=Path, nargs="+", help="training output folders in their order, for cost and curves"
    )
    parser.add_argument("--real", type=Path, nargs="+", help="metrics.json files of gld eval on photographs")
    parser.add_argument("--data-hours", type=float, help="CPU hours that rendering the rooms took")
    parser.add_argument("--card", type=Path, default=CARD, help="file to rewrite (default: %(default)s)")
    options = parser.parse_args()
    file = ModelFile(verified_file())
    size = file.path.stat().st_size / 2**20
    sections = [f"`{file.path.name}`: {size:.1f} MiB, SHA-256 `{sha256(file.path)}`.", ""]
    sections += rooms_section(json.loads(options.metrics.read_text()))
    if options.real is not None:
        sections += real_section([json.loads(path.read_text()) for path in options.real])
    if options.runs is not None:
        curves = stage_curves(options.runs)
        draw_curves(curves, CURVES)
        sections += cost_section(curves, options.data_hours)
    write_card(options.card, sections)
    print(f"written: {options.card}" + (f", {CURVES}" if options.runs else ""))


if __name__ == "__main__":
    try:
        main()
    except (GldError, OSError, ValueError, KeyError) as error:
        sys.exit(f"model_card: {type(error).__name__}: {error}")
