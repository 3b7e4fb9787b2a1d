"""Coloured point clouds from depth maps, and their PLY files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import SceneError
from gld_ros.geometry.camera import Camera

PLY_DTYPE = np.dtype(
    [(n, "<f4") for n in ("x", "y", "z")] + [(n, "u1") for n in ("red", "green", "blue")] + [("confidence", "<f4")]
)


def backproject(camera: Camera, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """World points (H, W, 3) of a z-depth map (H, W); NaN depth gives NaN points."""
    return np.stack(backproject_planes(camera, depth), axis=-1)


def backproject_planes(camera: Camera, depth: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The same points as three planes x, y, z, each (H, W): several times faster to make and to pick points from."""
    height, width = depth.shape
    world_from_pixel = camera.world_from_cam[:3, :3] @ np.linalg.inv(camera.K)
    planes = []
    for (a, b, c), origin in zip(world_from_pixel, camera.centre, strict=True):
        along_u = (a * np.arange(width)).astype(np.float32)
        along_v = (b * np.arange(height) + c).astype(np.float32)
        plane = along_v[:, None] + along_u
        plane *= depth
        plane += np.float32(origin)
        planes.append(plane)
    return planes


def write_ply(path: Path, xyz: NDArray, rgb: NDArray, confidence: NDArray) -> None:
    """Write a binary little-endian PLY with x y z red green blue confidence."""
    points = np.empty(len(xyz), PLY_DTYPE)
    for i, name in enumerate("xyz"):
        points[name] = xyz[:, i]
    for i, name in enumerate(("red", "green", "blue")):
        points[name] = rgb[:, i]
    points["confidence"] = confidence
    kinds = {"<f4": "float", "|u1": "uchar"}
    fields = "".join(f"property {kinds[PLY_DTYPE[name].str]} {name}\n" for name in PLY_DTYPE.names or ())
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{fields}end_header\n"
    path.write_bytes(header.encode("ascii") + points.tobytes())


def read_ply(path: Path) -> NDArray:
    """Read a file of ``write_ply`` as a structured array. Raises SceneError on anything else."""
    data = path.read_bytes()
    end = data.find(b"end_header\n")
    if not data.startswith(b"ply\nformat binary_little_endian") or end < 0:
        raise SceneError(f"{path} is not a binary little-endian PLY")
    return np.frombuffer(data, PLY_DTYPE, offset=end + len(b"end_header\n"))
