"""Lists of the solids a ray can meet, by the cell of a grid it starts in: pixels of a camera, directions of a light.

Every solid is projected once per camera or light as the box around it, grown a little; the rays of a cell then test
the few solids of its list, nearest first, and find what a walk through the whole tree would find.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.jit import inlined, kernel, pure
from gld_ros.data.rooms.rays import FAR
from gld_ros.data.rooms.tracer import (
    COS,
    CX,
    CY,
    CZ,
    HX,
    HY,
    HZ,
    LX,
    LY,
    LZ,
    ROOM,
    SIN,
    WINDOW,
    hit_solid,
    leave_room,
)

TILE = 8  # pixels a side
LIGHT_GRID = 16  # cells along each side of the cube around a light
SUN_GRID = 32
MARGIN = 1e-6  # metres a solid's box is grown by


class Cells(NamedTuple):
    """Solids by cell."""

    start: NDArray[np.int64]  # (cells + 1,) first entry of each cell
    item: NDArray[np.int32]  # primitive
    near: NDArray[np.float64]  # nothing of the primitive is nearer to the origin than this; ascending in a cell


@pure
def _corners(prims, i, points):
    c = prims[i, COS]
    s = prims[i, SIN]
    for k in range(8):
        x = (prims[i, HX] + MARGIN) * (1.0 if k & 1 else -1.0)
        y = (prims[i, HY] + MARGIN) * (1.0 if k & 2 else -1.0)
        z = (prims[i, HZ] + MARGIN) * (1.0 if k & 4 else -1.0)
        points[k, 0] = prims[i, CX] + c * x - s * y
        points[k, 1] = prims[i, CY] + s * x + c * y
        points[k, 2] = prims[i, CZ] + z


@pure
def _distance(prims, i, x, y, z):
    """From a point to the box around a primitive."""
    c = prims[i, COS]
    s = prims[i, SIN]
    x -= prims[i, CX]
    y -= prims[i, CY]
    z -= prims[i, CZ]
    gx = max(abs(c * x + s * y) - prims[i, HX] - MARGIN, 0.0)
    gy = max(abs(-s * x + c * y) - prims[i, HY] - MARGIN, 0.0)
    gz = max(abs(z) - prims[i, HZ] - MARGIN, 0.0)
    return math.sqrt(gx * gx + gy * gy + gz * gz)


@pure
def _perspective(points, near, window):
    """Bounds of x/z and y/z over the part of a box's corners (8, 3) beyond z = near into window; False when none."""
    window[0] = FAR
    window[1] = -FAR
    window[2] = FAR
    window[3] = -FAR
    for k in range(8):
        for step in (0, 1, 2, 4):
            j = k | step
            if step and j == k:
                continue
            z0 = points[k, 2]
            z1 = points[j, 2]
            if step == 0:
                if z0 < near:
                    continue
                f = 0.0
            elif (z0 < near) != (z1 < near):
                f = (near - z0) / (z1 - z0)
            else:
                continue
            z = max(z0 + f * (z1 - z0), near)
            u = (points[k, 0] + f * (points[j, 0] - points[k, 0])) / z
            v = (points[k, 1] + f * (points[j, 1] - points[k, 1])) / z
            window[0] = min(window[0], u)
            window[1] = max(window[1], u)
            window[2] = min(window[2], v)
            window[3] = max(window[3], v)
    return window[0] <= window[1]


@pure
def _cell(value, cells):
    """Grid index of a coordinate, limited to one cell beyond the grid."""
    return math.floor(min(max(value, -1.0), float(cells)))


@kernel
def _fill(ranges, keys, columns, rows):
    """Cells of F grids from each primitive's range (F, N, 4) of columns and rows and its key (F, N)."""
    grids, count = keys.shape
    start = np.zeros(grids * columns * rows + 1, np.int64)
    for g in range(grids):
        for i in range(count):
            for row in range(max(ranges[g, i, 2], 0), min(ranges[g, i, 3], rows - 1) + 1):
                for col in range(max(ranges[g, i, 0], 0), min(ranges[g, i, 1], columns - 1) + 1):
                    start[(g * rows + row) * columns + col + 1] += 1
    for cell in range(start.shape[0] - 1):
        start[cell + 1] += start[cell]
    item = np.zeros(start[-1], np.int32)
    near = np.zeros(start[-1])
    end = start[:-1].copy()
    for g in range(grids):
        order = np.argsort(keys[g], kind="mergesort")
        for i in order:
            for row in range(max(ranges[g, i, 2], 0), min(ranges[g, i, 3], rows - 1) + 1):
                for col in range(max(ranges[g, i, 0], 0), min(ranges[g, i, 1], columns - 1) + 1):
                    cell = (g * rows + row) * columns + col
                    item[end[cell]] = i
                    near[end[cell]] = keys[g, i]
                    end[cell] += 1
    return start, item, near


