"""What a request must have, and what its views can give: geometry, scale, clouds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gld_ros.errors import GldError, Status
from gld_ros.synthesis.types import PosedView, Request

SCALE_BASELINE = 1e-3  # m between condition centres before plane-sweep depth counts as metric


def has_depth(view: PosedView) -> bool:
    """Whether the view's sensor measured anything."""
    return view.depth is not None and bool((np.isfinite(view.depth) & (view.depth > 0)).any())


def lacks_geometry(views: Sequence[PosedView]) -> bool:
    """Whether there is one view without depth, in which nothing tells how far anything is."""
    return len({view.key for view in views}) == 1 and not has_depth(views[0])


def has_scale(views: Sequence[PosedView]) -> bool:
    """Whether a baseline or a sensor says how large the scene is."""
    centres = np.array([v.camera.centre for v in views])
    spread = float(np.linalg.norm(centres - centres[0], axis=1).max())
    return spread > SCALE_BASELINE or any(has_depth(v) for v in views)


def wants_clouds(views: Sequence[PosedView], request: Request, notes: list[str]) -> bool:
    """Whether clouds were asked for and can be made; a note says why not."""
    if request.clouds and not has_scale(views):
        notes.append("no clouds: without a baseline or sensor depth they would have no shape")
        return False
    return request.clouds


def check_request(views: Sequence[PosedView], request: Request) -> None:
    """Raise GldError when there is nothing to work with or an option is out of range."""
    if not request.targets:
        raise GldError("no target poses: name at least one", Status.BAD_POSE)
    if not views:
        raise GldError("no condition views: wait for images with TF, or name --condition", Status.NO_KEYFRAMES)
    for view in views:
        size = (view.camera.height, view.camera.width, 3)
        if view.rgb.shape != size or view.rgb.dtype != np.uint8:
            raise GldError(
                f"picture of view {view.key} is {view.rgb.dtype} {view.rgb.shape}, its camera says uint8 {size}: "
                "match the calibration to the picture",
                Status.BAD_INTRINSICS,
            )
    if request.compose not in ("observed_first", "generated"):
        raise GldError(f"compose '{request.compose}' is unknown: use observed_first or generated")
    if not request.time_budget_s >= 0:
        raise GldError(f"time_budget {request.time_budget_s:g} s must be 0 (no limit) or more", Status.BUDGET_EXCEEDED)
    if not -1 <= request.seed < 2**63:
        raise GldError(f"seed {request.seed} must be -1 (drawn) or lie in 0 to 2^63 - 1")
    if not 1 <= request.num_samples <= 64:
        raise GldError(f"num_samples is {request.num_samples}, must be 1..64")
