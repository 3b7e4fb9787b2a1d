"""The small models' own pieces: whitened patches, the forward warp and its filling."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gld_ros.geometry.fill import pull_push
from gld_ros.geometry.forward_warp import forward_warp
from gld_ros.model.rgb_decoder import unpatchify
from gld_ros.model.whitening import PatchWhitening


def pose(x=0.0, y=0.0, z=0.0):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, 3] = torch.tensor([x, y, z], dtype=torch.float64)
    return matrix.view(1, 1, 4, 4)


def flat_wall(distance=2.0):
    return torch.rand(1, 1, 3, 24, 32), torch.full((1, 1, 24, 32), distance)


K = torch.tensor([[20.0, 0, 15.5], [0, 20.0, 11.5], [0, 0, 1]], dtype=torch.float64).view(1, 1, 3, 3)


def test_whitening_gives_unit_variance_and_comes_back():
    images = torch.nn.functional.avg_pool2d(torch.randn(64, 3, 64, 64), 4)  # (64, 3, 16, 16)
    whitening = PatchWhitening(4, 48)
    whitening.fit(images, floor=1e-8)
    components = whitening.whiten(images)
    flat = components.flatten(0, 1)
    assert torch.allclose(flat.T @ flat / len(flat), torch.eye(48), atol=0.02)
    assert torch.allclose(unpatchify(whitening.colour(components), (4, 4), 4), images, atol=1e-4)


def test_fewer_components_keep_the_smooth_part():
    images = torch.nn.functional.interpolate(torch.randn(32, 3, 4, 4), size=(16, 16), mode="bicubic")
    whitening = PatchWhitening(8, 24)
    whitening.fit(images)
    back = unpatchify(whitening.colour(whitening.whiten(images)), (2, 2), 8)
    assert (back - images).square().mean() < 0.2 * images.square().mean()


def test_warp_by_nothing_is_identity():
    rgb, depth = flat_wall()
    out = forward_warp(rgb, depth, K, pose(), K, pose())
    assert out.coverage.all()
    assert torch.allclose(out.rgb, rgb, atol=1e-6)
    assert torch.allclose(out.depth, depth)


def test_warp_moves_by_the_disparity():
    rgb, depth = flat_wall()
    out = forward_warp(rgb, depth, K, pose(), K, pose(x=0.3))  # 20 * 0.3 / 2 = 3 px to the left
    assert torch.allclose(out.rgb[..., :-3], rgb[..., 3:], atol=1e-6)
    assert not out.coverage[..., -3:].any()


def test_nearer_surface_hides_the_farther():
    rgb, depth = torch.zeros(1, 1, 3, 24, 32), torch.full((1, 1, 24, 32), 4.0)
    rgb[..., 10:14, 20:24], depth[..., 10:14, 20:24] = 1.0, 2.0
    out = forward_warp(rgb, depth, K, pose(), K, pose(x=0.4))  # near moves 4 px, far 2 px
    assert torch.allclose(out.rgb[..., 10:14, 16:20], torch.ones(1, 1, 3, 4, 4))
    assert torch.allclose(out.depth[..., 10:14, 16:20], torch.full((1, 1, 4, 4), 2.0))


def test_unknown_depth_is_not_used_and_far_worlds_lose_nothing():
    rgb, depth = flat_wall()
    depth[..., :8, :] = float("nan")
    near, far = (forward_warp(rgb, depth, K, pose(x), K, pose(x + 0.3)) for x in (0.0, 5e6))
    assert not near.coverage[..., :8, :].any()
    assert torch.equal(near.coverage, far.coverage)
    assert torch.allclose(near.rgb, far.rgb, atol=1e-4)


def test_behind_the_camera_is_not_seen():
    rgb, depth = flat_wall()
    assert not forward_warp(rgb, depth, K, pose(), K, pose(z=3.0)).coverage.any()


def test_agreeing_views_average_and_the_nearer_pose_weighs_more():
    rgb = torch.stack([torch.zeros(3, 24, 32), torch.ones(3, 24, 32)]).unsqueeze(0)
    depth = torch.full((1, 2, 24, 32), 2.0)
    sources = torch.cat([pose(), pose(x=0.2)], dim=1)
    out = forward_warp(rgb, depth, K.expand(1, 2, 3, 3), sources, K, pose(x=0.1))
    assert out.rgb[0, 0, :, 12, 16].mean() == pytest.approx(0.5, abs=1e-3)
    out = forward_warp(rgb, depth, K.expand(1, 2, 3, 3), sources, K, pose(x=0.2))
    assert out.rgb[0, 0, :, 12, 8].mean() > 0.8


def test_filling_keeps_the_known_and_continues_it():
    values = torch.from_numpy(np.tile(np.linspace(0, 1, 33), (2, 3, 20, 1))).float()
    known = torch.rand(2, 20, 33) > 0.5
    filled = pull_push(values, known)
    everywhere = known.unsqueeze(1).expand_as(values)
    assert torch.equal(filled[everywhere], values[everywhere])
    assert (filled - values).abs().mean() < 0.05
    assert torch.equal(pull_push(values, torch.zeros_like(known)), torch.zeros_like(values))
