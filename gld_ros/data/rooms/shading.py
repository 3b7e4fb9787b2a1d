"""Light transport for the room tracer: textured surfaces, area lights, sun through windows, a few diffuse bounces.

With ``bounces = 0`` indirect light is a cheap ambient term that darkens towards the room's corners (training speed);
with ``bounces > 0`` it is path traced (pictures meant for people).
"""

from __future__ import annotations

import math

import numpy as np

from gld_ros.data.rooms.jit import kernel
from gld_ros.data.rooms.tracer import (
    AREA,
    BOX,
    COS,
    CX,
    CY,
    CYLINDER,
    CZ,
    EMISSION,
    EPS,
    FAR,
    GLOSS,
    HX,
    HY,
    HZ,
    KIND,
    LR,
    LX,
    LY,
    LZ,
    NX,
    NY,
    NZ,
    ROOM,
    SCALE,
    SIN,
    TEXTURE,
    TINT_R,
    USHIFT,
    UX,
    UY,
    UZ,
    VSHIFT,
    VX,
    VY,
    VZ,
    blocked,
    closest,
)


@kernel
def _mix(a, b):
    """64-bit hash of two integers (splitmix)."""
    x = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xD1B54A32D192ED03)
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _uniform(rng):
    """Next number in [0, 1) of a one-element uint64 state."""
    rng[0] = _mix(rng[0], 1)
    return np.float64(rng[0] >> np.uint64(40)) / 16777216.0


@kernel
def _surface(prims, room_mats, mats, hit, face, x, y, z):
    """Unit normal, texture coordinates in metres, 1/extent in u and v, and the material row of a hit point."""
    if hit == ROOM:
        nx = 1.0 if face == 0 else (-1.0 if face == 1 else 0.0)
        ny = 1.0 if face == 2 else (-1.0 if face == 3 else 0.0)
        nz = 1.0 if face == 4 else (-1.0 if face == 5 else 0.0)
        if face < 2:
            return nx, ny, nz, y, -z, 1.0, 1.0, room_mats[face]
        if face < 4:
            return nx, ny, nz, x, -z, 1.0, 1.0, room_mats[face]
        return nx, ny, nz, x, y, 1.0, 1.0, room_mats[face]
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
    return c * nx - s * ny, s * nx + c * ny, nz, u, v, du, dv, mats[hit, face]


@kernel
def _albedo(textures, offsets, linear, table, m, u, v, du, dv, shift_u, shift_v, footprint, out):
    """Bilinear look-up in the nearest mip level, linear light, into out[0:3]; footprint: size of a pixel in metres."""
    levels = offsets.shape[0]
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
    base = offsets[level]
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


@kernel
def _direct(prims, bounds, skip, leaf, gate, room, lights, sun, x, y, z, nx, ny, nz, jitter, rng, out):
    """Irradiance / pi from the area lights and the sun at a point, one shadow ray each, into out[0:3].

    Without ``jitter`` each light is its centre, so shadows are sharp and free of noise.
    """
    out[0] = 0.0
    out[1] = 0.0
    out[2] = 0.0
    for i in range(lights.shape[0]):
        a = 2.0 * _uniform(rng) - 1.0 if jitter else 0.0
        b = 2.0 * _uniform(rng) - 1.0 if jitter else 0.0
        wx = lights[i, LX] + a * lights[i, UX] + b * lights[i, VX] - x
        wy = lights[i, LY] + a * lights[i, UY] + b * lights[i, VY] - y
        wz = lights[i, LZ] + a * lights[i, UZ] + b * lights[i, VZ] - z
        d2 = wx * wx + wy * wy + wz * wz
        d = math.sqrt(d2)
        wx /= d
        wy /= d
        wz /= d
        cos_surface = nx * wx + ny * wy + nz * wz
        # a light with a zero normal (a bulb) shines to all sides
        facing = lights[i, NX] ** 2 + lights[i, NY] ** 2 + lights[i, NZ] ** 2 > 0.5
        cos_light = -(lights[i, NX] * wx + lights[i, NY] * wy + lights[i, NZ] * wz) if facing else 0.5
        if cos_surface <= 0.0 or cos_light <= 0.0:
            continue
        if blocked(prims, bounds, skip, leaf, gate, x, y, z, wx, wy, wz, d - 2e-2):
            continue
        g = cos_surface * cos_light * lights[i, AREA] / (math.pi * max(d2, 0.1 * lights[i, AREA], 0.02))
        for k in range(3):
            out[k] += g * lights[i, LR + k]
    if sun[3] + sun[4] + sun[5] > 0.0:
        wx = sun[0]
        wy = sun[1]
        wz = sun[2]
        if jitter:
            wx += 0.02 * (_uniform(rng) - 0.5)
            wy += 0.02 * (_uniform(rng) - 0.5)
            wz += 0.02 * (_uniform(rng) - 0.5)
        cos_surface = nx * wx + ny * wy + nz * wz
        if cos_surface > 0.0:
            through = False
            _, hit, _ = closest(prims, bounds, skip, leaf, room, x, y, z, wx, wy, wz, FAR)
            if hit != ROOM:
                through = gate[hit] == 2
            if through:
                for k in range(3):
                    out[k] += cos_surface * sun[3 + k]


