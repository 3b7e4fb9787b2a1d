"""PRoPE: attention that knows the relative projective transform between any two tokens' cameras.

GLD specification section 7, with the released model's departure from the published method
(``key_inverse=False``: keys and values use L where the method uses its inverse).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gld_ros.model.precision import no_autocast


@dataclass(frozen=True, eq=False)
class Turn:
    """One of PRoPE's transforms, laid out to be applied to whole heads."""

    matrices: Tensor  # (B, V, d / 2, d / 2) for row vectors: the view's 4 x 4 matrix once per group of four channels
    cos: Tensor  # (N, d / 2)
    sin: Tensor  # (N, d / 2)

    def __call__(self, x: Tensor) -> Tensor:
        """(B, heads, V * N, d) -> the same, computed in fp32."""
        half = self.cos.shape[-1]
        wide = x.float().unflatten(2, (self.matrices.shape[1], -1))  # (B, heads, V, N, d)
        with no_autocast(x.device.type):  # which would round the matrices
            projected = wide[..., :half] @ self.matrices.unsqueeze(1)
        rest = wide[..., half:]
        partner = rest.unflatten(-1, (2, 2, -1)).flip(-2).flatten(-3)  # the other channel of each pair
        return torch.cat([projected, rest * self.cos + partner * self.sin], dim=-1).view(x.shape).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Prope:
    """Matrices per view and rotations per token of one view, all fp32, for heads of one size.

    The first half of a head is turned by camera matrices in groups of four channels, the third quarter by the
    token's column, the last by its row.
    """

    P: Tensor  # (B, V, 4, 4)
    P_tilde: Tensor  # (B, V, 4, 4)
    cos: Tensor  # (N, 2, d / 8): column, row
    sin: Tensor  # (N, 2, d / 8)
    query: Turn  # what the dot product sees of q
    key: Turn  # what it sees of k; values take the same
    output: Turn  # brings the attention output back into its own token's frame

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention over all views' tokens, (B, heads, V * N, d) each, view-major and row-major."""
        return self.output(F.scaled_dot_product_attention(self.query(q), self.key(k), self.key(v)))


def prope(
    cam_from_world: Tensor,
    K: Tensor,
    size: tuple[float, float],
    grid: tuple[int, int],
    head: int,
    base: float = 100.0,
    key_inverse: bool = False,
    class_tokens: int = 0,
) -> Prope:
    """Build the transforms of one scene batch, once per sampling.

    Args:
        cam_from_world: (B, V, 4, 4), translations already scaled to about one.
        K: (B, V, 3, 3) in pixels.
        size: (W, H) that K is divided by.
        grid: rows and columns of tokens of one view.
        head: channels of one attention head, a multiple of 8.
        class_tokens: tokens before the patches of each view, which its matrices turn and no place in the picture.
    """
    with no_autocast(K.device.type):
        lens = normalised_intrinsics(K.float(), size)
        cam_from_world = cam_from_world.float()
        P = lens @ cam_from_world
        P_tilde = rigid_inverse(cam_from_world) @ (torch.linalg.inv(lens) if key_inverse else lens)
    eighth = head // 8
    frequencies = base ** (-torch.arange(eighth, device=K.device, dtype=torch.float32) / eighth)
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], device=K.device), torch.arange(grid[1], device=K.device), indexing="ij"
    )
    angles = torch.stack([columns, rows], dim=-1).flatten(0, 1).unsqueeze(-1) * frequencies  # (N, 2, d / 8)
    angles = F.pad(angles, (0, 0, 0, 0, class_tokens, 0))
    cos, sin = angles.cos(), angles.sin()
    query, key, output = (_turn(matrices, cos, turned) for matrices, turned in ((P.mT, sin), (P_tilde, sin), (P, -sin)))
    return Prope(P, P_tilde, cos, sin, query, key, output)


def _turn(matrices: Tensor, cos: Tensor, sin: Tensor) -> Turn:
    """``matrices`` (B, V, 4, 4) for column vectors; cos and sin (N, 2, d / 8) of the rotation a cos + b sin."""
    groups = cos.shape[-1]
    same_group = torch.eye(groups, device=matrices.device, dtype=matrices.dtype)
    with no_autocast(matrices.device.type):
        blocks = torch.einsum("gh,bvij->bvgjhi", same_group, matrices).flatten(4).flatten(2, 3)
    both = torch.stack([cos, cos], dim=-2).flatten(1), torch.stack([sin, -sin], dim=-2).flatten(1)
    return Turn(blocks, *both)


def normalised_intrinsics(K: Tensor, size: tuple[float, float]) -> Tensor:
    """(..., 3, 3) pixels -> (..., 4, 4) with fx / W, fy / H, cx / W - 0.5, cy / H - 0.5."""
    lens = torch.zeros(*K.shape[:-2], 4, 4, device=K.device, dtype=K.dtype)
    width, height = size
    lens[..., 0, 0] = K[..., 0, 0] / width
    lens[..., 1, 1] = K[..., 1, 1] / height
    lens[..., 0, 2] = K[..., 0, 2] / width - 0.5
    lens[..., 1, 2] = K[..., 1, 2] / height - 0.5
    lens[..., 2, 2] = 1.0
    lens[..., 3, 3] = 1.0
    return lens


def rigid_inverse(transform: Tensor) -> Tensor:
    """Inverse of rigid transforms (..., 4, 4)."""
    rotation = transform[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(transform)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ transform[..., :3, 3:]).squeeze(-1)
    inverse[..., 3, 3] = 1.0
    return inverse
