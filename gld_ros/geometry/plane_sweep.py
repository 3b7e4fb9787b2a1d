"""Multi-view plane sweep with known poses: matching scores over fronto-parallel planes, and depth read from them.

The ideas are the classical ones (Collins 1996 space sweep; Yang and Pollefeys 2003); all vectorised over planes and
pixels in torch, so that CPU and GPU run the same code. Depth is z-depth; planes are uniform in inverse depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from gld_ros.geometry.camera import Camera

EPS_VARIANCE = 1e-4  # of grey values in [0, 1]: flat patches give no correlation
FULL_PARALLAX_DEG = 1.5  # pairs with less parallax count less
MIN_PARALLAX_WEIGHT = 0.1


@dataclass(frozen=True, eq=False)
class WorkView:
    """A picture at working size on the device."""

    camera: Camera  # at working size
    rgb: torch.Tensor  # (3, H, W) in [0, 1]

    @property
    def grey(self) -> torch.Tensor:  # (H, W)
        return _grey(self.rgb)


def _grey(rgb: torch.Tensor) -> torch.Tensor:
    return 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]


def inverse_depth_planes(near: float, far: float, count: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Uniform inverse depths from 1/far to 1/near, (count,)."""
    return torch.linspace(1.0 / far, 1.0 / near, count, device=device)


def plane_projection(reference: Camera, source: Camera) -> tuple[np.ndarray, np.ndarray]:
    """A (3, 3) and b (3,): homogeneous source pixel = A p + w b for reference pixel p at inverse depth w."""
    source_from_ref = source.cam_from_world @ reference.world_from_cam
    a = source.K @ source_from_ref[:3, :3] @ np.linalg.inv(reference.K)
    return a, source.K @ source_from_ref[:3, 3]


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Homogeneous pixel centres (3, H, W)."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack([u, v, torch.ones_like(u)])


def project(
    reference: Camera, source: Camera, inverse_depth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where reference pixels at ``inverse_depth`` (D or 1, H, W) fall in the source.

    Returns x, y in pixels and the inverse depth there, each of the same shape. Behind the source the
    inverse depth is <= 0 and x, y are meaningless.
    """
    device = inverse_depth.device
    a, b = (torch.as_tensor(m, dtype=torch.float32, device=device) for m in plane_projection(reference, source))
    base = torch.einsum("ij,jhw->ihw", a, pixel_grid(reference.height, reference.width, device))  # (3, H, W)
    depth_ratio = base[2] + inverse_depth * b[2]  # source z over reference z
    safe = torch.where(depth_ratio > 1e-6, depth_ratio, torch.full_like(depth_ratio, float("inf")))
    x = (base[0] + inverse_depth * b[0]) / safe
    y = (base[1] + inverse_depth * b[1]) / safe
    inverse_in_source = torch.where(depth_ratio > 1e-6, inverse_depth / safe, torch.full_like(depth_ratio, -1.0))
    return x, y, inverse_in_source


def sample(image: torch.Tensor, x: torch.Tensor, y: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Look up ``image`` (C, H, W) at pixel positions x, y (..., h, w): (C, ..., h, w), border values outside."""
    height, width = image.shape[-2:]
    grid = torch.stack([x * (2.0 / max(width - 1, 1)) - 1, y * (2.0 / max(height - 1, 1)) - 1], dim=-1)
    flat = grid.reshape(1, -1, grid.shape[-2], 2)
    out = F.grid_sample(image[None], flat, mode=mode, padding_mode="border", align_corners=True)
    return out[0].reshape(image.shape[0], *x.shape)


def inside(x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor, camera: Camera) -> torch.Tensor:
    """True where a projection lies in front of ``camera`` and inside its picture."""
    return (inverse > 0) & (x >= -0.5) & (x <= camera.width - 0.5) & (y >= -0.5) & (y <= camera.height - 0.5)


def box3(x: torch.Tensor, dilation: int = 1) -> torch.Tensor:
    """Mean over a 3x3 window with ``dilation``, borders replicated; box3(box3(x), 3) is the exact 9x9 mean."""
    d = dilation
    x = F.pad(x[None], (d, d, d, d), mode="replicate")[0]
    y = x[..., : -2 * d, :] + x[..., d:-d, :]
    y += x[..., 2 * d :, :]
    z = y[..., : -2 * d] + y[..., d:-d]
    z += y[..., 2 * d :]
    return z.mul_(1.0 / 9.0)


def zncc(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Zero-mean normalised cross correlation over 3x3 and 9x9 windows, averaged; in [-1, 1], 0 where flat.

    a, b: (D or 1, H, W) grey volumes.
    """
    mean_a, mean_b = box3(a), box3(b)
    aa, bb, ab = box3(a * a), box3(b * b), box3(a * b)
    small = _correlation(mean_a, mean_b, aa, bb, ab)
    mean_a, mean_b, aa, bb, ab = (box3(t, 3) for t in (mean_a, mean_b, aa, bb, ab))
    return (small + _correlation(mean_a, mean_b, aa, bb, ab)).mul_(0.5)


def _correlation(
    ma: torch.Tensor, mb: torch.Tensor, aa: torch.Tensor, bb: torch.Tensor, ab: torch.Tensor
) -> torch.Tensor:
    var_a, var_b = (aa - ma * ma).clamp_(min=0), (bb - mb * mb).clamp_(min=0)
    return (ab - ma * mb) / torch.sqrt((var_a + EPS_VARIANCE) * (var_b + EPS_VARIANCE))


def parallax_weight(a: Camera, b: Camera, inverse_depths: torch.Tensor) -> float:
    """How much a pair tells about depth, in [MIN_PARALLAX_WEIGHT, 1].

    Its parallax at the middle plane over FULL_PARALLAX_DEG. One number for all planes: shrinking far planes
    alone would make near ones win by chance.
    """
    baseline = float(np.linalg.norm(a.centre - b.centre))
    angle = float(np.degrees(np.arctan(baseline * float(inverse_depths.median()))))
    return min(1.0, max(MIN_PARALLAX_WEIGHT, angle / FULL_PARALLAX_DEG))


def best_half(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the better half (rounded up) of the pairs, (S, D, H, W) -> (D, H, W): occlusion drops out."""
    keep = (scores.shape[0] + 1) // 2
    if keep == scores.shape[0]:
        return (scores * weights).sum(0) / weights.sum(0).clamp(min=1e-3)
    ranked = torch.where(weights > 0, scores, torch.full_like(scores, -1.0))
    top, index = ranked.topk(keep, dim=0)
    chosen = weights.gather(0, index)
    return (top * chosen).sum(0) / chosen.sum(0).clamp(min=1e-3)


def sweep_scores(reference: WorkView, sources: Sequence[WorkView], inverse_depths: torch.Tensor) -> torch.Tensor:
    """Matching score of every plane and pixel of ``reference``: (D, H, W) in [-1, 1]."""
    grey = reference.grey[None]
    scores, weights = [], []
    planes = inverse_depths.view(-1, 1, 1).expand(-1, reference.camera.height, reference.camera.width)
    for source in sources:
        x, y, inverse = project(reference.camera, source.camera, planes)
        valid = inside(x, y, inverse, source.camera)
        warped = sample(source.grey[None], x, y)[0]
        weight = parallax_weight(reference.camera, source.camera, inverse_depths)
        scores.append(zncc(grey, warped))
        weights.append(valid * weight)
    return best_half(torch.stack(scores), torch.stack(weights))
