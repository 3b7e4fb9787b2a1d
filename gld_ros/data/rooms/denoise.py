"""Remove path-tracing noise: smooth the incoming light, not the surface colours, and never across edges."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def denoise(
    rgb: NDArray[np.float32],
    albedo: NDArray[np.float32],
    ids: NDArray[np.int32],
    depth: NDArray[np.float32],
    passes: int = 4,
) -> NDArray[np.float32]:
    """Edge-avoiding wavelet filter of rgb / albedo (Dammertz et al. 2010), within one surface and similar depth.

    rgb, albedo (H, W, 3) linear; ids, depth (H, W). Pixels that mix surfaces keep their value.
    """
    light = rgb / np.maximum(albedo, 0.02)
    kernel = np.array([1, 4, 6, 4, 1], np.float32) / 16
    spread = np.abs(light - cv2.GaussianBlur(light, (0, 0), 1.5)).mean(-1)
    sigma = 3.0 * cv2.GaussianBlur(spread, (0, 0), 4.0) + 1e-4  # local noise level
    for level in range(passes):
        step = 1 << level
        total = np.zeros_like(light)
        weight = np.zeros(light.shape[:2], np.float32)
        grey = light.mean(-1)
        pad = 2 * step
        l_, g_, i_, d_ = (
            np.pad(a, ((pad, pad), (pad, pad)) + ((0, 0),) * (a.ndim - 2), mode="edge")
            for a in (light, grey, ids, depth)
        )
        h, w = grey.shape
        for dy in range(-2, 3):
            for dx in range(-2, 3):
                rows = slice(pad + dy * step, pad + dy * step + h)
                cols = slice(pad + dx * step, pad + dx * step + w)
                k = kernel[dy + 2] * kernel[dx + 2] * (i_[rows, cols] == ids)
                k = k * np.exp(-np.abs(d_[rows, cols] - depth) / (0.02 * step * depth))
                k = k * np.exp(-np.abs(g_[rows, cols] - grey) / sigma)
                total += k[..., None] * l_[rows, cols]
                weight += k
        light = total / weight[..., None]
        sigma = sigma * 0.5
    return (light * np.maximum(albedo, 0.02)).astype(np.float32)
