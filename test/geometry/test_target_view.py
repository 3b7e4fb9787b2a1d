import numpy as np
import pytest
import torch
from rendered import ASIDE, CONDITIONS, TARGET, look, render, seen_by

from gld_ros.geometry.blend import blend, exposure_gains
from gld_ros.geometry.carving import seen_through
from gld_ros.geometry.plane_sweep import WorkView
from gld_ros.geometry.target_depth import inverse_depth_seen_from, nearness, refine, sweep_target
from gld_ros.geometry.view_depth import cross_check, sweep_view

RANGE, PLANES = (1.0, 6.0), 48
GAINS = (1.0, 0.8, 1.1, 0.9)


def conditions(gains=(1.0,) * 4, sensor=False):
    views, depths = [], []
    for camera, gain in zip(CONDITIONS, gains, strict=True):
        made = render(camera, gain)
        views.append(WorkView(camera, torch.from_numpy(made.rgb).permute(2, 0, 1).float() / 255))
        depths.append(torch.from_numpy(made.depth) if sensor else None)
    raw = [
        sweep_view(v, [o for o in views if o is not v], RANGE, PLANES, d) for v, d in zip(views, depths, strict=True)
    ]
    return cross_check(raw)


@pytest.fixture(scope="module")
def plain():
    return conditions()


@pytest.fixture(scope="module")
def measured():
    return conditions(sensor=True)


def compose(target, depths, inverse=None, gains=None):
    gains = torch.zeros(len(depths), 3) if gains is None else gains
    swept = sweep_target(target, depths, gains, RANGE, PLANES)
    pictures = [d.view.rgb for d in depths]
    return swept, blend(target, depths, pictures, gains, swept, swept.inverse if inverse is None else inverse)


def mean_error(picture, truth):
    return float((picture.permute(1, 2, 0) - torch.from_numpy(truth.rgb) / 255).abs().mean())


def test_swept_target_depth_agrees_with_the_truth(plain):
    truth = render(TARGET)
    swept, _ = compose(TARGET, plain[0])
    planes_off = np.abs(swept.inverse.numpy() - 1 / truth.depth) / swept.step
    assert np.mean(planes_off < 1) > 0.85
    assert swept.confidence.numpy()[planes_off < 0.5].mean() > swept.confidence.numpy()[planes_off > 3].mean()


def test_refinement_moves_onto_measured_surfaces(measured):
    truth = torch.from_numpy(1 / render(TARGET).depth)
    off = truth + 0.008
    refined = refine(TARGET, measured[0], off)
    assert float((refined - truth).abs().median()) < 0.1 * 0.008


def test_inverse_depth_transfers_between_cameras():
    a, b = look(0.1, yaw_deg=8), look(-0.3, 0.2, -0.5, yaw_deg=-4)
    world = np.array([0.3, -0.2, 3.0, 1.0])
    in_a, in_b = a.cam_from_world @ world, b.cam_from_world @ world
    u, v, _ = b.K @ (in_b[:3] / in_b[2])
    x, y, inverse = (torch.tensor([[value]], dtype=torch.float32) for value in (u, v, 1 / in_b[2]))
    assert float(inverse_depth_seen_from(a, b, x, y, inverse)) == pytest.approx(1 / in_a[2], rel=1e-4)


def test_nearness_prefers_close_and_aligned_views():
    target = look(0.0)
    ordered = [look(0.0), look(0.1), look(0.1, yaw_deg=20), look(1.0, yaw_deg=20)]
    values = [nearness(c, target, 0.5) for c in ordered]
    assert values == sorted(values, reverse=True)


def test_blend_with_true_depth_shows_the_truth(measured):
    truth = render(TARGET)
    _, made = compose(TARGET, measured[0], torch.from_numpy(1 / truth.depth))
    assert mean_error(made.rgb, truth) < 0.02
    assert float(made.observed.float().mean()) > 0.95


@pytest.mark.parametrize("kind", ["plain", "measured"])
def test_what_the_boxes_hide_is_not_called_observed(kind, request):
    depths = request.getfixturevalue(kind)[0]
    truth = render(ASIDE)
    visible = np.any([seen_by(truth, c) for c in CONDITIONS], axis=0)
    _, made = compose(ASIDE, depths)
    observed = made.observed.numpy()
    assert visible[observed].mean() > 0.93  # precision
    assert observed[visible].mean() > 0.8  # recall
    assert observed[~visible].mean() < 0.45


def test_hidden_surfaces_at_their_true_depth_are_not_observed(measured):
    truth = render(ASIDE)
    visible = np.any([seen_by(truth, c) for c in CONDITIONS], axis=0)
    _, made = compose(ASIDE, measured[0], torch.from_numpy(1 / truth.depth))
    observed = made.observed.numpy()
    assert visible[observed].mean() > 0.97
    assert observed[visible].mean() > 0.9


def test_carving_marks_points_in_front_of_seen_surfaces_only(measured):
    truth = torch.from_numpy(1 / render(TARGET).depth)
    assert float(seen_through(TARGET, measured[0], truth).float().mean()) < 0.03
    floating = torch.full_like(truth, 1 / 1.2)  # nearer than everything
    assert float(seen_through(TARGET, measured[0], floating).float().mean()) > 0.95
    buried = truth * 0.8
    assert float(seen_through(TARGET, measured[0], buried).float().mean()) < 0.1


def test_exposure_gains_are_recovered_and_taken_out():
    depths, confirmed = conditions(GAINS)
    gains = exposure_gains(depths, confirmed)
    expected = np.log(GAINS) - np.mean(np.log(GAINS))
    assert np.allclose(gains.numpy(), expected[:, None], atol=0.04)
    truth = render(TARGET, float(np.mean(GAINS)))
    with_gains, without = (compose(TARGET, depths, gains=g)[1] for g in (gains, torch.zeros(4, 3)))
    assert float(gains.abs().max()) > 0.05
    assert mean_error(with_gains.rgb, truth) < mean_error(without.rgb, truth)


def test_no_gain_without_evidence(plain):
    depths, confirmed = plain
    assert float(exposure_gains(depths, [torch.zeros_like(c) for c in confirmed]).abs().max()) < 1e-6
    assert float(exposure_gains(depths, confirmed).abs().max()) < 0.02
