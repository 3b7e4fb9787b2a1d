"""What an evaluation leaves behind: metrics.json, and one html page that needs no other file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import SceneError
from gld_ros.evaluation.evaluate import EvaluatedSet, EvaluatedView
from gld_ros.evaluation.overview import colour_depth, colour_provenance
from gld_ros.evaluation.predictors import BASELINES, BOUNDS, ENGINE_PREDICTORS
from gld_ros.geometry.images import resize_area

MAX_ROWS = 8  # targets shown per set
TILE_PX = 240
# key, heading, decimals, whether more is better
COLUMNS = (
    ("psnr", "PSNR", 2, True),
    ("ssim", "SSIM", 3, True),
    ("perceptual", "perceptual", 3, False),
    ("psnr_holes", "PSNR holes", 2, True),
    ("perceptual_holes", "perceptual holes", 3, False),
    ("psnr_observed", "PSNR observed", 2, True),
    ("sharpness", "sharpness", 2, None),
    ("depth_absrel", "AbsRel", 3, False),
    ("depth_absrel_median", "AbsRel (median)", 3, False),
    ("depth_delta1", "delta1", 3, True),
)
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1.5em}
body{color:#1e1e1e;background:#fafafa}
h1{font-size:1.4em} h2{font-size:1.15em;margin-top:2.2em;border-top:1px solid #ccc;padding-top:1em}
table{border-collapse:collapse;margin:.6em 0} td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #e2e2e2}
th{font-weight:600;color:#555} td:first-child,th:first-child{text-align:left} tr.ours td{background:#eef4fa}
td.lost{font-weight:700;color:#b3261e} .note{color:#666;font-size:.92em}
.row{display:flex;gap:8px;margin:8px 0;flex-wrap:wrap} figure{margin:0} figcaption{color:#666;font-size:12px}
img{display:block;width:240px;height:auto} svg text{font:12px system-ui,sans-serif}
"""


def metrics(sets: Sequence[EvaluatedSet], config: dict[str, Any], revision: str) -> dict[str, Any]:
    """The machine-readable result: figures by set and predictor, and what made them."""
    notes = {s.name: list(s.notes) for s in sets if s.notes}
    return {"sets": {s.name: s.figures() for s in sets}, "config": config, "revision": revision, "notes": notes}


def write_report(sets: Sequence[EvaluatedSet], config: dict[str, Any], revision: str, out: Path) -> tuple[Path, Path]:
    """Write metrics.json and index.html into ``out`` and return their paths. Raises SceneError where it cannot."""
    found = metrics(sets, config, revision)
    try:
        out.mkdir(parents=True, exist_ok=True)
        numbers, page = out / "metrics.json", out / "index.html"
        numbers.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        page.write_text(html_page(sets, config, revision))
    except OSError as error:
        raise SceneError(f"cannot write to {out}: {error.strerror or error}: choose a folder you can write") from error
    return numbers, page


def text_table(evaluated: EvaluatedSet) -> str:
    """The main figures of a set for a terminal."""
    columns = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in evaluated.figures().values())]
    lines = [
        f"{evaluated.name} ({_count(evaluated)})",
        "  " + " " * 16 + "".join(f"{c[1]:>17}" for c in columns),
    ]
    for name, row in ordered(evaluated.figures()).items():
        lines.append(f"  {name:<16}" + "".join(f"{number(row.get(c[0]), c[2]):>17}" for c in columns))
    return "\n".join(lines)


def ordered(figures: dict[str, dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Predictors in the order of tables: the engine's first."""
    return {name: figures[name] for name in (*ENGINE_PREDICTORS, *BASELINES, *BOUNDS) if name in figures}


def number(value: float | None, decimals: int) -> str:
    """A figure, or a dash."""
    return "–" if value is None else f"{value:.{decimals}f}"


def loses(
    name: str,
    key: str,
    more_is_better: bool | None,
    figures: dict[str, dict[str, float | None]],
    baselines: Sequence[str] = BASELINES,
) -> bool:
    """Whether a baseline is better than this predictor of the engine."""
    mine = figures[name].get(key)
    if name not in ENGINE_PREDICTORS or mine is None or more_is_better is None:
        return False
    others = [value for other in baselines if (value := figures.get(other, {}).get(key)) is not None]
    return any(value > mine if more_is_better else value < mine for value in others)


def html_page(sets: Sequence[EvaluatedSet], config: dict[str, Any], revision: str) -> str:
    """The whole page."""
    settings = ", ".join(f"{k}: {json.dumps(v)}" for k, v in config.items())
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>gld eval</title>",
        f"<style>{STYLE}</style></head><body><h1>gld eval</h1>",
        f"<p class='note'>{html.escape(settings)}<br>revision {html.escape(revision)}</p>",
        "<p class='note'>Means over views. <span style='color:#b3261e;font-weight:700'>Bold red</span>: a baseline is "
        "better than the engine. Holes and observed: see <i>holes</i> above. Sharpness: mean gradient, beside it the "
        "share of the real pictures'. warp_true uses sensor depth, also where the engine did not get it (then it does "
        "not count). Depth figures of warps are over the pixels they cover. oracle_decode: the real "
        "picture through the network's encoder and decoder, a bound.</p>",
    ]
    fair = tuple(name for name in BASELINES if name != "warp_true" or config.get("use_depth", True))
    for evaluated in sets:
        parts.append(_section(evaluated, fair))
    return "\n".join([*parts, "</body></html>\n"])


def _section(evaluated: EvaluatedSet, baselines: Sequence[str]) -> str:
    figures = ordered(evaluated.figures())
    columns = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in figures.values())]
    head = "".join(f"<th>{c[1]}</th>" for c in columns)
    rows = []
    for name, row in figures.items():
        cells = []
        for key, _, decimals, better in columns:
            text = number(row.get(key), decimals)
            truth = row.get("sharpness_truth")
            if key == "sharpness" and row.get(key) is not None and truth:
                text += f" ({(row[key] or 0.0) / truth:.0%})"
            cells.append(f"<td{' class=lost' if loses(name, key, better, figures, baselines) else ''}>{text}</td>")
        rows.append(f"<tr{' class=ours' if name in ENGINE_PREDICTORS else ''}><td>{name}</td>{''.join(cells)}</tr>")
    notes = "".join(f"<div class='note'>note: {html.escape(note)}</div>" for note in evaluated.notes)
    shown = evaluated.views[:MAX_ROWS]
    inputs = "".join(_figure(v.rgb, f"input {Path(v.key).name}") for v in evaluated.inputs)
    pictures = "".join(_view_row(view) for view in shown)
    more = (
        f"<p class='note'>{len(shown)} of {len(evaluated.views)} targets shown</p>"
        if len(shown) < len(evaluated.views)
        else ""
    )
    return (
        f"<h2>{html.escape(evaluated.name)}</h2><table><tr><th>{_count(evaluated)}</th>{head}</tr>"
        f"{''.join(rows)}</table>{bar_chart(figures)}{notes}<div class='row'>{inputs}</div>{pictures}{more}"
    )


