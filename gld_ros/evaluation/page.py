"""The html page of an evaluation: tables, what they say, and pictures, in one file."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import SceneError
from gld_ros.evaluation.evaluate import EvaluatedSet, EvaluatedView
from gld_ros.evaluation.overview import colour_depth, colour_provenance
from gld_ros.evaluation.predictors import ENGINE_PREDICTORS, REAL, in_order, kind
from gld_ros.evaluation.recovery import MIN_INLIERS, Recovered
from gld_ros.evaluation.verdicts import COLUMNS, Table, fair, goal_line, harm, losses
from gld_ros.geometry.images import resize_area

MAX_ROWS = 8  # targets shown per set
TILE_PX = 240
LEGEND = (
    "Means over views. <span style='color:#b3261e;font-weight:700'>Bold red</span>: a baseline is better than the "
    "engine. Holes and observed: see <i>holes</i> above. Sharpness: mean gradient, beside it the share of the real "
    "pictures'; gradients holes: squared gradients over the real pictures'. warp_true uses sensor depth, also where "
    "the engine did not get it (then it does not count). Depth figures of warps are over the pixels they cover. "
    "generated@N, plain@N: the network alone at N updates, its depth in its own scale; plain sees no warped pictures. "
    "Sample std in grey levels, and its rank correlation with the error of the samples' mean. Cameras recovered: the "
    "share of pictures whose features match known 3-D points of the inputs "
    f"({MIN_INLIERS} or more that agree); camera deg and centre, ATE, RPE: medians in which the others count as "
    "infinitely wrong; the row <i>real</i> is the method's own error on real pictures. Ray head: cameras that the "
    "network's ray head sees in the generated features, after Sim(3) alignment. oracle_decode: the real picture "
    "through the network's encoder and decoder, a bound."
)
STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1.5em}
body{color:#1e1e1e;background:#fafafa}
h1{font-size:1.4em} h2{font-size:1.15em;margin-top:2.2em;border-top:1px solid #ccc;padding-top:1em}
table{border-collapse:collapse;margin:.6em 0} td,th{padding:.2em .8em;text-align:right;border-bottom:1px solid #e2e2e2}
th{font-weight:600;color:#555} td:first-child,th:first-child{text-align:left} tr.ours td{background:#eef4fa}
td.lost,li.lost,p.lost{font-weight:700;color:#b3261e} .note{color:#666;font-size:.92em}
.row{display:flex;gap:8px;margin:8px 0;flex-wrap:wrap} figure{margin:0} figcaption{color:#666;font-size:12px}
div.wide{overflow-x:auto} .view{border-top:1px solid #e2e2e2;padding-top:8px}
img{display:block;width:240px;height:auto} svg text{font:12px system-ui,sans-serif}
"""


def ordered(figures: Table) -> dict[str, Mapping[str, float | None]]:
    """Predictors in the order of tables: the engine's first."""
    return {name: figures[name] for name in in_order(figures)}


def number(value: float | None, decimals: int) -> str:
    """A figure, or a dash."""
    return "–" if value is None else f"{value:.{decimals}f}"


def html_page(sets: Sequence[EvaluatedSet], found: dict[str, Any]) -> str:
    """The whole page; ``found`` is what ``metrics`` made of ``sets``."""
    settings = ", ".join(f"{k}: {json.dumps(v)}" for k, v in found["config"].items())
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>gld eval</title>",
        f"<style>{STYLE}</style></head><body><h1>gld eval</h1>",
        f"<p class='note'>{html.escape(settings)}<br>revision {html.escape(found['revision'])}</p>",
        f"<p class='note'>{LEGEND}</p>",
    ]
    if found.get("goals"):
        rows = "".join(
            f"<li{'' if row['met'] else ' class=lost'}>{html.escape(goal_line(row))}</li>" for row in found["goals"]
        )
        parts.append(f"<h2>Goals of the default model</h2><ul>{rows}</ul>")
    for evaluated in sets:
        parts.append(_section(evaluated, found["sets"][evaluated.name]))
    return "\n".join([*parts, "</body></html>\n"])


