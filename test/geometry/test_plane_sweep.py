import numpy as np
import pytest
import torch
from rendered import CONDITIONS, look, render, seen_by

from gld_ros.geometry.plane_sweep import (
    WorkView,
    inside,
    inverse_depth_planes,
    project,
    sample,
    sweep_scores,
)
from gld_ros.geometry.semi_global import read_planes, semi_global
from gld_ros.geometry.view_depth import cross_check, sweep_view


def work(camera, gain=1.0):
    return WorkView(camera, torch.from_numpy(render(camera, gain).rgb).permute(2, 0, 1).float() / 255)


@pytest.fixture(scope="module")
def swept():
    """Conditions swept against each other, before and after the cross-check, and the truth."""
    views = [work(c) for c in CONDITIONS]
    raw = [sweep_view(v, [o for o in views if o is not v], (1.0, 6.0), 48) for v in views]
    return raw, *cross_check(raw), [render(c).depth for c in CONDITIONS]


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_project_against_direct_formulas(offset):
    reference, source = look(0.0, yaw_deg=5), look(0.3, 0.1, -0.2, yaw_deg=-7, size=(90, 110))
    shift = np.eye(4)
    shift[:3, 3] = offset
    reference, source = (c.moved(shift @ c.world_from_cam) for c in (reference, source))
    depth = np.random.default_rng(0).uniform(1, 5, (2, reference.height, reference.width))
    x, y, inverse = project(reference, source, torch.from_numpy(1 / depth).float())
    for d, v, u in ((0, 0, 0), (1, 40, 77), (0, 83, 111)):
        cam = np.linalg.inv(reference.K) @ [u, v, 1] * depth[d, v, u]
        there = source.cam_from_world @ reference.world_from_cam @ [*cam, 1]
        uv = source.K @ there[:3] / there[2]
        got = [float(t[d, v, u]) for t in (x, y, inverse)]
        assert got == pytest.approx([uv[0], uv[1], 1 / there[2]], abs=2e-3)


def test_points_behind_the_source_are_never_inside():
    ahead = look(0.0, 0.0, 5.0)  # stands beyond every plane
    x, y, inverse = project(look(0.0), ahead, torch.full((1, 84, 112), 1 / 3.0))
    assert not inside(x, y, inverse, ahead).any()
    assert torch.isfinite(x).all()
    assert torch.isfinite(y).all()
    assert (inverse <= 0).all()


def test_inside_is_half_a_pixel_around_the_centres():
    camera = look(0.0)
    x = torch.tensor([-0.6, -0.4, 111.4, 111.6])
    assert inside(x, torch.zeros(4), torch.ones(4), camera).tolist() == [False, True, True, False]
    assert inside(torch.zeros(4), x * 83 / 111, torch.ones(4), camera)[1:3].tolist() == [True, True]


def test_sample_reads_pixel_centres_and_holds_the_border():
    image = torch.arange(12.0).view(1, 3, 4)
    x, y = torch.tensor([[0.0, 3.0, 1.5, -9.0]]), torch.tensor([[0.0, 2.0, 1.0, 0.0]])
    assert torch.allclose(sample(image, x, y)[0], torch.tensor([[0.0, 11.0, 5.5, 0.0]]), atol=1e-5)
    assert sample(image, x[:, :2] + 0.3, y[:, :2], "nearest")[0].tolist() == [[0.0, 11.0]]
    assert sample(torch.ones(1, 1, 1), x, y).tolist() == [[[1.0] * 4]]


def test_planes_are_uniform_in_inverse_depth():
    planes = inverse_depth_planes(0.5, 10.0, 20)
    assert torch.allclose(planes.diff(), planes.diff()[0].expand(19), atol=1e-6)
    assert (float(planes[0]), float(planes[-1])) == pytest.approx((0.1, 2.0))


def test_right_plane_scores_best_on_the_wall():
    view, other = work(CONDITIONS[1]), work(CONDITIONS[2])
    planes = torch.tensor([1 / 6.0, 1 / 4.05, 1 / 2.0])  # the wall is 4 m from z = 0, the camera at -0.05
    scores = sweep_scores(view, [other], planes)
    assert float((scores[:, 2:8, 40:70].argmax(0) == 1).float().mean()) > 0.97


