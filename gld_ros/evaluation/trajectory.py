"""Errors of recovered cameras against known ones: Sim(3) alignment, absolute and relative trajectory error.

Umeyama 1991 for the alignment; ATE and RPE as in Sturm et al. 2012 (TUM RGB-D benchmark).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NO_TRAJECTORY = {"ate": float("nan"), "ate_share": float("nan"), "rpe": float("nan"), "rpe_deg": float("nan")}


def umeyama(source: NDArray, target: NDArray) -> tuple[float, NDArray, NDArray]:
    """Scale, rotation (3, 3) and shift (3,) with the least squared error of target = scale R source + shift.

    Points are (N, 3). Coinciding source points give scale 0.
    """
    mean_s, mean_t = source.mean(axis=0), target.mean(axis=0)
    s, t = source - mean_s, target - mean_t
    U, D, Vt = np.linalg.svd(t.T @ s / len(s))
    sign = np.ones(3)
    if np.linalg.det(U) * np.linalg.det(Vt) < 0:
        sign[-1] = -1.0
    R = U @ np.diag(sign) @ Vt
    variance = float((s**2).sum(axis=1).mean())
    scale = float((D * sign).sum()) / variance if variance > 1e-18 else 0.0
    return scale, R, mean_t - scale * R @ mean_s


def trajectory_errors(predicted: NDArray, truth: NDArray) -> dict[str, float]:
    """Errors of camera-to-world matrices (V, 4, 4), V >= 3, against true ones in any other frame and scale.

    ``ate``: RMS distance of centres after Sim(3) alignment, world units; ``ate_share``: the same over the RMS distance
    of the true centres from their mean, 1 for cameras that all lie in one place. ``rpe`` and ``rpe_deg``: RMS error of
    the motion from each view to the next, in world units at the aligned scale and in degrees. NaN below three views,
    where an alignment would explain anything, and where predictions are not finite.
    """
    if len(truth) < 3 or not np.isfinite(predicted).all():
        return dict(NO_TRAJECTORY)
    p, t = predicted[:, :3, 3], truth[:, :3, 3]
    scale, R, shift = umeyama(p, t)
    ate = _rms(scale * p @ R.T + shift - t)
    spread = _rms(t - t.mean(axis=0))
    moved_p, moved_t = _motions(predicted), _motions(truth)
    turned = np.einsum("nji,njk->nik", moved_p[:, :3, :3], moved_t[:, :3, :3])
    angles = np.degrees(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
    return {
        "ate": ate,
        "ate_share": ate / spread if spread > 1e-9 else float("nan"),
        "rpe": _rms(scale * moved_p[:, :3, 3] - moved_t[:, :3, 3]),
        "rpe_deg": float(np.sqrt(np.mean(angles**2))),
    }


def _motions(world_from_cam: NDArray) -> NDArray:
    """Pose of each view in the frame of the one before, (V - 1, 4, 4)."""
    made: NDArray = np.linalg.inv(world_from_cam[:-1]) @ world_from_cam[1:]
    return made


def _rms(vectors: NDArray) -> float:
    return float(np.sqrt((vectors**2).sum(axis=1).mean()))