@kernel
def camera_cells(prims, fx, fy, cx, cy, c2w, width, height):
    """Lists by tile of TILE x TILE pixels, rows of tiles first, each pixel with half a pixel around its centre."""
    count = prims.shape[0]
    columns = (width + TILE - 1) // TILE
    rows = (height + TILE - 1) // TILE
    ranges = np.full((1, count, 4), -1, np.int64)
    keys = np.zeros((1, count))
    points = np.zeros((8, 3))
    window = np.zeros(4)
    ox = c2w[0, 3]
    oy = c2w[1, 3]
    oz = c2w[2, 3]
    for i in range(count):
        keys[0, i] = _distance(prims, i, ox, oy, oz)
        _corners(prims, i, points)
        for k in range(8):
            x = points[k, 0] - ox
            y = points[k, 1] - oy
            z = points[k, 2] - oz
            for axis in range(3):
                points[k, axis] = c2w[0, axis] * x + c2w[1, axis] * y + c2w[2, axis] * z
        if _perspective(points, 1e-5, window):
            ranges[0, i, 0] = _cell((window[0] * fx + cx - 0.51) / TILE, columns)
            ranges[0, i, 1] = _cell((window[1] * fx + cx + 1.51) / TILE, columns)
            ranges[0, i, 2] = _cell((window[2] * fy + cy - 0.51) / TILE, rows)
            ranges[0, i, 3] = _cell((window[3] * fy + cy + 1.51) / TILE, rows)
    return _fill(ranges, keys, columns, rows)


@kernel
def light_cells(prims, gate, lights):
    """Lists of the solids that stop light by direction from each light: six cube sides of LIGHT_GRID^2 cells."""
    count = prims.shape[0]
    ranges = np.full((6 * lights.shape[0], count, 4), -1, np.int64)
    keys = np.zeros((6 * lights.shape[0], count))
    points = np.zeros((8, 3))
    turned = np.zeros((8, 3))
    window = np.zeros(4)
    half = 0.5 * LIGHT_GRID
    for light in range(lights.shape[0]):
        for i in range(count):
            if gate[i]:
                continue
            _corners(prims, i, points)
            points[:, 0] -= lights[light, LX]
            points[:, 1] -= lights[light, LY]
            points[:, 2] -= lights[light, LZ]
            for side in range(6):
                axis = side >> 1
                sign = 1.0 if side & 1 else -1.0
                for k in range(8):
                    turned[k, 0] = points[k, (axis + 1) % 3]
                    turned[k, 1] = points[k, (axis + 2) % 3]
                    turned[k, 2] = sign * points[k, axis]
                g = 6 * light + side
                keys[g, i] = _distance(prims, i, lights[light, LX], lights[light, LY], lights[light, LZ])
                if _perspective(turned, 5e-3, window):
                    ranges[g, i, 0] = _cell((window[0] + 1.0) * half - 1e-3, LIGHT_GRID)
                    ranges[g, i, 1] = _cell((window[1] + 1.0) * half + 1e-3, LIGHT_GRID)
                    ranges[g, i, 2] = _cell((window[2] + 1.0) * half - 1e-3, LIGHT_GRID)
                    ranges[g, i, 3] = _cell((window[3] + 1.0) * half + 1e-3, LIGHT_GRID)
    return _fill(ranges, keys, LIGHT_GRID, LIGHT_GRID)


