"""A small textured scene of boxes and a wall, ray cast exactly: pictures, depth and visibility to test against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.cloud import backproject
from gld_ros.synthesis.types import PosedView

SUPERSAMPLE = 3  # rays per pixel and axis
WALL_Z = 4.0
BOXES = (((-1.0, -0.6, 2.2), (-0.2, 0.5, 2.8)), ((0.35, -0.2, 1.6), (0.9, 0.7, 2.0)))  # lowest, highest corner


@dataclass(frozen=True, eq=False)
class Rendered:
    """A picture of the scene and the truth about it."""

    camera: Camera
    rgb: NDArray[np.uint8]  # (H, W, 3)
    depth: NDArray[np.float32]  # (H, W) z-depth through pixel centres


def texture(points: NDArray[np.float64], which: NDArray[np.int64]) -> NDArray[np.float64]:
    """Smooth, non-repeating colours in [0, 1] of surface points (..., 3), another pattern per surface."""
    out = []
    for channel in range(3):
        value = np.zeros(points.shape[:-1])
        for k, frequency in enumerate((5.0, 9.1, 15.7, 23.3)):
            random = np.random.default_rng(100 * channel + k)
            direction = random.normal(size=3)
            phase = random.uniform(0, 6.28) + 1.7 * which
            value += np.sin(points @ (direction / np.linalg.norm(direction)) * frequency + phase) / (k + 2)
        out.append(0.5 + 0.35 * value)
    return np.clip(np.stack(out, -1), 0, 1)


def cast(camera: Camera, uv: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """z-depth (N,) and surface (N,) (0 wall, 1.. boxes) of the rays through pixels uv (N, 2)."""
    homogeneous = np.concatenate([uv, np.ones((len(uv), 1))], 1)
    rays = homogeneous @ (camera.world_from_cam[:3, :3] @ np.linalg.inv(camera.K)).T  # z-depth 1 along the axis
    origin = camera.centre
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = (WALL_Z - origin[2]) / rays[:, 2]
        depth = np.where(depth > 0, depth, np.inf)
        which = np.zeros(len(uv), np.int64)
        for i, (low, high) in enumerate(BOXES):
            t = np.sort(np.stack([(np.array(low) - origin) / rays, (np.array(high) - origin) / rays]), axis=0)
            enter, leave = t[0].max(1), t[1].min(1)
            hit = (enter < leave) & (enter > 0) & (enter < depth)
            depth, which = np.where(hit, enter, depth), np.where(hit, i + 1, which)
    return depth, which


def render(camera: Camera, gain: float = 1.0) -> Rendered:
    """Ray cast the scene; colour is the mean over SUPERSAMPLE^2 rays of a pixel times ``gain``."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width].astype(float)
    shifts = (np.arange(SUPERSAMPLE) + 0.5) / SUPERSAMPLE - 0.5
    colour = np.zeros((camera.height * camera.width, 3))
    rotation = camera.world_from_cam[:3, :3]
    for dy in shifts:
        for dx in shifts:
            uv = np.stack([u + dx, v + dy], -1).reshape(-1, 2)
            depth, which = cast(camera, uv)
            finite = np.where(np.isfinite(depth), depth, 1e3)
            rays = np.concatenate([uv, np.ones((len(uv), 1))], 1) @ (rotation @ np.linalg.inv(camera.K)).T
            hit = np.isfinite(depth)[:, None]
            colour += np.where(hit, texture(rays * finite[:, None] + camera.centre, which), 0.0) / SUPERSAMPLE**2
    rgb = (np.clip(colour * gain, 0, 1) * 255).round().astype(np.uint8).reshape(camera.height, camera.width, 3)
    depth, _ = cast(camera, np.stack([u, v], -1).reshape(-1, 2))
    depth = np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)
    return Rendered(camera, rgb, depth.reshape(camera.height, camera.width))


def seen_by(target: Rendered, camera: Camera, tolerance: float = 0.02) -> NDArray[np.bool_]:
    """Which target pixels show a surface that ``camera`` sees too, (H, W), within relative depth ``tolerance``."""
    points = backproject(target.camera, target.depth).astype(np.float64)
    cam = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    uv = (cam @ camera.K.T)[..., :2] / cam[..., 2:]
    within = (cam[..., 2] > 0) & (uv > -0.5).all(-1)
    within &= (uv[..., 0] < camera.width - 0.5) & (uv[..., 1] < camera.height - 0.5)
    depth, _ = cast(camera, uv.reshape(-1, 2))
    return within & (np.abs(depth.reshape(within.shape) / cam[..., 2] - 1) < tolerance)


def look(
    x: float,
    y: float = 0.0,
    z: float = 0.0,
    yaw_deg: float = 0.0,
    size: tuple[int, int] = (112, 84),
    focal: float = 0.9,
) -> Camera:
    """A camera at (x, y, z) looking along +z, turned by ``yaw_deg`` to the right; ``focal`` in picture widths."""
    width, height = size
    pose = np.eye(4)
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    pose[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    pose[:3, 3] = x, y, z
    f = focal * max(width, height)
    return Camera(width, height, np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]]), pose)


def posed(key: str, camera: Camera, depth: bool = False, gain: float = 1.0) -> PosedView:
    """A rendered condition view."""
    made = render(camera, gain)
    return PosedView(key, camera, made.rgb, made.depth if depth else None)


def moved_world(camera: Camera, world_from_old: NDArray[np.float64], scale: float = 1.0) -> Camera:
    """The camera after the world was scaled, then turned and shifted."""
    pose = camera.world_from_cam.copy()
    pose[:3, 3] *= scale
    return camera.moved(world_from_old @ pose)


CONDITIONS = (look(-0.35, 0.0), look(-0.1, 0.1, -0.05), look(0.15, -0.08), look(0.4, 0.05, 0.05))
TARGET = look(0.02, 0.0, 0.02)
ASIDE = look(-0.9, 0.0, 0.0, 12.0)  # sees wall that the boxes hide from all conditions
