"""What a ray finds where it hits: normal, texture coordinates, the surface's own colour; and the tracer's hash."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.jit import inlined, pure
from gld_ros.data.rooms.meshes import mesh_surface
from gld_ros.data.rooms.rays import EPS
from gld_ros.data.rooms.tracer import (
    BOX,
    COS,
    CX,
    CY,
    CYLINDER,
    CZ,
    HX,
    HY,
    HZ,
    KIND,
    MESH,
    ROOM,
    SCALE,
    SIN,
    TEXTURE,
    TINT_R,
    USHIFT,
    VSHIFT,
)


class Look(NamedTuple):
    """Materials and textures of a room."""

    table: NDArray[np.float64]  # (K, 7) materials
    texels: NDArray[np.uint8]  # (T, sum of side^2 over levels, 3)
    offsets: NDArray[np.int64]  # (levels,) first texel of each level, finest first
    linear: NDArray[np.float64]  # (256,) display value -> linear light


@pure
def mix(a, b):
    """64-bit hash of two integers (splitmix)."""
    x = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xD1B54A32D192ED03)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@pure
def uniform(rng):
    """Next number in [0, 1) of a one-element uint64 state."""
    rng[0] = mix(rng[0], 1)
    return np.float64(rng[0] >> np.uint64(40)) / 16777216.0


@inlined
def surface(solids, hit, face, x, y, z, dx, dy, dz):
    """Unit normal, texture coordinates in metres, 1/extent in u and v, and the material row of a hit point."""
    prims = solids.prims
    if hit == ROOM:
        nx = 1.0 if face == 0 else (-1.0 if face == 1 else 0.0)
        ny = 1.0 if face == 2 else (-1.0 if face == 3 else 0.0)
        nz = 1.0 if face == 4 else (-1.0 if face == 5 else 0.0)
        if face < 2:
            return nx, ny, nz, y, -z, 1.0, 1.0, solids.room_mats[face]
        if face < 4:
            return nx, ny, nz, x, -z, 1.0, 1.0, solids.room_mats[face]
        return nx, ny, nz, x, y, 1.0, 1.0, solids.room_mats[face]
    c = prims[hit, COS]
    s = prims[hit, SIN]
    hx = prims[hit, HX]
    hy = prims[hit, HY]
    hz = prims[hit, HZ]
    ax = x - prims[hit, CX]
    ay = y - prims[hit, CY]
    lx = c * ax + s * ay
    ly = -s * ax + c * ay
    lz = z - prims[hit, CZ]
    kind = prims[hit, KIND]
    if kind == MESH:
        m = solids.meshes
        nx, ny, nz, u, v, density = mesh_surface(
            m.triangle, m.normal, m.uv, face, hx, hy, hz, lx, ly, lz, c * dx + s * dy, -s * dx + c * dy, dz
        )
        # texture units to metres: the material stretches its picture by du and dv
        density = max(density, 1e-6)
        material = solids.mats[hit, 0] + m.part[face]
        return c * nx - s * ny, s * nx + c * ny, nz, u / density, v / density, density, density, material
    if kind == BOX:
        nx = -1.0 if face == 0 else (1.0 if face == 1 else 0.0)
        ny = -1.0 if face == 2 else (1.0 if face == 3 else 0.0)
        nz = -1.0 if face == 4 else (1.0 if face == 5 else 0.0)
        # u runs to the right for someone looking at the face, v downwards
        if face < 2:
            u = (ly if face == 1 else -ly) + hy
            v = hz - lz
            du = 0.5 / hy
            dv = 0.5 / hz
        elif face < 4:
            u = (lx if face == 2 else -lx) + hx
            v = hz - lz
            du = 0.5 / hx
            dv = 0.5 / hz
        else:
            u = lx + hx
            v = hy - ly
            du = 0.5 / hx
            dv = 0.5 / hy
    elif kind == CYLINDER:
        if face >= 4:
            nx = 0.0
            ny = 0.0
            nz = 1.0 if face == 5 else -1.0
            u = lx + hx
            v = ly + hy
            du = 0.5 / hx
            dv = 0.5 / hy
        else:
            nx = lx / (hx * hx)
            ny = ly / (hy * hy)
            nz = 0.0
            u = math.atan2(ly, lx) * hx
            v = hz - lz
            du = 1.0 / (2 * math.pi * hx)
            dv = 0.5 / hz
    else:
        nx = lx / (hx * hx)
        ny = ly / (hy * hy)
        nz = lz / (hz * hz)
        u = math.atan2(ly, lx) * hx
        v = math.acos(min(1.0, max(-1.0, lz / hz))) * hz
        du = 1.0 / (2 * math.pi * hx)
        dv = 1.0 / (math.pi * hz)
    r = 1.0 / math.sqrt(nx * nx + ny * ny + nz * nz)
    nx *= r
    ny *= r
    nz *= r
    return c * nx - s * ny, s * nx + c * ny, nz, u, v, du, dv, solids.mats[hit, face]


@inlined
def look_at_surface(solids, look, hit, face, x, y, z, dx, dy, dz, width, out):
    """The surface's own colour at a hit point into out[0:3]; unit normal, cosine to the ray d, material row.

    width: of a pixel at this distance, in metres across the ray.
    """
    nx, ny, nz, u, v, du, dv, m = surface(solids, hit, face, x, y, z, dx, dy, dz)
    cosine = max(-(nx * dx + ny * dy + nz * dz), 0.05)
    su = solids.prims[hit, USHIFT] if hit != ROOM else 0.0
    sv = solids.prims[hit, VSHIFT] if hit != ROOM else 0.0
    albedo(look, m, u, v, du, dv, su, sv, width / math.sqrt(cosine), out)
    return nx, ny, nz, cosine, m


@inlined
def leave_surface(room, x, y, z, nx, ny, nz):
    """Where a ray starts that leaves a surface; a leaf may touch the wall: inside the room, where every ray ends."""
    x = min(max(x + 5 * EPS * nx, room[0] + EPS), room[1] - EPS)
    y = min(max(y + 5 * EPS * ny, room[2] + EPS), room[3] - EPS)
    z = min(max(z + 5 * EPS * nz, room[4] + EPS), room[5] - EPS)
    return x, y, z


@inlined
def albedo(look, m, u, v, du, dv, shift_u, shift_v, footprint, out):
    """Bilinear look-up in the nearest mip level, linear light, into out[0:3]; footprint: size of a pixel in metres."""
    table = look.table
    textures = look.texels
    linear = look.linear
    levels = look.offsets.shape[0]
    side0 = 1 << (levels - 1)
    scale = table[m, SCALE]
    if scale > 0.0:
        u = u / scale + shift_u
        v = v / scale + shift_v
        texels = footprint / scale * side0
    else:
        u *= du
        v *= dv
        texels = footprint * max(du, dv) * side0
    level = 0
    while texels > 1.42 and level < levels - 1:
        texels *= 0.5
        level += 1
    side = side0 >> level
    base = look.offsets[level]
    index = int(table[m, TEXTURE])
    u = (u - math.floor(u)) * side - 0.5
    v = (v - math.floor(v)) * side - 0.5
    u0 = math.floor(u)
    v0 = math.floor(v)
    fu = u - u0
    fv = v - v0
    x0 = int(u0) & (side - 1)
    y0 = int(v0) & (side - 1)
    x1 = (x0 + 1) & (side - 1)
    y1 = (y0 + 1) & (side - 1)
    for k in range(3):
        top = (1 - fu) * linear[textures[index, base + y0 * side + x0, k]]
        top += fu * linear[textures[index, base + y0 * side + x1, k]]
        low = (1 - fu) * linear[textures[index, base + y1 * side + x0, k]]
        low += fu * linear[textures[index, base + y1 * side + x1, k]]
        out[k] = table[m, TINT_R + k] * ((1 - fv) * top + fv * low)
