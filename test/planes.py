"""A tiny room of textured planes, rendered exactly with numpy: a wall, a floor and a poster in front of the wall."""

import functools
import json

import cv2
import numpy as np

from gld_ros.geometry.camera import Camera

W, H = 96, 72
K = np.array([[80.0, 0, 47.5], [0, 80.0, 35.5], [0, 0, 1]])
# point, axis u, axis v (normal = u x v), extent of u and v (None = endless), seed of the texture
PLANES = (
    ((0, 0, 3.0), (1, 0, 0), (0, 1, 0), None, 1),
    ((0, 0.7, 0), (1, 0, 0), (0, 0, 1), None, 2),
    ((-0.5, -0.4, 2.1), (1, 0, 0), (0, 1, 0), (0.8, 0.7), 3),
)
SPLITS = {"interp": ([0, 2, 4], [1, 3]), "extrapolate": ([0, 1, 2], [3, 4])}


@functools.lru_cache
def texture(seed):
    """A smooth random picture that repeats every 256 pixels, one more row and column for interpolation."""
    rng = np.random.default_rng(seed)
    noise = np.pad(rng.uniform(0, 255, (256, 256, 3)).astype(np.float32), ((16, 17), (16, 17), (0, 0)), "wrap")
    soft = cv2.GaussianBlur(noise, (0, 0), 3)[16:-16, 16:-16]
    return np.clip((soft - soft.mean()) * 5 + rng.uniform(90, 160, 3), 0, 255).astype(np.float32)


def camera(x=0.0, y=0.0, z=0.0, yaw_deg=0.0):
    angle = np.radians(yaw_deg)
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    world_from_cam[:3, 3] = x, y, z
    return Camera(W, H, K, world_from_cam)


def cameras():
    """Five views, 8 cm apart, turning slowly."""
    return [camera(0.08 * i - 0.16, 0.01 * i, 0.02 * i, 1.5 * (i - 2)) for i in range(5)]


def render(cam):
    """RGB (H, W, 3) uint8 and z-depth (H, W) float32."""
    v, u = np.mgrid[0 : cam.height, 0 : cam.width]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(cam.K).T  # z = 1: the ray length is the z-depth
    rays = rays @ cam.world_from_cam[:3, :3].T
    depth = np.full((cam.height, cam.width), np.inf)
    rgb = np.zeros((cam.height, cam.width, 3), np.float32)
    for point, axis_u, axis_v, extent, seed in PLANES:
        normal = np.cross(axis_u, axis_v)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = ((np.array(point) - cam.centre) @ normal) / (rays @ normal)
        hit = rays * np.where(np.isfinite(z), z, 0)[..., None] + cam.centre - point
        a, b = hit @ np.array(axis_u, float), hit @ np.array(axis_v, float)
        front = np.isfinite(z) & (z > 0.05) & (z < depth)
        if extent is not None:
            front &= (a >= 0) & (a <= extent[0]) & (b >= 0) & (b <= extent[1])
        maps = [(np.where(front, t, 0) * 35 % 256).astype(np.float32) for t in (a, b)]
        colour = cv2.remap(texture(seed), *maps, cv2.INTER_LINEAR)
        rgb[front], depth[front] = colour[front], z[front]
    return rgb.round().astype(np.uint8), depth.astype(np.float32)


def write_folder(path, depth=True, metric=True, splits=SPLITS, name=None):
    """The five views as a folder with cameras.json."""
    (path / "images").mkdir(parents=True)
    frames = []
    for i, cam in enumerate(cameras()):
        rgb, z = render(cam)
        cv2.imwrite(str(path / f"images/{i:03d}.png"), rgb[..., ::-1])
        entry = {"file": f"images/{i:03d}.png", "width": W, "height": H, "K": cam.K.tolist()}
        entry["c2w"] = cam.world_from_cam.tolist()
        if depth:
            cv2.imwrite(str(path / f"images/{i:03d}_depth.png"), (z * 5000).round().astype(np.uint16))
            entry |= {"depth": f"images/{i:03d}_depth.png", "depth_scale": 5000}
        frames.append(entry)
    text = {"frames": frames, "metric": metric}
    if name:
        text["name"] = name
    if splits:
        text["splits"] = {n: {"condition": c, "target": t} for n, (c, t) in splits.items()}
    (path / "cameras.json").write_text(json.dumps(text))
    return path
