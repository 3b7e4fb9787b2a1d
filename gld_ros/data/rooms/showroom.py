"""One arranged living room, for pictures that people look at; textures still follow the seed."""

from __future__ import annotations

import math

import numpy as np

from gld_ros.data.rooms import furniture as f
from gld_ros.data.rooms.motion import look_at
from gld_ros.data.rooms.scene import PackedScene, SceneBuilder
from gld_ros.data.rooms.textures import TextureSet
from gld_ros.geometry.camera import Camera


def showroom(seed: int, textures: TextureSet) -> PackedScene:
    """A 6.0 x 4.8 m living room with a sitting group, a dining corner, shelves and sun through a window."""
    rng = np.random.default_rng([seed, 17])
    x, y, z = 6.0, 4.8, 2.65
    b = SceneBuilder(textures, rng, (x, y, z))
    p = f.make_palette(b)
    plaster = b.material("plain", (0.93, 0.91, 0.86), 1.0)
    accent = b.material("plain", (0.42, 0.52, 0.52), 1.0)
    ground = b.material("planks", (1.0, 0.96, 0.9), scale=1.5, gloss=0.55)
    b.room_mats = [plaster, accent, plaster, plaster, ground, b.material("ceiling", scale=2.0)]
    board = b.material("plain", (0.88, 0.87, 0.84), 0.5)
    for low, high in (
        ((0, 0, 0), (x, 0.015, 0.09)),
        ((0, y - 0.015, 0), (x, y, 0.09)),
        ((0, 0, 0), (0.015, y, 0.09)),
        ((x - 0.015, 0, 0), (x, y, 0.09)),
    ):
        b.box(low, high, board)
    wall_y, wall_x, wall_0, wall_y0 = 0.0, -math.pi / 2, math.pi / 2, math.pi  # yaw of each wall's frame

    with b.at(2.05, y, wall_y):
        f.window(b, p, 1.7, 1.35, 1.5, 2.2, True)
    with b.at(4.55, y, wall_y):
        f.window(b, p, 1.3, 1.35, 1.5, 2.2, True)
    n = math.sqrt(0.35**2 + 1 + 0.62**2)
    b.sun = [0.35 / n, 1 / n, 0.62 / n, 3.0, 2.65, 2.1]

    # sitting group at the wall x = 6
    with b.at(x - 0.48, 2.2, wall_x):
        f.sofa(b, p, 2.1)
        b.box((-1.35, -2.25, 0.0), (1.35, -0.3, 0.012), p.white)
        b.mats[-1][5] = b.material("rug", (0.62, 0.58, 0.55))
        with b.at(0.05, -1.15):
            f.table(b, p, 1.05, 0.55, 0.4, p.wood2)
            with b.at(-0.25, 0.0, 0.3, 0.4):
                f.vase(b, p, 0.24, 0.075)
            b.box((0.12, -0.15, 0.4), (0.36, 0.03, 0.43), b.material("print"), yaw=0.2)
            b.box((0.14, -0.14, 0.43), (0.34, 0.02, 0.455), b.material("print"), yaw=-0.15)
        with b.at(-1.3, 0.12):
            f.floor_lamp(b, p)
        with b.at(1.42, 0.05):
            f.plant(b, p, 1.35)
    with b.at(3.75, 1.0, math.pi * 0.86):
        f.sofa(b, p, 0.88, 0.8)
    for s, w, h, up in ((2.75, 0.62, 0.8, 1.62), (1.95, 0.62, 0.8, 1.62), (1.2, 0.45, 0.45, 1.72)):
        with b.at(x, s, wall_x):
            f.picture(b, p, w, h, up)

    # shelves, door and pictures at the wall y = 0
    with b.at(5.2, 0.16, wall_y0):
        f.bookshelf(b, p, 1.0, 0.3, 2.0)
    with b.at(2.4, 0.22, wall_y0):
        f.cabinet(b, p, 1.5, 0.42, 0.78, 3, 2)
        with b.at(-0.5, 0.0, 0.0, 0.78):
            f.plant(b, p, 0.5)
        with b.at(0.45, 0.0, 0.0, 0.78):
            f.vase(b, p, 0.3, 0.09)
        b.cylinder(0.15, -0.05, 0.78, 0.88, 0.045, p.clay)
    with b.at(2.4, 0.0, wall_y0):
        f.picture(b, p, 1.1, 0.7, 1.6)
    with b.at(0.85, 0.0, wall_y0):
        f.door(b, p)

    # dining corner and desk at the wall x = 0
    with b.at(1.15, 3.2, 0.15):
        f.table(b, p, 1.1, 0.8, 0.74)
        for cx, cy, yaw in ((-0.05, 0.6, 0.1), (0.1, -0.62, math.pi + 0.2), (0.78, 0.0, -math.pi / 2 - 0.2)):
            with b.at(cx, cy, yaw):
                f.chair(b, p)
        b.ellipsoid((0.0, 0.0, 0.785), (0.17, 0.17, 0.05), p.clay)
        for k, colour in enumerate(((0.85, 0.15, 0.1), (0.9, 0.55, 0.08), (0.5, 0.7, 0.15))):
            b.ellipsoid((0.08 * math.cos(2.1 * k), 0.08 * math.sin(2.1 * k), 0.85), (0.05,) * 3,
                        b.material("plain", colour, 0.5, gloss=0.4))  # fmt: skip
    with b.at(0.0, 1.75, wall_0):
        f.wall_shelf(b, p, 1.0, 1.45)
    with b.at(0.0, 3.2, wall_0):
        f.picture(b, p, 0.9, 0.6, 1.65)
    with b.at(5.55, 4.35):
        f.plant(b, p, 0.9)
    b.cylinder(3.05, 3.3, 0, 0.38, 0.24, p.fabric2)
    b.ellipsoid((2.5, 2.2, 0.11), (0.11, 0.11, 0.11), b.material("fabric", scale=0.3))
    f.ceiling_lamp(b, p, 1.3, 3.1, z, 0.35)
    b.ambient = (0.16, 0.16, 0.155)
    return b.pack()


def showroom_tour(width: int, height: int) -> list[Camera]:
    """Ten cameras of a robot in the showroom: seven frames of driving and panning, then three from places beyond."""
    k = np.array([[0.72 * width, 0, (width - 1) / 2], [0, 0.72 * width, (height - 1) / 2], [0, 0, 1.0]])
    poses = []
    for i in range(7):
        s = i / 6
        position = np.array([0.7 + 1.5 * s, 1.75 + 0.25 * math.sin(math.pi * s), 1.05])
        pan = math.radians(-4 + 14 * math.sin(2 * math.pi * s))
        poses.append(look_at(position, position + np.array([math.cos(pan), math.sin(pan), -0.09])))
    for place, pan_deg in (((1.5, 1.1, 1.15), 12.0), ((1.9, 2.55, 1.05), -16.0), ((2.9, 2.0, 1.2), 22.0)):
        pan = math.radians(pan_deg)
        here = np.array(place)
        poses.append(look_at(here, here + np.array([math.cos(pan), math.sin(pan), -0.12])))
    return [Camera(width, height, k, pose) for pose in poses]


TOUR_SPLITS = {
    "interp": {"condition": [0, 2, 4, 6], "target": [1, 3, 5]},
    "extrapolate": {"condition": [0, 2, 4], "target": [7, 8, 9]},
}
