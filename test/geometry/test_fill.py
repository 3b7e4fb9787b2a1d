import numpy as np
import pytest
import torch

from gld_ros.geometry.fill import ITERATIONS, pull_push, smooth_fill


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def chain(affinity):
    """I + the Laplacian of a line with these affinities."""
    n = len(affinity) + 1
    out = np.eye(n)
    for i, a in enumerate(affinity):
        out[i, i] += a
        out[i + 1, i + 1] += a
        out[i, i + 1] -= a
        out[i + 1, i] -= a
    return out


@pytest.mark.parametrize(("strength", "edge"), [(300.0, 0.04), (5.0, 0.2)])
def test_smooth_fill_against_dense_solves(strength, edge):
    values, weights, guide = random(1, 5, 6)[0], random(1, 5, 6, seed=1)[0], random(1, 3, 5, 6, seed=2)[0]
    both = [(values * weights).double().numpy(), weights.double().numpy()]
    g = guide.double().numpy()
    for i in range(ITERATIONS):
        lam = 1.5 * strength * 4.0 ** (ITERATIONS - 1 - i) / (4.0**ITERATIONS - 1)
        for row in range(5):
            system = chain(lam * np.exp(-np.abs(np.diff(g[:, row], axis=1)).max(0) / edge))
            for m in both:
                m[row] = np.linalg.solve(system, m[row])
        for col in range(6):
            system = chain(lam * np.exp(-np.abs(np.diff(g[:, :, col], axis=1)).max(0) / edge))
            for m in both:
                m[:, col] = np.linalg.solve(system, m[:, col])
    ours = smooth_fill(values[None], weights[None], guide[None], strength, edge)[0]
    assert np.allclose(ours.numpy(), both[0] / both[1], rtol=1e-5)


def test_smooth_fill_keeps_constants_scales_with_values_and_stays_in_range():
    weights, guide = random(2, 12, 9) ** 4 + 1e-5, random(2, 3, 12, 9, seed=1)
    assert torch.allclose(smooth_fill(torch.full((2, 12, 9), 0.7), weights, guide), torch.tensor(0.7), atol=1e-6)
    values = random(2, 12, 9, seed=3)
    filled = smooth_fill(values, weights, guide)
    assert torch.allclose(smooth_fill(values * 1e-4, weights, guide) * 1e4, filled, rtol=1e-4)
    assert filled.min() >= values.min() - 1e-6
    assert filled.max() <= values.max() + 1e-6


def test_smooth_fill_stops_at_edges_of_the_picture():
    guide = torch.zeros(1, 3, 8, 20)
    guide[..., 10:] = 1
    values, weights = torch.zeros(1, 8, 20), torch.full((1, 8, 20), 1e-5)
    values[0, 4, 2], weights[0, 4, 2] = 1.0, 1.0
    values[0, 4, 17], weights[0, 4, 17] = 3.0, 1.0
    filled = smooth_fill(values, weights, guide)[0]
    assert float((filled[:, :10] - 1).abs().max()) < 0.05
    assert float((filled[:, 10:] - 3).abs().max()) < 0.05


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (8, 8), (13, 17)])
def test_pull_push_keeps_the_known_and_invents_no_new_values(shape):
    image, known = random(3, *shape) * 0.5 + 0.25, (random(*shape, seed=1) > 0.6).float()
    known[0, 0] = 1
    filled = pull_push(image, known)
    assert torch.allclose(filled[:, known > 0], image[:, known > 0], atol=1e-6)
    low, high = image[:, known > 0].amin(1), image[:, known > 0].amax(1)
    assert (filled >= low[:, None, None] - 1e-5).all()
    assert (filled <= high[:, None, None] + 1e-5).all()


def test_pull_push_of_a_constant_is_constant_and_of_nothing_is_finite():
    known = torch.zeros(20, 30)
    known[3, 4] = 1
    assert torch.allclose(pull_push(torch.full((3, 20, 30), 0.6), known), torch.tensor(0.6), atol=1e-5)
    assert torch.isfinite(pull_push(torch.rand(3, 20, 30), torch.zeros(20, 30))).all()


def test_pull_push_fills_holes_from_near_by():
    image = torch.zeros(1, 32, 32)
    image[..., 16:] = 1
    known = torch.ones(32, 32)
    known[10:14, 2:6] = known[10:14, 26:30] = 0
    image[0, 10:14, 2:6] = 9  # what is hidden has no say
    filled = pull_push(image, known)[0]
    assert float(filled[10:14, 2:6].abs().max()) < 0.1
    assert float((filled[10:14, 26:30] - 1).abs().max()) < 0.1