@kernel
def radiance(
    prims, mats, bounds, skip, leaf, gate, room, room_mats, table, textures, offsets, linear, lights, sun, ambient,
    ox, oy, oz, dx, dy, dz, pixel_angle, bounces, jitter, rng, colour, work,
):  # fmt: skip
    """Light arriving along one ray into colour[0:3], the surface's own colour into colour[3:6].

    Returns (distance, identity of the surface).
    """
    tr = 1.0
    tg = 1.0
    tb = 1.0
    colour[0] = 0.0
    colour[1] = 0.0
    colour[2] = 0.0
    first_t = FAR
    identity = -1
    specular = True
    for depth in range(bounces + 1):
        t, hit, face = closest(prims, bounds, skip, leaf, room, ox, oy, oz, dx, dy, dz, FAR)
        x = ox + t * dx
        y = oy + t * dy
        z = oz + t * dz
        nx, ny, nz, u, v, du, dv, m = _surface(prims, room_mats, mats, hit, face, x, y, z)
        if depth == 0:
            first_t = t
            identity = (hit + 1) * 8 + face
        cosine = max(-(nx * dx + ny * dy + nz * dz), 0.05)
        su = prims[hit, USHIFT] if hit != ROOM else 0.0
        sv = prims[hit, VSHIFT] if hit != ROOM else 0.0
        footprint = t * pixel_angle / math.sqrt(cosine) * (1.0 if depth == 0 else 8.0)
        _albedo(textures, offsets, linear, table, m, u, v, du, dv, su, sv, footprint, work)
        r = work[0]
        g = work[1]
        b = work[2]
        if depth == 0:
            colour[3] = r
            colour[4] = g
            colour[5] = b
        emission = table[m, EMISSION]
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
        gloss = table[m, GLOSS]
        if gloss > 0.0 and jitter and depth < bounces:
            fresnel = gloss * (0.04 + 0.96 * (1.0 - cosine) ** 5)
            if _uniform(rng) < fresnel:
                rough = 0.12 * (1.0 - gloss) + 0.02
                k = 2.0 * (nx * dx + ny * dy + nz * dz)
                dx = dx - k * nx + rough * (_uniform(rng) - 0.5)
                dy = dy - k * ny + rough * (_uniform(rng) - 0.5)
                dz = dz - k * nz + rough * (_uniform(rng) - 0.5)
                n = 1.0 / math.sqrt(dx * dx + dy * dy + dz * dz)
                dx *= n
                dy *= n
                dz *= n
                if nx * dx + ny * dy + nz * dz <= 0.0:
                    break
                continue
        _direct(prims, bounds, skip, leaf, gate, room, lights, sun, ox, oy, oz, nx, ny, nz, jitter, rng, work)
        if depth == bounces:
            # stands in for the light that has bounced more often; dimmer where walls or floor are near
            open_x = 1.0 - 0.35 * math.exp(-min(ox - room[0], room[1] - ox) / 0.25) * (1.0 - abs(nx))
            open_y = 1.0 - 0.35 * math.exp(-min(oy - room[2], room[3] - oy) / 0.25) * (1.0 - abs(ny))
            open_z = 1.0 - 0.35 * math.exp(-min(oz - room[4], room[5] - oz) / 0.25) * (1.0 - abs(nz))
            k = open_x * open_y * open_z * (0.8 + 0.2 * nz)
            work[0] += k * ambient[0]
            work[1] += k * ambient[1]
            work[2] += k * ambient[2]
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
        az = 2.0 * _uniform(rng) - 1.0
        phi = 2.0 * math.pi * _uniform(rng)
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
    return first_t, identity