@kernel
def sun_cells(prims, gate, room, sun):
    """Lists by the place a ray along the sun takes in the plane across it, and that plane's frame (2, 4).

    Windows come first in a cell; a cell without a window lies in shadow.
    """
    frame = np.zeros((2, 4))
    flat = max(math.sqrt(sun[0] * sun[0] + sun[1] * sun[1]), 1e-9)
    frame[0, 0] = -sun[1] / flat
    frame[0, 1] = sun[0] / flat
    frame[1, 0] = -sun[2] * frame[0, 1]
    frame[1, 1] = sun[2] * frame[0, 0]
    frame[1, 2] = sun[0] * frame[0, 1] - sun[1] * frame[0, 0]
    size = math.sqrt(room[1] * room[1] + room[3] * room[3] + room[5] * room[5])
    scale = SUN_GRID / (2.0 * size)
    for axis in range(2):
        frame[axis, 0] *= scale
        frame[axis, 1] *= scale
        frame[axis, 2] *= scale
        frame[axis, 3] = 0.5 * SUN_GRID - 0.5 * (
            frame[axis, 0] * room[1] + frame[axis, 1] * room[3] + frame[axis, 2] * room[5]
        )
    count = prims.shape[0]
    ranges = np.full((1, count, 4), -1, np.int64)
    keys = np.zeros((1, count))
    points = np.zeros((8, 3))
    for i in range(count):
        _corners(prims, i, points)
        keys[0, i] = 0.0 if gate[i] == WINDOW else 1.0
        for axis in range(2):
            low = FAR
            high = -FAR
            for k in range(8):
                value = frame[axis, 3]
                for j in range(3):
                    value += frame[axis, j] * points[k, j]
                low = min(low, value)
                high = max(high, value)
            ranges[0, i, 2 * axis] = _cell(low - 1e-3, SUN_GRID)
            ranges[0, i, 2 * axis + 1] = _cell(high + 1e-3, SUN_GRID)
    start, item, near = _fill(ranges, keys, SUN_GRID, SUN_GRID)
    return start, item, near, frame


@inlined
def first_hit(solids, cells, cell, ox, oy, oz, dx, dy, dz):
    """What ``tracer.closest`` finds, for a ray from the origin of the cells within a cell."""
    best, face = leave_room(solids.room, ox, oy, oz, dx, dy, dz)
    hit = ROOM
    for n in range(cells.start[cell], cells.start[cell + 1]):
        if cells.near[n] > best:
            break
        i = cells.item[n]
        t, f = hit_solid(solids, i, ox, oy, oz, dx, dy, dz, best + 1e-9)
        if t < best or (t == best and hit != ROOM and solids.rank[i] < solids.rank[hit]):
            best = t
            hit = i
            face = f
    return best, hit, face


@inlined
def in_shadow(solids, cells, light, x, y, z, wx, wy, wz, distance):
    """True when a solid lies between a point and a light at ``distance`` in direction w."""
    ax = abs(wx)
    ay = abs(wy)
    az = abs(wz)
    if ax >= ay and ax >= az:
        side = 0 if wx > 0 else 1  # seen from the light the direction is -w
        u = -wy / ax
        v = -wz / ax
    elif ay >= az:
        side = 2 if wy > 0 else 3
        u = -wz / ay
        v = -wx / ay
    else:
        side = 4 if wz > 0 else 5
        u = -wx / az
        v = -wy / az
    half = 0.5 * LIGHT_GRID
    col = min(int((u + 1.0) * half), LIGHT_GRID - 1)
    row = min(int((v + 1.0) * half), LIGHT_GRID - 1)
    cell = ((6 * light + side) * LIGHT_GRID + row) * LIGHT_GRID + col
    tmax = distance - 2e-2
    for n in range(cells.start[cell], cells.start[cell + 1]):
        if cells.near[n] > distance:
            break
        t, _ = hit_solid(solids, cells.item[n], x, y, z, wx, wy, wz, tmax)
        if t < tmax:
            return True
    return False


@inlined
def in_sun(solids, cells, frame, x, y, z, wx, wy, wz):
    """True when the first thing from a point towards the sun is a window."""
    col = int(frame[0, 3] + frame[0, 0] * x + frame[0, 1] * y + frame[0, 2] * z)
    row = int(frame[1, 3] + frame[1, 0] * x + frame[1, 1] * y + frame[1, 2] * z)
    cell = row * SUN_GRID + col
    best = FAR
    for n in range(cells.start[cell], cells.start[cell + 1]):
        i = cells.item[n]
        if solids.gate[i] == WINDOW:
            t, _ = hit_solid(solids, i, x, y, z, wx, wy, wz, FAR)
            best = min(best, t)
        elif best == FAR:
            return False
        else:
            t, _ = hit_solid(solids, i, x, y, z, wx, wy, wz, best)
            if t < best:
                return False
    return best < FAR
