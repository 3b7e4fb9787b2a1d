"""Training curves as a picture, drawn with OpenCV so that training needs no plotting library."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

PANEL = (360, 200)  # width, height
MARGIN = 34


def plot_curves(source: Path, target: Path) -> None:
    """One small panel per logged quantity of a curve.jsonl, against steps."""
    series: dict[str, list[tuple[float, float]]] = {}
    for line in source.read_text().splitlines():
        values = json.loads(line)
        for name, value in values.items():
            if name not in ("step", "seconds") and np.isfinite(value):
                series.setdefault(name, []).append((values["step"], value))
    panels = [_panel(name, np.array(points, float)) for name, points in sorted(series.items())]
    if not panels:
        return
    columns = 3
    panels += [np.full_like(panels[0], 255)] * (-len(panels) % columns)
    rows = [np.hstack(panels[i : i + columns]) for i in range(0, len(panels), columns)]
    cv2.imwrite(str(target), np.vstack(rows))


def _panel(name: str, points: np.ndarray) -> np.ndarray:
    width, height = PANEL
    image = np.full((height, width, 3), 255, np.uint8)
    x, y = points[:, 0], points[:, 1]
    low, high = np.percentile(y, [1, 99]) if len(y) > 20 else (y.min(), y.max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    px = MARGIN + (x - x.min()) / max(np.ptp(x), 1) * (width - MARGIN - 10)
    py = height - 24 - np.clip((y - low) / (high - low), -0.02, 1.02) * (height - 60)
    line = np.stack([px, py], 1).round().astype(np.int32).reshape(-1, 1, 2)
    cv2.rectangle(image, (MARGIN, 30), (width - 8, height - 22), (200, 200, 200), 1)
    cv2.polylines(image, [line], False, (160, 80, 20), 1, cv2.LINE_AA)
    text = {"fontFace": cv2.FONT_HERSHEY_SIMPLEX, "fontScale": 0.38, "color": (0, 0, 0), "lineType": cv2.LINE_AA}
    cv2.putText(image, f"{name}: {y[-1]:.4g}", (6, 16), **text)
    cv2.putText(image, f"{high:.3g}", (2, 36), **text)
    cv2.putText(image, f"{low:.3g}", (2, height - 26), **text)
    cv2.putText(image, f"{x[-1]:.0f} steps", (width - 100, height - 8), **text)
    return image
