import numpy as np
import pytest
import torch
from rendered import look

from gld_ros.geometry.matching import (
    EPS_VARIANCE,
    FEW,
    best_half,
    box3,
    parallax_deg,
    parallax_weight,
    patches,
    plane_chunks,
    zncc,
)


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("shape", "dilation"), [((2, 7, 9), 1), ((1, 8, 8), 3), ((1, 2, 5), 3), ((1, 1, 1), 1)])
def test_box3_is_the_mean_over_clamped_neighbours(shape, dilation):
    x = random(*shape)
    _, h, w = shape
    expected = torch.zeros_like(x)
    for i in range(h):
        for j in range(w):
            rows = [min(max(i + k * dilation, 0), h - 1) for k in (-1, 0, 1)]
            cols = [min(max(j + k * dilation, 0), w - 1) for k in (-1, 0, 1)]
            expected[:, i, j] = x[:, rows][:, :, cols].mean(dim=(1, 2))
    assert torch.allclose(box3(x, dilation), expected, atol=1e-6)


def test_two_boxes_are_a_nine_pixel_mean():
    x = random(1, 20, 20)
    assert float(box3(box3(x), 3)[0, 10, 9]) == pytest.approx(float(x[0, 6:15, 5:14].mean()), abs=1e-6)


def test_zncc_is_the_correlation_of_windows():
    a, b = random(1, 20, 20).double(), random(3, 20, 20, seed=1).double()
    scores = zncc(patches(a), patches(b))
    for plane, i, j in ((0, 10, 9), (1, 6, 12), (2, 13, 7)):
        both = []
        for r in (1, 4):
            pa = a[0, i - r : i + r + 1, j - r : j + r + 1].numpy()
            pb = b[plane, i - r : i + r + 1, j - r : j + r + 1].numpy()
            cov = np.mean((pa - pa.mean()) * (pb - pb.mean()))
            both.append(cov / np.sqrt((pa.var() + EPS_VARIANCE) * (pb.var() + EPS_VARIANCE)))
        assert float(scores[plane, i, j]) == pytest.approx(np.mean(both), abs=1e-6)


def test_zncc_ignores_gain_and_offset_and_is_blind_on_flat_walls():
    a = random(1, 16, 16)
    same = zncc(patches(a), patches(0.6 * a + 0.2))
    assert float(same[0, 5:-5, 5:-5].min()) > 0.97
    assert float(zncc(patches(a), patches(torch.full_like(a, 0.5))).abs().max()) < 1e-3


@pytest.mark.parametrize("count", [1, 2, 3, 6, FEW + 3])
def test_best_half_drops_the_worse_pairs(count):
    scores = random(count, 2, 5, 6) * 2 - 1
    weights = random(count, 2, 5, 6, seed=1) + 0.1
    weights[random(count, 2, 5, 6, seed=2) < 0.2] = 0
    ours = best_half(list(scores.unbind(0)), list(weights.unbind(0)))
    keep = (count + 1) // 2
    for d, i, j in np.ndindex(2, 5, 6):
        s, w = scores[:, d, i, j].numpy(), weights[:, d, i, j].numpy()
        chosen = np.argsort(-np.where(w > 0, s, -1), kind="stable")[:keep] if keep < count else np.arange(count)
        expected = np.sum(s[chosen] * w[chosen]) / max(np.sum(w[chosen]), 1e-3)
        assert float(ours[d, i, j]) == pytest.approx(float(expected), abs=1e-5)


def test_best_half_leaves_its_arguments_alone():
    scores, weights = [random(1, 3, 3), random(1, 3, 3, seed=1)], [torch.ones(1, 3, 3)] * 2
    before = [s.clone() for s in scores]
    best_half(scores, weights)
    assert all(torch.equal(a, b) for a, b in zip(scores, before, strict=True))
    assert float(weights[0].mean()) == 1


def test_parallax():
    a, b = look(0.0), look(0.5)
    assert parallax_deg(a, b, 1 / 2.0) == pytest.approx(np.degrees(np.arctan(0.25)))
    planes = torch.linspace(0.25, 1, 5)
    assert parallax_weight(a, b, planes) == 1.0
    assert parallax_weight(a, a, planes) == pytest.approx(0.1)


@pytest.mark.parametrize(("planes", "pixels"), [(64, 43520), (1, 10), (7, 10**7), (33, 5000)])
def test_chunks_cover_all_planes_once(planes, pixels):
    covered = [i for part in plane_chunks(planes, pixels, torch.device("cpu")) for i in range(planes)[part]]
    assert covered == list(range(planes))
