"""Views as they come: with and without depth, alone, at one place, of odd sizes, wrong."""

from dataclasses import replace

import numpy as np
import pytest
from rendered import CONDITIONS, TARGET, look, posed, render

from gld_ros.errors import GldError, Status
from gld_ros.evaluation.metrics import psnr
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.types import OBSERVED, Request


def run(views, *targets, **options):
    return ClassicalEngine("cpu").synthesize(views, Request(targets or [TARGET], preset="fast", **options))


def views_of(cameras, **options):
    return [posed(f"v{i}", c, **options) for i, c in enumerate(cameras)]


def test_one_view_with_depth_is_enough():
    made = run([posed("a", CONDITIONS[1], depth=True)])
    assert made.status == Status.OK
    assert made.scale_valid
    assert made.confidence_kind == "sensor+plane_sweep"
    view, truth = made.views[0], render(TARGET)
    observed = view.provenance == OBSERVED
    assert observed.mean() > 0.6
    assert np.median(np.abs(view.depth / truth.depth - 1)[observed]) < 0.01
    assert psnr(view.rgb, truth.rgb, observed) > 24


@pytest.mark.parametrize("depth", [None, np.full((84, 112), np.nan, np.float32), np.zeros((84, 112), np.float32)])
def test_one_view_without_depth_is_refused(depth):
    with pytest.raises(GldError) as error:
        run([replace(posed("a", CONDITIONS[0]), depth=depth)])
    assert error.value.status == Status.NO_KEYFRAMES


def test_no_views_no_targets_bad_options_are_refused():
    views = views_of(CONDITIONS[:2])
    for bad, status in (
        (lambda: run([]), Status.NO_KEYFRAMES),
        (lambda: ClassicalEngine("cpu").synthesize(views, Request([])), Status.BAD_POSE),
        (lambda: run([views[0], views[0]]), Status.NO_KEYFRAMES),
        (lambda: run(views, compose="best"), Status.INTERNAL),
        (lambda: run(views, num_samples=0), Status.INTERNAL),
        (lambda: ClassicalEngine("cpu").synthesize(views, Request([TARGET], preset="turbo")), Status.INTERNAL),
        (lambda: ClassicalEngine("cpu").prepare(views, "turbo"), Status.INTERNAL),
    ):
        with pytest.raises(GldError) as error:
            bad()
        assert error.value.status == status


@pytest.mark.parametrize(
    "wrong", [np.zeros((84, 111, 3), np.uint8), np.zeros((84, 112), np.uint8), np.zeros((84, 112, 3), np.float32)]
)
def test_pictures_that_do_not_match_their_camera_are_refused(wrong):
    views = views_of(CONDITIONS[:2])
    with pytest.raises(GldError, match="view v1") as error:
        run([views[0], replace(views[1], rgb=wrong)])
    assert error.value.status == Status.BAD_INTRINSICS


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-5])
def test_views_at_one_place_have_no_scale_but_a_picture(noise):
    cameras = [look(i * noise, yaw_deg=5 * i - 5) for i in range(3)]
    made = run(views_of(cameras), look(0.0, yaw_deg=2))
    assert made.status == Status.OK
    assert not made.scale_valid
    assert made.points_observed is None
    assert made.points_generated is None
    assert any("scale is not metric" in n for n in made.notes)
    assert psnr(made.views[0].rgb, render(look(0.0, yaw_deg=2)).rgb) > 24


def test_scale_is_not_metric_where_poses_are_not():
    made = run(views_of(CONDITIONS), metric=False)
    assert not made.scale_valid
    assert len(made.points_observed.xyz) > 0


def test_bad_values_in_sensor_depth_are_holes():
    without = run(views_of(CONDITIONS))
    views = views_of(CONDITIONS, depth=True)
    for view in views:
        view.depth[::3] = np.nan
        view.depth[1::6], view.depth[:, ::5], view.depth[:, 1::15] = 0.0, -1.0, np.inf
    made = run(views)
    assert np.isfinite(made.views[0].depth).all()
    truth = render(TARGET)
    assert psnr(made.views[0].rgb, truth.rgb) > psnr(without.views[0].rgb, truth.rgb) + 3


def test_sensor_depth_helps():
    truth = render(TARGET)
    errors = [np.abs(run(views_of(CONDITIONS, depth=d)).views[0].depth / truth.depth - 1) for d in (False, True)]
    assert np.median(errors[1]) < 0.5 * np.median(errors[0])


def test_depth_of_another_size_covers_the_same_field():
    views = [replace(v, depth=np.ascontiguousarray(v.depth[::2, ::2])) for v in views_of(CONDITIONS[:1], depth=True)]
    made, truth = run(views).views[0], render(TARGET)
    observed = made.provenance == OBSERVED
    assert observed.mean() > 0.5
    assert np.median(np.abs(made.depth / truth.depth - 1)[observed]) < 0.02


def test_views_of_different_sizes_and_shapes_work_together():
    cameras = [
        look(-0.35, size=(160, 120)),
        look(-0.1, 0.1, size=(84, 112)),
        look(0.15, -0.08, size=(90, 90)),
        look(0.4, 0.05, size=(150, 60)),
    ]
    made = run(views_of(cameras), TARGET, look(0.05, size=(72, 104)), look(0.05, size=(200, 50)))
    for view in made.views:
        truth = render(view.camera).rgb
        assert view.status == Status.OK
        assert view.rgb.shape == truth.shape
        assert psnr(view.rgb, truth) > 17


@pytest.mark.parametrize("size", [(8, 8), (8, 6), (3, 5), (1, 1), (40, 8)])
def test_tiny_pictures_do_no_harm(size):
    cameras = [look(x, size=size) for x in (-0.2, 0.2)]
    made = run(views_of(cameras), look(0.0, size=size))
    view = made.views[0]
    assert view.rgb.shape == (size[1], size[0], 3)
    assert np.isfinite(view.confidence).all()
    large = run(views_of(CONDITIONS[:2]), look(0.0, size=size)).views[0]
    assert large.rgb.shape == view.rgb.shape


@pytest.mark.parametrize("value", [0, 128, 255])
def test_featureless_pictures_do_no_harm(value):
    views = [replace(v, rgb=np.full_like(v.rgb, value)) for v in views_of(CONDITIONS)]
    made = run(views).views[0]
    assert np.abs(made.rgb.astype(int) - value).max() <= 1
    assert np.isfinite(made.depth).all()


def test_output_of_another_size_shows_the_same_view():
    views = views_of(CONDITIONS)
    small, large = (run(views, TARGET.resized(*size)).views[0] for size in ((56, 42), (224, 168)))
    for view in (small, large):
        assert psnr(view.rgb, render(view.camera).rgb) > 22
