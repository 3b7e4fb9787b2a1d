"""From a SynthesizeView request to its response: checks, poses through TF, the job, the messages.

The service and the action share this path; their goal and result have the same fields.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera, check_intrinsics
from gld_ros.geometry.transform_tree import NS
from gld_ros.msg import Status as StatusMsg
from gld_ros.msg import SynthesizedView as ViewMsg
from gld_ros.ros.core import Core
from gld_ros.ros.messages import (
    camera_info_message,
    cloud_message,
    header,
    image_message,
    pose_matrix,
    pose_stamped,
    time_message,
)
from gld_ros.ros.tf_buffer import nanoseconds
from gld_ros.ros.transforms import TransformException
from gld_ros.ros.worker import Job, as_gld_error
from gld_ros.synthesis.types import PosedView, Progress, ProgressCallback, Request, Result

COMPOSE = ("observed_first", "generated")


def refuse(response: Any, error: BaseException) -> Any:
    """Put a failure into a response."""
    known = as_gld_error(error)
    response.status = StatusMsg(code=int(known.status), message=str(known))
    return response


class Requests:
    """Serves requests of an active core; at most ``queue_size`` + 1 at a time, more are refused with BUSY."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._places = threading.BoundedSemaphore(core.settings["queue_size"] + 1)

    def serve(
        self,
        request: Any,
        response: Any,
        limit_s: float | None,
        progress: ProgressCallback | None = None,
        on_job: Callable[[Job[Any]], None] | None = None,
    ) -> Any:
        """Fill ``response``; never raises. ``limit_s`` bounds the wait, ``on_job`` gets the job to cancel it."""
        started = time.monotonic()
        core = self._core
        if not self._places.acquire(blocking=False):
            core.worker.refused += 1
            limit = core.settings["queue_size"]
            return refuse(
                response,
                GldError(
                    f"{limit + 1} requests are being served, the limit of queue_size {limit}: retry later", Status.BUSY
                ),
            )
        try:
            self._serve(request, response, limit_s, progress, on_job, started)
        except Exception as error:
            known = as_gld_error(error)
            core.measured.failures += 1
            core.measured.last_failure = f"{known.status.name}: {known}"
            core.warn(f"request {known.status.name}", f"request refused, {known.status.name}: {known}")
            refuse(response, known)
        finally:
            self._places.release()
        response.seconds = time.monotonic() - started
        return response

    def withdraw(self, job: Job[Any]) -> None:
        """Cancel a job of ``serve``: at once when it waits, within one step when it runs."""
        self._core.worker.withdraw(job)

    def _serve(
        self,
        request: Any,
        response: Any,
        limit_s: float | None,
        progress: ProgressCallback | None,
        on_job: Callable[[Job[Any]], None] | None,
        started: float,
    ) -> None:
        core = self._core
        fields = self._checked(request)
        targets = self._targets(request)
        budget = fields.pop("time_budget_s")
        job: Job[tuple[Result, list[PosedView]]] = Job(
            "request", lambda job: run_engine(core, job, targets, fields, budget, started, progress)
        )
        if on_job is not None:
            on_job(job)
        core.worker.submit(job)
        result, views = job.result(limit_s)
        fill_response(core, response, result, views)

    def _checked(self, request: Any) -> dict[str, Any]:
        """The plain fields of a request, in range, as keyword arguments of ``Request``."""
        get = self._core.settings
        if not 1 <= len(request.poses) <= get["max_views"]:
            raise GldError(
                f"request has {len(request.poses)} poses: send 1 to {get['max_views']} (max_views)", Status.BAD_POSE
            )
        budget = float(request.time_budget)
        if not (np.isfinite(budget) and budget >= 0):
            raise GldError(f"time_budget is {budget} s: must be 0 (no limit) or positive", Status.BUDGET_EXCEEDED)
        if request.num_samples > get["max_samples"]:
            raise GldError(
                f"num_samples is {request.num_samples}, the limit max_samples is {get['max_samples']}", Status.INTERNAL
            )
        compose = request.compose or get["compose"]
        if compose not in COMPOSE:
            raise GldError(f"compose is '{compose}': must be one of {', '.join(COMPOSE)}", Status.INTERNAL)
        if request.seed < -1:
            raise GldError(f"seed is {request.seed}: must be -1 (drawn) or 0 and above", Status.INTERNAL)
        return {
            "preset": request.preset or get["preset"],
            "time_budget_s": budget,
            "num_samples": max(1, int(request.num_samples)),
            "seed": int(request.seed),
            "compose": compose,
            "clouds": bool(request.clouds),
        }

    def _targets(self, request: Any) -> list[Camera]:
        """Target cameras in the fixed frame; waits for TF up to tf_timeout."""
        lens = self._lens(request.camera)
        deadline = time.monotonic() + self._core.settings["tf_timeout"]
        return [lens.moved(self._pose(stamped, f"poses[{i}]", deadline)) for i, stamped in enumerate(request.poses)]

    def _pose(self, stamped: Any, name: str, deadline: float) -> NDArray[np.float64]:
        core = self._core
        local = pose_matrix(stamped.pose, name)
        frame = stamped.header.frame_id.lstrip("/")
        if not frame:
            raise GldError(
                f"{name} has an empty frame_id: name a TF frame, e.g. {core.fixed_frame}", Status.NO_TRANSFORM
            )
        if frame == core.fixed_frame:
            return local
        try:
            fixed_from_frame, _ = core.transforms.lookup(
                core.fixed_frame, frame, nanoseconds(stamped.header.stamp), max(0.0, deadline - time.monotonic())
            )
        except TransformException as error:
            raise GldError(
                f"{name} is in frame '{frame}', which TF does not connect to fixed_frame '{core.fixed_frame}' within "
                f"tf_timeout {core.settings['tf_timeout']:g} s: {error}; {core.transforms.known_frames()}",
                Status.NO_TRANSFORM,
            ) from None
        return fixed_from_frame @ local

    def _lens(self, info: Any) -> Camera:
        """The requested camera at the origin; without one, the newest keyframe's at most default_width wide."""
        core = self._core
        get = core.settings
        if info.width == 0:
            newest = core.store.newest()
            if newest is None:
                raise no_keyframes(core)
            lens = newest.view.camera.moved(np.eye(4))
            width = min(lens.width, get["default_width"])
            return lens.resized(width, max(1, round(width * lens.height / lens.width)))
        if info.height == 0:
            raise GldError(
                f"camera is {info.width}x0: set its height, or width 0 for the keyframe's", Status.BAD_INTRINSICS
            )
        if info.width * info.height > get["max_pixels"]:
            raise GldError(
                f"camera is {info.width}x{info.height} = {info.width * info.height} pixels, the limit max_pixels is "
                f"{get['max_pixels']}: ask for a smaller picture",
                Status.BAD_INTRINSICS,
            )
        k = check_intrinsics(np.array(info.k, dtype=np.float64).reshape(3, 3), "camera.k")
        return Camera(int(info.width), int(info.height), k, np.eye(4))


