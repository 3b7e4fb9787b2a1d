"""Where a picture was taken from, as the picture itself tells: its features against known 3-D points.

The condition views' features get their place in the world from known depth and poses; a picture's features that match
them give its camera by PnP. Nothing of the target but its lens is used: a picture that does not show the scene from
where it was asked to gives another camera, or none.

AP3P (Ke and Roumeliotis 2017) within RANSAC (Fischler and Bolles 1981), then Levenberg-Marquardt over the inliers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.evaluation.trajectory import trajectory_errors
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.images import resize_area
from gld_ros.geometry.sparse import FEATURE_PX, Features, detect, mutual_matches
from gld_ros.synthesis.types import PosedView

SMALL_PX = 256  # longer side that smaller pictures are enlarged to: features finer than a pixel are placed better
CONTRAST = 0.01  # of SIFT points: generated pictures are soft
MAX_ERROR = 0.01  # of an inlier, as a share of the longer side
MIN_INLIERS = 12  # distinct points; fewer may agree by chance
MAX_EDGE = 0.05  # relative difference of depth between neighbouring pixels: beyond, a feature straddles two surfaces
ROUNDS = 2  # of refining, each with the inliers of the last
ITERATIONS, CONFIDENCE = 1000, 0.9999  # of RANSAC

Pose = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Features of one condition view with their place in the world."""

    xyz: NDArray[np.float64]  # (N, 3)
    descriptors: NDArray[np.float32]  # (N, 128)


@dataclass(frozen=True, eq=False)
class Recovered:
    """The camera of a picture, None where none was found, and how far it is from the one asked for: then infinitely."""

    world_from_cam: Pose | None
    inliers: int
    rotation_deg: float = float("inf")
    centre: float = float("inf")  # world units
    centre_share: float = float("inf")  # of the condition views' baseline


@dataclass(frozen=True, eq=False)
class SceneCameras:
    """The targets of one scene as recovered from one predictor's pictures."""

    conditions: Sequence[Camera]
    targets: Sequence[Camera]
    recovered: Sequence[Recovered]


def landmarks(views: Sequence[PosedView], depths: Sequence[NDArray[np.float32]]) -> list[Landmarks]:
    """The features of each view whose depth is known; ``depths`` in world units, any size, NaN = none."""
    return [_lifted(_features(v.rgb, v.camera), depth) for v, depth in zip(views, depths, strict=True)]


def recover(rgb: NDArray[np.uint8], asked: Camera, known: Sequence[Landmarks], baseline: float) -> Recovered:
    """The camera of a picture (H, W, 3) made for ``asked``, whose pose serves for the errors alone."""
    found, inliers = find_camera(rgb, asked.K, known)
    if found is None:
        return Recovered(None, inliers)
    turned = found[:3, :3].T @ asked.world_from_cam[:3, :3]
    # by the sine of half the angle: near 0 the trace cannot tell small angles from rounding
    half = np.linalg.norm(turned - np.eye(3)) / np.sqrt(8)
    away = float(np.linalg.norm(found[:3, 3] - asked.centre))
    degrees = float(np.degrees(2 * np.arcsin(min(1.0, half))))
    return Recovered(found, inliers, degrees, away, away / baseline if baseline > 0 else float("nan"))


def find_camera(rgb: NDArray[np.uint8], K: NDArray, known: Sequence[Landmarks]) -> tuple[Pose | None, int]:
    """``world_from_cam`` of a picture (H, W, 3) taken with the lens ``K``, and the number of points that agree.

    None where fewer than MIN_INLIERS do.
    """
    seen = _features(rgb, Camera(rgb.shape[1], rgb.shape[0], K, np.eye(4)))
    camera = seen.camera
    xyz, xy = [np.zeros((0, 3))], [np.zeros((0, 2))]
    for view in known:
        if len(view.xyz) >= 2 and len(seen.xy):
            mine, theirs = mutual_matches(seen.descriptors @ view.descriptors.T)
            xyz.append(view.xyz[theirs])
            xy.append(seen.xy[mine])
    points, pixels = np.concatenate(xyz), np.concatenate(xy)
    if _distinct(pixels) < MIN_INLIERS:
        return None, 0
    limit = MAX_ERROR * max(camera.width, camera.height)
    shift = points.mean(axis=0)  # keeps the numbers small where the world's origin is far away
    ok, turn, move, chosen = cv2.solvePnPRansac(
        points - shift, pixels, camera.K, None, iterationsCount=ITERATIONS, reprojectionError=limit,
        confidence=CONFIDENCE, flags=cv2.SOLVEPNP_AP3P,
    )  # fmt: skip
    if not ok or chosen is None:
        return None, 0
    inliers = chosen[:, 0]
    for _ in range(ROUNDS):
        if _distinct(pixels[inliers]) < MIN_INLIERS:
            break
        turn, move = cv2.solvePnPRefineLM(points[inliers] - shift, pixels[inliers], camera.K, None, turn, move)
        rotation = cv2.Rodrigues(turn)[0]
        inliers = np.flatnonzero(_errors(points - shift, pixels, camera.K, rotation, move[:, 0]) < limit)
    count = _distinct(pixels[inliers])
    if count < MIN_INLIERS or not np.isfinite([turn, move]).all():
        return None, count
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = rotation.T
    world_from_cam[:3, 3] = shift - rotation.T @ move[:, 0]
    return world_from_cam, count


