"""What is kept and what is chosen for a target. No ROS needed."""

import cv2
import numpy as np
import pytest

from gld_ros.geometry.camera import Camera
from gld_ros.ros.keyframes import (
    Keyframe,
    KeyframeSettings,
    KeyframeStore,
    angle_deg,
    overlap,
    select_for,
    sharpness,
)
from gld_ros.synthesis.types import PosedView

S = 1_000_000_000
K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])


def camera(x=0.0, z=0.0, yaw_deg=0.0):
    """Looks along +z of the world; yaw turns it about y."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    world_from_cam[:3, 3] = x, 0, z
    return Camera(160, 120, K, world_from_cam)


def view(lens, stamp_s=1.0, seed=0, depth=None, blur=0.0, name="cam"):
    rgb = np.random.default_rng(seed).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    if blur:
        rgb = cv2.GaussianBlur(rgb, (0, 0), blur)
    return PosedView(f"{name}/{stamp_s}", lens, rgb, depth, int(stamp_s * S))


def store(**limits):
    removed = []
    made = KeyframeStore(KeyframeSettings(**limits), removed.extend)
    return made, removed


def keys(made):
    return [frame.view.key for frame in made.all()]


@pytest.mark.parametrize(
    ("lens", "new"),
    [
        (camera(0.05), False),
        (camera(0.2), True),
        (camera(yaw_deg=5), False),
        (camera(yaw_deg=12), True),
    ],
)
def test_novelty_in_place_and_direction(lens, new):
    made, _ = store()
    made.add("cam", view(camera(), 1.0))
    assert made.wants("cam", lens.world_from_cam, int(1.1 * S)) == new
    assert made.wants("other", lens.world_from_cam, int(1.1 * S))  # another camera sees other things


def test_an_old_keyframe_is_replaced_by_a_fresh_one_from_the_same_place():
    made, removed = store(refresh_s=2.0)
    made.add("cam", view(camera(), 1.0, seed=1))
    assert not made.wants("cam", camera(0.03).world_from_cam, int(2.9 * S))
    assert made.wants("cam", camera(0.03).world_from_cam, int(3.0 * S))
    made.add("cam", view(camera(0.03), 3.0, seed=2))
    assert keys(made) == ["cam/3.0"]
    assert removed == ["cam/1.0"]


def test_an_unchanged_picture_keeps_its_key_and_takes_the_new_stamp():
    """So that its depth is not computed again while the robot stands still."""
    made, removed = store()
    first = view(camera(), 1.0, seed=1)
    made.add("cam", first)
    noisy = first.rgb.astype(int) + np.random.default_rng(9).integers(-6, 7, first.rgb.shape)
    made.add("cam", PosedView("cam/5", camera(0.001), np.clip(noisy, 0, 255).astype(np.uint8), None, 5 * S))
    assert keys(made) == ["cam/1.0"]
    assert made.newest().view.stamp_ns == 5 * S
    assert not removed
    changed = first.rgb.copy()
    changed[40:70, 40:70] = 255 - changed[40:70, 40:70] // 2
    made.add("cam", PosedView("cam/9", camera(), changed, None, 9 * S))
    assert keys(made) == ["cam/9"]


def test_sharpness_falls_with_blur_not_with_light():
    sharp, blurred = view(camera()).rgb, view(camera(), blur=2.0).rgb
    assert sharpness(blurred) < 0.3 * sharpness(sharp)
    assert sharpness(sharp // 2) == pytest.approx(sharpness(sharp), rel=0.1)
    assert sharpness(np.zeros((2, 2, 3), np.uint8)) == 0


def test_a_blurred_picture_is_refused_once_there_are_sharp_ones():
    made, _ = store()
    for i in range(4):
        assert made.add("cam", view(camera(i), i + 1.0))
    assert not made.add("cam", view(camera(9), 9.0, blur=4.0))
    assert made.blurred == 1
    assert made.add("cam", view(camera(9), 9.1))


def test_the_first_picture_is_kept_however_blurred():
    made, _ = store()
    assert made.add("cam", view(camera(), blur=5.0))


def test_count_is_bounded_and_the_most_redundant_goes():
    made, removed = store(max_count=3)
    for stamp, x in ((1.0, 0.0), (2.0, 5.0), (3.0, 5.2), (4.0, 10.0)):
        made.add("cam", view(camera(x), stamp))
    assert len(made.all()) == 3
    assert removed in (["cam/2.0"], ["cam/3.0"])
    assert made.newest().view.key == "cam/4.0"


def test_memory_is_bounded():
    one = view(camera()).rgb.nbytes
    made, _ = store(max_bytes=int(2.5 * one))
    for i in range(6):
        made.add("cam", view(camera(i), i + 1.0))
    assert sum(frame.size_bytes for frame in made.all()) <= 2.5 * one
    assert made.newest().view.key == "cam/6.0"


def test_old_keyframes_expire():
    made, removed = store(max_age_s=10.0)
    made.add("cam", view(camera(), 1.0))
    made.add("cam", view(camera(3), 8.0))
    made.expire(12 * S)
    assert keys(made) == ["cam/8.0"]
    assert removed == ["cam/1.0"]
    made.expire(100 * S)
    assert made.newest() is None


def test_clear_tells_what_left():
    made, removed = store()
    made.add("cam", view(camera(), 1.0))
    assert made.clear() == 1
    assert removed == ["cam/1.0"]


def test_overlap_counts_the_target_cone():
    assert overlap(camera(), camera(), [1.0, 2.0]).all()
    assert not overlap(camera(), camera(yaw_deg=180), [1.0, 2.0]).any()
    half = overlap(camera(), camera(x=1.6), [2.0]).mean()  # half of 3.2 m at 2 m
    assert half == pytest.approx(0.5, abs=0.1)


def test_angle_between_rotations():
    assert angle_deg(camera().world_from_cam, camera(yaw_deg=33).world_from_cam) == pytest.approx(33)
    assert angle_deg(np.eye(4), np.eye(4)) == 0


def frames(*lenses, stamps=None):
    return [
        Keyframe("cam", view(lens, 1.0 if stamps is None else stamps[i], name=f"{i}"), 1.0)
        for i, lens in enumerate(lenses)
    ]


def test_nothing_is_chosen_where_nothing_overlaps():
    assert select_for(camera(yaw_deg=180), frames(camera(), camera(0.2)), 4) == []
    assert select_for(camera(), [], 4) == []


def test_the_nearest_comes_first():
    chosen = select_for(camera(0.1), frames(camera(2.0), camera(0.0), camera(1.0)), 3)
    assert chosen[0].view.key.startswith("1")
    assert len(chosen) == 3


def test_views_that_cover_the_rest_beat_near_copies():
    """Two near copies of the left part, and one view of the right part: the second choice is the right part."""
    target = camera()
    left, copy, right = camera(yaw_deg=-30), camera(0.01, yaw_deg=-30), camera(yaw_deg=35)
    chosen = select_for(target, frames(left, copy, right), 2)
    assert chosen[1].view.key.startswith("2")


def test_the_fresher_of_two_equals_wins():
    chosen = select_for(camera(), frames(camera(), camera(), stamps=[1.0, 200.0]), 1)
    assert chosen[0].view.stamp_ns == 200 * S


def test_targets_share_their_views_without_repeats():
    made, _ = store()
    for i in range(6):
        made.add("cam", view(camera(i * 0.5), i + 1.0))
    chosen = made.select([camera(0.1), camera(2.4)], 2)
    assert len({v.key for v in chosen}) == len(chosen) <= 4


def test_sensor_depth_sets_the_scale_of_the_overlap():
    """Two cameras side by side share nothing at arm's length and everything far away."""
    near = np.full((120, 160), 0.3, np.float32)
    far = np.full((120, 160), 30.0, np.float32)
    for depth, shared in ((near, False), (far, True)):
        frame = Keyframe("cam", view(camera(1.5), depth=depth), 1.0)
        assert bool(select_for(camera(), [frame], 1)) == shared
