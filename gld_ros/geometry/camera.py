"""Pinhole cameras with poses, and what resizing and cropping does to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status

Array = NDArray[np.float64]

ROTATION_TOLERANCE = 1e-3  # largest |R^T R - I| accepted: float32 poses stay well below


def check_pose(world_from_cam: NDArray, name: str = "pose") -> Array:
    """Return a float64 copy of a rigid 4x4 transform, or raise GldError(BAD_POSE)."""
    pose = _matrix(world_from_cam, name, Status.BAD_POSE)
    if pose.shape != (4, 4):
        raise GldError(f"{name} has shape {pose.shape}, must be (4, 4)", Status.BAD_POSE)
    if not np.isfinite(pose).all():
        raise GldError(f"{name} has non-finite entries: send a finite transform", Status.BAD_POSE)
    rotation = pose[:3, :3]
    deviation = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if deviation > ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise GldError(
            f"{name} is not a rotation: |R'R - I| = {deviation:.3g}, det = {np.linalg.det(rotation):.3g}, "
            f"limit {ROTATION_TOLERANCE}: normalise the quaternion or fix the matrix",
            Status.BAD_POSE,
        )
    if not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6):
        raise GldError(f"{name} has last row {pose[3]}, must be 0 0 0 1", Status.BAD_POSE)
    return pose


def check_intrinsics(K: NDArray, name: str = "K") -> Array:
    """Return a float64 copy of a 3x3 pinhole matrix, or raise GldError(BAD_INTRINSICS)."""
    k = _matrix(K, name, Status.BAD_INTRINSICS)
    if k.shape != (3, 3):
        raise GldError(f"{name} has shape {k.shape}, must be (3, 3)", Status.BAD_INTRINSICS)
    if not np.isfinite(k).all():
        raise GldError(f"{name} has non-finite entries: check the camera_info", Status.BAD_INTRINSICS)
    if k[0, 0] <= 0 or k[1, 1] <= 0:
        raise GldError(
            f"{name} has focal lengths fx={k[0, 0]:g}, fy={k[1, 1]:g}, both must be > 0: calibrate the camera",
            Status.BAD_INTRINSICS,
        )
    if not np.allclose([k[1, 0], *k[2]], [0, 0, 0, 1], atol=1e-6):
        raise GldError(
            f"{name} is {k.tolist()}, its form must be fx s cx / 0 fy cy / 0 0 1: send a pinhole matrix, row-major",
            Status.BAD_INTRINSICS,
        )
    return k


def _matrix(values: NDArray, name: str, status: Status) -> Array:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GldError(f"{name} is not a matrix of numbers: {error}", status) from error


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera somewhere in a world frame.

    ``K`` is in pixels with integer pixel centres (OpenCV); ``world_from_cam`` maps optical-frame points
    (x right, y down, z forward) to the world. Raises GldError on a non-rigid pose or a bad K.
    """

    width: int
    height: int
    K: Array  # (3, 3)
    world_from_cam: Array  # (4, 4)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise GldError(
                f"camera size {self.width}x{self.height} is empty: set width and height >= 1",
                Status.BAD_INTRINSICS,
            )
        object.__setattr__(self, "K", check_intrinsics(self.K))
        object.__setattr__(self, "world_from_cam", check_pose(self.world_from_cam))

    @property
    def cam_from_world(self) -> Array:
        """Inverse of the pose, (4, 4)."""
        return invert_rigid(self.world_from_cam)

    @property
    def centre(self) -> Array:
        """Optical centre in the world, (3,)."""
        return self.world_from_cam[:3, 3]

    @property
    def forward(self) -> Array:
        """Unit optical axis in the world, (3,)."""
        return self.world_from_cam[:3, 2]

    def resized(self, width: int, height: int) -> Camera:
        """The same field of view on another grid; x and y scale apart, pixel centres at integers."""
        return Camera(
            width, height, scale_intrinsics(self.K, width / self.width, height / self.height), self.world_from_cam
        )

    def cropped(self, x0: int, y0: int, width: int, height: int) -> Camera:
        """The sub-window [x0, x0+width) x [y0, y0+height); it may reach outside the picture."""
        k = self.K.copy()
        k[0, 2] -= x0
        k[1, 2] -= y0
        return Camera(width, height, k, self.world_from_cam)

    def moved(self, world_from_cam: Array) -> Camera:
        """The same lens at another pose."""
        return Camera(self.width, self.height, self.K, world_from_cam)


def view_costs(cameras: Sequence[Camera], target: Camera) -> Array:
    """How far each camera is from ``target``: |dc| / s + angle / 30 deg, s the median gap of neighbouring centres."""
    centres = np.array([c.centre for c in cameras])
    spacing = neighbour_distance(cameras) or 1.0
    turns = np.array([np.trace(c.world_from_cam[:3, :3].T @ target.world_from_cam[:3, :3]) for c in cameras])
    angles = np.degrees(np.arccos(np.clip((turns - 1) / 2, -1, 1)))
    return np.linalg.norm(centres - target.centre, axis=1) / spacing + angles / 30.0


def neighbour_distance(cameras: Sequence[Camera]) -> float:
    """Median distance from each centre to the nearest other; 0 for a single camera."""
    if len(cameras) < 2:
        return 0.0
    centres = np.array([c.centre for c in cameras])
    distances = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float(np.median(distances.min(axis=1)))


def scale_intrinsics(K: Array, sx: float, sy: float) -> Array:
    """K after scaling the picture: cx' = (cx + 0.5) sx - 0.5, fx' = fx sx, likewise y."""
    corner = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    return np.linalg.inv(corner) @ np.diag([sx, sy, 1.0]) @ corner @ K


def invert_rigid(transform: Array) -> Array:
    """Inverse of a rigid 4x4 transform, exact in its rotation part."""
    rotation = transform[:3, :3]
    inverse = np.eye(4)
    inverse[:3, :3] = rotation.T
    inverse[:3, 3] = -rotation.T @ transform[:3, 3]
    return inverse
