"""Sparse triangulated points between posed pictures: they tell which depths a plane sweep must cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.geometry.camera import Camera

FEATURE_PX = 640  # longer side of the picture features are sought in
MAX_FEATURES = 1500
CONTRAST = 0.02  # least, of SIFT points
RATIO = 0.8  # Lowe's ratio test
MAX_DESCRIPTOR_DISTANCE = 0.6  # of unit RootSIFT vectors
MAX_SAMPSON_PX = 1.5
MAX_REPROJECTION_PX = 2.0
MIN_SPREAD = 1e-3  # world units
MIN_PARALLAX_DEG, MAX_PARALLAX_DEG = 0.7, 40.0
ENDLESS = 40.0  # times the depth at which the least parallax is seen, nothing can be told from infinity


@dataclass(frozen=True, eq=False)
class Features:
    """SIFT key points of one picture: pixel positions, scales and descriptors."""

    camera: Camera  # of the picture the positions refer to
    xy: NDArray[np.float64]  # (N, 2)
    size: NDArray[np.float64]  # (N,)
    descriptors: NDArray[np.float32]  # (N, 128)


def detect(rgb: NDArray[np.uint8], camera: Camera, contrast: float = CONTRAST) -> Features:
    """Find up to MAX_FEATURES SIFT points of at least ``contrast``; a blank picture gives none."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=MAX_FEATURES, contrastThreshold=contrast
    )
    points, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        return Features(camera, np.zeros((0, 2)), np.zeros(0), np.zeros((0, 128), np.float32))
    root = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9))  # RootSIFT
    xy = np.array([p.pt for p in points], float)
    return Features(camera, xy, np.array([p.size for p in points], float), root.astype(np.float32))


def fundamental(a: Camera, b: Camera) -> NDArray[np.float64]:
    """F with x_b^T F x_a = 0 from known poses."""
    b_from_a = b.cam_from_world @ a.world_from_cam
    t = b_from_a[:3, 3]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    return np.linalg.inv(b.K).T @ cross @ b_from_a[:3, :3] @ np.linalg.inv(a.K)


@dataclass(frozen=True, eq=False)
class PairPoints:
    """What the matches of two pictures say about depth."""

    points: NDArray[np.float64]  # (N, 3) triangulated world points
    distant: NDArray[np.float64]  # (M, 3) nearest possible places of matches that hardly move between the pictures


def triangulate_pair(a: Features, b: Features) -> PairPoints:
    """World points of matches that fit the epipolar geometry, the parallax limits and each other's scale."""
    empty = PairPoints(np.zeros((0, 3)), np.zeros((0, 3)))
    if len(a.xy) < 8 or len(b.xy) < 8:
        return empty
    f = fundamental(a.camera, b.camera)
    xa, xb = _homogeneous(a.xy), _homogeneous(b.xy)
    # poses are known, so a match is only sought in the band around the epipolar line: wide baselines survive that way
    in_band = _sampson(xa, xb, f) < MAX_SAMPSON_PX  # (Na, Nb)
    similarity = np.where(in_band, a.descriptors @ b.descriptors.T, -1.0)
    ia, ib = mutual_matches(similarity)
    xa, xb = xa[ia], xb[ib]
    if len(ia) == 0:
        return empty

    rays_a = (xa @ np.linalg.inv(a.camera.K).T) @ a.camera.world_from_cam[:3, :3].T
    rays_b = (xb @ np.linalg.inv(b.camera.K).T) @ b.camera.world_from_cam[:3, :3].T
    cos = np.sum(rays_a * rays_b, axis=1) / (np.linalg.norm(rays_a, axis=1) * np.linalg.norm(rays_b, axis=1))
    parallax = np.degrees(np.arccos(np.clip(cos, -1, 1)))
    points = _intersect(a.camera.centre, rays_a, b.camera.centre, rays_b)
    error_a, z_a = _reproject(a.camera, points, a.xy[ia])
    error_b, z_b = _reproject(b.camera, points, b.xy[ib])
    with np.errstate(divide="ignore", invalid="ignore"):
        # the same patch seen from depths z_a, z_b must look z_b/z_a smaller: false matches rarely do
        scale = np.log((a.size[ia] / b.size[ib]) * (z_a / z_b) * (b.camera.K[0, 0] / a.camera.K[0, 0]))
    good = (error_a < MAX_REPROJECTION_PX) & (error_b < MAX_REPROJECTION_PX) & (z_a > 0) & (z_b > 0)
    good &= (parallax > MIN_PARALLAX_DEG) & (parallax < MAX_PARALLAX_DEG) & (np.abs(scale) < 0.7)
    far = parallax <= MIN_PARALLAX_DEG
    nearest = np.linalg.norm(a.camera.centre - b.camera.centre) / np.tan(np.radians(MIN_PARALLAX_DEG))
    unit = rays_a[far] / np.linalg.norm(rays_a[far], axis=1, keepdims=True)
    return PairPoints(points[good], a.camera.centre + nearest * unit)


