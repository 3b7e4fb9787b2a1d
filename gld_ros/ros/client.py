"""A small client of the node: what the demo, the tests and a user's script need to ask for views."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile

from gld_ros.action import SynthesizeViews
from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.messages import POINT, camera_info_message, header, pose_matrix, pose_stamped
from gld_ros.ros.spin import spin
from gld_ros.srv import SynthesizeView
from gld_ros.synthesis.types import Cloud, Result, SynthesizedView


@contextmanager
def spinning(*nodes: Node) -> Iterator[None]:
    """Spin nodes on a thread of their own while the block runs."""
    executor = SingleThreadedExecutor(context=nodes[0].context)
    for node in nodes:
        executor.add_node(node)

    thread = threading.Thread(target=spin, args=(executor,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown(timeout_sec=2.0)
        thread.join(5.0)


def make_request(
    poses: Sequence[NDArray],
    frame: str,
    camera: Camera | None = None,
    stamp_ns: int = 0,
    kind: type = SynthesizeView.Request,
    **fields: Any,
) -> Any:
    """A request (or with ``kind`` SynthesizeViews.Goal a goal) for views from optical poses (4x4) in ``frame``."""
    request = kind(**fields)
    request.poses = [pose_stamped(pose, header(stamp_ns, frame)) for pose in poses]
    if camera is not None:
        request.camera = camera_info_message(camera, header(0, ""))
    return request


def wait_for(future: Any, timeout_s: float, what: str) -> Any:
    """The result of an rclpy future; raises GldError when it does not come in time."""
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    if not done.wait(timeout_s):
        raise GldError(f"no answer from {what} within {timeout_s:g} s: is the node running in this ROS domain?")
    return future.result()


class GldClient:
    """Asks the node ``target`` for views; ``node`` must be spun by a single-threaded executor (see ``spinning``)."""

    def __init__(self, node: Node, target: str = "/gld", depth: int = 10) -> None:
        self.target = target.rstrip("/")
        self._node = node
        group = ReentrantCallbackGroup()
        qos = QoSProfile(depth=depth)
        self._service = node.create_client(
            SynthesizeView, f"{self.target}/synthesize", qos_profile=qos, callback_group=group
        )
        self._action = ActionClient(node, SynthesizeViews, f"{self.target}/synthesize_views", callback_group=group)

    def wait(self, timeout_s: float = 20.0) -> None:
        """Wait until the node is there; raises GldError when it does not come."""
        if not self._service.wait_for_service(timeout_s) or not self._action.wait_for_server(timeout_s):
            raise GldError(f"no node {self.target} within {timeout_s:g} s: start it in this ROS domain")

    def ready(self) -> bool:
        """Whether service and action are there."""
        return self._service.service_is_ready() and self._action.server_is_ready()

    def ask(self, request: Any) -> Any:
        """Send a request; the future gives the response."""
        return self._service.call_async(request)

    def synthesize(self, request: Any, timeout_s: float = 120.0) -> Any:
        """Call the service and wait."""
        return wait_for(self.ask(request), timeout_s, f"{self.target}/synthesize")

    def synthesize_when_ready(self, request: Any, timeout_s: float = 60.0, keyframes_wait_s: float = 30.0) -> Any:
        """Call the service, again while the node is not active or has seen nothing that helps yet."""
        waiting = (Status.NOT_ACTIVE, Status.NO_KEYFRAMES, Status.NO_TRANSFORM, Status.NO_OVERLAP)
        pause = threading.Event()
        for _ in range(int(keyframes_wait_s / 0.2)):
            response = self.synthesize(request, timeout_s)
            if response.status.code not in waiting:
                break
            pause.wait(0.2)
        return response

    def start(self, goal: Any, on_feedback: Callable[[Any], None] | None = None, timeout_s: float = 20.0) -> Any:
        """Send a goal to the action; the handle can be cancelled, ``result_of`` waits for it."""
        listener = None if on_feedback is None else (lambda message: on_feedback(message.feedback))
        future = self._on_spin(lambda: self._action.send_goal_async(goal, listener))
        return wait_for(future, timeout_s, f"{self.target}/synthesize_views")

    def result_future(self, handle: Any) -> Any:
        """The future of a started goal's answer, which has ``status`` and ``result``."""
        return self._on_spin(handle.get_result_async)

    def result_of(self, handle: Any, timeout_s: float = 600.0) -> Any:
        """(goal status, result) of a started goal."""
        answer = wait_for(self.result_future(handle), timeout_s, f"{self.target}/synthesize_views")
        return answer.status, answer.result

    def cancel(self, handle: Any, timeout_s: float = 20.0) -> None:
        """Ask for a started goal to be cancelled, and wait until the node has heard it."""
        wait_for(self._on_spin(handle.cancel_goal_async), timeout_s, f"{self.target}/synthesize_views")

    def _on_spin(self, send: Callable[[], Any]) -> Any:
        """Send from the thread that spins: rclpy's action client loses an answer that comes while it still sends."""
        task = self._node.executor.create_task(send)
        return wait_for(task, 10.0, "the executor of this client's node")


def _pixels(message: Any, dtype: str) -> NDArray:
    channels = 3 if message.encoding == "rgb8" else 1
    shape = (message.height, message.width, 3) if channels == 3 else (message.height, message.width)
    return np.frombuffer(message.data, dtype).reshape(shape).copy()


def _cloud(message: Any) -> Cloud | None:
    if message.width == 0:
        return None
    points = np.frombuffer(message.data, POINT)
    xyz = np.stack([points[axis] for axis in "xyz"], axis=1)
    rgb = np.stack([(points["rgb"] >> shift) & 255 for shift in (16, 8, 0)], axis=1).astype(np.uint8)
    return Cloud(xyz, rgb, points["confidence"].copy())


def result_of_response(response: Any) -> Result:
    """A response (or action result) as the library's Result; ``generated`` is the composed picture, all there is."""
    views = []
    for view in response.views:
        rgb = _pixels(view.image, "u1")
        camera = Camera(
            view.camera_info.width,
            view.camera_info.height,
            np.array(view.camera_info.k).reshape(3, 3),
            pose_matrix(view.pose.pose),
        )
        views.append(
            SynthesizedView(
                camera=camera,
                status=Status(view.status.code),
                message=view.status.message,
                rgb=rgb,
                generated=rgb,
                depth=_pixels(view.depth, "<f4"),
                confidence=_pixels(view.confidence, "<f4"),
                provenance=_pixels(view.provenance, "u1"),
                depth_std=_pixels(view.depth_std, "<f4") if view.depth_std.width else None,
            )
        )
    return Result(
        status=Status(response.status.code),
        message=response.status.message,
        views=views,
        points_observed=_cloud(response.points_observed),
        points_generated=_cloud(response.points_generated),
        model=response.model,
        preset=response.preset,
        updates=(int(response.updates[0]), int(response.updates[1])),
        seed=response.seed,
        scale=response.scale,
        scale_valid=response.scale_valid,
        carved=response.carved,
        confidence_kind=response.confidence_kind,
        seconds={"total": response.seconds},
        notes=tuple(response.notes),
    )
