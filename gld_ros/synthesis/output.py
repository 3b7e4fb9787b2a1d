"""Files of a synthesis: pictures, 16-bit depth and confidence, provenance, clouds and result.json."""

from __future__ import annotations

import json
import resource
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import SceneError, Status
from gld_ros.geometry.cloud import write_ply
from gld_ros.synthesis.types import GENERATED, OBSERVED, UNKNOWN, Cloud, Result, SynthesizedView

DEPTH_MAX = 65535
VIEW_SUFFIXES = (".png", ".generated.png", ".depth.png", ".provenance.png", ".confidence.png", ".depth_std.png")
PREFERRED_DEPTH_SCALE = 1000.0  # millimetres, as depth cameras write, where the range allows


def output_stems(names: Sequence[str]) -> list[str]:
    """File stems of frames: the name without suffix, with its parent folder where stems repeat, then a number."""
    paths = [Path(n) for n in names]
    stems = [p.stem for p in paths]
    repeated = {s for s, n in Counter(stems).items() if n > 1}
    stems = [
        f"{p.parent.name}_{s}" if s in repeated and p.parent.name else s for p, s in zip(paths, stems, strict=True)
    ]
    still = Counter(stems)
    return [f"{s}_{i}" if still[s] > 1 else s for i, s in enumerate(stems)]


def write_result(result: Result, names: Sequence[str], out: Path, metric: bool) -> Path:
    """Write everything of ``result`` into folder ``out`` and return the path of result.json.

    ``names``: one per view, file names of the target frames. Raises SceneError when the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        remove_previous(out)
        views = [_write_view(v, stem, out, metric) for v, stem in zip(result.views, output_stems(names), strict=True)]
        for cloud, name in ((result.points_observed, "observed"), (result.points_generated, "generated")):
            if cloud is not None:
                write_ply(out / f"points_{name}.ply", cloud.xyz, cloud.rgb, cloud.confidence)
        path = out / "result.json"
        path.write_text(json.dumps(describe(result, views, metric), indent=1) + "\n")
    except OSError as error:
        raise SceneError(f"cannot write to {out}: {error.strerror or error}: choose a folder you can write") from error
    return path


def remove_previous(out: Path) -> None:
    """Delete what an earlier result wrote into ``out``, so that no other scene's pictures stay."""
    try:
        stems = [str(v["stem"]) for v in json.loads((out / "result.json").read_text())["views"]]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing there, or not ours
    names = [f"{Path(stem).name}{suffix}" for stem in stems for suffix in VIEW_SUFFIXES]
    for name in (*names, "points_observed.ply", "points_generated.ply", "result.json"):
        (out / name).unlink(missing_ok=True)


def describe(result: Result, views: list[dict[str, Any]], metric: bool) -> dict[str, Any]:
    """The machine-readable summary of a result."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "status": Status(result.status).name,
        "message": result.message,
        "model": result.model,
        "preset": result.preset,
        "updates": list(result.updates),
        "seed": result.seed,
        "scale": result.scale,
        "scale_valid": result.scale_valid,
        "scale_metric": metric and result.scale_valid,
        "depth_unit": "m" if metric else "scene",
        "carved": result.carved,
        "confidence_kind": result.confidence_kind,
        "seconds": {k: round(v, 4) for k, v in result.seconds.items()},
        "peak_bytes": peak,
        "notes": list(result.notes),
        "points": {"observed": _count(result.points_observed), "generated": _count(result.points_generated)},
        "views": views,
    }


def _count(cloud: Cloud | None) -> int | None:
    return None if cloud is None else len(cloud.xyz)


def _write_view(view: SynthesizedView, stem: str, out: Path, metric: bool) -> dict[str, Any]:
    depth, scale = depth_to_uint16(view.depth)
    _write_png(out / f"{stem}.png", view.rgb[..., ::-1])
    _write_png(out / f"{stem}.generated.png", view.generated[..., ::-1])
    _write_png(out / f"{stem}.depth.png", depth)
    _write_png(out / f"{stem}.provenance.png", view.provenance)
    _write_png(out / f"{stem}.confidence.png", (np.clip(view.confidence, 0, 1) * 65535).round().astype(np.uint16))
    if view.depth_std is not None:
        spread, spread_scale = depth_to_uint16(view.depth_std)
        _write_png(out / f"{stem}.depth_std.png", spread)
    shares = {n: float((view.provenance == v).mean()) for n, v in PROVENANCE_NAMES.items()}
    described = {
        "stem": stem,
        "status": Status(view.status).name,
        "message": view.message,
        "size": [view.camera.width, view.camera.height],
        "K": view.camera.K.tolist(),
        "c2w": view.camera.world_from_cam.tolist(),
        "provenance": {k: round(v, 4) for k, v in shares.items()},
        "depth_scale": scale,
        "depth_unit": "m" if metric else "scene",
    }
    if view.depth_std is not None:
        described["depth_std_scale"] = spread_scale
    return described


PROVENANCE_NAMES = {"observed": OBSERVED, "generated": GENERATED, "unknown": UNKNOWN}


def depth_to_uint16(depth: NDArray[np.float32]) -> tuple[NDArray[np.uint16], float]:
    """16-bit values (0 = invalid) and the scale with depth = value / scale; 1000 where the depths allow it."""
    valid = np.isfinite(depth) & (depth > 0)
    if not valid.any():
        return np.zeros(depth.shape, np.uint16), PREFERRED_DEPTH_SCALE
    far = float(depth[valid].max())
    fits = far * PREFERRED_DEPTH_SCALE <= DEPTH_MAX and far * PREFERRED_DEPTH_SCALE >= 1000
    scale = PREFERRED_DEPTH_SCALE if fits else DEPTH_MAX / far
    values = np.zeros(depth.shape, np.uint16)
    values[valid] = np.clip(np.round(depth[valid].astype(np.float64) * scale), 1, DEPTH_MAX)
    return values, scale


def _write_png(path: Path, image: NDArray) -> None:
    ok, data = cv2.imencode(".png", np.ascontiguousarray(image))
    if not ok:
        raise SceneError(f"cannot encode {path}")
    path.write_bytes(data.tobytes())
