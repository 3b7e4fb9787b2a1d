"""Furniture of boxes, cylinders and ellipsoids, each built around its own origin on the floor, front towards -y."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gld_ros.data.rooms.scene import LAMP, WINDOW, SceneBuilder, Vec3


@dataclass(frozen=True)
class Palette:
    """Materials a room's furniture shares, so that it looks chosen together."""

    wood: int
    wood2: int
    fabric: int
    fabric2: int
    metal: int
    white: int
    dark: int
    leaf: int
    clay: int
    glow: int


def make_palette(b: SceneBuilder) -> Palette:
    """Draw a palette."""

    def tint() -> Vec3:
        r = b.rng.uniform(0.75, 1.1, 3)
        return float(r[0]), float(r[1]), float(r[2])

    grey = float(b.rng.uniform(0.2, 0.6))
    return Palette(
        wood=b.material("wood", tint(), 0.7, gloss=0.5),
        wood2=b.material("wood", tint(), 0.6, gloss=0.4),
        fabric=b.material("fabric", tint(), 0.5),
        fabric2=b.material("fabric", tint(), 0.4),
        metal=b.material("plain", (grey, grey, grey * 1.02), 0.5, gloss=0.9),
        white=b.material("plain", (0.9, 0.89, 0.86), 0.5, gloss=0.3),
        dark=b.material("plain", (0.05, 0.05, 0.055), 0.5, gloss=0.8),
        leaf=b.material("leaf", tint(), 0.2),
        clay=b.material(
            "plain", (0.75, float(b.rng.uniform(0.35, 0.7)), float(b.rng.uniform(0.25, 0.6))), 0.5, gloss=0.3
        ),
        glow=b.material("plain", (1.0, 0.87, 0.66), 0.5, emission=3.2),
    )


def legs(b: SceneBuilder, w: float, d: float, h: float, thick: float, mat: int, inset: float = 0.03) -> None:
    """Four square legs under a w x d top."""
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * (w / 2 - inset - thick / 2), sy * (d / 2 - inset - thick / 2)
            b.box((x - thick / 2, y - thick / 2, 0), (x + thick / 2, y + thick / 2, h), mat)


def table(b: SceneBuilder, p: Palette, w: float, d: float, h: float, mat: int | None = None) -> None:
    """A table with four legs and an apron."""
    mat = p.wood if mat is None else mat
    b.box((-w / 2, -d / 2, h - 0.035), (w / 2, d / 2, h), mat)
    legs(b, w, d, h - 0.035, 0.05 if h > 0.5 else 0.04, mat)
    if h > 0.5:
        b.box((-w / 2 + 0.08, -d / 2 + 0.06, h - 0.11), (w / 2 - 0.08, -d / 2 + 0.08, h - 0.035), mat)
        b.box((-w / 2 + 0.08, d / 2 - 0.08, h - 0.11), (w / 2 - 0.08, d / 2 - 0.06, h - 0.035), mat)


def chair(b: SceneBuilder, p: Palette) -> None:
    """A dining chair with a slatted back."""
    legs(b, 0.43, 0.43, 0.43, 0.035, p.wood, 0.01)
    b.box((-0.22, -0.22, 0.43), (0.22, 0.22, 0.47), p.fabric2)
    for x in (-0.195, 0.195):
        b.box((x - 0.018, 0.18, 0.47), (x + 0.018, 0.215, 0.9), p.wood)
    for z in (0.58, 0.7, 0.82):
        b.box((-0.18, 0.185, z), (0.18, 0.205, z + 0.06), p.wood)


def sofa(b: SceneBuilder, p: Palette, w: float = 1.9, d: float = 0.85) -> None:
    """A sofa with arms, seat cushions, back cushions and throw pillows."""
    f = p.fabric
    b.box((-w / 2, -d / 2, 0.1), (w / 2, d / 2, 0.3), f)
    legs(b, w, d, 0.1, 0.05, p.wood2)
    b.box((-w / 2, d / 2 - 0.22, 0.3), (w / 2, d / 2, 0.72), f)
    for x in (-w / 2, w / 2 - 0.16):
        b.box((x, -d / 2, 0.1), (x + 0.16, d / 2, 0.56), f)
    seats = max(1, round((w - 0.32) / 0.75))
    step = (w - 0.32) / seats
    for i in range(seats):
        x = -w / 2 + 0.16 + i * step
        b.box((x + 0.008, -d / 2 - 0.02, 0.3), (x + step - 0.008, d / 2 - 0.22, 0.43), f)
        b.box((x + 0.015, d / 2 - 0.34, 0.43), (x + step - 0.015, d / 2 - 0.2, 0.8), f)
    for x in (-w / 2 + 0.36, w / 2 - 0.36)[: max(1, seats)]:
        b.box(
            (x - 0.17, d / 2 - 0.48, 0.44),
            (x + 0.17, d / 2 - 0.36, 0.74),
            p.fabric2,
            yaw=float(b.rng.uniform(-0.4, 0.4)),
        )