def camera_figures(scenes: Sequence[SceneCameras]) -> dict[str, float | None]:
    """Share of targets recovered, and medians in which the others count as infinitely wrong; None = infinite or none.

    Trajectory errors are those of all views of a scene, conditions where they are, and infinite where a target is
    missing.
    """
    targets = [r for scene in scenes for r in scene.recovered]
    paths = [_trajectory(scene) for scene in scenes]
    figures: dict[str, float | None] = {
        "pnp_recovered": float(np.mean([r.world_from_cam is not None for r in targets])),
        "pnp_inliers": _median([r.inliers for r in targets]),
        "pnp_deg": _median([r.rotation_deg for r in targets]),
        "pnp_centre": _median([r.centre for r in targets]),
        "pnp_centre_share": _median([r.centre_share for r in targets]),
    }
    for key in ("ate", "ate_share", "rpe", "rpe_deg"):
        figures[f"pnp_{key}"] = _median([path[key] for path in paths])
    return figures


def _trajectory(scene: SceneCameras) -> dict[str, float]:
    found = [r.world_from_cam for r in scene.recovered]
    given = [c.world_from_cam for c in scene.conditions]
    if any(pose is None for pose in found):
        return dict.fromkeys(("ate", "ate_share", "rpe", "rpe_deg"), float("inf"))
    return trajectory_errors(
        np.stack([*given, *(p for p in found if p is not None)]),
        np.stack([*given, *(c.world_from_cam for c in scene.targets)]),
    )


def _median(values: Sequence[float]) -> float | None:
    known = [v for v in values if not np.isnan(v)]
    middle = float(np.median(known)) if known else float("nan")
    return middle if np.isfinite(middle) else None


def _features(rgb: NDArray[np.uint8], camera: Camera) -> Features:
    longer = max(camera.width, camera.height)
    factor = min(max(longer, SMALL_PX), FEATURE_PX) / longer
    at = camera.resized(max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))
    return detect(resize_area(rgb, at.width, at.height), at, CONTRAST)


def _lifted(found: Features, depth: NDArray[np.float32]) -> Landmarks:
    """Features that lie on one surface of known depth, in the world."""
    camera = found.camera
    if not len(found.xy):
        return Landmarks(np.zeros((0, 3)), found.descriptors)
    scale = np.array([depth.shape[1] / camera.width, depth.shape[0] / camera.height])
    x, y = ((found.xy + 0.5) * scale - 0.5).astype(np.float32).T[:, :, None]
    inverse = np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), np.nan).astype(np.float32)
    # inverse depth is linear in the picture of a plane
    smooth, nearest = (
        cv2.remap(inverse, x, y, how, borderMode=cv2.BORDER_REPLICATE)[:, 0].astype(np.float64)
        for how in (cv2.INTER_LINEAR, cv2.INTER_NEAREST)
    )
    known = np.abs(smooth - nearest) < MAX_EDGE * nearest
    rays = np.concatenate([found.xy, np.ones((len(found.xy), 1))], axis=1)[known] @ np.linalg.inv(camera.K).T
    xyz = (rays / smooth[known, None]) @ camera.world_from_cam[:3, :3].T + camera.centre
    return Landmarks(xyz, found.descriptors[known])


def _errors(points: NDArray, pixels: NDArray, K: NDArray, rotation: NDArray, move: NDArray) -> NDArray[np.float64]:
    """Distance in pixels of each point's picture from where it was seen; infinite behind the camera."""
    seen = (points @ rotation.T + move) @ K.T
    in_front = seen[:, 2] > 0
    at = seen[:, :2] / np.where(in_front, seen[:, 2], 1)[:, None]
    error: NDArray[np.float64] = np.where(in_front, np.linalg.norm(at - pixels, axis=1), np.inf)
    return error


def _distinct(pixels: NDArray[np.float64]) -> int:
    """Points at different pixels: one feature may match in several views and stand there in several directions."""
    return len(np.unique(pixels.round(), axis=0))
