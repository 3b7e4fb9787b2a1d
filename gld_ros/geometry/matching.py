"""How well pictures agree patch by patch: box means, normalised correlation, and the choice of the better pairs.

Volumes are (planes, H, W). Callers hand over a few planes at a time (``plane_chunks``), so that on a CPU all
intermediate volumes stay in its cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from gld_ros.geometry.camera import Camera

EPS_VARIANCE = 1e-4  # of grey values in [0, 1]: flat patches give no correlation
FULL_PARALLAX_DEG = 1.5  # pairs with less parallax count less
MIN_PARALLAX_WEIGHT = 0.1
CPU_CHUNK, GPU_CHUNK = 1 << 19, 1 << 26  # elements of a volume worked on at a time
FEW = 8  # pairs up to which comparing each with each beats sorting


def plane_chunks(planes: int, pixels: int, device: torch.device) -> Iterator[slice]:
    """Slices of a plane sweep small enough to work on at a time."""
    count = max(1, (CPU_CHUNK if device.type == "cpu" else GPU_CHUNK) // pixels)
    for start in range(0, planes, count):
        yield slice(start, min(start + count, planes))


def box3(x: torch.Tensor, dilation: int = 1) -> torch.Tensor:
    """Mean over a 3x3 window with ``dilation``, borders replicated; box3(box3(x), 3) is the 9x9 mean inside."""
    return _sum3(_sum3(x, -2, dilation), -1, dilation).mul_(1.0 / 9.0)


def _sum3(x: torch.Tensor, dim: int, d: int) -> torch.Tensor:
    size = x.shape[dim]
    shared, border = max(size - d, 0), min(d, size)
    out = torch.empty_like(x)
    torch.add(x.narrow(dim, 0, shared), x.narrow(dim, size - shared, shared), out=out.narrow(dim, 0, shared))
    out.narrow(dim, shared, size - shared).copy_(x.narrow(dim, shared, size - shared))
    out.narrow(dim, size - shared, shared).add_(x.narrow(dim, 0, shared))
    out.narrow(dim, 0, border).add_(x.narrow(dim, 0, 1))
    out.narrow(dim, size - border, border).add_(x.narrow(dim, size - 1, 1))
    return out


@dataclass(frozen=True, eq=False)
class Patches:
    """A grey volume (D or 1, H, W) with what correlation needs of it: mean and 1 / deviation of 3 and 9 px windows."""

    grey: torch.Tensor
    mean3: torch.Tensor
    scale3: torch.Tensor
    mean9: torch.Tensor
    scale9: torch.Tensor


def patches(grey: torch.Tensor) -> Patches:
    """Statistics of all 3x3 and 9x9 windows of a grey volume (D or 1, H, W)."""
    mean3, square3 = box3(grey), box3(grey * grey)
    mean9, square9 = box3(mean3, 3), box3(square3, 3)
    return Patches(grey, mean3, _scale(mean3, square3), mean9, _scale(mean9, square9))


def _scale(mean: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(square, mean, mean, value=-1).clamp_(min=0).add_(EPS_VARIANCE).rsqrt_()


def zncc(a: Patches, b: Patches) -> torch.Tensor:
    """Zero-mean normalised cross correlation over 3x3 and 9x9 windows, averaged; in [-1, 1], 0 where flat."""
    product = box3(a.grey * b.grey)
    wide = box3(product, 3)
    small = product.addcmul_(a.mean3, b.mean3, value=-1).mul_(a.scale3).mul_(b.scale3)
    large = wide.addcmul_(a.mean9, b.mean9, value=-1).mul_(a.scale9).mul_(b.scale9)
    return small.add_(large).mul_(0.5)


def parallax_weight(a: Camera, b: Camera, inverse_depths: torch.Tensor) -> float:
    """How much a pair tells about depth, in [MIN_PARALLAX_WEIGHT, 1].

    Its parallax at the middle plane over FULL_PARALLAX_DEG. One number for all planes: shrinking far planes
    alone would make near ones win by chance.
    """
    angle = parallax_deg(a, b, float(inverse_depths.median()))
    return min(1.0, max(MIN_PARALLAX_WEIGHT, angle / FULL_PARALLAX_DEG))


def parallax_deg(a: Camera, b: Camera, inverse_depth: float) -> float:
    """Angle between the rays of two cameras to a point at ``inverse_depth`` beside their baseline."""
    return float(np.degrees(np.arctan(float(np.linalg.norm(a.centre - b.centre)) * inverse_depth)))


def best_half(scores: list[torch.Tensor], weights: list[torch.Tensor]) -> torch.Tensor:
    """Weighted mean of the better half (rounded up) of the pairs, each (D, H, W): occlusion drops out.

    Pairs of weight 0 count as the worst.
    """
    keep = (len(scores) + 1) // 2
    if keep < len(scores):
        ranked = [torch.where(w > 0, s, -1.0) for s, w in zip(scores, weights, strict=True)]
        weights = [w * good for w, good in zip(weights, _among_best(ranked, keep), strict=True)]
    top, total = scores[0] * weights[0], weights[0].clone()
    for score, weight in zip(scores[1:], weights[1:], strict=True):
        top.addcmul_(score, weight)
        total.add_(weight)
    return top.div_(total.clamp_(min=1e-3))


def _among_best(scores: list[torch.Tensor], keep: int) -> list[torch.Tensor]:
    """Per volume, where it is among the ``keep`` largest; of equal ones the first."""
    if len(scores) > FEW:
        stacked = torch.stack(scores)
        threshold = stacked.kthvalue(len(scores) - keep + 1, dim=0).values
        return list((stacked >= threshold).unbind(0))
    better = [torch.zeros_like(scores[0], dtype=torch.int8) for _ in scores]  # how many beat this one
    for i in range(len(scores)):
        for j in range(i):
            ahead = scores[j] >= scores[i]
            better[i] += ahead
            better[j] += ~ahead
    return [b < keep for b in better]
