"""Camera paths through a room: looking around a standpoint (orbit) and driving (drive)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.scene import PackedScene
from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera

MOTIONS = ("orbit", "drive", "line")


@dataclass(frozen=True)
class MotionConfig:
    """How the views of one scene are laid out; lengths in metres."""

    motion: str = "orbit"
    baseline_m: tuple[float, float] = (
        0.15,
        0.8,
    )  # orbit: sideways spread; drive: length of the path; drawn log-uniform
    focal: tuple[float, float] = (0.65, 1.0)  # focal length / picture width
    camera_height_m: tuple[float, float] = (0.35, 1.7)
    aim_jitter_m: float = 0.25
    clearance_m: float = 0.18  # nearest surface a camera may have in view or around it
    min_median_depth_m: float = 0.6

    def __post_init__(self) -> None:
        if self.motion not in MOTIONS:
            raise GldError(f"motion {self.motion!r} is unknown: use one of {', '.join(MOTIONS)}")


def look_at(position: NDArray, target: NDArray, roll: float = 0.0) -> NDArray[np.float64]:
    """Camera-to-world (4, 4), OpenCV axes, for a camera at ``position`` looking at ``target`` with z up."""
    forward = np.asarray(target, np.float64) - position
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([c * right + s * down, -s * right + c * down, forward], 1)
    pose[:3, 3] = position
    return pose


def coarse_depth(scene: PackedScene, camera: Camera, width: int = 20) -> NDArray[np.float32]:
    """Depth of a camera on a coarse grid of ``width`` columns."""
    from gld_ros.data.rooms.render import render_depth

    return render_depth(scene, camera.resized(width, max(4, round(width * camera.height / camera.width))))


def is_clear(scene: PackedScene, camera: Camera, config: MotionConfig) -> bool:
    """True when the camera is inside the room, outside of solids, and sees something worth seeing."""
    x, y, z = camera.centre
    room = scene.room
    gap = config.clearance_m
    if not (room[0] + gap < x < room[1] - gap and room[2] + gap < y < room[3] - gap and 0.1 < z < room[5] - gap):
        return False
    low, high = scene.prims[:, 1:4] - _reach(scene) - gap, scene.prims[:, 1:4] + _reach(scene) + gap
    if len(low) and bool(((camera.centre > low) & (camera.centre < high)).all(1).any()):
        return False
    depth = coarse_depth(scene, camera)
    return float(np.median(depth)) > config.min_median_depth_m and float(depth.min()) > gap


def _reach(scene: PackedScene) -> NDArray[np.float64]:
    p = scene.prims
    c, s = np.abs(p[:, 7]), np.abs(p[:, 8])
    return np.stack([c * p[:, 4] + s * p[:, 5], s * p[:, 4] + c * p[:, 5], p[:, 6]], 1)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def sample_cameras(
    scene: PackedScene, count: int, width: int, height: int, seed: int, config: MotionConfig | None = None
) -> list[Camera]:
    """``count`` cameras of one lens in the room, or GldError when the room leaves no place for them."""
    config = config or MotionConfig()
    rng = np.random.default_rng([seed, 11])
    focal = float(rng.uniform(*config.focal)) * width
    k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])
    for attempt in range(60):
        spread = _log_uniform(rng, *config.baseline_m) * (1.0 if attempt < 30 else 0.5)
        poses = (_orbit if config.motion == "orbit" else _drive)(scene, count, spread, rng, config)
        cameras = [Camera(width, height, k, pose) for pose in poses]
        good = [c for c in cameras if is_clear(scene, c, config)]
        if len(good) >= count:
            return good[:count]
    raise GldError(f"no clear camera path found in room of seed {seed}: use a larger room or fewer views")


def _standpoint(scene: PackedScene, rng: np.random.Generator, config: MotionConfig) -> tuple[NDArray, NDArray]:
    """A place to stand and a far point to look at."""
    x, y, z = scene.room[1], scene.room[3], scene.room[5]
    high = min(config.camera_height_m[1], z - 0.4)
    here = np.array(
        [rng.uniform(0.1, 0.9) * x, rng.uniform(0.1, 0.9) * y, rng.uniform(config.camera_height_m[0], high)]
    )
    for _ in range(30):
        there = np.array([rng.uniform(0, 1) * x, rng.uniform(0, 1) * y, rng.uniform(0.2, 1.5)])
        if np.linalg.norm(there[:2] - here[:2]) > 0.45 * max(x, y):
            break
    return here, there


def _orbit(
    scene: PackedScene, count: int, spread: float, rng: np.random.Generator, config: MotionConfig
) -> list[NDArray[np.float64]]:
    here, there = _standpoint(scene, rng, config)
    poses = []
    for _ in range(2 * count):  # spares: some will stand in furniture
        offset = rng.standard_normal(3) * np.array([spread, spread, 0.35 * spread])
        aim = there + rng.standard_normal(3) * config.aim_jitter_m
        poses.append(look_at(here + offset, aim, float(rng.normal(0, 0.03))))
    return poses


def _drive(
    scene: PackedScene, count: int, length: float, rng: np.random.Generator, config: MotionConfig
) -> list[NDArray[np.float64]]:
    """Forward along an arc; ``line`` motion goes straight. The camera pans around the heading."""
    here, there = _standpoint(scene, rng, config)
    heading = math.atan2(there[1] - here[1], there[0] - here[0]) + float(rng.normal(0, 0.3))
    curve = 0.0 if config.motion == "line" else float(rng.normal(0, 0.5))
    length *= 2.0
    step = length / max(count - 1, 1)
    phase = float(rng.uniform(0, 2 * math.pi))
    tilt = math.atan2(there[2] - here[2], float(np.linalg.norm(there[:2] - here[:2])))
    poses = []
    position = here.copy()
    for i in range(count):
        at = heading + curve * (i * step)
        pan = 0.0 if config.motion == "line" else 0.3 * math.sin(phase + 2.2 * i * step)
        direction = np.array([math.cos(at + pan), math.sin(at + pan), math.tan(tilt)])
        poses.append(look_at(position, position + direction, float(rng.normal(0, 0.005))))
        position = position + step * np.array([math.cos(at), math.sin(at), 0.0])
    return poses
