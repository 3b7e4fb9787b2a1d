"""Triangle meshes inside the box of a primitive: their trees, ray hits, normals and texture places.

A mesh lives in the cube from -1 to 1; the primitive's half sizes, yaw and centre place it in the room.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.jit import kernel, pure
from gld_ros.data.rooms.rays import FAR, inverse, meets_box

LEAF = 4  # triangles
BINS = 12


class Meshes(NamedTuple):
    """Meshes of a room, one after the other."""

    root: NDArray[np.int32]  # (K, 2) first node of each mesh and the one behind its last
    bounds: NDArray[np.float32]  # (M, 6) tree boxes, depth first
    skip: NDArray[np.int32]  # (M,) next node when a box is missed
    first: NDArray[np.int32]  # (M,) first triangle of a leaf
    leaf_size: NDArray[np.int32]  # (M,) triangles of a leaf, 0 = inner
    triangle: NDArray[np.float32]  # (T, 9) corner, two edges
    normal: NDArray[np.float32]  # (T, 9) at each corner
    uv: NDArray[np.float32]  # (T, 6) at each corner
    part: NDArray[np.int32]  # (T,) material, counted from the primitive's first


def no_meshes() -> Meshes:
    """For rooms without any."""
    return Meshes(
        np.zeros((0, 2), np.int32), np.zeros((0, 6), np.float32), np.zeros(0, np.int32), np.zeros(0, np.int32),
        np.zeros(0, np.int32), np.zeros((0, 9), np.float32), np.zeros((0, 9), np.float32), np.zeros((0, 6), np.float32),
        np.zeros(0, np.int32),
    )  # fmt: skip


def join(parts: list[Meshes]) -> Meshes:
    """Meshes of several sets as one set."""
    if not parts:
        return no_meshes()
    nodes = np.cumsum([0] + [len(p.skip) for p in parts])
    triangles = np.cumsum([0] + [len(p.part) for p in parts])
    shifted = [
        p._replace(root=p.root + n, skip=p.skip + n, first=p.first + t)
        for p, n, t in zip(parts, nodes[:-1].tolist(), triangles[:-1].tolist(), strict=True)
    ]
    return Meshes(*(np.concatenate(arrays) for arrays in zip(*shifted, strict=True)))


def build(corners: NDArray[np.float32], normal: NDArray, uv: NDArray, part: NDArray) -> Meshes:
    """One mesh with its tree from corners (T, 3, 3), normals (T, 3, 3), texture places (T, 3, 2) and materials (T,)."""
    corners = np.ascontiguousarray(corners, np.float32)
    nodes = 2 * len(corners)
    order = np.arange(len(corners))
    bounds = np.zeros((nodes, 6), np.float32)
    skip, first, count = (np.zeros(nodes, np.int32) for _ in range(3))
    used = _split(corners.min(1), corners.max(1), order, bounds, skip, first, count)
    corners = corners[order]
    triangle = np.concatenate([corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], 1)
    return Meshes(
        np.array([[0, used]], np.int32), bounds[:used].copy(), skip[:used].copy(), first[:used].copy(),
        count[:used].copy(), triangle, normal[order].reshape(-1, 9).astype(np.float32),
        uv[order].reshape(-1, 6).astype(np.float32), part[order].astype(np.int32),
    )  # fmt: skip


@kernel
def _split(low, high, order, bounds, skip, first, count):
    """Write the tree over boxes low, high (N, 3) depth first and sort ``order`` by leaf; returns the nodes written."""
    n = low.shape[0]
    stack = np.zeros((128, 3), np.int64)  # range of triangles, parent whose skip link is still open
    stack[0, 1] = n
    top = 1
    node = 0
    middle = 0.5 * (low + high)
    bin_low = np.zeros((BINS, 3), np.float32)
    bin_high = np.zeros((BINS, 3), np.float32)
    bin_count = np.zeros(BINS, np.int64)
    cost = np.zeros(BINS)
    depth = np.zeros(2 * n + 1, np.int64)
    while top > 0:
        top -= 1
        a = stack[top, 0]
        b = stack[top, 1]
        depth[node] = stack[top, 2]
        for k in range(3):
            bounds[node, k] = FAR
            bounds[node, 3 + k] = -FAR
            for i in range(a, b):
                bounds[node, k] = min(bounds[node, k], low[order[i], k])
                bounds[node, 3 + k] = max(bounds[node, 3 + k], high[order[i], k])
            bounds[node, k] -= 1e-5
            bounds[node, 3 + k] += 1e-5
        if b - a <= LEAF or stack[top, 2] > 60:
            first[node] = a
            count[node] = b - a
            node += 1
            continue
        axis = 0
        widest = -1.0
        start = 0.0
        for k in range(3):
            least = FAR
            most = -FAR
            for i in range(a, b):
                least = min(least, middle[order[i], k])
                most = max(most, middle[order[i], k])
            if most - least > widest:
                widest = most - least
                axis = k
                start = least
        split = (a + b) // 2
        if widest > 1e-6:
            bin_count[:] = 0
            bin_low[:] = FAR
            bin_high[:] = -FAR
            scale = BINS / (widest * 1.0001)
            for i in range(a, b):
                j = int((middle[order[i], axis] - start) * scale)
                bin_count[j] += 1
                for k in range(3):
                    bin_low[j, k] = min(bin_low[j, k], low[order[i], k])
                    bin_high[j, k] = max(bin_high[j, k], high[order[i], k])
            cost[:] = 0.0
            for side in range(2):
                lo = np.full(3, FAR)
                hi = np.full(3, -FAR)
                number = 0
                for step in range(BINS - 1):
                    j = step if side == 0 else BINS - 1 - step
                    for k in range(3):
                        lo[k] = min(lo[k], bin_low[j, k])
                        hi[k] = max(hi[k], bin_high[j, k])
                    number += bin_count[j]
                    if number > 0:
                        x = hi[0] - lo[0]
                        y = hi[1] - lo[1]
                        z = hi[2] - lo[2]
                        cost[j if side == 0 else j - 1] += number * (x * y + y * z + z * x)
            best = np.argmin(cost[: BINS - 1])
            left = a
            right = b - 1
            while left <= right:
                if int((middle[order[left], axis] - start) * scale) <= best:
                    left += 1
                else:
                    order[left], order[right] = order[right], order[left]
                    right -= 1
            if a < left < b:
                split = left
        level = stack[top, 2] + 1
        stack[top, 0] = split
        stack[top, 1] = b
        stack[top, 2] = level
        stack[top + 1, 0] = a
        stack[top + 1, 1] = split
        stack[top + 1, 2] = level
        top += 2
        node += 1
    # the next node that is not below this one
    for i in range(node):
        j = i + 1
        while j < node and depth[j] > depth[i]:
            j += 1
        skip[i] = j
    return node


@pure
def hit_mesh(
    root, bounds, skip, first, count, triangle, mesh, ox, oy, oz, dx, dy, dz, tmin, tmax,
):  # fmt: skip
    """Nearest hit (t, triangle), tmin < t < tmax, of a ray in the mesh's cube, t = FAR when missed; both sides."""
    ix = inverse(dx)
    iy = inverse(dy)
    iz = inverse(dz)
    best = tmax
    found = -1
    node = root[mesh, 0]
    end = root[mesh, 1]
    while node < end:
        if not meets_box(bounds, node, ox, oy, oz, ix, iy, iz, tmin, best):
            node = skip[node]
            continue
        for i in range(first[node], first[node] + count[node]):
            e1x = triangle[i, 3]
            e1y = triangle[i, 4]
            e1z = triangle[i, 5]
            e2x = triangle[i, 6]
            e2y = triangle[i, 7]
            e2z = triangle[i, 8]
            px = dy * e2z - dz * e2y
            py = dz * e2x - dx * e2z
            pz = dx * e2y - dy * e2x
            det = e1x * px + e1y * py + e1z * pz
            if abs(det) < 1e-14:
                continue
            inv = 1.0 / det
            sx = ox - triangle[i, 0]
            sy = oy - triangle[i, 1]
            sz = oz - triangle[i, 2]
            u = (sx * px + sy * py + sz * pz) * inv
            if u < 0.0 or u > 1.0:
                continue
            qx = sy * e1z - sz * e1y
            qy = sz * e1x - sx * e1z
            qz = sx * e1y - sy * e1x
            v = (dx * qx + dy * qy + dz * qz) * inv
            if v < 0.0 or u + v > 1.0:
                continue
            t = (e2x * qx + e2y * qy + e2z * qz) * inv
            if tmin < t < best:
                best = t
                found = i
        node += 1
    if found < 0:
        return FAR, 0
    return best, found