def _count(evaluated: EvaluatedSet) -> str:
    return "1 view" if len(evaluated.views) == 1 else f"{len(evaluated.views)} views"


def bar_chart(figures: dict[str, dict[str, float | None]]) -> str:
    """PSNR per predictor as an inline svg: all pixels in full colour, holes pale."""
    rows = [(name, row.get("psnr") or 0.0, row.get("psnr_holes")) for name, row in figures.items()]
    scale = 380 / max(1.0, *(value for _, value, _ in rows), *(hole or 0.0 for _, _, hole in rows))
    parts = []
    for i, (name, value, hole) in enumerate(rows):
        y, colour = 26 * i, "#266eb4" if name in ENGINE_PREDICTORS else "#999"
        parts.append(f"<text x='0' y='{y + 14}'>{name}</text>")
        parts.append(f"<rect x='120' y='{y + 2}' width='{value * scale:.0f}' height='11' fill='{colour}'/>")
        label = f"{value:.1f} dB"
        if hole is not None:
            parts.append(
                f"<rect x='120' y='{y + 14}' width='{hole * scale:.0f}' height='6' fill='{colour}' opacity='.4'/>"
            )
            label += f", holes {hole:.1f}"
        parts.append(f"<text x='{126 + max(value, hole or 0.0) * scale:.0f}' y='{y + 14}'>{label}</text>")
    frame = f"width='680' height='{26 * len(rows) + 4}' role='img' aria-label='PSNR per predictor'"
    return f"<svg {frame}>{''.join(parts)}</svg>"


def _view_row(view: EvaluatedView) -> str:
    tiles = [_figure(view.truth, f"{Path(view.name).name}: real picture")]
    for name in (*ENGINE_PREDICTORS, *BASELINES, *BOUNDS):
        if name not in view.predictions or name == "mean":
            continue
        rgb = view.predictions[name].rgb
        if name == "generated" and np.array_equal(rgb, view.predictions["composed"].rgb):
            continue
        tiles.append(_figure(rgb, f"{name} {view.figures[name]['psnr']:.2f} dB"))
        if name == "composed":
            tiles.append(_figure(_error_map(rgb, view.truth), "error of composed, x2"))
    if view.made is not None:
        valid = view.made.depth[np.isfinite(view.made.depth) & (view.made.depth > 0)]
        near, far = (float(q) for q in np.percentile(valid, [2, 98])) if len(valid) else (0.5, 10.0)
        tiles.append(
            _figure(colour_depth(view.made.depth, near, max(far, near * 1.01)), f"depth {near:.3g} to {far:.3g}")
        )
        tiles.append(_figure(colour_provenance(view.made.provenance), "blue observed, orange generated"))
    tiles.append(
        _figure(np.where(view.holes[..., None], 40, view.truth).astype(np.uint8), f"holes {view.holes.mean():.0%}")
    )
    return f"<div class='row'>{''.join(tiles)}</div>"


def _error_map(rgb: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    error = np.abs(rgb.astype(np.int16) - truth).max(axis=2)
    coloured = cv2.applyColorMap(np.clip(2 * error, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(coloured[..., ::-1])


def _figure(rgb: NDArray[np.uint8], caption: str) -> str:
    height = max(1, round(TILE_PX * rgb.shape[0] / rgb.shape[1]))
    small = resize_area(np.ascontiguousarray(rgb), TILE_PX, height)
    ok, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not ok:
        raise SceneError(f"cannot encode the picture '{caption}'")
    source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    return f"<figure><img src='{source}' alt=''><figcaption>{html.escape(caption)}</figcaption></figure>"
