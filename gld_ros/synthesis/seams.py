"""Steps between the patches of a generated picture, taken out where nothing real is known.

A small model decodes each patch on its own, and where it only guesses, neighbouring guesses differ by a step that no
room has. Half of each step is added to either side, fading out towards the middle of the patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ALONG_PX = 5  # steps are averaged over so many pixels along a border: texture that crosses it is no step


def smooth_seams(rgb: Tensor, guessed: Tensor, patch: int) -> Tensor:
    """Pictures (T, C, h, w) without steps at multiples of ``patch`` where ``guessed`` (T, h, w) in [0, 1] is 1."""
    across = _without_steps(rgb, guessed, patch)
    turned = _without_steps(across.transpose(-1, -2), guessed.transpose(-1, -2), patch)
    return turned.transpose(-1, -2)


def _without_steps(rgb: Tensor, guessed: Tensor, patch: int) -> Tensor:
    """Steps across vertical borders only."""
    width = rgb.shape[-1]
    borders = range(patch, width, patch)
    half = patch // 2
    fade = (torch.arange(half, device=rgb.device, dtype=rgb.dtype) + 0.5) / half  # 0 .. 1 towards the border
    out = rgb.clone()
    weight = guessed.unsqueeze(1).to(rgb.dtype)
    for x in borders:
        slope = 0.5 * (rgb[..., x - 1] - rgb[..., x - 2] + rgb[..., x + 1] - rgb[..., x])  # what goes on on both sides
        step = rgb[..., x] - rgb[..., x - 1] - slope  # (T, C, h)
        step = F.avg_pool1d(step, ALONG_PX, stride=1, padding=ALONG_PX // 2, count_include_pad=False).unsqueeze(-1)
        step = step * torch.minimum(weight[..., x - 1 : x], weight[..., x : x + 1])
        out[..., x - half : x] += 0.5 * step * fade * weight[..., x - half : x]
        out[..., x : x + half] -= 0.5 * step * fade.flip(0) * weight[..., x : x + half]
    return out
