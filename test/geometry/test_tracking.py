import numpy as np
import torch
from rendered import TARGET, render

from gld_ros.geometry.target_depth import TargetDepth
from gld_ros.geometry.tracking import LARGEST_MOVE_PX, MAX_TRACKS, Tracks, carry, moved_px

STEP = 0.02
SOURCE = object()


def swept(camera):
    """A sweep that found the truth."""
    made = render(camera)
    one = torch.ones(camera.height, camera.width)
    rgb = torch.from_numpy(made.rgb).permute(2, 0, 1).float() / 255
    return TargetDepth(torch.from_numpy(1 / made.depth), one, rgb, one, 0 * one, STEP)


def moved(camera, right_m=0.0, yaw_deg=0.0):
    pose, turn = camera.world_from_cam.copy(), np.radians(yaw_deg)
    pose[:3, :3] = pose[:3, :3] @ np.array(
        [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
    )
    pose[:3, 3] += pose[:3, 0] * right_m
    return camera.moved(pose)


def test_carried_depth_and_colour_are_those_of_the_new_place():
    now = moved(TARGET, 0.08, 1.0)
    truth, carried = render(now), carry(swept(TARGET), TARGET, now)
    sure = carried.confidence.numpy() > 0.5
    assert sure.mean() > 0.85
    off = np.abs(carried.inverse.numpy() - 1 / truth.depth)[sure]
    assert np.mean(off < STEP / 2) > 0.94  # all but edges
    still = np.abs(1 / render(TARGET).depth - 1 / truth.depth)[sure]
    assert off.mean() < 0.3 * still.mean()
    error = np.abs(carried.expected_rgb.numpy().transpose(1, 2, 0) - truth.rgb / 255)[sure]
    assert error.mean() < 0.03


def test_what_comes_into_view_is_not_known():
    now = moved(TARGET, yaw_deg=12.0)
    carried = carry(swept(TARGET), TARGET, now)
    new = slice(-8, None)  # turned to the right
    assert float(carried.confidence[:, new].max()) == 0
    assert float(carried.expected_seen[:, new].max()) == 0
    assert float(carried.confidence[:, 20:60].mean()) > 0.9


def test_a_still_camera_gets_its_own_sweep_back():
    before = swept(TARGET)
    carried = carry(before, TARGET, TARGET)
    assert float(carried.confidence.mean()) > 0.97
    off = (carried.inverse - before.inverse).abs()
    assert float((off < 1e-4).float().mean()) > 0.97


def test_sweeps_are_carried_only_near_and_from_equal_sources():
    tracks, before = Tracks(), swept(TARGET)
    tracks.keep("a", TARGET, before, SOURCE)
    near = moved(TARGET, 0.02)
    assert tracks.carried("a", near, SOURCE) is not None
    assert tracks.carried("b", near, SOURCE) is None
    assert tracks.carried("a", near, object()) is None
    far = moved(TARGET, 1.0)
    assert moved_px(TARGET, far, float(1 / before.inverse.median())) > LARGEST_MOVE_PX
    assert tracks.carried("a", far, SOURCE) is None
    assert tracks.carried("a", near.resized(40, 30), SOURCE) is None


def test_tracks_are_bounded_and_cleared():
    tracks, before = Tracks(), swept(TARGET)
    for n in range(MAX_TRACKS + 1):
        tracks.keep(str(n), TARGET, before, SOURCE)
    assert tracks.carried("0", TARGET, SOURCE) is None
    assert tracks.carried("1", TARGET, SOURCE) is not None
    tracks.clear()
    assert tracks.carried("1", TARGET, SOURCE) is None