def bed(b: SceneBuilder, p: Palette, w: float = 1.5, d: float = 2.0) -> None:
    """A bed with head board, mattress, blanket and pillows; head towards +y."""
    b.box((-w / 2, -d / 2, 0.12), (w / 2, d / 2, 0.3), p.wood)
    b.box((-w / 2 - 0.03, d / 2 - 0.06, 0.0), (w / 2 + 0.03, d / 2, 1.0), p.wood)
    b.box((-w / 2 + 0.03, -d / 2 + 0.03, 0.3), (w / 2 - 0.03, d / 2 - 0.07, 0.5), p.white)
    b.box((-w / 2 + 0.0, -d / 2 + 0.01, 0.34), (w / 2 - 0.0, d / 2 - 0.75, 0.54), p.fabric)
    for x in (-w / 4, w / 4):
        b.ellipsoid((x, d / 2 - 0.35, 0.56), (0.3, 0.2, 0.09), p.white)


def cabinet(b: SceneBuilder, p: Palette, w: float, d: float, h: float, rows: int, columns: int) -> None:
    """A chest of drawers or cupboard: fronts with gaps and knobs, back towards +y."""
    b.box((-w / 2, -d / 2 + 0.02, 0.06), (w / 2, d / 2, h), p.wood)
    b.box((-w / 2 + 0.03, -d / 2 + 0.05, 0.0), (w / 2 - 0.03, d / 2, 0.06), p.dark)
    front = p.wood2 if b.rng.random() < 0.5 else p.wood
    dx, dz = w / columns, (h - 0.1) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = -w / 2 + i * dx, 0.08 + j * dz
            b.box((x + 0.01, -d / 2, z + 0.008), (x + dx - 0.01, -d / 2 + 0.02, z + dz - 0.008), front)
            b.ellipsoid((x + dx / 2, -d / 2 - 0.012, z + dz * 0.7), (0.015, 0.015, 0.015), p.metal)


def bookshelf(b: SceneBuilder, p: Palette, w: float = 0.9, d: float = 0.3, h: float = 1.9) -> None:
    """An open shelf with rows of books and things."""
    t = 0.022
    for x in (-w / 2, w / 2 - t):
        b.box((x, -d / 2, 0), (x + t, d / 2, h), p.wood)
    b.box((-w / 2, d / 2 - 0.012, 0), (w / 2, d / 2, h), p.wood)
    shelves = max(2, round(h / 0.36))
    gap = (h - t) / shelves
    for k in range(shelves + 1):
        b.box((-w / 2 + t, -d / 2, k * gap), (w / 2 - t, d / 2 - 0.012, k * gap + t), p.wood)
    for k in range(shelves):
        z = k * gap + t
        x = -w / 2 + t + 0.01
        while x < w / 2 - 0.12:
            room = w / 2 - t - 0.01 - x
            kind = b.rng.random()
            if kind < 0.72:
                length = min(room, float(b.rng.uniform(0.15, 0.5)))
                tall = gap * float(b.rng.uniform(0.55, 0.85))
                spines = b.material("books")
                b.box((x, -d / 2 + 0.04, z), (x + length, d / 2 - 0.05, z + tall), p.white, front=spines)
                x += length + 0.004
            elif kind < 0.86:
                with b.at(x + 0.08, -0.02, z=z):
                    vase(b, p, gap * 0.6, 0.05)
                x += 0.18
            else:
                x += 0.12


def vase(b: SceneBuilder, p: Palette, h: float, r: float) -> None:
    """A rounded pot."""
    mat = p.clay if b.rng.random() < 0.6 else p.white
    b.ellipsoid((0, 0, h * 0.4), (r, r, h * 0.4), mat)
    b.cylinder(0, 0, h * 0.6, h, r * 0.5, mat)


def plant(b: SceneBuilder, p: Palette, h: float) -> None:
    """A pot with foliage."""
    pot = h * 0.28
    b.cylinder(0, 0, 0, pot, h * 0.16, p.clay, top=p.dark)
    b.cylinder(0, 0, pot, h * 0.6, h * 0.015, p.wood2)
    for _ in range(int(b.rng.integers(16, 30))):
        a, r = b.rng.uniform(0, 2 * np.pi), h * 0.28 * np.sqrt(b.rng.random())
        z = h * b.rng.uniform(0.42, 0.97)
        s = h * b.rng.uniform(0.04, 0.1)
        b.ellipsoid(
            (float(r * np.cos(a)), float(r * np.sin(a)), float(z)),
            (float(s * 1.3), float(s * 0.6), float(s * 0.45)),
            p.leaf,
            yaw=float(a + b.rng.uniform(-0.5, 0.5)),
        )


