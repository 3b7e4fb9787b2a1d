"""Poses relative to one view at unit scale, and the per-pixel ray map the transformers read.

GLD specification section 6. Runs in float64 so that maps with coordinates of kilometres lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gld_ros.errors import GldError, Status
from gld_ros.model.config import CameraConfig
from gld_ros.model.prope import rigid_inverse

SCALE_EPS = 1e-8
MIN_BASELINE = 1e-6  # camera centres closer than this (pose units) count as one point


@dataclass(frozen=True, eq=False)
class RelativeCameras:
    """Cameras of all views of each scene, condition views first, in the frame of the reference view."""

    ref_from_cam: Tensor  # (B, V, 4, 4) float64, unscaled
    K: Tensor  # (B, V, 3, 3) float64, pixels
    scale: Tensor  # (B,) float64; multiplies translations
    scale_valid: Tensor  # (B,) bool; False where all centres coincide, then all origins are exactly zero

    def cam_from_ref_scaled(self) -> Tensor:
        """Inverse poses with scaled translations, (B, V, 4, 4) float64: what PRoPE reads."""
        return rigid_inverse(self._scaled())

    def views(self, views: slice) -> RelativeCameras:
        """Some of the views, still in the frame of the same reference."""
        return replace(self, ref_from_cam=self.ref_from_cam[:, views], K=self.K[:, views])

    def _scaled(self) -> Tensor:
        scaled = self.ref_from_cam.clone()
        scaled[..., :3, 3] *= self.scale.view(-1, 1, 1)
        return scaled

    def map(self, cond_num: int, size: tuple[int, int], offset_px: tuple[float, float]) -> Tensor:
        """Mask (0 condition, 1 target) and Plücker rays at full resolution.

        Args:
            cond_num: how many leading views are condition views.
            size: (H, W) of the pictures.
            offset_px: added to column and row before un-projection.

        Returns:
            (B, V, 7, H, W) float32: mask, direction (3), origin x direction (3).
        """
        height, width = size
        device = self.K.device
        y, x = torch.meshgrid(
            torch.arange(height, device=device, dtype=torch.float64) + offset_px[1],
            torch.arange(width, device=device, dtype=torch.float64) + offset_px[0],
            indexing="ij",
        )
        pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)  # (3, H * W)
        scaled = self._scaled()
        rays = scaled[..., :3, :3] @ torch.linalg.inv(self.K) @ pixels  # (B, V, 3, H * W)
        directions = rays / rays.square().sum(dim=-2, keepdim=True).sqrt()
        cross = torch.zeros_like(scaled[..., :3, :3])  # [c]x: one small product instead of a cross product per pixel
        cx, cy, cz = scaled[..., 0, 3], scaled[..., 1, 3], scaled[..., 2, 3]
        cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = -cz, cy, -cx
        cross[..., 1, 0], cross[..., 2, 0], cross[..., 2, 1] = cz, -cy, cx
        moments = cross @ directions
        views = torch.arange(self.K.shape[1], device=device)
        mask = (views >= cond_num).to(rays.dtype).view(1, -1, 1, 1).expand(len(rays), -1, 1, height * width)
        return torch.cat([mask, directions, moments], dim=2).unflatten(-1, (height, width)).float()


def relative_cameras(world_from_cam: Tensor, K: Tensor, config: CameraConfig | None = None) -> RelativeCameras:
    """Express poses in the frame of the reference view and find the scale that makes the largest coordinate 1.

    Args:
        world_from_cam: (B, V, 4, 4) OpenCV camera-to-world; pass float64 where the world origin is far away.
        K: (B, V, 3, 3) in pixels, integer pixel centres.

    Raises GldError on non-finite poses or intrinsics, and on focal lengths that are not positive.
    """
    config = config or CameraConfig()
    if not torch.isfinite(world_from_cam).all():
        raise GldError("camera poses have non-finite entries: send finite transforms", Status.BAD_POSE)
    if not torch.isfinite(K).all():
        raise GldError("camera intrinsics have non-finite entries: check the camera_info", Status.BAD_INTRINSICS)
    focal = K.diagonal(dim1=-2, dim2=-1)[..., :2]
    if not (focal > 0).all():
        raise GldError(
            f"smallest focal length is {float(focal.min()):g} px, must be > 0: calibrate the camera",
            Status.BAD_INTRINSICS,
        )
    poses = world_from_cam.double()
    reference = poses[:, -1:] if config.pose_reference == "last" else poses[:, :1]
    # Subtracting centres first keeps the small baselines of far-away maps exact.
    back = reference[..., :3, :3].transpose(-1, -2)
    relative = torch.zeros_like(poses)
    relative[..., :3, :3] = back @ poses[..., :3, :3]
    relative[..., :3, 3:] = back @ (poses[..., :3, 3:] - reference[..., :3, 3:])
    relative[..., 3, 3] = 1.0
    largest = relative[..., :3, 3].abs().amax(dim=(1, 2))
    valid = largest > MIN_BASELINE
    relative[..., :3, 3] *= valid.view(-1, 1, 1)
    return RelativeCameras(relative, K.double(), 1.0 / (largest * valid + SCALE_EPS), valid)
