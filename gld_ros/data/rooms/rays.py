"""Rays: their start in a camera, and the test against the boxes of a tree."""

from __future__ import annotations

import math

from gld_ros.data.rooms.jit import inlined, pure

FAR = 1e30
EPS = 1e-4


@pure
def inverse(x: float) -> float:
    """1 / x without infinities."""
    return 1.0 / x if abs(x) > 1e-12 else (1e12 if x >= 0 else -1e12)


@inlined
def meets_box(bounds, node, ox, oy, oz, ix, iy, iz, tmin, tmax):
    """True when a ray is in box ``node`` of bounds (M, 6) somewhere from tmin to tmax; i is 1 / its direction."""
    ax = (bounds[node, 0] - ox) * ix
    bx = (bounds[node, 3] - ox) * ix
    ay = (bounds[node, 1] - oy) * iy
    by = (bounds[node, 4] - oy) * iy
    az = (bounds[node, 2] - oz) * iz
    bz = (bounds[node, 5] - oz) * iz
    near = max(max(min(ax, bx), min(ay, by)), max(min(az, bz), tmin))
    far = min(min(max(ax, bx), max(ay, by)), min(max(az, bz), tmax))
    return near <= far


@inlined
def camera_ray(fx, fy, cx, cy, c2w, col, row):
    """Unit direction in the world of the ray through a place of the picture, and z-depth per metre along it."""
    a = (col - cx) / fx
    b = (row - cy) / fy
    n = 1.0 / math.sqrt(a * a + b * b + 1.0)
    dx = (c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2]) * n
    dy = (c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2]) * n
    dz = (c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2]) * n
    return dx, dy, dz, n