def no_keyframes(core: Core) -> GldError:
    """The error of a node that has seen nothing yet."""
    cameras = "; ".join(
        f"{name}: {core.problems.get(name, 'nothing has arrived or has a transform')}" for name in core.settings.cameras
    )
    return GldError(
        f"no posed image yet ({cameras}): check image_rect or image_raw, camera_info and TF to '{core.fixed_frame}' "
        "(see /diagnostics)",
        Status.NO_KEYFRAMES,
    )


def condition_views(core: Core, targets: list[Camera]) -> list[PosedView]:
    """The keyframes for these targets. Raises GldError NO_KEYFRAMES, STALE or NO_OVERLAP."""
    core.store.expire(core.now_ns())
    newest = core.store.newest()
    if newest is None:
        raise no_keyframes(core)
    age_s = (core.now_ns() - newest.view.stamp_ns) / NS
    limit = core.settings["stale_after"]
    if age_s > limit:
        raise GldError(
            f"the newest image is {age_s:.1f} s old, the limit stale_after is {limit:g} s: check the camera and "
            "the clocks (use_sim_time with bags)",
            Status.STALE,
        )
    views = core.store.select(targets, core.settings["condition_views"])
    if not views:
        centre = ", ".join(f"{value:.2f}" for value in targets[0].centre)
        raise GldError(
            f"no keyframe sees what the camera at ({centre}) in '{core.fixed_frame}' looks at: move the robot's camera "
            "there first, or turn the pose (optical frame: z forward)",
            Status.NO_OVERLAP,
        )
    return views


def run_engine(
    core: Core,
    job: Job[Any],
    targets: list[Camera],
    fields: dict[str, Any],
    budget_s: float,
    started: float,
    progress: ProgressCallback | None,
) -> tuple[Result, list[PosedView]]:
    """One synthesis on the worker's thread; the time spent waiting counts against the budget."""
    waited = time.monotonic() - started
    if budget_s and waited >= budget_s:
        raise GldError(
            f"{waited:.2f} s went by in the queue, the time_budget is {budget_s:g} s: nothing was run, retry with more",
            Status.BUDGET_EXCEEDED,
        )
    core.forget_removed()
    views = condition_views(core, targets)
    request = Request(targets=targets, time_budget_s=budget_s - waited if budget_s else 0.0, **fields)

    def hear(heard: Progress) -> None:
        core.note_progress(heard)
        if progress is not None:
            progress(heard)

    result = core.engine.synthesize(views, request, hear, job.cancelled)
    core.record(result, views)
    return result, views


def view_frame(index: int) -> str:
    """Frame id of a reply's pictures; never broadcast."""
    return f"gld_view_{index}"


def fill_response(core: Core, response: Any, result: Result, views: list[PosedView]) -> None:
    """A Result as the fields of the service's response (or the action's result)."""
    stamps = [view.stamp_ns for view in views]
    newest = max(stamps)
    response.status = StatusMsg(code=int(result.status), message=result.message)
    for index, view in enumerate(result.views):
        head = header(newest, view_frame(index))
        message = ViewMsg(status=StatusMsg(code=int(view.status), message=view.message))
        message.pose = pose_stamped(view.camera.world_from_cam, header(newest, core.fixed_frame))
        message.image = image_message(view.rgb, head)
        message.camera_info = camera_info_message(view.camera, head)
        message.depth = image_message(view.depth.astype(np.float32, copy=False), head)
        message.confidence = image_message(view.confidence.astype(np.float32, copy=False), head)
        message.provenance = image_message(view.provenance, head)
        if view.depth_std is not None:
            message.depth_std = image_message(view.depth_std.astype(np.float32, copy=False), head)
        response.views.append(message)
    metric = result.scale_valid
    fixed = header(newest, core.fixed_frame)
    response.points_observed = cloud_message(result.points_observed if metric else None, fixed)
    response.points_generated = cloud_message(result.points_generated if metric else None, fixed)
    response.model, response.preset, response.seed = result.model, result.preset, result.seed
    response.updates = [int(n) for n in result.updates]
    response.oldest_input_stamp, response.newest_input_stamp = time_message(min(stamps)), time_message(newest)
    response.scale, response.scale_valid, response.carved = float(result.scale), result.scale_valid, result.carved
    response.confidence_kind, response.notes = result.confidence_kind, list(result.notes)