@kernel
def render_kernel(
    prims, mats, bounds, skip, leaf, gate, room, room_mats, table, textures, offsets, linear, lights, sun, ambient,
    fx, fy, cx, cy, c2w, samples, bounces, seed, rgb, albedo, depth, ids,
):  # fmt: skip
    """Fill rgb and albedo (H, W, 3) linear light, depth (H, W) z-depth at pixel centres and ids (H, W).

    With bounces = 0 one centred ray per pixel, and samples x samples rays only where surfaces or brightness change
    between neighbours; with bounces > 0 every pixel takes samples x samples stratified paths.
    """
    height, width = depth.shape
    rng = np.zeros(1, np.uint64)
    colour = np.zeros(6)
    work = np.zeros(3)
    total = np.zeros(6)
    ox = c2w[0, 3]
    oy = c2w[1, 3]
    oz = c2w[2, 3]
    angle = 1.0 / fx
    for row in range(height):
        for col in range(width):
            a = (col - cx) / fx
            b = (row - cy) / fy
            n = 1.0 / math.sqrt(a * a + b * b + 1.0)
            dx = (c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2]) * n
            dy = (c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2]) * n
            dz = (c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2]) * n
            t, identity = radiance(
                prims, mats, bounds, skip, leaf, gate, room, room_mats, table, textures, offsets, linear, lights, sun,
                ambient, ox, oy, oz, dx, dy, dz, angle, 0, False, rng, colour, work,
            )  # fmt: skip
            depth[row, col] = t * n
            ids[row, col] = identity
            for k in range(3):
                rgb[row, col, k] = colour[k]
                albedo[row, col, k] = colour[3 + k]
    if samples <= 1 and bounces == 0:
        return
    fine = angle / samples if bounces > 0 else angle
    base = rgb.copy()
    for row in range(height):
        for col in range(width):
            if bounces == 0:
                flagged = False
                here = base[row, col, 0] + base[row, col, 1] + base[row, col, 2]
                for k in range(4):
                    r = min(max(row + (1 if k == 0 else (-1 if k == 1 else 0)), 0), height - 1)
                    c = min(max(col + (1 if k == 2 else (-1 if k == 3 else 0)), 0), width - 1)
                    there = base[r, c, 0] + base[r, c, 1] + base[r, c, 2]
                    if ids[r, c] != ids[row, col] or abs(here - there) > 0.4 * (here + there):
                        flagged = True
                if not flagged:
                    continue
            total[:] = 0.0
            rng[0] = _mix(_mix(seed, row), col)
            for i in range(samples):
                for j in range(samples):
                    if bounces > 0:
                        fi = (i + _uniform(rng)) / samples - 0.5
                        fj = (j + _uniform(rng)) / samples - 0.5
                    else:
                        fi = (i + 0.5) / samples - 0.5
                        fj = (j + 0.5) / samples - 0.5
                    a = (col + fj - cx) / fx
                    b = (row + fi - cy) / fy
                    n = 1.0 / math.sqrt(a * a + b * b + 1.0)
                    dx = (c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2]) * n
                    dy = (c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2]) * n
                    dz = (c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2]) * n
                    radiance(
                        prims, mats, bounds, skip, leaf, gate, room, room_mats, table, textures, offsets, linear,
                        lights, sun, ambient, ox, oy, oz, dx, dy, dz, fine, bounces, bounces > 0, rng, colour, work,
                    )  # fmt: skip
                    for k in range(3):
                        total[k] += min(colour[k], 6.0)
                        total[3 + k] += colour[3 + k]
            for k in range(3):
                rgb[row, col, k] = total[k] / (samples * samples)
                albedo[row, col, k] = total[3 + k] / (samples * samples)


@kernel
def depth_kernel(prims, bounds, skip, leaf, room, fx, fy, cx, cy, c2w, depth):
    """Fill depth (H, W) with z-depth at pixel centres."""
    height, width = depth.shape
    for row in range(height):
        for col in range(width):
            a = (col - cx) / fx
            b = (row - cy) / fy
            n = 1.0 / math.sqrt(a * a + b * b + 1.0)
            dx = (c2w[0, 0] * a + c2w[0, 1] * b + c2w[0, 2]) * n
            dy = (c2w[1, 0] * a + c2w[1, 1] * b + c2w[1, 2]) * n
            dz = (c2w[2, 0] * a + c2w[2, 1] * b + c2w[2, 2]) * n
            t, _, _ = closest(prims, bounds, skip, leaf, room, c2w[0, 3], c2w[1, 3], c2w[2, 3], dx, dy, dz, FAR)
            depth[row, col] = t * n