@pure
def mesh_surface(triangle, normal, uv, i, hx, hy, hz, lx, ly, lz, dx, dy, dz):
    """Normal towards the ray's origin, texture place and texture units per metre of triangle i.

    The point l (in metres about the box's centre) and the ray direction d are in the frame of the box.
    """
    ax = triangle[i, 0] * hx
    ay = triangle[i, 1] * hy
    az = triangle[i, 2] * hz
    e1x = triangle[i, 3] * hx
    e1y = triangle[i, 4] * hy
    e1z = triangle[i, 5] * hz
    e2x = triangle[i, 6] * hx
    e2y = triangle[i, 7] * hy
    e2z = triangle[i, 8] * hz
    gx = e1y * e2z - e1z * e2y
    gy = e1z * e2x - e1x * e2z
    gz = e1x * e2y - e1y * e2x
    area2 = max(gx * gx + gy * gy + gz * gz, 1e-30)
    px = lx - ax
    py = ly - ay
    pz = lz - az
    # barycentric weights of corners 1 and 2 from the areas of the part triangles
    b1 = ((py * e2z - pz * e2y) * gx + (pz * e2x - px * e2z) * gy + (px * e2y - py * e2x) * gz) / area2
    b2 = ((e1y * pz - e1z * py) * gx + (e1z * px - e1x * pz) * gy + (e1x * py - e1y * px) * gz) / area2
    b0 = 1.0 - b1 - b2
    nx = b0 * normal[i, 0] + b1 * normal[i, 3] + b2 * normal[i, 6]
    ny = b0 * normal[i, 1] + b1 * normal[i, 4] + b2 * normal[i, 7]
    nz = b0 * normal[i, 2] + b1 * normal[i, 5] + b2 * normal[i, 8]
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    if length < 1e-6:
        nx = gx
        ny = gy
        nz = gz
        length = math.sqrt(area2)
    sign = 1.0 if nx * gx + ny * gy + nz * gz >= 0 else -1.0
    if sign * (gx * dx + gy * dy + gz * dz) > 0:  # seen from behind
        length = -length
    u = b0 * uv[i, 0] + b1 * uv[i, 2] + b2 * uv[i, 4]
    v = b0 * uv[i, 1] + b1 * uv[i, 3] + b2 * uv[i, 5]
    across = abs((uv[i, 2] - uv[i, 0]) * (uv[i, 5] - uv[i, 1]) - (uv[i, 4] - uv[i, 0]) * (uv[i, 3] - uv[i, 1]))
    return nx / length, ny / length, nz / length, u, v, math.sqrt(across / math.sqrt(area2))
