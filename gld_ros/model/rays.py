"""Cameras from a predicted ray map (GLD specification section 5.3)."""

from __future__ import annotations

import torch
from torch import Tensor

SUBGRID = 4  # homographies are fitted on every fourth row and column


def cameras_from_rays(ray: Tensor, ray_conf: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Fit one intrinsic matrix and a pose per view.

    Args:
        ray: (V, a, b, 6): direction R K^-1 (u, v, 1), un-normalised, and camera centre, in the frame of view 0.
        ray_conf: (V, a, b) weights, or None for equal ones.
        size: (H, W) of the pictures the intrinsics are for.

    Returns:
        first_from_cam (V, 4, 4) and K (3, 3), float64. K comes from view 0 and need not be upper-triangular.
    """
    ray = ray.double()
    conf = torch.ones_like(ray[..., 0]) if ray_conf is None else ray_conf.double()
    views, rows, columns = conf.shape
    v, u = torch.meshgrid(
        torch.arange(rows, dtype=torch.float64, device=ray.device),
        torch.arange(columns, dtype=torch.float64, device=ray.device),
        indexing="ij",
    )
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    step = slice(None, None, SUBGRID)
    weight = conf[:, step, step].reshape(views, -1, 1)
    left = weight * pixels[step, step].reshape(1, -1, 3)
    right = weight * ray[:, step, step, :3].reshape(views, -1, 3)
    homography = torch.linalg.lstsq(left, right).solution.transpose(-1, -2)  # (V, 3, 3)

    back = torch.linalg.inv(homography[0])
    K = back / back[2, 2] if back[2, 2].abs() > 1e-12 else back
    height, width = size
    K = torch.diag(K.new_tensor([width / columns, height / rows, 1.0])) @ K

    U, _, Vt = torch.linalg.svd(homography @ back)
    flip = torch.ones_like(U[:, 0])
    flip[:, 2] = torch.sign(torch.linalg.det(U @ Vt))
    poses = torch.eye(4, dtype=torch.float64, device=ray.device).repeat(views, 1, 1)
    poses[:, :3, :3] = U @ torch.diag_embed(flip) @ Vt
    poses[0, :3, :3] = torch.eye(3, dtype=torch.float64, device=ray.device)
    total = conf.sum(dim=(1, 2)) + 1e-12
    poses[:, :3, 3] = (conf.unsqueeze(-1) * ray[..., 3:]).sum(dim=(1, 2)) / total.unsqueeze(-1)
    return poses, K
