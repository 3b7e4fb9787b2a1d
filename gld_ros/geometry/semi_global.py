"""Semi-global matching (Hirschmueller 2008) along rows and columns, and depth read from the result."""

from __future__ import annotations

import torch

P1 = 0.4  # cost of a one-plane step; scores are correlations, so a full match is worth 1
P2 = 2.0  # cost of a jump, lowered at picture edges
EDGE = 0.1  # grey difference that divides P2 by e
MIN_JUMP = 1.5 * P1


def semi_global(scores: torch.Tensor, grey: torch.Tensor | None = None) -> torch.Tensor:
    """Aggregate matching scores (D, H, W) along four directions; higher stays better.

    ``grey`` (H, W) in [0, 1] lets depth jump more cheaply at its edges.
    """
    guide = scores.new_zeros(scores.shape[1:]) if grey is None else grey
    cost = -scores
    total = torch.zeros_like(cost)
    for axis in (1, 2):
        lines = cost.movedim(axis, 0).contiguous()  # (L, D, N)
        along = guide.movedim(axis - 1, 0)  # (L, N)
        edge = torch.zeros_like(along)
        edge[1:] = (along[1:] - along[:-1]).abs()
        backward_edge = torch.zeros_like(along)
        backward_edge[1:] = edge[1:].flip(0)
        jump = MIN_JUMP + P2 * torch.exp(-torch.stack([edge, backward_edge], 1) / EDGE)  # (L, 2, N)
        paths = _sweep_lines(torch.stack([lines, lines.flip(0)], 1), jump[:, :, None])
        total += (paths[:, 0] + paths[:, 1].flip(0)).movedim(0, axis)
    return total.mul_(-0.25)


def _sweep_lines(cost: torch.Tensor, jump: torch.Tensor) -> torch.Tensor:
    """Dynamic programme along dimension 0 of cost (L, B, D, N) with jump penalties (L, B, 1, N)."""
    out = torch.empty_like(cost)
    previous = out[0].copy_(cost[0])
    batch, planes, count = previous.shape
    padded = cost.new_full((batch, planes + 2, count), float("inf"))
    for i in range(1, cost.shape[0]):
        lowest = previous.amin(1, keepdim=True)
        padded[:, 1:-1] = previous
        step = torch.minimum(padded[:, :-2], padded[:, 2:]).add_(P1)
        best = torch.minimum(torch.minimum(step, previous), lowest + jump[i])
        previous = torch.add(best.sub_(lowest), cost[i], out=out[i])
    return out


def read_planes(scores: torch.Tensor, inverse_depths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Best inverse depth (H, W), refined by a parabola through three scores, and the index of its plane (H, W)."""
    count = scores.shape[0]
    index = scores.max(0).indices  # twice as fast as argmax
    middle = index.clamp(1, count - 2)
    below, at, above = (scores.gather(0, (middle + k)[None])[0] for k in (-1, 0, 1))
    curvature = below - 2 * at + above
    offset = torch.where(curvature < -1e-6, 0.5 * (below - above) / curvature, torch.zeros_like(curvature))
    offset = torch.where(middle == index, offset.clamp(-0.5, 0.5), torch.zeros_like(offset))
    step = inverse_depths[1] - inverse_depths[0]
    return inverse_depths[0] + (index + offset) * step, index
