"""What the demo leaves behind: all files of the result, the overview picture, and figures against trivial guesses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from gld_ros.data.scene import Scene
from gld_ros.errors import SceneError, Status
from gld_ros.evaluation.baselines import trivial_predictions
from gld_ros.evaluation.metrics import psnr
from gld_ros.evaluation.overview import draw_overview
from gld_ros.geometry.images import resize_area
from gld_ros.synthesis.output import write_result
from gld_ros.synthesis.types import OBSERVED, Result


def write_demo(scene: Scene, conditions: Sequence[int], targets: Sequence[int], result: Result, out: Path) -> list[str]:
    """Write pictures, clouds, result.json and overview.png to ``out``; return the lines to print."""
    views = [scene.posed_view(i, use_depth=False) for i in conditions]
    truths = [
        _truth(scene, i, made.camera.width, made.camera.height) for i, made in zip(targets, result.views, strict=True)
    ]
    write_result(result, [scene.frames[i].name for i in targets], out, scene.metric)
    many = "1 view" if len(result.views) == 1 else f"{len(result.views)} views"
    title = f"{scene.name}: {many} the camera never had ({result.model} engine)"
    picture = draw_overview(views, result, truths, title)
    if not cv2.imwrite(str(out / "overview.png"), picture[..., ::-1]):
        raise SceneError(f"cannot write {out / 'overview.png'}: choose a folder you can write")
    lines = []
    gains = []
    for index, view, truth in zip(targets, result.views, truths, strict=True):
        line = f"  frame {index}: {Status(view.status).name}"
        if view.status == Status.OK:
            line += f", {float((view.provenance == OBSERVED).mean()):.0%} observed"
            if truth is not None:
                copy = trivial_predictions(views, view.camera, (view.camera.width, view.camera.height))["copy_nearest"]
                ours, theirs = psnr(view.rgb, truth), psnr(copy, truth)
                gains.append(ours - theirs)
                line += f", {ours:.1f} dB against the real picture (copying the nearest input: {theirs:.1f} dB)"
        else:
            line += f": {view.message}"
        lines.append(line)
    if gains:
        lines.append(f"  on average {np.mean(gains):+.1f} dB over copying the nearest input")
    lines += [f"note: {note}" for note in (*scene.notes, *result.notes)]
    lines.append(f"written: {out}/overview.png, result.json, pictures, points_observed.ply, points_generated.ply")
    return lines


def _truth(scene: Scene, index: int, width: int, height: int) -> np.ndarray | None:
    """The real picture of a target, for comparison only; None where the scene has none."""
    try:
        return resize_area(scene.frames[index].load_rgb(), width, height)
    except SceneError:
        return None
