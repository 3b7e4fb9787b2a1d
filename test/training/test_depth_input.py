"""Known depth as an input of small models, the noise it is trained with, and the errors that are counted."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gld_ros.errors import GldError
from gld_ros.geometry.view_depth import FLOOR
from gld_ros.model.config import EncoderConfig
from gld_ros.model.encoder import Encoder
from gld_ros.model.known_depth import TYPICAL_DEPTH, KnownDepth, depth_cells, scene_scale
from gld_ros.training.batches import Batch, cropped
from gld_ros.training.depth_noise import DepthNoise, draw_known_depth, scaled_to_network
from gld_ros.training.losses import PixelMetric, patch_weight

SMALL = EncoderConfig(
    patch=8, width=32, blocks=4, heads=2, mlp_hidden=64, position_grid=4, alt_start=2, rope_start=0, qk_norm_start=0,
    level_blocks=(0, 1, 2, 3), level_features="last", depth_cells=2,
)  # fmt: skip


def to_batch_of(width, height):
    lens = torch.tensor([[20.0, 0, width / 2], [0, 20.0, height / 2], [0, 0, 1]], dtype=torch.float64)
    return Batch(
        torch.rand(1, 2, 3, height, width),
        torch.rand(1, 2, height, width) + 1,
        lens.expand(1, 2, 3, 3),
        torch.eye(4, dtype=torch.float64).expand(1, 2, 4, 4),
    )


def known(depth, confidence=1.0):
    depth = torch.as_tensor(depth, dtype=torch.float32)
    return KnownDepth(depth, torch.full_like(depth, confidence))


def test_cells_are_means_of_log_depth_in_patch_order():
    depth = torch.full((1, 1, 8, 16), TYPICAL_DEPTH)
    depth[..., :4, 8:12] = TYPICAL_DEPTH * 2.0  # upper left cell of the second patch
    cells = depth_cells(known(depth), patch=8, cells=2)
    assert cells.shape == (1, 1, 2, 8)
    expected = torch.zeros(2, 4)
    expected[1, 0] = torch.tensor(2.0).log() / 0.6
    assert torch.allclose(cells[0, 0, :, :4], expected, atol=1e-6)
    assert torch.allclose(cells[0, 0, :, 4:], torch.ones(2, 4))


@pytest.mark.parametrize("bad", [float("nan"), 0.0, -1.0, float("inf")])
def test_unusable_depth_counts_as_unknown(bad):
    depth = torch.full((1, 1, 8, 8), 3.0)
    depth[..., :4, :4] = bad
    cells = depth_cells(known(depth), patch=8, cells=2)
    assert torch.isfinite(cells).all()
    assert cells[0, 0, 0].tolist()[4:] == [0.0, 1.0, 1.0, 1.0]


def test_unknown_depth_changes_nothing_and_known_depth_leaves_level_0_alone():
    torch.manual_seed(0)
    encoder, rgb = Encoder(SMALL), torch.rand(1, 2, 3, 16, 16)
    depth = torch.rand(1, 2, 16, 16) + 2
    without = encoder(rgb)
    nothing = encoder(rgb, depth=known(depth, 0.0))
    given = encoder(rgb, depth=known(depth, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(without, nothing, strict=True))
    assert torch.equal(without[0], given[0])
    assert not torch.allclose(without[1], given[1])


def test_depth_cells_must_divide_the_patch():
    with pytest.raises(GldError, match="depth_cells is 3"):
        dataclasses.replace(SMALL, depth_cells=3)


def test_scene_scale_brings_the_trusted_median_to_the_typical_depth():
    depth = torch.tensor([[[[10.0, 10.0, 90.0]]], [[[1.0, 2.0, 3.0]]]])
    confidence = torch.tensor([[[[1.0, 1.0, 0.0]]], [[[0.0, 0.0, 0.0]]]])
    assert torch.allclose(scene_scale(depth, confidence), torch.tensor([TYPICAL_DEPTH / 10, 1.0]))


def test_noise_is_repeatable_and_confidence_tells_the_error():
    truth = torch.full((16, 2, 32, 32), 2.0)
    noise = DepthNoise(sensor=0.0, swept=1.0, gaps=0.3, views_without=0.0)
    first, again = (draw_known_depth(truth, noise, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first.depth, again.depth)
    assert torch.equal(first.confidence, again.confidence)
    error = (first.depth / truth).log().abs()
    sure, unsure = first.confidence > 0.8, first.confidence < 0.5
    assert error[sure].mean() < 0.5 * error[unsure].mean()
    assert 0.02 < (first.confidence == FLOOR).float().mean() < 0.4


def test_scenes_without_depth_stay_in_metres():
    truth = torch.full((4, 1, 8, 8), 6.0)
    scaled, _ = scaled_to_network(truth, KnownDepth(truth, torch.zeros_like(truth)))
    assert torch.equal(scaled, truth)
    scaled, depth = scaled_to_network(truth, known(truth))
    assert torch.allclose(scaled, torch.full_like(truth, TYPICAL_DEPTH))
    assert torch.allclose(depth.depth, scaled)


def test_noise_shares_are_checked():
    with pytest.raises(GldError, match="sensor \\+ swept"):
        DepthNoise(sensor=0.7, swept=0.7)


def test_pixel_metric_counts_only_what_shows():
    torch.manual_seed(0)
    latents = torch.randn(64, 4, 3, 3)
    pictures = torch.nn.functional.interpolate(latents[:, :1], scale_factor=4, mode="nearest").expand(-1, 3, -1, -1)
    metric = PixelMetric(latents, pictures, share=1.0)
    visible, hidden = torch.zeros(1, 1, 4, 3, 3), torch.zeros(1, 1, 4, 3, 3)
    visible[:, :, 0], hidden[:, :, 1:] = 1.0, 1.0
    assert metric.energy(hidden).max() < 0.01 * metric.energy(visible).min()


def test_holes_weigh_more_and_conditions_less():
    weight = patch_weight(torch.tensor([1.0, 1.0, 0.0]).view(1, 3, 1, 1), 1, hole_weight=4.0, condition_weight=0.25)
    assert weight.mean().item() == pytest.approx(1)
    assert (weight / weight[0, 1]).flatten().tolist() == pytest.approx([0.25, 1.0, 5.0])


def test_cropping_keeps_what_a_pixel_sees():
    batch = to_batch_of(width=32, height=32)
    part = cropped(batch, (32, 16))
    assert part.rgb.shape[-2:] == (16, 32)
    assert torch.equal(part.rgb[..., 0, 0], batch.rgb[..., 8, 0])
    before = torch.linalg.inv(batch.K[0, 0]) @ torch.tensor([3.0, 9.0, 1.0], dtype=torch.float64)
    after = torch.linalg.inv(part.K[0, 0]) @ torch.tensor([3.0, 1.0, 1.0], dtype=torch.float64)
    assert torch.allclose(before, after)
