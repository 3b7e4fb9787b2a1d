"""Multi-view plane sweep with known poses: matching scores over fronto-parallel planes, and depth read from them.

The ideas are the classical ones (Collins 1996 space sweep; Yang and Pollefeys 2003); all vectorised over planes and
pixels in torch, so that CPU and GPU run the same code. Depth is z-depth; planes are uniform in inverse depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.matching import best_half, parallax_weight, patches, plane_chunks, zncc

LUMA = (0.299, 0.587, 0.114)
IN_FRONT = 1e-6  # least depth in the source over depth in the reference


@dataclass(frozen=True, eq=False)
class WorkView:
    """A picture at working size on the device."""

    camera: Camera  # at working size
    rgb: torch.Tensor  # (3, H, W) in [0, 1]

    @cached_property
    def grey(self) -> torch.Tensor:  # (H, W)
        return LUMA[0] * self.rgb[0] + LUMA[1] * self.rgb[1] + LUMA[2] * self.rgb[2]


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


class Projection:
    """From pixels of a reference camera, given their inverse depth, to pixels of a source."""

    def __init__(self, reference: Camera, source: Camera, device: torch.device | str = "cpu") -> None:
        a, b = plane_projection(reference, source)
        grid = pixel_grid(reference.height, reference.width, device)
        self._rays = torch.einsum("ij,jhw->ihw", torch.as_tensor(a, dtype=torch.float32, device=device), grid)
        self._shift = [float(v) for v in b]

    def __call__(self, inverse_depth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Where pixels at ``inverse_depth`` (D, H or 1, W or 1) fall: x, y in pixels and inverse depth, (D, H, W) each.

        Behind the source the inverse depth is <= 0 and x, y are meaningless.
        """
        depth_ratio = self._rays[2] + inverse_depth * self._shift[2]  # source z over reference z
        per_depth = torch.where(depth_ratio > IN_FRONT, depth_ratio, float("inf")).reciprocal_()
        x = (self._rays[0] + inverse_depth * self._shift[0]).mul_(per_depth)
        y = (self._rays[1] + inverse_depth * self._shift[1]).mul_(per_depth)
        return x, y, per_depth.mul_(inverse_depth)


def project(
    reference: Camera, source: Camera, inverse_depth: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``Projection`` of reference pixels at ``inverse_depth`` (D, H, W) to the source, once."""
    return Projection(reference, source, inverse_depth.device)(inverse_depth)


def lookup_grid(x: torch.Tensor, y: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Pixel positions (..., h, w) of a picture as torch's grid_sample wants them, (1, n, w, 2)."""
    grid = x.new_empty((*x.shape, 2))
    torch.mul(x, 2.0 / max(width - 1, 1), out=grid[..., 0])
    torch.mul(y, 2.0 / max(height - 1, 1), out=grid[..., 1])
    grid.sub_(1)
    return grid.reshape(1, -1, grid.shape[-2], 2)


def lookup(image: torch.Tensor, grid: torch.Tensor, shape: torch.Size, mode: str = "bilinear") -> torch.Tensor:
    """Values of ``image`` (C, H, W) at a ``lookup_grid``: (C, *shape), border values outside."""
    out = F.grid_sample(image[None], grid, mode=mode, padding_mode="border", align_corners=True)
    return out[0].reshape(image.shape[0], *shape)


def sample(image: torch.Tensor, x: torch.Tensor, y: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Look up ``image`` (C, H, W) at pixel positions x, y (..., h, w): (C, ..., h, w), border values outside."""
    return lookup(image, lookup_grid(x, y, image.shape[2], image.shape[1]), x.shape, mode)


def inside(x: torch.Tensor, y: torch.Tensor, inverse: torch.Tensor, camera: Camera) -> torch.Tensor:
    """True where a projection lies in front of ``camera`` and inside its picture."""
    within = (x >= -0.5).logical_and_(x <= camera.width - 0.5).logical_and_(y >= -0.5)
    return within.logical_and_(y <= camera.height - 0.5).logical_and_(inverse > 0)


def sweep_scores(reference: WorkView, sources: Sequence[WorkView], inverse_depths: torch.Tensor) -> torch.Tensor:
    """Matching score of every plane and pixel of ``reference``: (D, H, W) in [-1, 1]."""
    camera = reference.camera
    ours = patches(reference.grey[None])
    warps = [Projection(camera, s.camera, inverse_depths.device) for s in sources]
    parallax = [parallax_weight(camera, s.camera, inverse_depths) for s in sources]
    out = inverse_depths.new_empty(len(inverse_depths), camera.height, camera.width)
    for part in plane_chunks(len(inverse_depths), camera.height * camera.width, inverse_depths.device):
        scores, weights = [], []
        for source, warp, weight in zip(sources, warps, parallax, strict=True):
            x, y, inverse = warp(inverse_depths[part].view(-1, 1, 1))
            scores.append(zncc(ours, patches(sample(source.grey[None], x, y)[0])))
            weights.append(inside(x, y, inverse, source.camera) * weight)
        out[part] = best_half(scores, weights)
    return out
