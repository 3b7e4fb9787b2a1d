"""What an evaluation leaves behind: metrics.json, and one html page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gld_ros.errors import SceneError
from gld_ros.evaluation.evaluate import EvaluatedSet
from gld_ros.evaluation.page import count, html_page, number, ordered
from gld_ros.evaluation.verdicts import COLUMNS, Table, fair, goal_rows, harm, losses

TERMINAL = (
    "psnr", "ssim", "perceptual", "psnr_holes", "perceptual_holes", "psnr_observed", "psnr_network_size",
    "gradient_energy_holes_ratio", "depth_absrel", "depth_delta1", "spearman_holes", "pnp_recovered", "pnp_deg",
    "pnp_centre_share",
)  # fmt: skip
NAMES, WIDEST_NUMBER = 17, 5  # characters of the terminal's table


def metrics(sets: Sequence[EvaluatedSet], config: dict[str, Any], revision: str) -> dict[str, Any]:
    """The machine-readable result: figures by set and predictor, what they say, and what made them."""
    found: dict[str, Any] = {
        "sets": {s.name: s.figures() for s in sets},
        "config": config,
        "revision": revision,
        "notes": {s.name: list(s.notes) for s in sets if s.notes},
        "seconds": {s.name: round(s.seconds, 2) for s in sets},
    }
    found["losses"] = {s.name: [str(x) for x in losses(found["sets"][s.name], fair(s.sensor))] for s in sets}
    found["harm"] = {s.name: text for s in sets if (text := harm(found["sets"][s.name])) is not None}
    if "rooms" in config:
        rooms = {s.sensor: found["sets"][s.name] for s in sets if s.name.startswith(config["rooms"]["name"])}
        found["goals"] = goal_rows(rooms.get(True, {}), rooms.get(False, {}))
    return found


def write_report(sets: Sequence[EvaluatedSet], found: dict[str, Any], out: Path) -> tuple[Path, Path]:
    """Write metrics.json, which is ``found`` of ``metrics``, and index.html into ``out``; returns their paths.

    Raises SceneError where it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        numbers, page = out / "metrics.json", out / "index.html"
        numbers.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        page.write_text(html_page(sets, found))
    except OSError as error:
        raise SceneError(f"cannot write to {out}: {error.strerror or error}: choose a folder you can write") from error
    return numbers, page


def text_table(evaluated: EvaluatedSet, figures: Table) -> str:
    """The main figures of a set for a terminal, and where composing did harm."""
    rows = ordered(figures)
    columns = [c for c in COLUMNS if c[0] in TERMINAL and any(row.get(c[0]) is not None for row in rows.values())]
    titles = [c[1].split() for c in columns]  # a word a line, so that a table of twelve columns fits a terminal
    widths = [max(WIDEST_NUMBER, *map(len, words)) + 2 for words in titles]
    height = max((len(words) for words in titles), default=0)
    lines = [f"{evaluated.name} ({count(evaluated)}, the engine took {evaluated.seconds:.1f} s)"]
    for line in zip(*([""] * (height - len(words)) + words for words in titles), strict=True):
        lines.append(" " * NAMES + "".join(f"{word:>{width}}" for word, width in zip(line, widths, strict=True)))
    for name, row in rows.items():
        cells = (f"{number(row.get(c[0]), c[2]):>{width}}" for c, width in zip(columns, widths, strict=True))
        lines.append(f"  {name:<{NAMES - 2}}{''.join(cells)}")
    worse = harm(figures)
    return "\n".join([*lines, *([f"  WORSE: {worse}"] if worse else [])])
