"""Compiles or loads all room kernels once per process, one process at a time.

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

from gld_ros.data.rooms import shading, tracer
from gld_ros.data.rooms.jit import cache_folder

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


@functools.lru_cache(maxsize=1)
def make_ready() -> None:
    """Run every kernel on a room with one box, which compiles it for the types all rooms have."""
    prims = np.array([[tracer.BOX, 2.0, 2.0, 0.5, 0.2, 0.2, 0.5, 1.0, 0.0, 0.0, 0.0]])
    low, high = prims[:, 1:4] - prims[:, 4:7], prims[:, 1:4] + prims[:, 4:7]
    bounds, skip, leaf = np.zeros((1, 6)), np.zeros(1, np.int32), np.full(1, -1, np.int32)
    room = np.array([0.0, 4.0, 0.0, 4.0, 0.0, 2.5])
    mats, room_mats, gate = np.zeros((1, 6), np.int32), np.zeros(6, np.int32), np.zeros(1, np.int8)
    table = np.array([[0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.5]])
    lights = np.zeros((1, 16))
    lights[0, :3], lights[0, 12:] = (2.0, 2.0, 2.4), 1.0
    view = np.eye(4)
    view[:3, 3] = (1.0, 1.0, 1.0)
    depth, ids = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.int32)
    rgb, albedo = np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 3), np.float32)
    with _locked():
        tracer.sah_tree(low, high, bounds, skip, leaf)
        shading.depth_kernel(prims, bounds, skip, leaf, room, 3.0, 3.0, 1.5, 1.5, view, depth)
        shading.render_kernel(
            prims, mats, bounds, skip, leaf, gate, room, room_mats, table, np.zeros((1, 1, 3), np.uint8),
            np.zeros(1, np.int64), np.zeros(256), lights, np.ones(6), np.zeros(3),
            3.0, 3.0, 1.5, 1.5, view, 1, 1, 0, rgb, albedo, depth, ids,
        )  # fmt: skip
