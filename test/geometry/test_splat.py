"""Sensor depth moved into a target camera."""

from __future__ import annotations

import numpy as np
import torch

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.splat import sensor_depth, splat

K = np.array([[40.0, 0, 23.5], [0, 40.0, 17.5], [0, 0, 1]])
HEIGHT, WIDTH = 36, 48


def camera(x: float = 0.0, z: float = 0.0) -> Camera:
    pose = np.eye(4)
    pose[0, 3], pose[2, 3] = x, z
    return Camera(WIDTH, HEIGHT, K, pose)


def wall(depth: float) -> torch.Tensor:
    return torch.full((HEIGHT, WIDTH), depth)


def test_wall_lands_exactly_and_without_cracks_from_nearer() -> None:
    made = splat(camera(z=0.6), [sensor_depth(camera(), wall(2.0))])
    assert torch.allclose(made, torch.full_like(made, 1 / 1.4), rtol=1e-4)


def test_beside_the_view_nothing_is_claimed() -> None:
    made = splat(camera(x=0.5), [sensor_depth(camera(), wall(2.0))])
    assert (made[:, :36] > 0).all()
    assert (made[:, 40:] == 0).all()  # 10 px further right than the view saw


def test_step_edge_hides_what_is_behind_it() -> None:
    depth = wall(3.0)
    depth[:, 20:30] = 1.0
    made = splat(camera(x=0.1), [sensor_depth(camera(), depth)])  # box moves 4 px left, wall 1.33
    assert torch.allclose(made[:, 17:25], torch.ones(HEIGHT, 8))
    assert torch.allclose(made[:, :15], torch.full((HEIGHT, 15), 1 / 3))
    assert (made[:, 26:28] == 0).any()  # uncovered behind the box: nobody saw it


def test_pixels_without_measurement_take_no_part() -> None:
    assert (splat(camera(), [sensor_depth(camera(), wall(0.0))]) == 0).all()


def test_rims_of_gaps_are_left_out_and_single_gaps_are_not() -> None:
    depth = wall(2.0)
    depth[10:16, 10:16] = 0.0
    depth[25, 25] = float("nan")
    made = sensor_depth(camera(), depth).inverse > 0
    assert not made[9:17, 9:17].any()
    assert int((~made).sum()) == 64 + 1


def test_further_view_adds_what_the_near_one_misses_in_front() -> None:
    behind = wall(3.0)
    behind[:, :24] = 0.0  # the near view has no depth on the left
    boxed = wall(3.0)
    boxed[:, :10] = 1.0
    made = splat(camera(), [sensor_depth(camera(), behind), sensor_depth(camera(x=0.05), boxed)])
    assert torch.allclose(made[:, 2:12], torch.ones(HEIGHT, 10))


def test_what_the_near_view_looked_through_is_not_believed() -> None:
    wrong = wall(3.0)
    wrong[10:20, 10:20] = 1.0  # a ghost in the further view's depth
    made = splat(camera(), [sensor_depth(camera(), wall(3.0)), sensor_depth(camera(x=0.05), wrong)])
    assert torch.allclose(made, torch.full_like(made, 1 / 3), rtol=1e-4)
