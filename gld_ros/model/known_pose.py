"""Known cameras as an input of a small model's encoder: rays added to its tokens, or PRoPE where views meet.

The released encoder sees colour only and guesses how its views lie; given their poses, it need only match them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gld_ros.model.camera_map import RelativeCameras, relative_cameras
from gld_ros.model.config import CameraConfig
from gld_ros.model.precision import upload
from gld_ros.model.prope import Prope, prope


def network_cameras(world_from_cam: Tensor, K: Tensor, scale: Tensor | None = None) -> RelativeCameras:
    """Cameras as the encoder reads them: in the frame of the first view, translations in the unit of its depth.

    The transformers' cameras have translations of unit size, which hides how large a scene is. Here a baseline must
    keep its length, or a disparity would not tell a depth: the encoder's depth is in metres, or in the unit of the
    depth it is given. The first view is the reference because its camera token and the rays the model predicts are.

    Args:
        world_from_cam: (B, V, 4, 4) OpenCV camera-to-world.
        K: (B, V, 3, 3) in pixels, integer pixel centres.
        scale: network units per unit of the poses, (B,); None for 1.
    """
    relative = relative_cameras(world_from_cam, K, CameraConfig(pose_reference="first"))
    unit = torch.ones_like(relative.scale) if scale is None else scale.flatten().to(relative.scale)
    return replace(relative, scale=unit)


def patch_rays(cameras: RelativeCameras, grid: tuple[int, int], patch: int) -> Tensor:
    """Plücker rays through the centres of patches: direction and origin x direction, (B, V, N, 6) fp32."""
    K = cameras.K.clone()
    K[..., :2, :] /= patch
    K[..., :2, 2] += 0.5 / patch - 0.5  # integer pixel centres, before and after
    rays = replace(cameras, K=K).map(0, grid, (0.0, 0.0))[:, :, 1:]
    return rays.flatten(3).transpose(2, 3)


def view_prope(
    cameras: RelativeCameras, grid: tuple[int, int], patch: int, head: int, base: float, device: torch.device
) -> Prope:
    """PRoPE of views whose tokens begin with a class token, in the published form (keys and values use K^-1)."""
    cam_from_ref, K = (upload(x.float(), device) for x in (cameras.cam_from_ref_scaled(), cameras.K))
    size = (grid[1] * patch, grid[0] * patch)
    return prope(cam_from_ref, K, size, grid, head, base, key_inverse=True, class_tokens=1)


class RayEmbed(nn.Module):
    """Patch rays through a linear layer that starts at zero: at first the model is what it is without them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 6))

    def forward(self, rays: Tensor) -> Tensor:
        """(B, V, N, 6) -> tokens (B, V, N, width)."""
        return F.linear(upload(rays, self.weight.device).to(self.weight.dtype), self.weight)