def floor_lamp(b: SceneBuilder, p: Palette, h: float = 1.55) -> None:
    """A standing lamp with a glowing shade, and its light."""
    b.cylinder(0, 0, 0, 0.025, 0.14, p.dark, gate=LAMP)
    b.cylinder(0, 0, 0.025, h - 0.15, 0.012, p.metal, gate=LAMP)
    b.cylinder(0, 0, h - 0.3, h, 0.17, p.glow, gate=LAMP)
    b.light((0, 0, h - 0.15), (0.1, 0, 0), (0, 0.1, 0), (8.0, 6.4, 4.4), bulb=True)


def desk_set(b: SceneBuilder, p: Palette, w: float = 1.3) -> None:
    """A desk with screen, keyboard, papers and a chair in front."""
    table(b, p, w, 0.65, 0.74)
    display = b.material("screen", (1.0, 1.0, 1.0), emission=0.55)
    b.box((-0.3, 0.1, 0.86), (0.3, 0.13, 1.22), p.dark, front=display)
    b.box((-0.03, 0.12, 0.745), (0.03, 0.16, 0.9), p.dark)
    b.box((-0.12, 0.06, 0.74), (0.12, 0.22, 0.75), p.dark)
    b.box((-0.22, -0.2, 0.74), (0.22, -0.06, 0.76), p.white)
    clutter(b, p, 0.42, 0.0, 0.74, 0.12)
    with b.at(float(b.rng.uniform(-0.2, 0.2)), -0.55, float(np.pi + b.rng.uniform(-0.5, 0.5))):
        chair(b, p)


def tv_set(b: SceneBuilder, p: Palette, w: float = 1.5) -> None:
    """A low board with a television."""
    cabinet(b, p, w, 0.4, 0.45, 1, 3)
    display = b.material("screen", (0.6, 0.6, 0.6), emission=0.25)
    b.box((-0.5, 0.0, 0.5), (0.5, 0.04, 1.08), p.dark, front=display)
    b.box((-0.16, -0.05, 0.45), (0.16, 0.08, 0.5), p.dark)
    clutter(b, p, w / 2 - 0.15, 0.0, 0.45, 0.1)


def clutter(b: SceneBuilder, p: Palette, x: float, y: float, z: float, size: float) -> None:
    """One small thing: books, bowl, vase, carton, ball, cup, plant or a model."""
    number = b.draw_model("top")
    if number is not None:
        w, d, h = b.model_size(number)
        s = min(1.0, 2.4 * size / max(w, d))
        with b.at(x, y, float(b.rng.uniform(-0.6, 0.6)), z):
            b.model(number, (s * w, s * d, s * h))
        return
    kind = int(b.rng.integers(0, 7))
    with b.at(x, y, float(b.rng.uniform(-0.6, 0.6)), z):
        if kind == 0:
            top = 0.0
            for _ in range(int(b.rng.integers(2, 5))):
                w, d, h = size * b.rng.uniform(0.7, 1.0), size * b.rng.uniform(0.5, 0.7), 0.03
                cover = b.material("print", scale=0.0)
                b.box((-w, -d, top), (w, d, top + h), cover, yaw=float(b.rng.uniform(-0.3, 0.3)))
                top += h
        elif kind == 1:
            b.ellipsoid((0, 0, size * 0.35), (size, size, size * 0.35), p.clay)
            for k in range(3):
                a = 2.1 * k
                b.ellipsoid(
                    (size * 0.4 * float(np.cos(a)), size * 0.4 * float(np.sin(a)), size * 0.75),
                    (size * 0.32,) * 3,
                    b.material("plain", (0.8, float(b.rng.uniform(0.1, 0.7)), 0.1), 0.5, gloss=0.4),
                )
        elif kind == 2:
            vase(b, p, size * 2.4, size * 0.7)
        elif kind == 3:
            b.box((-size * 0.7, -size * 0.5, 0), (size * 0.7, size * 0.5, size * 1.6), b.material("print"))
        elif kind == 4:
            ball = b.material("fabric", scale=0.3)
            b.ellipsoid((0, 0, size * 0.8), (size * 0.8,) * 3, ball)
        elif kind == 5:
            b.cylinder(0, 0, 0, 0.1, 0.04, p.white, top=p.dark)
            b.cylinder(0.13, 0.05, 0, 0.1, 0.04, p.clay, top=p.dark)
        else:
            plant(b, p, size * 3.2)


