"""Random furnished rooms: walls, openings, furniture along the walls, groups in the middle, clutter and light."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gld_ros.data.rooms import furniture as f
from gld_ros.data.rooms.scene import PackedScene, SceneBuilder
from gld_ros.data.rooms.textures import TextureSet

Rect = tuple[float, float, float, float]  # x0 x1 y0 y1


@dataclass(frozen=True)
class LayoutConfig:
    """Ranges a random room is drawn from; lengths in metres."""

    side: tuple[float, float] = (3.2, 6.5)
    height: tuple[float, float] = (2.3, 3.0)
    wall_items: tuple[int, int] = (3, 7)
    pictures: tuple[int, int] = (2, 7)
    loose: tuple[int, int] = (2, 7)
    sun: float = 0.35  # share of rooms with sunlight through the window
    models: float = 0.5  # share of furniture models, where a cache of them is given


class _Plan:
    """What is already taken on the floor and on the walls."""

    def __init__(self, b: SceneBuilder) -> None:
        self.b = b
        self.taken: list[Rect] = []
        self.wall_taken: list[tuple[int, float, float, float, float]] = []  # wall, from, to, z0, z1

    def wall_length(self, wall: int) -> float:
        return self.b.room[0] if wall in (0, 2) else self.b.room[1]

    def frame(self, wall: int, s: float) -> tuple[float, float, float]:
        """Position and yaw of a frame on a wall at s metres along it, whose -y looks into the room."""
        x, y, _ = self.b.room
        return ((s, 0.0, math.pi), (x, s, -math.pi / 2), (x - s, y, 0.0), (0.0, y - s, math.pi / 2))[wall]

    def rect_at_wall(self, wall: int, s: float, w: float, d: float) -> Rect:
        x, y, _ = self.b.room
        return (
            (s - w / 2, s + w / 2, 0.0, d),
            (x - d, x, s - w / 2, s + w / 2),
            (x - s - w / 2, x - s + w / 2, y - d, y),
            (0.0, d, y - s - w / 2, y - s + w / 2),
        )[wall]

    def free(self, r: Rect, margin: float = 0.06) -> bool:
        x, y, _ = self.b.room
        if r[0] < -1e-6 or r[1] > x + 1e-6 or r[2] < -1e-6 or r[3] > y + 1e-6:
            return False
        return not any(
            r[0] < t[1] + margin and r[1] > t[0] - margin and r[2] < t[3] + margin and r[3] > t[2] - margin
            for t in self.taken
        )

    def wall_free(self, wall: int, s: float, w: float, z0: float, z1: float) -> bool:
        a, c = s - w / 2, s + w / 2
        if a < 0.1 or c > self.wall_length(wall) - 0.1:
            return False
        return not any(k == wall and a < t1 and c > t0 and z0 < h1 and z1 > h0 for k, t0, t1, h0, h1 in self.wall_taken)

    def place_at_wall(
        self,
        w: float,
        d: float,
        h: float,
        build: Callable[[], None],
        gap: float = 0.0,
        walls: tuple[int, ...] = (0, 1, 2, 3),
    ) -> bool:
        """Put a w x d x h piece with its back to a wall, where there is room."""
        for _ in range(12):
            wall = int(self.b.rng.choice(walls))
            length = self.wall_length(wall)
            if length < w + 0.2:
                continue
            s = float(self.b.rng.uniform(w / 2 + 0.05, length - w / 2 - 0.05))
            rect = self.rect_at_wall(wall, s, w, d + gap)
            if self.free(rect) and self.wall_free(wall, min(max(s, w / 2 + 0.11), length - w / 2 - 0.11), w, 0.0, h):
                self.taken.append(rect)
                self.wall_taken.append((wall, s - w / 2, s + w / 2, 0.0, h))
                x, y, yaw = self.frame(wall, s)
                with self.b.at(x, y, yaw), self.b.at(0.0, -d / 2 - 0.005):
                    build()
                return True
        return False

    def hang(self, w: float, h: float, z: float, build: Callable[[], None], floor: bool = False) -> bool:
        """Put something flat on a wall at height z (centre), or standing on the floor."""
        for _ in range(12):
            wall = int(self.b.rng.integers(0, 4))
            length = self.wall_length(wall)
            if length < w + 0.4:
                continue
            s = float(self.b.rng.uniform(w / 2 + 0.15, length - w / 2 - 0.15))
            z0, z1 = (0.0, h) if floor else (z - h / 2, z + h / 2)
            if self.wall_free(wall, s, w + 0.1, z0, z1):
                self.wall_taken.append((wall, s - w / 2, s + w / 2, z0, z1))
                if floor:
                    self.taken.append(self.rect_at_wall(wall, s, w, 0.6))
                x, y, yaw = self.frame(wall, s)
                with self.b.at(x, y, yaw):
                    build()
                return True
        return False

    def place_loose(self, w: float, d: float, build: Callable[[], None]) -> bool:
        """Put something anywhere on the free floor, turned a little."""
        x, y, _ = self.b.room
        for _ in range(12):
            cx, cy = self.b.rng.uniform(w / 2, max(x - w / 2, w / 2)), self.b.rng.uniform(d / 2, max(y - d / 2, d / 2))
            r = 0.5 * math.hypot(w, d)
            rect = (cx - r, cx + r, cy - r, cy + r)
            if self.free(rect):
                self.taken.append(rect)
                with self.b.at(float(cx), float(cy), float(self.b.rng.uniform(0, 2 * math.pi))):
                    build()
                return True
        return False


def random_room(seed: int, textures: TextureSet, config: LayoutConfig | None = None) -> PackedScene:
    """The furnished room of a seed: same seed and textures, same room."""
    config = config or LayoutConfig()
    rng = np.random.default_rng([seed, 7])
    size = (float(rng.uniform(*config.side)), float(rng.uniform(*config.side)), float(rng.uniform(*config.height)))
    b = SceneBuilder(textures, rng, size, model_share=config.models)
    p = f.make_palette(b)
    plan = _Plan(b)
    _shell(b, rng)
    _openings(b, p, plan, rng, config)
    if rng.random() < 0.7:
        _sitting_group(b, p, plan, rng)
    if rng.random() < 0.4:
        _dining_group(b, p, plan, rng)
    _wall_furniture(b, p, plan, rng, config)
    for _ in range(int(rng.integers(config.pictures[0], config.pictures[1] + 1))):
        w, h = float(rng.uniform(0.3, 1.0)), float(rng.uniform(0.3, 0.8))
        if rng.random() < 0.15:
            plan.hang(w, 0.5, 1.5, lambda w=w: f.wall_shelf(b, p, w, 1.4))  # type: ignore[misc]
        else:
            z = float(rng.uniform(1.35, 1.75))
            plan.hang(w, h, z, lambda w=w, h=h, z=z: f.picture(b, p, w, h, z))  # type: ignore[misc]
    for _ in range(int(rng.integers(config.loose[0], config.loose[1] + 1))):
        _loose_thing(b, p, plan, rng)
    f.ceiling_lamp(b, p, size[0] * float(rng.uniform(0.35, 0.65)), size[1] * float(rng.uniform(0.35, 0.65)), size[2],
                   float(rng.uniform(0.5, 1.3)))  # fmt: skip
    warm = rng.uniform(0.92, 1.08, 3)
    level = float(rng.uniform(0.25, 0.5))
    b.ambient = (level * warm[0], level * warm[1], level * 0.95 * warm[2])
    return b.pack()


def _shell(b: SceneBuilder, rng: np.random.Generator) -> None:
    x, y, _ = b.room
    tint = [(float(t[0]), float(t[1]), float(t[2])) for t in np.clip(rng.normal(0.95, 0.1, (2, 3)), 0.6, 1.05)]
    walls = b.material("wall", tint[0], scale=float(rng.uniform(0.8, 2.0)))
    accent = b.material("wall" if rng.random() < 0.7 else "stone", tint[1], scale=float(rng.uniform(0.8, 2.0)))
    ground = b.material("floor", scale=float(rng.uniform(0.9, 1.6)), gloss=float(rng.uniform(0.2, 0.7)))
    top = b.material("ceiling", scale=2.0)
    b.room_mats = [walls, walls, walls, walls, ground, top]
    if rng.random() < 0.5:
        b.room_mats[int(rng.integers(0, 4))] = accent
    if rng.random() < 0.85:
        board = b.material("plain", (0.88, 0.87, 0.84), 0.5)
        h = float(rng.uniform(0.06, 0.12))
        b.box((0, 0, 0), (x, 0.015, h), board)
        b.box((0, y - 0.015, 0), (x, y, h), board)
        b.box((0, 0, 0), (0.015, y, h), board)
        b.box((x - 0.015, 0, 0), (x, y, h), board)


def _openings(b: SceneBuilder, p: f.Palette, plan: _Plan, rng: np.random.Generator, config: LayoutConfig) -> None:
    plan.hang(1.05, 2.1, 0.0, lambda: f.door(b, p), floor=True)
    glow = float(rng.uniform(1.2, 3.0))
    walls_before = len(plan.wall_taken)
    for _ in range(int(rng.integers(1, 3))):
        w, h = float(rng.uniform(0.9, 1.9)), float(rng.uniform(1.0, 1.4))
        curtains = bool(rng.random() < 0.6)
        z = min(1.45, b.room[2] - h / 2 - 0.25)
        plan.hang(w + (0.9 if curtains else 0.2), h + 0.2, z,
                  lambda w=w, h=h, z=z, c=curtains: f.window(b, p, w, h, z, glow, c))  # type: ignore[misc]  # fmt: skip
    if rng.random() < config.sun and len(plan.wall_taken) > walls_before:
        wall = plan.wall_taken[walls_before][0]
        outward = ((0, -1), (1, 0), (0, 1), (-1, 0))[wall]
        turn = float(rng.uniform(-0.7, 0.7))
        up = float(rng.uniform(0.35, 0.9))
        dx = outward[0] * math.cos(turn) - outward[1] * math.sin(turn)
        dy = outward[0] * math.sin(turn) + outward[1] * math.cos(turn)
        n = math.sqrt(1 + up * up)
        power = float(rng.uniform(2.0, 5.0))
        b.sun = [dx / n, dy / n, up / n, power, power * 0.9, power * 0.75]


def _sitting_group(b: SceneBuilder, p: f.Palette, plan: _Plan, rng: np.random.Generator) -> None:
    w = float(rng.uniform(1.5, 2.2))

    def build() -> None:
        f.sofa(b, p, w)
        rug = b.material("rug")
        if rng.random() < 0.8:
            b.box((-w * 0.6, -2.15, 0.0), (w * 0.6, -0.3, 0.012), p.fabric, front=None)
            b.mats[-1][5] = rug
        with b.at(float(rng.uniform(-0.15, 0.15)), -1.1):
            tw = float(rng.uniform(0.8, 1.1))
            f.table(b, p, tw, 0.55, 0.42, p.wood2)
            f.clutter(b, p, -tw * 0.25, 0.0, 0.42, 0.11)
            f.clutter(b, p, tw * 0.25, 0.05, 0.42, 0.09)
        if rng.random() < 0.5:
            with b.at(-w / 2 - 0.1, -1.75, math.pi * 0.8):
                f.sofa(b, p, 0.85, 0.8)
        side = 1.0 if rng.random() < 0.5 else -1.0
        with b.at(side * (w / 2 + 0.28), 0.1):
            if rng.random() < 0.6:
                f.floor_lamp(b, p)
            else:
                f.plant(b, p, 1.1)

    plan.place_at_wall(w + 0.9, 0.9, 0.85, build, gap=1.8)


def _dining_group(b: SceneBuilder, p: f.Palette, plan: _Plan, rng: np.random.Generator) -> None:
    w, d = float(rng.uniform(1.1, 1.6)), float(rng.uniform(0.75, 0.9))

    def build() -> None:
        f.table(b, p, w, d, 0.74)
        for x in (-w / 4, w / 4):
            for side in (-1, 1):
                with b.at(x, side * (d / 2 + float(rng.uniform(0.0, 0.25))), 0.0 if side > 0 else math.pi):
                    f.chair(b, p)
        for x in np.linspace(-w / 3, w / 3, 3):
            f.clutter(b, p, float(x), float(rng.uniform(-0.15, 0.15)), 0.74, 0.1)

    plan.place_loose(w + 0.1, d + 0.6, build)


def _wall_furniture(b: SceneBuilder, p: f.Palette, plan: _Plan, rng: np.random.Generator, config: LayoutConfig) -> None:
    for _ in range(int(rng.integers(config.wall_items[0], config.wall_items[1] + 1))):
        if _wall_model(b, plan):
            continue
        kind = int(rng.integers(0, 7))
        if kind == 0:
            w, h = float(rng.uniform(0.6, 1.2)), float(rng.uniform(1.2, 2.0))
            plan.place_at_wall(w, 0.3, h, lambda w=w, h=h: f.bookshelf(b, p, w, 0.3, h))  # type: ignore[misc]
        elif kind == 1:
            w, h = float(rng.uniform(0.7, 1.4)), float(rng.uniform(0.7, 1.1))

            def chest(w: float = w, h: float = h) -> None:
                f.cabinet(b, p, w, 0.42, h, int(rng.integers(2, 5)), int(rng.integers(1, 3)))
                f.clutter(b, p, -w * 0.25, 0.0, h, 0.1)
                f.clutter(b, p, w * 0.25, 0.0, h, 0.12)

            plan.place_at_wall(w, 0.44, h, chest)
        elif kind == 2:
            w, h = float(rng.uniform(0.8, 1.5)), float(rng.uniform(1.8, 2.2))
            plan.place_at_wall(w, 0.6, h, lambda w=w, h=h: f.cabinet(b, p, w, 0.6, h, 1, 2))  # type: ignore[misc]
        elif kind == 3:
            plan.place_at_wall(1.3, 0.65, 1.25, lambda: f.desk_set(b, p), gap=0.7)
        elif kind == 4:
            plan.place_at_wall(1.5, 0.42, 1.1, lambda: f.tv_set(b, p))
        elif kind == 5:
            plan.place_at_wall(0.6, 0.6, 1.4, lambda: f.plant(b, p, float(rng.uniform(0.8, 1.5))))
        elif min(b.room[:2]) > 3.6:
            plan.place_at_wall(1.6, 2.05, 1.0, lambda: f.bed(b, p))


def _wall_model(b: SceneBuilder, plan: _Plan) -> bool:
    """Try to put a model with its back to a wall; False when the piece is to be built of solids."""
    number = b.draw_model("wall")
    for _ in range(3):
        if number is None:
            return False
        w, d, h = _some_size(b, number)
        if plan.place_at_wall(w, d, h, lambda n=number, s=(w, d, h): b.model(n, s), gap=0.15):  # type: ignore[misc]
            return True
        number = b.draw_model("wall")
    return False


def _some_size(b: SceneBuilder, number: int) -> tuple[float, float, float]:
    w, d, h = b.model_size(number)
    s = float(b.rng.uniform(0.9, 1.1))
    return s * w, s * d, min(s * h, b.room[2] - 0.05)


def _loose_thing(b: SceneBuilder, p: f.Palette, plan: _Plan, rng: np.random.Generator) -> None:
    number = b.draw_model("floor")
    if number is not None:
        w, d, h = _some_size(b, number)
        plan.place_loose(w, d, lambda: b.model(number, (w, d, h)))
        return
    kind = int(rng.integers(0, 6))
    if kind == 0:
        plan.place_loose(0.5, 0.5, lambda: f.chair(b, p))
    elif kind == 1:
        s = float(rng.uniform(0.12, 0.3))
        carton = b.material("print" if rng.random() < 0.6 else "wood")
        plan.place_loose(2.2 * s, 2 * s, lambda: b.box((-s, -0.8 * s, 0), (s, 0.8 * s, s * 1.5), carton))
    elif kind == 2:
        r = float(rng.uniform(0.08, 0.22))
        mat = b.material("fabric", scale=0.3)
        plan.place_loose(2 * r, 2 * r, lambda: b.ellipsoid((0, 0, r), (r, r, r), mat))
    elif kind == 3:
        plan.place_loose(0.7, 0.5, lambda: f.table(b, p, 0.6, 0.4, 0.45, p.wood2))
    elif kind == 4:
        r, h = float(rng.uniform(0.18, 0.28)), float(rng.uniform(0.35, 0.5))
        plan.place_loose(2 * r, 2 * r, lambda: b.cylinder(0, 0, 0, h, r, p.fabric2))
    else:
        plan.place_loose(0.6, 0.6, lambda: f.plant(b, p, float(rng.uniform(0.5, 1.2))))