def mutual_matches(similarity: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns that are each other's best, near enough and unlike the second best (Lowe's ratio test).

    ``similarity``: cosines of unit descriptors, (Na, Nb), Nb >= 2.
    """
    best = np.argpartition(-similarity, 1, axis=1)[:, :2]  # in order, for what lies before index 1 is the smallest
    rows = np.arange(len(similarity))
    distance = np.sqrt(np.maximum(2 - 2 * similarity[rows[:, None], best], 0))
    mutual = similarity.argmax(axis=0)[best[:, 0]] == rows
    keep = mutual & (distance[:, 0] < RATIO * distance[:, 1]) & (distance[:, 0] < MAX_DESCRIPTOR_DISTANCE)
    return rows[keep], best[keep, 0]


def drop_isolated(points: NDArray[np.float64], camera: Camera, neighbours: int = 3) -> NDArray[np.float64]:
    """Remove points whose inverse depth, seen from ``camera``, has no company among the image-plane neighbours."""
    if len(points) < 20:
        return points
    cam = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    in_front = cam[:, 2] > 0
    direction = cam[:, :2] / np.where(in_front, cam[:, 2], 1)[:, None]
    inverse = 1.0 / np.where(in_front, cam[:, 2], 1)
    distance = np.linalg.norm(direction[:, None] - direction[None], axis=-1)
    order = np.argsort(distance, axis=1)[:, 1 : 2 * neighbours + 1]
    close = np.abs(np.log(inverse[order] / inverse[:, None])) < 0.25
    return points[in_front & (close.sum(axis=1) >= 2)]


def depth_range(
    points: NDArray[np.float64], camera: Camera, fallback: tuple[float, float], margin: float = 0.1
) -> tuple[float, float]:
    """Near and far z-depth that cover the world ``points`` in front of ``camera``.

    Robust percentiles; near is halved because close things hide from sparse matches, far is widened. Points outside the
    picture (plus ``margin``) don't count. With fewer than 8 points the ``fallback`` is returned.
    """
    if len(points):
        cam = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
        uv = cam @ camera.K.T
        z = cam[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            x, y = uv[:, 0] / z / camera.width, uv[:, 1] / z / camera.height
        seen = (z > 0) & (x > -margin) & (x < 1 + margin) & (y > -margin) & (y < 1 + margin)
        if seen.sum() >= 8:
            low, high = np.percentile(z[seen], [6, 97])
            return 0.5 * float(low), 1.5 * float(high)
    return fallback


def sensor_points(camera: Camera, depth: NDArray[np.float32], count: int = 400) -> NDArray[np.float64]:
    """About ``count`` world points (N, 3) of a depth map (H, W) with NaN holes."""
    stride = max(1, int(np.sqrt(depth.size / count)))
    v, u = np.mgrid[stride // 2 : depth.shape[0] : stride, stride // 2 : depth.shape[1] : stride]
    z = depth[v, u].astype(np.float64)
    ok = np.isfinite(z) & (z > 0)
    rays = np.stack([u[ok], v[ok], np.ones(int(ok.sum()))], axis=1) @ np.linalg.inv(camera.K).T
    return (rays * z[ok][:, None]) @ camera.world_from_cam[:3, :3].T + camera.centre


def baseline_range(cameras: Sequence[Camera]) -> tuple[float, float]:
    """A wide depth range from the spread of camera centres, for scenes without matches; see ``distant_range``.

    Below MIN_SPREAD the centres are one place with noise, and any range serves: nothing moves between the views.
    """
    centres = np.array([c.centre for c in cameras])
    spread = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
    unit = spread if spread > MIN_SPREAD else 1.0
    return 0.5 * unit, 40.0 * unit


def distant_range(distant: NDArray[np.float64], camera: Camera, fallback: tuple[float, float]) -> tuple[float, float]:
    """A depth range for scenes whose matches hardly move: from the nearest they can be to where nothing moves.

    distant: ``PairPoints.distant`` of all pairs; with too few of them in view the ``fallback`` is returned.
    """
    near, far = depth_range(distant, camera, (0.0, 0.0))
    return (near, ENDLESS * far) if far > 0 else fallback


def _sampson(xa: NDArray, xb: NDArray, f: NDArray) -> NDArray[np.float64]:
    """Sampson distance in pixels of all pairs, (Na, Nb)."""
    lines_b, lines_a = xa @ f.T, xb @ f
    algebraic = np.abs(lines_b @ xb.T)
    gradient = np.sum(lines_b[:, :2] ** 2, axis=1)[:, None] + np.sum(lines_a[:, :2] ** 2, axis=1)[None]
    return algebraic / np.sqrt(gradient + 1e-18)


def _homogeneous(xy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)


def _intersect(ca: NDArray, rays_a: NDArray, cb: NDArray, rays_b: NDArray) -> NDArray[np.float64]:
    """Midpoints of the shortest segments between two bundles of rays."""
    a, b = (
        rays_a / np.linalg.norm(rays_a, axis=1, keepdims=True),
        rays_b / np.linalg.norm(rays_b, axis=1, keepdims=True),
    )
    w = ca - cb
    ab = np.sum(a * b, axis=1)
    aw, bw = a @ w, b @ w
    denominator = np.maximum(1 - ab**2, 1e-12)
    s = (ab * bw - aw) / denominator
    t = (bw - ab * aw) / denominator
    return 0.5 * (ca + s[:, None] * a + cb + t[:, None] * b)


def _reproject(camera: Camera, points: NDArray, xy: NDArray) -> tuple[NDArray, NDArray]:
    cam = points @ camera.cam_from_world[:3, :3].T + camera.cam_from_world[:3, 3]
    uv = cam @ camera.K.T
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.linalg.norm(uv[:, :2] / uv[:, 2:] - xy, axis=1)
    return np.where(np.isfinite(error), error, np.inf), cam[:, 2]
