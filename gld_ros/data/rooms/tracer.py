"""Numba ray caster: yaw-rotated boxes, upright cylinders and ellipsoids inside one rectangular room.

All kernels work on the flat arrays of ``PackedScene`` and release the GIL, so views render on plain threads.
Randomness is a hash of (seed, pixel, sample): the same call gives the same picture whatever the thread count.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.jit import inlined, pure
from gld_ros.data.rooms.meshes import Meshes, hit_mesh
from gld_ros.data.rooms.rays import EPS, FAR, inverse, meets_box

BOX, CYLINDER, ELLIPSOID, MESH = 0, 1, 2, 3
# columns of the primitive table
KIND, CX, CY, CZ, HX, HY, HZ, COS, SIN, USHIFT, VSHIFT, NUMBER = range(12)  # number of the mesh
# columns of the material table; scale 0 stretches the texture over the face
TEXTURE, SCALE, TINT_R, TINT_G, TINT_B, EMISSION, GLOSS, SUN_GATE = range(8)
# columns of the light table: a parallelogram centre +- u +- v, radiating radiance r g b along its normal
LX, LY, LZ, UX, UY, UZ, VX, VY, VZ, NX, NY, NZ, LR, LG, LB, AREA = range(16)

OPAQUE, LAMP, WINDOW = 0, 1, 2  # how a solid treats light: stops it, lets its own lamp through, lets the sun through

ROOM = -1  # primitive index of the walls


class Solids(NamedTuple):
    """Geometry of a room."""

    prims: NDArray[np.float64]  # (N, 12)
    mats: NDArray[np.int32]  # (N, 6) material of each face
    gate: NDArray[np.int8]  # (N,) OPAQUE, LAMP or WINDOW
    bounds: NDArray[np.float64]  # (M, 6) tree boxes, depth first
    skip: NDArray[np.int32]  # (M,) next node when a box is missed
    leaf: NDArray[np.int32]  # (M,) primitive of a leaf, -1 = inner
    rank: NDArray[np.int32]  # (N,) place in the tree; the first wins where two surfaces coincide
    room: NDArray[np.float64]  # (6,) x0 x1 y0 y1 z0 z1
    room_mats: NDArray[np.int32]  # (6,)
    meshes: Meshes


@inlined
def _between_faces(half, start, inverse_step, low_face, near, far, face):
    """What two faces of a box, low_face at -half and the next at half, leave of a ray: near, far, face it enters by."""
    a = (-half - start) * inverse_step
    b = (half - start) * inverse_step
    entered = low_face if inverse_step > 0 else low_face + 1
    if a > b:
        a, b = b, a
    if a > near:
        near = a
        face = entered
    return near, min(far, b), face


@pure
def hit_primitive(prims, i, ox, oy, oz, dx, dy, dz, tmax):
    """Nearest hit (t, face) of a ray with primitive i, t = FAR when missed."""
    c = prims[i, COS]
    s = prims[i, SIN]
    ax = ox - prims[i, CX]
    ay = oy - prims[i, CY]
    lx = c * ax + s * ay
    ly = -s * ax + c * ay
    lz = oz - prims[i, CZ]
    ex = c * dx + s * dy
    ey = -s * dx + c * dy
    ez = dz
    kind = prims[i, KIND]
    if kind == BOX:
        near, far, face = _between_faces(prims[i, HX], lx, inverse(ex), 0, -FAR, FAR, 0)
        near, far, face = _between_faces(prims[i, HY], ly, inverse(ey), 2, near, far, face)
        near, far, face = _between_faces(prims[i, HZ], lz, inverse(ez), 4, near, far, face)
        if near <= far and near > EPS and near < tmax:
            return near, face
        return FAR, 0
    gx = 1.0 / prims[i, HX]
    gy = 1.0 / prims[i, HY]
    lx *= gx
    ex *= gx
    ly *= gy
    ey *= gy
    if kind == CYLINDER:
        best = FAR
        face = 0
        a = ex * ex + ey * ey
        if a > 1e-14:
            b = lx * ex + ly * ey
            disc = b * b - a * (lx * lx + ly * ly - 1.0)
            if disc > 0.0:
                t = (-b - math.sqrt(disc)) / a
                if t > EPS and abs(lz + t * ez) <= prims[i, HZ]:
                    best = t
        if abs(ez) > 1e-12:
            z = prims[i, HZ] if ez < 0 else -prims[i, HZ]
            t = (z - lz) / ez
            if t > EPS and t < best:
                x = lx + t * ex
                y = ly + t * ey
                if x * x + y * y <= 1.0:
                    best = t
                    face = 5 if ez < 0 else 4
        if best < tmax:
            return best, face
        return FAR, 0
    gz = 1.0 / prims[i, HZ]
    lz *= gz
    ez *= gz
    a = ex * ex + ey * ey + ez * ez
    b = lx * ex + ly * ey + lz * ez
    disc = b * b - a * (lx * lx + ly * ly + lz * lz - 1.0)
    if disc > 0.0:
        t = (-b - math.sqrt(disc)) / a
        if t > EPS and t < tmax:
            return t, 0
    return FAR, 0


@inlined
def hit_solid(solids, i, ox, oy, oz, dx, dy, dz, tmax):
    """Nearest hit (t, face) of a ray with primitive i, t = FAR when missed; the face of a mesh is its triangle."""
    prims = solids.prims
    if prims[i, KIND] != MESH:
        return hit_primitive(prims, i, ox, oy, oz, dx, dy, dz, tmax)
    c = prims[i, COS]
    s = prims[i, SIN]
    gx = 1.0 / prims[i, HX]
    gy = 1.0 / prims[i, HY]
    gz = 1.0 / prims[i, HZ]
    ax = ox - prims[i, CX]
    ay = oy - prims[i, CY]
    m = solids.meshes
    return hit_mesh(
        m.root, m.bounds, m.skip, m.first, m.leaf_size, m.triangle, int(prims[i, NUMBER]),
        (c * ax + s * ay) * gx, (-s * ax + c * ay) * gy, (oz - prims[i, CZ]) * gz,
        (c * dx + s * dy) * gx, (-s * dx + c * dy) * gy, dz * gz, EPS, tmax,
    )  # fmt: skip


@inlined
def identity(solids, hit, face):
    """A number for the surface that was hit; the parts of a mesh count, its triangles do not."""
    if hit != ROOM and solids.prims[hit, KIND] == MESH:
        return (hit + 1) * 8 + (solids.meshes.part[face] & 7)
    return (hit + 1) * 8 + face


@pure
def leave_room(room, ox, oy, oz, dx, dy, dz):
    """Where a ray meets the walls: (t, face)."""
    tx = ((room[1] if dx >= 0 else room[0]) - ox) * inverse(dx)
    ty = ((room[3] if dy >= 0 else room[2]) - oy) * inverse(dy)
    tz = ((room[5] if dz >= 0 else room[4]) - oz) * inverse(dz)
    best = tx
    face = 1 if dx >= 0 else 0
    if ty < best:
        best = ty
        face = 3 if dy >= 0 else 2
    if tz < best:
        best = tz
        face = 5 if dz >= 0 else 4
    return best, face


@pure
def closest(solids, ox, oy, oz, dx, dy, dz):
    """First hit along a ray: (t, primitive or ROOM, face). The tree is walked in stored order with skip links."""
    bounds = solids.bounds
    skip = solids.skip
    leaf = solids.leaf
    ix = inverse(dx)
    iy = inverse(dy)
    iz = inverse(dz)
    best, face = leave_room(solids.room, ox, oy, oz, dx, dy, dz)
    hit = ROOM
    node = 0
    count = skip.shape[0]
    while node < count:
        if meets_box(bounds, node, ox, oy, oz, ix, iy, iz, 0.0, best):
            if leaf[node] >= 0:
                t, f = hit_solid(solids, leaf[node], ox, oy, oz, dx, dy, dz, best)
                if t < best:
                    best = t
                    hit = leaf[node]
                    face = f
            node += 1
        else:
            node = skip[node]
    return best, hit, face


@pure
def blocked(solids, ox, oy, oz, dx, dy, dz, tmax):
    """True when a primitive that is not a light gate lies nearer than tmax."""
    bounds = solids.bounds
    skip = solids.skip
    leaf = solids.leaf
    ix = inverse(dx)
    iy = inverse(dy)
    iz = inverse(dz)
    node = 0
    count = skip.shape[0]
    while node < count:
        if meets_box(bounds, node, ox, oy, oz, ix, iy, iz, 0.0, tmax):
            i = leaf[node]
            if i >= 0 and not solids.gate[i]:
                t, _ = hit_solid(solids, i, ox, oy, oz, dx, dy, dz, tmax)
                if t < tmax:
                    return True
            node += 1
        else:
            node = skip[node]
    return False
