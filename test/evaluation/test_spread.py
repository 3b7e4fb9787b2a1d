"""Samples: how they vary and whether that says where they are wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from gld_ros.evaluation.metrics import gradient_energy
from gld_ros.evaluation.spread import pooled_figures, spearman, spread_figures, spread_of


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 40))
def test_rank_correlation_against_scipy_with_ties(seed, levels):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, levels, 60), rng.normal(size=60) + rng.integers(0, 3, 60)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_rank_correlation_that_does_not_exist():
    assert np.isnan(spearman(np.ones(5), np.arange(5)))
    assert np.isnan(spearman(np.arange(2), np.arange(2)))


def samples(rng, spread, truth):
    """Eight pictures whose noise grows to the right as ``spread`` says."""
    noise = rng.normal(size=(8, *truth.shape)) * spread[None, None, :, None]
    return [np.clip(truth + n, 0, 255).astype(np.uint8) for n in noise]


def test_spread_that_tells_where_the_error_is():
    rng = np.random.default_rng(0)
    truth = np.full((20, 30, 3), 128, np.uint8)
    made = spread_of(samples(rng, np.linspace(1, 30, 30), truth), truth)
    assert made.std[:, -3:].mean() > 5 * made.std[:, :3].mean()
    holes = np.zeros((20, 30), bool)
    holes[:, 10:] = True
    figures = spread_figures(made, holes, 16)
    assert figures["sample_std_holes"] > figures["sample_std"] > figures["sample_std_observed"]
    assert figures["spearman_holes_per_view"] > 0.3
    pooled = pooled_figures([(made, holes), (made, holes)])
    assert pooled["spearman_holes"] == pytest.approx(figures["spearman_holes_per_view"], abs=1e-9)
    assert pooled["spearman_holes_one"] > 0.2


def test_equal_samples_have_no_spread_and_no_correlation():
    truth = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    made = spread_of([np.zeros_like(truth)] * 8, truth)
    figures = spread_figures(made, np.ones((20, 20), bool), 16)
    assert figures["sample_std"] == 0
    assert np.isnan(figures["spearman_holes_per_view"])
    assert np.isnan(figures["sample_std_observed"])


def test_the_error_of_the_mean_holds_no_spread():
    truth = np.full((8, 8, 3), 100, np.uint8)
    made = spread_of([truth - np.uint8(50), truth + np.uint8(50)], truth)
    assert made.error.max() == 0
    assert made.error_one.min() == 50
    assert made.std.min() == 50


def test_few_hole_pixels_say_nothing():
    truth = np.zeros((8, 8, 3), np.uint8)
    made = spread_of(samples(np.random.default_rng(0), np.full(8, 9.0), truth), truth)
    holes = np.zeros((8, 8), bool)
    holes[0, :5] = True
    assert np.isnan(spread_figures(made, holes, 16)["sample_std_holes"])


def test_gradient_energy_of_a_ramp():
    ramp = np.tile(np.arange(50, dtype=np.uint8)[None, :, None] * 3, (20, 1, 3))
    assert gradient_energy(ramp) == pytest.approx(9.0)
    assert np.isnan(gradient_energy(ramp, np.zeros((20, 50), bool)))