def picture(b: SceneBuilder, p: Palette, w: float, h: float, z: float) -> None:
    """A framed picture whose back lies in the plane y = 0, front towards -y."""
    frame = p.wood2 if b.rng.random() < 0.5 else p.dark
    b.box((-w / 2, -0.025, z - h / 2), (w / 2, -0.002, z + h / 2), frame)
    mount = min(w, h) * 0.07
    b.box(
        (-w / 2 + mount / 2, -0.028, z - h / 2 + mount / 2), (w / 2 - mount / 2, -0.02, z + h / 2 - mount / 2), p.white
    )
    m = mount * 1.8
    b.box((-w / 2 + m, -0.031, z - h / 2 + m), (w / 2 - m, -0.02, z + h / 2 - m), p.white, front=b.material("art"))


def window(b: SceneBuilder, p: Palette, w: float, h: float, z: float, brightness: float, curtains: bool) -> None:
    """A window in the plane y = 0: bright view, frame, bars, sill, curtains; shines into the room."""
    view = b.material("outside", emission=brightness)
    b.box((-w / 2, -0.012, z - h / 2), (w / 2, -0.002, z + h / 2), p.white, front=view, gate=WINDOW)
    f = 0.05
    for x in (-w / 2 - f, -f / 2, w / 2):
        b.box((x, -0.05, z - h / 2), (x + f, -0.002, z + h / 2), p.white)
    for zz in (z - h / 2 - f, z + h / 2, z + h * 0.15):
        b.box((-w / 2 - f, -0.05, zz), (w / 2 + f, -0.002, zz + f), p.white)
    b.box((-w / 2 - 0.1, -0.16, z - h / 2 - f - 0.03), (w / 2 + 0.1, -0.002, z - h / 2 - f), p.white)
    if curtains:
        for side in (-1, 1):
            for k in range(7):
                x = side * (w / 2 + 0.02 + 0.045 * k)
                b.cylinder(x, -0.11 - 0.018 * (k % 2), 0.05, z + h / 2 + 0.2, 0.032, p.fabric2)
        b.box((-w / 2 - 0.45, -0.13, z + h / 2 + 0.19), (w / 2 + 0.45, -0.1, z + h / 2 + 0.22), p.metal)
    s = brightness
    # u x v points along -y, into the room
    b.light((0, -0.06, z), (w / 2, 0, 0), (0, 0, h / 2), (0.8 * s, 0.9 * s, 1.0 * s))


def door(b: SceneBuilder, p: Palette, w: float = 0.85, h: float = 2.0) -> None:
    """A closed door with frame and handle in the plane y = 0."""
    leaf_mat = p.white if b.rng.random() < 0.5 else p.wood
    b.box((-w / 2, -0.02, 0), (w / 2, -0.002, h), leaf_mat)
    for z0, z1 in ((0.15, 0.85), (1.0, h - 0.15)):
        b.box((-w / 2 + 0.12, -0.032, z0), (w / 2 - 0.12, -0.02, z1), leaf_mat)
    for x in (-w / 2 - 0.08, w / 2):
        b.box((x, -0.05, 0), (x + 0.08, -0.002, h + 0.08), p.white)
    b.box((-w / 2 - 0.08, -0.05, h), (w / 2 + 0.08, -0.002, h + 0.08), p.white)
    b.box((w / 2 - 0.12, -0.07, 1.0), (w / 2 - 0.03, -0.05, 1.03), p.metal)


def ceiling_lamp(b: SceneBuilder, p: Palette, x: float, y: float, height: float, power: float) -> None:
    """A hanging globe with a little drop."""
    z = height - 0.32
    b.cylinder(x, y, z, height, 0.008, p.dark, gate=LAMP)
    b.ellipsoid((x, y, z), (0.17, 0.17, 0.13), p.glow, gate=LAMP)
    r = 14.0 * power
    b.light((x, y, z - 0.05), (0.11, 0, 0), (0, -0.11, 0), (r, r * 0.9, r * 0.74), bulb=True)


def wall_shelf(b: SceneBuilder, p: Palette, w: float, z: float) -> None:
    """A board on the wall plane y = 0 with things on it."""
    b.box((-w / 2, -0.2, z), (w / 2, -0.002, z + 0.025), p.wood)
    for x in np.arange(-w / 2 + 0.12, w / 2 - 0.08, 0.26):
        if b.rng.random() < 0.8:
            clutter(b, p, float(x), -0.1, z + 0.025, 0.06)