def _section(evaluated: EvaluatedSet, table: Table) -> str:
    figures = ordered(table)
    lost = losses(figures, fair(evaluated.sensor))
    worse = {(x.predictor, x.key) for x in lost}
    columns = [c for c in COLUMNS if any(row.get(c[0]) is not None for row in figures.values())]
    head = "".join(f"<th>{c[1]}</th>" for c in columns)
    rows = []
    for name, row in figures.items():
        cells = []
        for key, _, decimals, _ in columns:
            text = number(row.get(key), decimals)
            truth = row.get("sharpness_truth")
            if key == "sharpness" and row.get(key) is not None and truth:
                text += f" ({(row[key] or 0.0) / truth:.0%})"
            cells.append(f"<td{' class=lost' if (name, key) in worse else ''}>{text}</td>")
        own = kind(name) in ENGINE_PREDICTORS
        rows.append(f"<tr{' class=ours' if own else ''}><td>{name}</td>{''.join(cells)}</tr>")
    said = "".join(f"<li>{html.escape(str(x))}</li>" for x in lost)
    said = f"<details><summary>{len(lost)} figures in which a baseline is better</summary><ul>{said}</ul></details>"
    hurt = harm(figures)
    said = (f"<p class='lost'>{html.escape(hurt)}</p>" if hurt else "") + (said if lost else "")
    notes = "".join(f"<div class='note'>note: {html.escape(note)}</div>" for note in evaluated.notes)
    shown = evaluated.views[:: -(-len(evaluated.views) // MAX_ROWS)]
    shared = all(view.conditions is evaluated.views[0].conditions for view in evaluated.views)
    inputs = _inputs(evaluated.views[0]) if shared else ""
    pictures = "".join(_view_row(view, with_inputs=not shared) for view in shown)
    more = (
        f"<p class='note'>{len(shown)} of {len(evaluated.views)} targets shown</p>"
        if len(shown) < len(evaluated.views)
        else ""
    )
    return (
        f"<h2>{html.escape(evaluated.name)}</h2><div class='wide'><table><tr><th>{count(evaluated)}</th>{head}</tr>"
        f"{''.join(rows)}</table></div>{said}{bar_chart(figures)}{notes}<div class='row'>{inputs}</div>{pictures}{more}"
    )


def count(evaluated: EvaluatedSet) -> str:
    """Number of views in words."""
    return "1 view" if len(evaluated.views) == 1 else f"{len(evaluated.views)} views"


def bar_chart(figures: Table) -> str:
    """PSNR per predictor as an inline svg: all pixels in full colour, holes pale."""
    rows = [(name, row["psnr"] or 0.0, row.get("psnr_holes")) for name, row in figures.items() if "psnr" in row]
    scale = 380 / max(1.0, *(value for _, value, _ in rows), *(hole or 0.0 for _, _, hole in rows))
    parts = []
    for i, (name, value, hole) in enumerate(rows):
        y, colour = 26 * i, "#266eb4" if kind(name) in ENGINE_PREDICTORS else "#999"
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


def _inputs(view: EvaluatedView) -> str:
    return "".join(_figure(v.rgb, f"input {Path(v.key).name}") for v in view.conditions)


def _view_row(view: EvaluatedView, with_inputs: bool) -> str:
    tiles = [_inputs(view)] if with_inputs else []
    tiles.append(_figure(view.truth, f"{Path(view.name).name}: real picture{_camera(view.recovered.get(REAL))}"))
    for name in in_order(view.predictions):
        if name == "mean":
            continue
        rgb = view.predictions[name].rgb
        if name == "generated" and np.array_equal(rgb, view.predictions["composed"].rgb):
            continue
        camera = _camera(view.recovered.get(name))
        tiles.append(_figure(rgb, f"{name} {view.figures[name]['psnr']:.2f} dB{camera}"))
        if name == "composed":
            error = np.abs(rgb.astype(np.int16) - view.truth).max(axis=2)
            tiles.append(_figure(_heat(2 * error), "error of composed, x2"))
    for name, spread in view.spreads.items():
        tiles.append(_figure(_heat(4 * spread.std), f"{name}: std of samples, x4"))
        tiles.append(_figure(_heat(4 * spread.error), f"{name}: error of their mean, x4"))
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
    return f"<div class='row view'>{''.join(tiles)}</div>"


def _camera(found: Recovered | None) -> str:
    """How far the camera that a picture shows is from the one asked for; empty where nobody looked."""
    if found is None:
        return ""
    if found.world_from_cam is None:
        return ", camera not recovered"
    return f", camera off by {found.rotation_deg:.2f}° and {found.centre:.3g}"


def _heat(values: NDArray) -> NDArray[np.uint8]:
    """Grey levels from dark to bright as colours."""
    coloured = cv2.applyColorMap(np.clip(values, 0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.ascontiguousarray(coloured[..., ::-1])


def _figure(rgb: NDArray[np.uint8], caption: str) -> str:
    height = max(1, round(TILE_PX * rgb.shape[0] / rgb.shape[1]))
    small = resize_area(np.ascontiguousarray(rgb), TILE_PX, height)
    ok, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not ok:
        raise SceneError(f"cannot encode the picture '{caption}'")
    source = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
    return f"<figure><img src='{source}' alt=''><figcaption>{html.escape(caption)}</figcaption></figure>"
