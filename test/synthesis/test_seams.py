"""Steps between patches vanish where the picture is guessed; smooth pictures and known parts stay."""

from __future__ import annotations

import torch

from gld_ros.synthesis.seams import smooth_seams


def test_a_step_between_patches_is_smoothed_where_guessed():
    steps = torch.rand(1, 3, 4, 4).repeat_interleave(8, -1).repeat_interleave(8, -2)
    smooth = smooth_seams(steps, torch.ones(1, 32, 32), 8)
    before, after = ((x[..., 8::8] - x[..., 7:-1:8]).abs().mean() for x in (steps, smooth))
    assert after < 0.3 * before
    assert torch.equal(smooth_seams(steps, torch.zeros(1, 32, 32), 8), steps)


def test_a_slope_is_no_step():
    slope = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    assert torch.allclose(smooth_seams(slope, torch.ones(1, 32, 32), 8), slope, atol=1e-5)


def test_known_side_of_a_border_stays():
    steps = torch.rand(1, 3, 2, 2).repeat_interleave(8, -1).repeat_interleave(8, -2)
    guessed = torch.ones(1, 16, 16)
    guessed[..., :8] = 0
    smooth = smooth_seams(steps, guessed, 8)
    assert torch.equal(smooth[..., :8], steps[..., :8])
