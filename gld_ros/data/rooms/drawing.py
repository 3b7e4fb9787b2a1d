"""Pictures for training: direct light and an ambient term, one ray a pixel and more at edges."""

from __future__ import annotations

from gld_ros.data.rooms.cells import TILE, first_hit
from gld_ros.data.rooms.jit import inlined, pure
from gld_ros.data.rooms.lighting import add_ambient, direct_sharp
from gld_ros.data.rooms.rays import camera_ray
from gld_ros.data.rooms.surfaces import leave_surface, look_at_surface
from gld_ros.data.rooms.tracer import EMISSION, closest, identity


@inlined
def _shade(solids, look, lighting, shadows, pixel_angle, ox, oy, oz, rays, what, k, light):
    """Light a surface sends back along ray k, into light[k, 0:3]."""
    colour = light[k, :3]
    work = light[k, 3:]
    dx = rays[k, 0]
    dy = rays[k, 1]
    dz = rays[k, 2]
    t = rays[k, 4]
    x = ox + t * dx
    y = oy + t * dy
    z = oz + t * dz
    nx, ny, nz, _, m = look_at_surface(
        solids, look, what[k, 1], what[k, 2], x, y, z, dx, dy, dz, t * pixel_angle, colour
    )
    emission = look.table[m, EMISSION]
    if emission > 0.0:
        for c in range(3):
            colour[c] *= emission
        return
    room = solids.room
    x, y, z = leave_surface(room, x, y, z, nx, ny, nz)
    direct_sharp(solids, lighting, shadows, x, y, z, nx, ny, nz, work)
    add_ambient(room, lighting.ambient, x, y, z, nx, ny, nz, work)
    for c in range(3):
        colour[c] *= work[c]


@pure
def _aim(lens, c2w, col, row, cell, ray, what):
    """Start a ray through a place of the picture."""
    ray[0], ray[1], ray[2], ray[3] = camera_ray(lens[0], lens[1], lens[2], lens[3], c2w, col, row)
    what[0] = cell


@pure
def _trace(solids, look, lighting, shadows, cells, c2w, angle, count, rays, what, light):
    """Follow rays from the camera and light what they hit.

    In steps over many rays: an array between two steps keeps the compiler from rounding otherwise than before.
    """
    ox = c2w[0, 3]
    oy = c2w[1, 3]
    oz = c2w[2, 3]
    for k in range(count):
        t, hit, face = first_hit(solids, cells, what[k, 0], ox, oy, oz, rays[k, 0], rays[k, 1], rays[k, 2])
        rays[k, 4] = t
        what[k, 1] = hit
        what[k, 2] = face
    for k in range(count):
        _shade(solids, look, lighting, shadows, angle, ox, oy, oz, rays, what, k, light)


@pure
def draw_kernel(solids, look, lighting, shadows, cells, lens, c2w, samples, rgb, depth, ids, base, rays, what, light):
    """Fill rgb (H, W, 3) linear light, depth (H, W) z-depth at pixel centres and ids (H, W).

    One centred ray per pixel, and samples x samples where surfaces or brightness change between neighbours. ``lens`` is
    fx, fy, cx, cy; ``cells`` are the camera's; scratch: base (H, W, 3), rays (K, 5), what (K, 3) and light (K, 6) with
    K = W samples^2.
    """
    height, width = depth.shape
    columns = (width + TILE - 1) // TILE
    angle = 1.0 / lens[0]
    for row in range(height):
        for col in range(width):
            _aim(lens, c2w, float(col), float(row), (row // TILE) * columns + col // TILE, rays[col], what[col])
        _trace(solids, look, lighting, shadows, cells, c2w, angle, width, rays, what, light)
        for col in range(width):
            depth[row, col] = rays[col, 4] * rays[col, 3]
            ids[row, col] = identity(solids, what[col, 1], what[col, 2])
            for k in range(3):
                rgb[row, col, k] = light[col, k]
                base[row, col, k] = light[col, k]
    if samples <= 1:
        return
    share = samples * samples
    for row in range(height):
        count = 0
        for col in range(width):
            if _is_edge(base, ids, row, col):
                cell = (row // TILE) * columns + col // TILE
                for i in range(samples):
                    for j in range(samples):
                        x = col + ((j + 0.5) / samples - 0.5)
                        y = row + ((i + 0.5) / samples - 0.5)
                        _aim(lens, c2w, x, y, cell, rays[count], what[count])
                        count += 1
        _trace(solids, look, lighting, shadows, cells, c2w, angle, count, rays, what, light)
        start = 0
        for col in range(width):
            if _is_edge(base, ids, row, col):
                for k in range(3):
                    total = 0.0
                    for n in range(start, start + share):
                        total += min(light[n, k], 6.0)
                    rgb[row, col, k] = total / share
                start += share


@pure
def _is_edge(base, ids, row, col):
    """True when a neighbour shows another surface or another brightness."""
    height, width = ids.shape
    here = base[row, col, 0] + base[row, col, 1] + base[row, col, 2]
    for k in range(4):
        r = min(max(row + (1 if k == 0 else (-1 if k == 1 else 0)), 0), height - 1)
        c = min(max(col + (1 if k == 2 else (-1 if k == 3 else 0)), 0), width - 1)
        there = base[r, c, 0] + base[r, c, 1] + base[r, c, 2]
        if ids[r, c] != ids[row, col] or abs(here - there) > 0.4 * (here + there):
            return True
    return False


@pure
def depth_kernel(solids, fx, fy, cx, cy, c2w, depth):
    """Fill depth (H, W) with z-depth at pixel centres."""
    height, width = depth.shape
    for row in range(height):
        for col in range(width):
            dx, dy, dz, n = camera_ray(fx, fy, cx, cy, c2w, col, row)
            t, _, _ = closest(solids, c2w[0, 3], c2w[1, 3], c2w[2, 3], dx, dy, dz)
            depth[row, col] = t * n
