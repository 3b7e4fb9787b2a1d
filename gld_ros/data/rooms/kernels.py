"""Compiles or loads the room kernels once per process, one process at a time.

numba's cache on disk is not safe against two processes that fill it together: one may load code of the other half
written, and crash.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms import cells, drawing, paths, tracer, trees
from gld_ros.data.rooms.jit import cache_folder
from gld_ros.data.rooms.lighting import Lighting, Shadows
from gld_ros.data.rooms.meshes import no_meshes
from gld_ros.data.rooms.surfaces import Look
from gld_ros.data.rooms.tracer import Solids

try:
    import fcntl
except ImportError:  # Windows: no locks there, and no ROS either
    fcntl = None  # type: ignore[assignment]


@contextmanager
def _locked() -> Iterator[None]:
    """Hold the cache's lock; without a writable cache folder numba keeps none and no lock is needed."""
    file = None
    with suppress(OSError):
        folder = Path(os.environ.get("NUMBA_CACHE_DIR") or cache_folder())
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "w")  # noqa: SIM115 - closed below, after an optional lock
    if file is None or fcntl is None:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _one_box() -> tuple[Solids, Look, Lighting]:
    """A room with one box and one light, of the types all rooms have."""
    prims = np.array([[tracer.BOX, 2.0, 2.0, 0.5, 0.2, 0.2, 0.5, 1.0, 0.0, 0.0, 0.0, -1.0]])
    bounds, skip, leaf = np.zeros((1, 6)), np.zeros(1, np.int32), np.full(1, -1, np.int32)
    trees.sah_tree(prims[:, 1:4] - prims[:, 4:7], prims[:, 1:4] + prims[:, 4:7], bounds, skip, leaf)
    room = np.array([0.0, 4.0, 0.0, 4.0, 0.0, 2.5])
    mats, room_mats, gate = np.zeros((1, 6), np.int32), np.zeros(6, np.int32), np.zeros(1, np.int8)
    solids = Solids(prims, mats, gate, bounds, skip, leaf, np.zeros(1, np.int32), room, room_mats, no_meshes())
    table = np.array([[0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.5]])
    look = Look(table, np.zeros((1, 1, 3), np.uint8), np.zeros(1, np.int64), np.zeros(256))
    lights = np.zeros((1, 16))
    lights[0, :3], lights[0, 12:] = (2.0, 2.0, 2.4), 1.0
    return solids, look, Lighting(lights, np.ones(6), np.zeros(3))


def _view() -> NDArray[np.float64]:
    view = np.eye(4)
    view[:3, 3] = (1.0, 1.0, 1.0)
    return view


@functools.lru_cache(maxsize=1)
def make_ready() -> None:
    """Run the kernels of training pictures on a small room, which compiles them for the types all rooms have."""
    depth, ids, rgb = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32), np.zeros((4, 4, 3), np.float32)
    lens = (3.0, 3.0, 1.5, 1.5, _view())
    with _locked():
        solids, look, lighting = _one_box()
        drawing.depth_kernel(solids, *lens, depth)
        *sun, frame = cells.sun_cells(solids.prims, solids.gate, solids.room, lighting.sun)
        lamps = cells.Cells(*cells.light_cells(solids.prims, solids.gate, lighting.lights))
        view = cells.Cells(*cells.camera_cells(solids.prims, *lens, 4, 4))
        drawing.draw_kernel(
            solids, look, lighting, Shadows(lamps, cells.Cells(*sun), frame), view, np.array(lens[:4]), lens[4], 1, rgb,
            depth, ids, rgb.copy(), np.zeros((4, 5)), np.zeros((4, 3), np.int64), np.zeros((4, 6)),
        )  # fmt: skip


@functools.lru_cache(maxsize=1)
def make_paths_ready() -> None:
    """The same for the kernel of path-traced pictures."""
    depth, ids = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)
    rgb, own_colour = np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32)
    with _locked():
        paths.path_kernel(*_one_box(), 3.0, 3.0, 1.5, 1.5, _view(), 1, 1, 0, rgb, own_colour, depth, ids)
