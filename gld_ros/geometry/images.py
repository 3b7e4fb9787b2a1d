"""Small picture helpers shared by everything that compares or warps pictures."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_area(image: NDArray, width: int, height: int) -> NDArray:
    """Resize to (width, height): area averaging when shrinking, bilinear when growing."""
    if (image.shape[1], image.shape[0]) == (width, height):
        return image
    shrinking = width <= image.shape[1] and height <= image.shape[0]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


def resize_depth(depth: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Resize a depth map with NaN holes by nearest pixel: depths of two surfaces are never averaged."""
    if (depth.shape[1], depth.shape[0]) == (width, height):
        return depth
    rows = np.minimum(((np.arange(height) + 0.5) * depth.shape[0] / height).astype(int), depth.shape[0] - 1)
    cols = np.minimum(((np.arange(width) + 0.5) * depth.shape[1] / width).astype(int), depth.shape[1] - 1)
    return depth[rows[:, None], cols[None]]
