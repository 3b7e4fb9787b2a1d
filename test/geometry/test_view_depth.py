"""What proves a view's depth: a sensor, or a view from elsewhere that agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import WorkView
from gld_ros.geometry.view_depth import ViewDepth, cross_check

K = np.array([[100.0, 0, 31.5], [0, 100.0, 23.5], [0, 0, 1]])


def wall(x: float) -> ViewDepth:
    """A wall at 2.5 m as a camera at ``x`` metres swept it, rightly and surely."""
    pose = np.eye(4)
    pose[0, 3] = x
    even = torch.ones(48, 64)
    view = WorkView(Camera(64, 48, K, pose), torch.full((3, 48, 64), 0.5))
    return ViewDepth(view, 0.4 * even, even, 0.01, 0.01 * even, even > 2, 0 * even)


@pytest.mark.parametrize(("baseline_m", "least", "most"), [(0.004, 0.0, 0.05), (0.05, 0.2, 0.4), (0.4, 0.99, 1.0)])
def test_agreement_proves_the_more_the_further_it_comes_from(baseline_m, least, most):
    one, _ = cross_check([wall(0.0), wall(baseline_m)])[0]
    middle = one.proven[:, 44:60]  # seen by both at every baseline
    assert least <= float(middle.min()) <= float(middle.max()) <= most
    assert float(one.confidence[:, 44:60].min()) > 0.9  # where the colour comes from is sure all the same


def test_a_sensor_needs_no_other_view():
    alone = wall(0.0)
    (one,), _ = cross_check([replace(alone, measured=torch.ones(48, 64, dtype=torch.bool))])
    assert (one.proven == 1).all()


def test_nobody_proves_what_nobody_else_sees():
    (one,), _ = cross_check([wall(0.0)])
    assert (one.proven == 0).all()
