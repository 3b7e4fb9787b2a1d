"""One picture that shows a synthesis: inputs, colour, depth, provenance, and the poses from above."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import Status
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.images import resize_area
from gld_ros.synthesis.types import GENERATED, OBSERVED, Cloud, PosedView, Result

BACKGROUND, TEXT, MUTED = (250, 250, 250), (30, 30, 30), (120, 120, 120)  # RGB
SEEN, MADE, UNSEEN = (38, 110, 180), (240, 150, 40), (20, 20, 20)  # observed, generated, unknown
GAP, MARGIN, CAPTION = 10, 18, 26
MAX_INPUTS, MAX_TARGETS = 6, 4
Picture = NDArray[np.uint8]


def draw_overview(
    views: Sequence[PosedView], result: Result, truths: Sequence[Picture | None], title: str, tile_px: int = 300
) -> Picture:
    """Compose the overview as an RGB picture. ``truths``: the real picture of each target where there is one."""
    tile_h = round(tile_px * result.views[0].camera.height / result.views[0].camera.width)
    shown = result.views[:MAX_TARGETS]
    has_truth = any(t is not None for t in truths[:MAX_TARGETS])
    columns = ["colour", "depth", "provenance"] + (["real picture (not used)"] if has_truth else [])
    grid_w = len(columns) * (tile_px + GAP)
    plan_px = max(320, 2 * tile_h + CAPTION)
    width = 2 * MARGIN + grid_w + plan_px
    inputs_h = 0
    count = min(len(views), MAX_INPUTS)
    input_w = (width - 2 * MARGIN - (count - 1) * GAP) // count
    input_w = min(input_w, tile_px)
    first = views[0].camera
    inputs_h = round(input_w * first.height / first.width)
    height = MARGIN + 34 + CAPTION + inputs_h + GAP + CAPTION + len(shown) * (tile_h + GAP) + MARGIN
    height = max(height, MARGIN + 34 + 2 * CAPTION + inputs_h + GAP + plan_px + 90)
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)

    y = MARGIN + 20
    _text(canvas, title, MARGIN, y, 0.62, TEXT, bold=True)
    y += 14 + CAPTION - 8
    _text(canvas, f"{len(views)} input views, posed", MARGIN, y, 0.45, MUTED)
    y += 8
    for i, view in enumerate(views[:count]):
        tile = _fit(view.rgb, input_w, inputs_h)
        x = MARGIN + i * (input_w + GAP)
        canvas[y : y + inputs_h, x : x + input_w] = tile
        cv2.rectangle(canvas, (x, y), (x + input_w - 1, y + inputs_h - 1), SEEN, 2)
    y += inputs_h + GAP + CAPTION - 8
    for j, name in enumerate(columns):
        _text(canvas, name if j else "synthesised " + name, MARGIN + j * (tile_px + GAP), y, 0.45, MUTED)
    plan_x = MARGIN + grid_w
    _text(canvas, "from above", plan_x, y, 0.45, MUTED)
    y += 8
    plan = draw_plan([v.camera for v in views], [v.camera for v in result.views], result.points_observed, plan_px)
    canvas[y : y + plan_px, plan_x : plan_x + plan_px] = plan
    _legend(canvas, plan_x, y + plan_px + 20)
    near, far = _depth_span(result)
    for made, truth in zip(shown, truths, strict=False):
        tiles = [made.rgb, colour_depth(made.depth, near, far), colour_provenance(made.provenance)]
        for j, tile in enumerate(tiles + ([truth] if truth is not None else [])):
            x = MARGIN + j * (tile_px + GAP)
            canvas[y : y + tile_h, x : x + tile_px] = _fit(tile, tile_px, tile_h)
        cv2.rectangle(canvas, (MARGIN, y), (MARGIN + tile_px - 1, y + tile_h - 1), MADE, 2)
        if made.status != Status.OK:
            _text(canvas, Status(made.status).name, MARGIN + 8, y + 22, 0.5, (255, 255, 255))
        y += tile_h + GAP
    return canvas


def draw_plan(inputs: Sequence[Camera], targets: Sequence[Camera], cloud: Cloud | None, size_px: int) -> Picture:
    """Camera frusta and observed points seen from above; up is the mean of the cameras' own up."""
    canvas = np.full((size_px, size_px, 3), (238, 238, 238), np.uint8)
    up = -np.mean([c.world_from_cam[:3, 1] for c in inputs], axis=0)
    up /= max(float(np.linalg.norm(up)), 1e-9)
    ahead = np.mean([c.forward for c in inputs], axis=0)
    ahead = ahead - up * (ahead @ up)
    if np.linalg.norm(ahead) < 1e-6:
        ahead = np.cross(up, [1.0, 0.0, 0.0]) + np.cross(up, [0.0, 1.0, 0.0]) * 1e-3
    ahead /= np.linalg.norm(ahead)
    axes = np.stack([np.cross(ahead, up), -ahead])  # picture right, picture down
    centres = np.array([c.centre for c in (*inputs, *targets)]) @ axes.T
    points = np.zeros((0, 2))
    colours = np.zeros((0, 3), np.uint8)
    if cloud is not None and len(cloud.xyz):
        height = cloud.xyz @ up
        low, high = np.percentile(height, [3, 80])  # without ceilings the plan shows the room
        keep = (height >= low) & (height <= high)
        step = max(1, int(keep.sum()) // 60000)
        points, colours = (cloud.xyz[keep] @ axes.T)[::step], cloud.rgb[keep][::step]
    extent = np.concatenate([centres, points]) if len(points) else centres
    low2, high2 = np.percentile(extent, [2, 98], axis=0) if len(points) else (extent.min(0), extent.max(0))
    low2, high2 = np.minimum(low2, centres.min(0)), np.maximum(high2, centres.max(0))
    span = max(float((high2 - low2).max()), 1e-6) * 1.15
    middle = (low2 + high2) / 2

    def to_px(xy: NDArray) -> NDArray:
        return (xy - middle) / span * size_px + size_px / 2

    pixels = to_px(points).round().astype(int)
    inside = ((pixels >= 0) & (pixels < size_px)).all(axis=1)
    canvas[pixels[inside, 1], pixels[inside, 0]] = colours[inside]
    for cameras, colour in ((inputs, SEEN), (targets, MADE)):
        for camera in cameras:
            _frustum(canvas, camera, axes, to_px, span * 0.07, colour)
    cv2.rectangle(canvas, (0, 0), (size_px - 1, size_px - 1), (205, 205, 205), 1)
    return canvas


def _frustum(
    canvas: Picture, camera: Camera, axes: NDArray, to_px: Callable[[NDArray], NDArray], length: float, colour: tuple
) -> None:
    corners = np.array([[-0.5, camera.height / 2, 1.0], [camera.width - 0.5, camera.height / 2, 1.0]])
    rays = corners @ np.linalg.inv(camera.K).T
    ends = (rays * length) @ camera.world_from_cam[:3, :3].T + camera.centre
    outline = to_px(np.stack([camera.centre, *ends]) @ axes.T).round().astype(np.int32)
    overlay = canvas.copy()
    cv2.fillPoly(overlay, [outline], colour, cv2.LINE_AA)
    cv2.addWeighted(overlay, 0.35, canvas, 0.65, 0, canvas)
    cv2.polylines(canvas, [outline], True, colour, 2, cv2.LINE_AA)
    cv2.circle(canvas, tuple(int(v) for v in outline[0]), 4, colour, -1, cv2.LINE_AA)


def colour_depth(depth: NDArray[np.float32], near: float, far: float) -> Picture:
    """Turbo colours over inverse depth, near red, invalid black."""
    valid = np.isfinite(depth) & (depth > 0)
    inverse = np.zeros(depth.shape)
    inverse[valid] = 1.0 / depth[valid]
    scaled = np.clip((inverse - 1 / far) / max(1 / near - 1 / far, 1e-9), 0, 1)
    picture = cv2.applyColorMap((scaled * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1].copy()
    picture[~valid] = 0
    return picture


def colour_provenance(provenance: NDArray[np.uint8]) -> Picture:
    """Blue observed, orange generated, black unknown."""
    table = np.array([UNSEEN, UNSEEN, UNSEEN], np.uint8)
    table[GENERATED], table[OBSERVED] = MADE, SEEN
    return table[provenance]


def _depth_span(result: Result) -> tuple[float, float]:
    depths = np.concatenate([v.depth[np.isfinite(v.depth)].ravel() for v in result.views])
    if len(depths) == 0:
        return 0.5, 10.0
    near, far = np.percentile(depths, [2, 98])
    return float(near), float(max(far, near * 1.01))


def _fit(image: Picture, width: int, height: int) -> Picture:
    """Scale into the tile, centred, on the background."""
    factor = min(width / image.shape[1], height / image.shape[0])
    w, h = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    tile = np.full((height, width, 3), BACKGROUND, np.uint8)
    x, y = (width - w) // 2, (height - h) // 2
    tile[y : y + h, x : x + w] = resize_area(image, w, h)
    return tile


def _legend(canvas: Picture, x: int, y: int) -> None:
    for colour, name in ((SEEN, "input / observed"), (MADE, "virtual / generated"), (UNSEEN, "unknown")):
        cv2.rectangle(canvas, (x, y - 10), (x + 14, y + 2), colour, -1)
        _text(canvas, name, x + 22, y, 0.45, TEXT)
        y += 22


def _text(canvas: Picture, text: str, x: int, y: int, size: float, colour: tuple, bold: bool = False) -> None:
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, 2 if bold else 1, cv2.LINE_AA)
