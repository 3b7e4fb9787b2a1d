"""The same targets by every preset, side by side with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError
from gld_ros.evaluation.bench.compare import Comparison
from gld_ros.evaluation.metrics import psnr

TILE_PX = 160
HEADER_PX = 34
CAPTION_PX = 20
TARGETS = 5
HOLE_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)  # wanted in the rows, from easy to hard


def write_side_by_side(result: Comparison, path: Path) -> None:
    """Rows of targets, from small to large holes; columns: a condition view, the truth, then presets by mode.

    Raises GldError when the file cannot be written.
    """
    columns = ["first input", "real", "real, holes red", *(f"{mode} {preset}" for mode, preset in result.measured)]
    rows = [_header(columns)]
    for i, t in chosen_targets(result):
        scene = result.scenes[i]
        truth, holes = scene.truth[t], scene.holes[t]
        first = (scene.inputs.cond_rgb[0, 0] * 255).round().byte().permute(1, 2, 0).numpy()
        marked = np.where(holes[..., None], np.array([200, 30, 30]), truth).astype(np.uint8)
        tiles = [_tile(first), _tile(truth), _tile(marked, f"{holes.mean():.1%} holes")]
        for measured in result.measured.values():
            picture = measured.pictures[i][t]
            tiles.append(_tile(picture, f"{psnr(picture, truth):.1f} dB"))
        rows.append(np.concatenate(tiles, axis=1))
    image = np.concatenate(rows, axis=0)
    try:
        written = cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    except cv2.error as error:
        raise GldError(f"{path} cannot be written ({error.err}): name a .png or .jpg file") from None
    if not written:
        raise GldError(f"{path} cannot be written: name a .png or .jpg file in a folder you own")


def chosen_targets(result: Comparison) -> list[tuple[int, int]]:
    """(scene, target) whose holes are nearest to the wanted shares, none twice."""
    all_targets = [(i, t) for i, scene in enumerate(result.scenes) for t in range(len(scene.truth))]
    shares = {(i, t): float(result.scenes[i].holes[t].mean()) for i, t in all_targets}
    chosen: list[tuple[int, int]] = []
    for wanted in HOLE_SHARES[:TARGETS]:
        left = [key for key in all_targets if key not in chosen]
        if left:
            chosen.append(min(left, key=lambda key: abs(shares[key] - wanted)))
    return sorted(chosen, key=lambda key: shares[key])


def _tile(picture: NDArray[np.uint8], caption: str = "") -> NDArray[np.uint8]:
    height = round(TILE_PX * picture.shape[0] / picture.shape[1])
    large = cv2.resize(np.ascontiguousarray(picture), (TILE_PX - 4, height - 4), interpolation=cv2.INTER_NEAREST_EXACT)
    tile = np.full((height + CAPTION_PX, TILE_PX, 3), 255, np.uint8)
    tile[2 : height - 2, 2:-2] = large
    _write(tile, caption, height + CAPTION_PX - 8)
    return tile


def _header(columns: Sequence[str]) -> NDArray[np.uint8]:
    strip = np.full((HEADER_PX, TILE_PX * len(columns), 3), 255, np.uint8)
    for i, name in enumerate(columns):
        _write(strip[:, i * TILE_PX : (i + 1) * TILE_PX], name, 22)
    return strip


def _write(image: NDArray[np.uint8], text: str, baseline: int) -> None:
    cv2.putText(image, text, (4, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
