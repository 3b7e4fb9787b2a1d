"""Pictures for people: soft shadows, gloss and a few diffuse bounces, path traced."""

from __future__ import annotations

import math

import numpy as np

from gld_ros.data.rooms.jit import kernel, pure
from gld_ros.data.rooms.lighting import add_ambient, direct_soft
from gld_ros.data.rooms.rays import FAR, camera_ray
from gld_ros.data.rooms.surfaces import leave_surface, look_at_surface, mix, uniform
from gld_ros.data.rooms.tracer import EMISSION, GLOSS, closest, identity


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
        width = t * pixel_angle * (1.0 if depth == 0 else 8.0)
        nx, ny, nz, cosine, m = look_at_surface(solids, look, hit, face, x, y, z, dx, dy, dz, width, work)
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
        ox, oy, oz = leave_surface(room, x, y, z, nx, ny, nz)
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
            dx, dy, dz, n = camera_ray(fx, fy, cx, cy, c2w, col, row)
            t, hit, face = closest(solids, ox, oy, oz, dx, dy, dz)
            depth[row, col] = t * n
            ids[row, col] = identity(solids, hit, face)
            total[:] = 0.0
            rng[0] = mix(mix(seed, row), col)
            for i in range(samples):
                for j in range(samples):
                    fi = (i + uniform(rng)) / samples - 0.5
                    fj = (j + uniform(rng)) / samples - 0.5
                    dx, dy, dz, _ = camera_ray(fx, fy, cx, cy, c2w, col + fj, row + fi)
                    radiance(solids, look, lighting, ox, oy, oz, dx, dy, dz, fine, bounces, rng, colour, work)
                    for k in range(3):
                        total[k] += min(colour[k], 6.0)
                        total[3 + k] += colour[3 + k]
            for k in range(3):
                rgb[row, col, k] = total[k] / (samples * samples)
                own_colour[row, col, k] = total[3 + k] / (samples * samples)
