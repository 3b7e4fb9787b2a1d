"""Pictures for people: soft shadows, gloss and a few diffuse bounces, path traced."""

from __future__ import annotations

import math

import numpy as np

from gld_ros.data.rooms.jit import kernel, pure
from gld_ros.data.rooms.lighting import add_ambient, direct_soft
from gld_ros.data.rooms.surfaces import albedo, mix, surface, uniform
from gld_ros.data.rooms.tracer import EMISSION, EPS, FAR, GLOSS, ROOM, USHIFT, VSHIFT, closest, identity


@pure
def radiance(solids, look, lighting, ox, oy, oz, dx, dy, dz, pixel_angle, bounces, rng, colour, work):
    """Light arriving along one ray into colour[0:3], the surface's own colour into colour[3:6]."""
    tr = 1.0
    tg = 1.0
    tb = 1.0
    colour[0] = 0.0
    colour[1] = 0.0
    colour[2] = 0.0
    room = solids.room
    specular = True
    for depth in range(bounces + 1):
        t, hit, face = closest(solids, ox, oy, oz, dx, dy, dz)
        x = ox + t * dx
        y = oy + t * dy
        z = oz + t * dz
        nx, ny, nz, u, v, du, dv, m = surface(solids, hit, face, x, y, z, dx, dy, dz)
        cosine = max(-(nx * dx + ny * dy + nz * dz), 0.05)
        su = solids.prims[hit, USHIFT] if hit != ROOM else 0.0
        sv = solids.prims[hit, VSHIFT] if hit != ROOM else 0.0
        footprint = t * pixel_angle / math.sqrt(cosine) * (1.0 if depth == 0 else 8.0)
        albedo(look, m, u, v, du, dv, su, sv, footprint, work)
        r = work[0]
        g = work[1]
        b = work[2]
        if depth == 0:
            colour[3] = r
            colour[4] = g
            colour[5] = b
        emission = look.table[m, EMISSION]
        if emission > 0.0:
            if specular:
                colour[0] += tr * r * emission
                colour[1] += tg * g * emission
                colour[2] += tb * b * emission
            break
        # a leaf may touch the wall: stay inside the room, where every ray ends
        ox = min(max(x + 5 * EPS * nx, room[0] + EPS), room[1] - EPS)
        oy = min(max(y + 5 * EPS * ny, room[2] + EPS), room[3] - EPS)
        oz = min(max(z + 5 * EPS * nz, room[4] + EPS), room[5] - EPS)
        gloss = look.table[m, GLOSS]
        if gloss > 0.0 and depth < bounces:
            fresnel = gloss * (0.04 + 0.96 * (1.0 - cosine) ** 5)
            if uniform(rng) < fresnel:
                rough = 0.12 * (1.0 - gloss) + 0.02
                k = 2.0 * (nx * dx + ny * dy + nz * dz)
                dx = dx - k * nx + rough * (uniform(rng) - 0.5)
                dy = dy - k * ny + rough * (uniform(rng) - 0.5)
                dz = dz - k * nz + rough * (uniform(rng) - 0.5)
                n = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                dx *= n
                dy *= n
                dz *= n
                if nx * dx + ny * dy + nz * dz <= 0.0:
                    break
                continue
        direct_soft(solids, lighting, ox, oy, oz, nx, ny, nz, rng, work)
        if depth == bounces:
            add_ambient(room, lighting.ambient, ox, oy, oz, nx, ny, nz, work)
        tr *= r
        tg *= g
        tb *= b
        # light that comes from rare bright bounces is clamped: it would be single white pixels
        most = FAR if depth == 0 else 1.2
        colour[0] += min(tr * work[0], most)
        colour[1] += min(tg * work[1], most)
        colour[2] += min(tb * work[2], most)
        if depth == bounces:
            break
        # cosine-weighted diffuse bounce: a point on the sphere around the normal's tip
        az = 2.0 * uniform(rng) - 1.0
        phi = 2.0 * math.pi * uniform(rng)
        ar = math.sqrt(max(0.0, 1.0 - az * az))
        dx = nx + ar * math.cos(phi)
        dy = ny + ar * math.sin(phi)
        dz = nz + az
        n = math.sqrt(dx * dx + dy * dy + dz * dz)
        if n < 1e-6:
            break
        dx /= n
        dy /= n
        dz /= n
        specular = False


@kernel
def path_kernel(solids, look, lighting, fx, fy, cx, cy, c2w, samples, bounces, seed, rgb, own_colour, depth, ids):
    """Fill rgb and own_colour (H, W, 3) linear light, depth (H, W) z-depth at pixel centres and ids (H, W).

    Every pixel takes samples x samples stratified paths.
    """
    height, width = depth.shape
    rng = np.zeros(1, np.uint64)
    colour = np.zeros(6)
    work = np.zeros(3)
    total = np.zeros(6)
    ox = c2w[0, 3]
    oy = c2w[1, 3]
    oz = c2w[2, 3]
    fine = 1.0 / fx / samples
    for row in range(height):
        for col in range(width):
            a = (col - cx) / fx
            b = (row - cy) / fy
            n = 1.0 / math.sqrt(a * a + b * b + 1.0)
            dx = (c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2]) * n
            dy = (c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2]) * n
            dz = (c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2]) * n
            t, hit, face = closest(solids, ox, oy, oz, dx, dy, dz)
            depth[row, col] = t * n
            ids[row, col] = identity(solids, hit, face)
            total[:] = 0.0
            rng[0] = mix(mix(seed, row), col)
            for i in range(samples):
                for j in range(samples):
                    fi = (i + uniform(rng)) / samples - 0.5
                    fj = (j + uniform(rng)) / samples - 0.5
                    a = (col + fj - cx) / fx
                    b = (row + fi - cy) / fy
                    n = 1.0 / math.sqrt(a * a + b * b + 1.0)
                    dx = (c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2]) * n
                    dy = (c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2]) * n
                    dz = (c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2]) * n
                    radiance(solids, look, lighting, ox, oy, oz, dx, dy, dz, fine, bounces, rng, colour, work)
                    for k in range(3):
                        total[k] += min(colour[k], 6.0)
                        total[3 + k] += colour[3 + k]
            for k in range(3):
                rgb[row, col, k] = total[k] / (samples * samples)
                own_colour[row, col, k] = total[3 + k] / (samples * samples)
