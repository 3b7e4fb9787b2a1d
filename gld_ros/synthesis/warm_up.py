"""A small made-up scene on which an engine measures the machine before the first request."""

from __future__ import annotations

import cv2
import numpy as np

from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.types import PosedView, Request

FIRST_PX, MEASURED_PX = 48, 160  # widths: the first run of anything is slow, the second one is measured
DEPTH_M = 2.0
STEP_M = 0.1


def warm_up_scene(width: int, conditions: int = 2) -> tuple[list[PosedView], Request]:
    """Views of a textured wall, and a request for one more with preset fast."""
    height, focal = width * 3 // 4, float(width)
    K = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])
    coarse = np.random.default_rng(0).integers(0, 255, (36, 64, 3), dtype=np.uint8)
    wall = cv2.resize(coarse, (2 * width, height), interpolation=cv2.INTER_CUBIC)
    views = []
    for i in range(conditions + 1):
        pose = np.eye(4)
        pose[0, 3] = i * STEP_M
        shift = round(i * STEP_M * focal / DEPTH_M)
        views.append(PosedView(f"warm-up {i}", Camera(width, height, K, pose), wall[:, shift : shift + width].copy()))
    return views[:-1], Request([views[-1].camera], preset="fast", seed=0)