def test_swept_depth_agrees_with_the_truth(swept):
    _, finished, _, truth = swept
    for depth, true in zip(finished, truth, strict=True):
        planes_off = np.abs(depth.inverse.numpy() - 1 / true) / depth.step
        sure = depth.confidence.numpy() > 0.5
        assert sure.mean() > 0.6
        assert np.mean(planes_off[sure] < 2) > 0.9
        assert np.median(planes_off) < 0.35


def test_confirmation_follows_visibility(swept):
    _, finished, confirmed, _ = swept
    for i, (depth, count) in enumerate(zip(finished, confirmed, strict=True)):
        made = render(depth.view.camera)
        others = np.sum([seen_by(made, c) for j, c in enumerate(CONDITIONS) if j != i], 0)
        assert count.numpy()[others == 3].mean() > 2 * count.numpy()[others == 0].mean()


def test_sensor_depth_overrides_and_holes_are_swept():
    camera = CONDITIONS[1]
    truth = torch.from_numpy(render(camera).depth)
    sensor = truth.clone()
    sensor[:, :30] = float("nan")
    sensor[0, 60], sensor[1, 60], sensor[2, 60] = 0.0, -1.0, float("inf")
    depth = sweep_view(work(camera), [work(CONDITIONS[2])], (1.0, 6.0), 32, sensor)
    expected = torch.isfinite(sensor) & (sensor > 0)
    assert torch.equal(depth.measured, expected)
    assert torch.allclose(1 / depth.inverse[expected], truth[expected], rtol=1e-5)
    assert (depth.confidence[expected] == 1).all()
    assert torch.isfinite(depth.inverse).all()
    assert float(((1 / depth.inverse - truth).abs() / truth)[:, :30].median()) < 0.05


def test_views_at_one_place_are_not_sure():
    view, same = work(CONDITIONS[0]), work(CONDITIONS[0])
    assert float(sweep_view(view, [same], (1.0, 6.0), 16).confidence.mean()) < 0.05


def slow_path(cost, guide, p1, p2, edge, min_jump):
    """One direction of semi-global matching down the rows, by definition."""
    out = cost.copy()
    for i in range(1, cost.shape[1]):
        for n in range(cost.shape[2]):
            before = out[:, i - 1, n]
            jump = min_jump + p2 * np.exp(-abs(guide[i, n] - guide[i - 1, n]) / edge)
            for d in range(len(cost)):
                ways = [before[d], before.min() + jump]
                ways += [before[k] + p1 for k in (d - 1, d + 1) if 0 <= k < len(cost)]
                out[d, i, n] = cost[d, i, n] + min(ways) - before.min()
    return out


@pytest.mark.parametrize("guided", [False, True])
def test_semi_global_against_a_plain_loop(guided):
    rng = np.random.default_rng(0)
    scores, grey = rng.uniform(-1, 1, (6, 7, 5)), rng.uniform(0, 1, (7, 5))
    guide = grey if guided else np.zeros_like(grey)
    total = np.zeros_like(scores)
    for turn in range(2):  # rows, then columns
        for flip in (False, True):
            cost = np.moveaxis(-scores, 2, 1) if turn else -scores
            along = guide.T if turn else guide
            cost, along = (cost[:, ::-1], along[::-1]) if flip else (cost, along)
            path = slow_path(cost, along, 0.4, 2.0, 0.1, 0.6)
            path = path[:, ::-1] if flip else path
            total += np.moveaxis(path, 1, 2) if turn else path
    ours = semi_global(torch.from_numpy(scores), torch.from_numpy(grey) if guided else None)
    assert np.allclose(ours.numpy(), -0.25 * total, atol=1e-9)


def test_read_planes_refines_by_a_parabola_and_stays_in_range():
    planes = torch.linspace(0.1, 1.0, 10)
    at = torch.tensor([3.3, 0.0, 9.0])
    scores = -((torch.arange(10.0)[:, None, None] - at[None, None]) ** 2)
    inverse, index = read_planes(scores, planes)
    assert torch.allclose(inverse[0], 0.1 + 0.1 * at, atol=1e-5)
    assert index[0].tolist() == [3, 0, 9]
