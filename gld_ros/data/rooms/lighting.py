"""Light that reaches a point: area lights and sun with sharp shadows (training) or soft ones (paths), and ambient."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.cells import Cells, in_shadow, in_sun
from gld_ros.data.rooms.jit import inlined, pure
from gld_ros.data.rooms.surfaces import uniform
from gld_ros.data.rooms.tracer import (
    AREA,
    LR,
    LX,
    LY,
    LZ,
    NX,
    NY,
    NZ,
    ROOM,
    UX,
    UY,
    UZ,
    VX,
    VY,
    VZ,
    WINDOW,
    blocked,
    closest,
)


class Lighting(NamedTuple):
    """Light sources of a room."""

    lights: NDArray[np.float64]  # (L, 16)
    sun: NDArray[np.float64]  # (6,) direction towards it, irradiance r g b
    ambient: NDArray[np.float64]  # (3,)


class Shadows(NamedTuple):
    """What stands in the way of the lights and of the sun."""

    lights: Cells
    sun: Cells
    frame: NDArray[np.float64]  # (2, 4) place of a ray along the sun


@inlined
def _from_light(lights, i, a, b, x, y, z, nx, ny, nz):
    """What a surface turned to n sees of the place a u + b v off the middle of a light.

    Direction, distance and the share of the light's radiance it receives, 0 when one is turned away.
    """
    wx = lights[i, LX] + a * lights[i, UX] + b * lights[i, VX] - x
    wy = lights[i, LY] + a * lights[i, UY] + b * lights[i, VY] - y
    wz = lights[i, LZ] + a * lights[i, UZ] + b * lights[i, VZ] - z
    d2 = wx * wx + wy * wy + wz * wz
    d = math.sqrt(d2)
    wx /= d
    wy /= d
    wz /= d
    cos_surface = nx * wx + ny * wy + nz * wz
    # a light with a zero normal (a bulb) shines to all sides
    facing = lights[i, NX] ** 2 + lights[i, NY] ** 2 + lights[i, NZ] ** 2 > 0.5
    cos_light = -(lights[i, NX] * wx + lights[i, NY] * wy + lights[i, NZ] * wz) if facing else 0.5
    if cos_surface <= 0.0 or cos_light <= 0.0:
        return wx, wy, wz, d, 0.0
    share = cos_surface * cos_light * lights[i, AREA] / (math.pi * max(d2, 0.1 * lights[i, AREA], 0.02))
    return wx, wy, wz, d, share


@inlined
def direct_sharp(solids, lighting, shadows, x, y, z, nx, ny, nz, out):
    """Irradiance / pi at a point into out[0:3] from the centres of the area lights and from the sun."""
    lights = lighting.lights
    sun = lighting.sun
    out[0] = 0.0
    out[1] = 0.0
    out[2] = 0.0
    for i in range(lights.shape[0]):
        wx, wy, wz, d, share = _from_light(lights, i, 0.0, 0.0, x, y, z, nx, ny, nz)
        if share > 0.0 and not in_shadow(solids, shadows.lights, i, x, y, z, wx, wy, wz, d):
            for k in range(3):
                out[k] += share * lights[i, LR + k]
    if sun[3] + sun[4] + sun[5] > 0.0:
        cos_surface = nx * sun[0] + ny * sun[1] + nz * sun[2]
        if cos_surface > 0.0 and in_sun(solids, shadows.sun, shadows.frame, x, y, z, sun[0], sun[1], sun[2]):
            for k in range(3):
                out[k] += cos_surface * sun[3 + k]


@pure
def direct_soft(solids, lighting, x, y, z, nx, ny, nz, rng, out):
    """The same from a random point of each light and of the sun's disc."""
    lights = lighting.lights
    sun = lighting.sun
    out[0] = 0.0
    out[1] = 0.0
    out[2] = 0.0
    for i in range(lights.shape[0]):
        a = 2.0 * uniform(rng) - 1.0
        b = 2.0 * uniform(rng) - 1.0
        wx, wy, wz, d, share = _from_light(lights, i, a, b, x, y, z, nx, ny, nz)
        if share > 0.0 and not blocked(solids, x, y, z, wx, wy, wz, d - 2e-2):
            for k in range(3):
                out[k] += share * lights[i, LR + k]
    if sun[3] + sun[4] + sun[5] > 0.0:
        wx = sun[0] + 0.02 * (uniform(rng) - 0.5)
        wy = sun[1] + 0.02 * (uniform(rng) - 0.5)
        wz = sun[2] + 0.02 * (uniform(rng) - 0.5)
        cos_surface = nx * wx + ny * wy + nz * wz
        if cos_surface > 0.0:
            _, hit, _ = closest(solids, x, y, z, wx, wy, wz)
            if hit != ROOM and solids.gate[hit] == WINDOW:
                for k in range(3):
                    out[k] += cos_surface * sun[3 + k]


@inlined
def add_ambient(room, ambient, x, y, z, nx, ny, nz, out):
    """Add what stands in for light that has bounced more often; dimmer where walls or floor are near."""
    open_x = 1.0 - 0.35 * math.exp(-min(x - room[0], room[1] - x) / 0.25) * (1.0 - abs(nx))
    open_y = 1.0 - 0.35 * math.exp(-min(y - room[2], room[3] - y) / 0.25) * (1.0 - abs(ny))
    open_z = 1.0 - 0.35 * math.exp(-min(z - room[4], room[5] - z) / 0.25) * (1.0 - abs(nz))
    k = open_x * open_y * open_z * (0.8 + 0.2 * nz)
    out[0] += k * ambient[0]
    out[1] += k * ambient[1]
    out[2] += k * ambient[2]
