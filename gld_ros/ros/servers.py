"""The service ``~/synthesize`` and the action ``~/synthesize_views``: they exist in every state and always answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

from gld_ros.action import SynthesizeViews
from gld_ros.errors import GldError, Status
from gld_ros.ros.requests import Requests, refuse
from gld_ros.ros.worker import Job
from gld_ros.srv import SynthesizeView
from gld_ros.synthesis.types import Progress

REQUEST_DEPTH = 2000  # DDS drops requests silently beyond its depth: keep room, so that BUSY can be answered
CANCEL_NOTED_S = 10.0  # a loaded machine may keep the thread that cancels waiting
RESULT_TIMEOUT_S = 30  # how long a finished goal's pictures stay in memory


class Servers:
    """Answers requests; ``active`` gives the Requests of an active node, or the reason why there is none."""

    def __init__(self, node: Node, active: Callable[[], Requests | str], time_limit_s: Callable[[], float]) -> None:
        self._node, self._active, self._time_limit_s = node, active, time_limit_s
        self._jobs: dict[bytes, tuple[Requests, Job[Any]]] = {}
        self._cancelled: set[bytes] = set()
        group = ReentrantCallbackGroup()
        self._service = node.create_service(
            SynthesizeView,
            "~/synthesize",
            self._on_request,
            qos_profile=QoSProfile(depth=REQUEST_DEPTH),
            callback_group=group,
        )
        self._action = ActionServer(
            node,
            SynthesizeViews,
            "~/synthesize_views",
            self._on_goal,
            goal_callback=lambda goal: GoalResponse.ACCEPT,  # a rejection has no message, an aborted goal has
            cancel_callback=self._on_cancel,
            goal_service_qos_profile=QoSProfile(depth=REQUEST_DEPTH),
            result_service_qos_profile=QoSProfile(depth=REQUEST_DEPTH),
            callback_group=group,
            result_timeout=RESULT_TIMEOUT_S,
        )

    def _on_request(self, request: Any, response: Any) -> Any:
        requests = self._active()
        if isinstance(requests, str):
            return refuse(response, GldError(requests, Status.NOT_ACTIVE))
        return requests.serve(request, response, self._time_limit_s())

    def _on_goal(self, handle: Any) -> Any:
        result = SynthesizeViews.Result()
        requests = self._active()
        if isinstance(requests, str):
            refuse(result, GldError(requests, Status.NOT_ACTIVE))
            handle.abort()
            return result
        goal = bytes(handle.goal_id.uuid)

        def on_progress(progress: Progress) -> None:
            feedback = SynthesizeViews.Feedback(stage=progress.stage, step=max(0, progress.step))
            feedback.steps, feedback.seconds_left = max(0, progress.steps), float(progress.seconds_left)
            handle.publish_feedback(feedback)

        try:
            requests.serve(handle.request, result, None, on_progress, lambda job: self._begin(goal, requests, job))
        finally:
            self._jobs.pop(goal, None)
            self._cancelled.discard(goal)
        if result.status.code == Status.CANCELLED and self._cancel_arrives(handle):
            handle.canceled()
        elif result.status.code == Status.OK:
            handle.succeed()
        else:
            handle.abort()
        return result

    def _begin(self, goal: bytes, requests: Requests, job: Job[Any]) -> None:
        self._jobs[goal] = (requests, job)
        if goal in self._cancelled:  # the cancel was faster
            job.cancel()

    def _on_cancel(self, handle: Any) -> CancelResponse:
        goal = bytes(handle.goal_id.uuid)
        self._cancelled.add(goal)
        requests, job = self._jobs.get(goal, (None, None))
        if requests is not None and job is not None:
            requests.withdraw(job)
        return CancelResponse.ACCEPT

    @staticmethod
    def _cancel_arrives(handle: Any) -> bool:
        """Whether the goal is being cancelled; rclpy notes that only after the cancel callback has returned."""
        deadline = time.monotonic() + CANCEL_NOTED_S
        while not handle.is_cancel_requested and time.monotonic() < deadline:
            time.sleep(0.002)
        return bool(handle.is_cancel_requested)

    def close(self) -> None:
        """Take both from the graph."""
        self._action.destroy()
        self._node.destroy_service(self._service)
