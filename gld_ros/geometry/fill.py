"""Filling what is not known: edge-aware smoothing of sparse maps, and pull-push for pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

ITERATIONS = 3


def smooth_fill(
    values: torch.Tensor, weights: torch.Tensor, guide: torch.Tensor, strength: float = 300.0, edge: float = 0.04
) -> torch.Tensor:
    """Spread confident ``values`` over their surroundings, stopping at edges of a picture.

    Fast global smoothing (Min et al. 2014): weighted least squares solved exactly along rows and columns in turn.
    values, weights: (V, H, W), weights >= 0; guide: (V, 3, H, W) in [0, 1]. Runs on the CPU in float64.
    """
    numerator = (values * weights).double().cpu().numpy()
    denominator = weights.double().cpu().numpy()
    g = guide.cpu().numpy()
    along_x = np.exp(-np.abs(np.diff(g, axis=3)).max(axis=1) / edge).transpose(2, 0, 1)  # (W-1, V, H)
    along_y = np.exp(-np.abs(np.diff(g, axis=2)).max(axis=1) / edge).transpose(1, 0, 2)  # (H-1, V, W)
    for i in range(ITERATIONS):
        lam = 1.5 * strength * 4.0 ** (ITERATIONS - 1 - i) / (4.0**ITERATIONS - 1)
        for axis, affinity in ((2, along_x), (1, along_y)):
            both = np.stack([np.moveaxis(numerator, axis, 0), np.moveaxis(denominator, axis, 0)], axis=1)
            smoothed = np.moveaxis(_solve_lines(both, lam * affinity[:, None]), 0, axis + 1)
            numerator, denominator = smoothed[0], smoothed[1]
    return torch.from_numpy((numerator / np.maximum(denominator, 1e-12)).astype(np.float32)).to(values.device)


def _solve_lines(data: NDArray, affinity: NDArray) -> NDArray:
    """Solve (I + L) u = data along axis 0, L the Laplacian of a chain with ``affinity`` (len-1, ...) (Thomas)."""
    length = data.shape[0]
    left = np.zeros((length, *affinity.shape[1:]))
    right = np.zeros_like(left)
    left[1:], right[:-1] = -affinity, -affinity
    diagonal = 1.0 - left - right
    out = np.empty_like(data)
    upper = np.empty_like(right)
    upper[0] = right[0] / diagonal[0]
    out[0] = data[0] / diagonal[0]
    for i in range(1, length):
        inverse = 1.0 / (diagonal[i] - left[i] * upper[i - 1])
        upper[i] = right[i] * inverse
        out[i] = (data[i] - left[i] * out[i - 1]) * inverse
    for i in range(length - 2, -1, -1):
        out[i] -= upper[i] * out[i + 1]
    return out


def pull_push(image: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Keep ``image`` (..., C, H, W) where ``weight`` (..., H, W) in [0, 1] is 1, fill the rest from coarser averages.

    A picture without any weight stays zero.
    """
    lead = image.shape[:-3]
    w = weight.to(image.dtype).reshape(-1, 1, *weight.shape[-2:])
    colour = image.reshape(-1, *image.shape[-3:]) * w
    pyramid = []
    while max(colour.shape[-2:]) > 1:
        pyramid.append((colour, w))
        both = torch.cat([colour, w], dim=1)
        both = F.pad(both, (0, colour.shape[-1] % 2, 0, colour.shape[-2] % 2))
        total = F.avg_pool2d(both, 2) * 4
        w = total[:, -1:].clamp(max=1)
        colour = total[:, :-1] * (w / total[:, -1:].clamp(min=1e-8))
    filled = colour / w.clamp(min=1e-8)
    for colour, w in reversed(pyramid):
        up = F.interpolate(filled, size=colour.shape[-2:], mode="bilinear", align_corners=False)
        filled = colour + (1 - w) * up
    return filled.reshape(*lead, *filled.shape[1:])
