"""A room as a list of solids with materials and lights, and its packed form for the ray caster."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.cells import Cells, light_cells, sun_cells
from gld_ros.data.rooms.kernels import make_ready
from gld_ros.data.rooms.lighting import Lighting, Shadows
from gld_ros.data.rooms.meshes import Meshes, join, no_meshes
from gld_ros.data.rooms.surfaces import Look
from gld_ros.data.rooms.textures import TextureSet
from gld_ros.data.rooms.tracer import BOX, CYLINDER, ELLIPSOID, LAMP, MESH, OPAQUE, WINDOW, Solids
from gld_ros.data.rooms.trees import sah_tree

__all__ = ["LAMP", "OPAQUE", "WINDOW", "PackedScene", "SceneBuilder", "Vec3"]

Vec3 = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class PackedScene:
    """Flat arrays of a scene, as the kernels take them. World: metres, z up, floor at z = 0."""

    prims: NDArray[np.float64]  # (N, 12)
    mats: NDArray[np.int32]  # (N, 6) material of each face
    bounds: NDArray[np.float64]  # (M, 6) tree boxes, depth first
    skip: NDArray[np.int32]  # (M,) next node when a box is missed
    leaf: NDArray[np.int32]  # (M,) primitive of a leaf, -1 = inner
    gate: NDArray[np.int8]  # (N,) OPAQUE, LAMP or WINDOW
    room: NDArray[np.float64]  # (6,) x0 x1 y0 y1 z0 z1
    room_mats: NDArray[np.int32]  # (6,)
    table: NDArray[np.float64]  # (K, 7) materials
    textures: TextureSet
    lights: NDArray[np.float64]  # (L, 16)
    sun: NDArray[np.float64]  # (6,) direction towards it, irradiance r g b
    ambient: NDArray[np.float64]  # (3,)
    meshes: Meshes = field(default_factory=no_meshes)

    @functools.cached_property
    def solids(self) -> Solids:
        """Geometry for the kernels."""
        rank = np.zeros(len(self.prims), np.int32)
        order = self.leaf[self.leaf >= 0]
        rank[order] = np.arange(len(order))
        return Solids(
            self.prims,
            self.mats,
            self.gate,
            self.bounds,
            self.skip,
            self.leaf,
            rank,
            self.room,
            self.room_mats,
            self.meshes,
        )

    @functools.cached_property
    def look(self) -> Look:
        """Materials and textures for the kernels."""
        return Look(self.table, self.textures.texels, self.textures.offsets, self.textures.linear)

    @functools.cached_property
    def lighting(self) -> Lighting:
        """All light sources."""
        return Lighting(self.lights, self.sun, self.ambient)

    @functools.cached_property
    def main_lighting(self) -> Lighting:
        """The strongest light sources, for training pictures."""
        return Lighting(main_lights(self.lights), self.sun, self.ambient)

    @functools.cached_property
    def shadows(self) -> Shadows:
        """What stands in the way of the main lights."""
        *sun, frame = sun_cells(self.prims, self.gate, self.room, self.sun)
        return Shadows(Cells(*light_cells(self.prims, self.gate, self.main_lighting.lights)), Cells(*sun), frame)


def main_lights(lights: NDArray[np.float64], count: int = 2) -> NDArray[np.float64]:
    """The strongest lights, brightened to the power of all: fewer shadow rays for training pictures."""
    power = lights[:, 12:15].sum(1) * lights[:, 15]
    if len(lights) <= count:
        return lights
    chosen = lights[np.sort(np.argsort(-power, kind="stable")[:count])].copy()
    chosen[:, 12:15] *= power.sum() / (chosen[:, 12:15].sum(1) * chosen[:, 15]).sum()
    return chosen


@dataclass
class SceneBuilder:
    """Collects solids in a local frame that ``at`` moves; call ``pack`` at the end."""

    textures: TextureSet
    rng: np.random.Generator
    room: tuple[float, float, float] = (5.0, 4.0, 2.6)  # size x, y, z; origin at a floor corner
    prims: list[list[float]] = field(default_factory=list)
    mats: list[list[int]] = field(default_factory=list)
    gates: list[int] = field(default_factory=list)
    table: list[list[float]] = field(default_factory=list)
    lights: list[list[float]] = field(default_factory=list)
    room_mats: list[int] = field(default_factory=lambda: [0] * 6)
    sun: list[float] = field(default_factory=lambda: [0.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    ambient: Vec3 = (0.3, 0.3, 0.3)
    model_share: float = 0.0  # of the furniture that may be a model, where the texture set has some
    models: dict[int, int] = field(default_factory=dict)  # model used -> number of its mesh in this room
    _origin: Vec3 = (0.0, 0.0, 0.0)
    _yaw: float = 0.0

    def material(
        self, category: str, tint: Vec3 = (1.0, 1.0, 1.0), scale: float = 0.0, emission: float = 0.0, gloss: float = 0.0
    ) -> int:
        """Add a material with a texture of this category; scale = metres a tile, 0 = stretched over each face."""
        self.table.append([self.textures.pick(category, self.rng), scale, *tint, emission, gloss])
        return len(self.table) - 1

    @contextmanager
    def at(self, x: float, y: float, yaw: float = 0.0, z: float = 0.0) -> Iterator[None]:
        """Build in a frame placed at (x, y, z) of the present frame and turned by yaw."""
        saved = self._origin, self._yaw
        self._origin, self._yaw = self._world(x, y, z), self._yaw + yaw
        yield
        self._origin, self._yaw = saved

    def _world(self, x: float, y: float, z: float) -> Vec3:
        c, s = math.cos(self._yaw), math.sin(self._yaw)
        ox, oy, oz = self._origin
        return ox + c * x - s * y, oy + s * x + c * y, oz + z

    def _add(self, kind: int, centre: Vec3, half: Vec3, mats: list[int], yaw: float, gate: int, mesh: int = -1) -> None:
        angle = self._yaw + yaw
        shift = self.rng.random(2)
        half = (max(half[0], 1e-3), max(half[1], 1e-3), max(half[2], 1e-3))
        self.prims.append([kind, *self._world(*centre), *half, math.cos(angle), math.sin(angle), *shift, mesh])
        self.mats.append(mats)
        self.gates.append(gate)

    def box(
        self, low: Vec3, high: Vec3, mat: int, *, yaw: float = 0.0, front: int | None = None, gate: int = OPAQUE
    ) -> None:
        """A box between two corners of the local frame, turned about its centre; ``front`` (local -y) may differ."""
        centre = tuple((a + b) / 2 for a, b in zip(low, high, strict=True))
        half = tuple(abs(b - a) / 2 for a, b in zip(low, high, strict=True))
        mats = [mat] * 6
        if front is not None:
            mats[2] = front
        self._add(BOX, centre, half, mats, yaw, gate)  # type: ignore[arg-type]

    def cylinder(
        self, x: float, y: float, z0: float, z1: float, radius: float, mat: int, *, top: int | None = None,
        gate: int = OPAQUE,
    ) -> None:  # fmt: skip
        """An upright cylinder."""
        mats = [mat] * 6
        if top is not None:
            mats[5] = top
        self._add(CYLINDER, (x, y, (z0 + z1) / 2), (radius, radius, (z1 - z0) / 2), mats, 0.0, gate)

    def ellipsoid(self, centre: Vec3, half: Vec3, mat: int, *, yaw: float = 0.0, gate: int = OPAQUE) -> None:
        """An ellipsoid whose vertical axis is upright."""
        self._add(ELLIPSOID, centre, half, [mat] * 6, yaw, gate)

    def draw_model(self, place: str) -> int | None:
        """A model for a place, or None to build something of solids."""
        library = self.textures.models
        if library is None or self.rng.random() >= self.model_share:
            return None
        return library.pick(place, self.rng)

    def model_size(self, number: int) -> Vec3:
        """Width, depth and height of a model in metres."""
        assert self.textures.models is not None
        w, d, h = self.textures.models.size_m[number].tolist()
        return w, d, h

    def model(self, number: int, size: Vec3) -> None:
        """A furniture model of this size, standing on the origin with its front towards -y."""
        library = self.textures.models
        assert library is not None
        first = len(self.table)
        tone = float(self.rng.uniform(0.8, 1.1))
        for row in library.parts(number):
            tint = np.ones(3) if library.textured[row] else library.colours[row]
            if np.ptp(tint) < 0.05 and not library.textured[row] and self.rng.random() < 0.6:
                tint = tint * self.rng.uniform(0.4, 1.2, 3)  # many models are grey all over
            self.table.append([float(library.textures[row]), 0.0, *(tone * tint).tolist(), 0.0, 0.2])
        mesh = self.models.setdefault(number, len(self.models))
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        self._add(MESH, (0.0, 0.0, half[2]), half, [first] * 6, 0.0, OPAQUE, mesh)

    def light(self, centre: Vec3, u: Vec3, v: Vec3, radiance: Vec3, *, bulb: bool = False) -> None:
        """A parallelogram centre +- u +- v of the local frame shining along u x v, or to all sides (bulb)."""
        c = np.array(self._world(*centre))
        turn = np.array(
            [[math.cos(self._yaw), -math.sin(self._yaw), 0], [math.sin(self._yaw), math.cos(self._yaw), 0], [0, 0, 1]]
        )
        wu, wv = turn @ u, turn @ v
        cross = np.cross(wu, wv)
        area = 4 * float(np.linalg.norm(cross))
        normal = np.zeros(3) if bulb else cross / np.linalg.norm(cross)
        self.lights.append([*c, *wu, *wv, *normal, *radiance, area])

    def pack(self) -> PackedScene:
        """The scene as flat arrays with a bounding-box tree."""
        make_ready()
        prims = np.array(self.prims, np.float64).reshape(-1, 12)
        bounds, skip, leaf = build_tree(prims)
        x, y, z = self.room
        library = self.textures.models
        return PackedScene(
            prims,
            np.array(self.mats, np.int32).reshape(-1, 6),
            bounds,
            skip,
            leaf,
            np.array(self.gates, np.int8),
            np.array([0.0, x, 0.0, y, 0.0, z]),
            np.array(self.room_mats, np.int32),
            np.array(self.table, np.float64),
            self.textures,
            np.array(self.lights, np.float64).reshape(-1, 16),
            np.array(self.sun, np.float64),
            np.array(self.ambient, np.float64),
            join([library.mesh(number) for number in self.models]) if library is not None else no_meshes(),
        )


def primitive_boxes(prims: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """World-axis bounds (low, high), each (N, 3), of packed primitives."""
    c, s = np.abs(prims[:, 7]), np.abs(prims[:, 8])
    half = np.stack([c * prims[:, 4] + s * prims[:, 5], s * prims[:, 4] + c * prims[:, 5], prims[:, 6]], 1)
    return prims[:, 1:4] - half - 1e-6, prims[:, 1:4] + half + 1e-6


def build_tree(
    prims: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int32]]:
    """Bounding-box tree in depth-first order: bounds (M, 6), skip (M,), leaf (M,)."""
    nodes = max(2 * len(prims) - 1, 0)
    bounds, skip, leaf = np.zeros((nodes, 6)), np.zeros(nodes, np.int32), np.full(nodes, -1, np.int32)
    if nodes:
        sah_tree(*primitive_boxes(prims), bounds, skip, leaf)
    return bounds, skip, leaf
