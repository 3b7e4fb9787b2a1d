"""/diagnostics and the keyframe markers: what the node receives, makes and waits for."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Sequence

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point
from std_msgs.msg import ColorRGBA
from visualization_msgs.msg import Marker, MarkerArray

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.transform_tree import NS
from gld_ros.ros.camera_input import CameraInput
from gld_ros.ros.core import MB, Core
from gld_ros.ros.messages import header, time_message
from gld_ros.ros.streaming import VirtualCamera

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR
USED, UNUSED = (0.1, 0.8, 0.2), (0.3, 0.5, 0.9)
FRUSTUM_DEPTH_M = 0.25
TF_PERIOD_S = 10.0  # over which images dropped for want of TF are counted
MOST_DROPPED = 0.2  # share of them above which a camera is not OK


def _status(name: str, level: bytes, message: str, values: dict[str, object]) -> DiagnosticStatus:
    status = DiagnosticStatus(level=level, name=name, message=message, hardware_id="gld")
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return status


class Reporter:
    """Makes the DiagnosticArray; remembers counts between two calls to give rates."""

    def __init__(self, node_name: str) -> None:
        self._node_name = node_name
        self._before: dict[str, tuple[float, int]] = {}
        self._history: dict[str, deque[tuple[float, int]]] = {}

    def _rate(self, key: str, count: int) -> float:
        now = time.monotonic()
        at, before = self._before.get(key, (now, count))
        self._before[key] = (now, count)
        return (count - before) / (now - at) if now > at else 0.0

    def _since(self, key: str, count: int) -> int:
        """How much a counter rose in the last TF_PERIOD_S, at least since the last call."""
        now = time.monotonic()
        past = self._history.setdefault(key, deque([(now, 0)]))
        if count < past[-1][1]:  # counting began anew: the node was activated again
            past.clear()
            past.append((now, 0))
        past.append((now, count))
        while len(past) > 2 and past[1][0] <= now - TF_PERIOD_S:
            past.popleft()
        return count - past[0][1]

    def camera(self, camera: CameraInput, now_ns: int, silence_s: float) -> DiagnosticStatus:
        """One real camera."""
        c = camera.counters
        rate = self._rate(f"in {camera.name}", c.received)
        lost = self._since(f"lost {camera.name}", c.no_transform)
        used = lost + self._since(f"used {camera.name}", c.kept + c.familiar + c.bad)
        stamp = camera.heard["image"].stamp_ns
        silent = camera.silent(silence_s)
        level, message = OK, f"{rate:.1f} Hz"
        if silent:
            level, message = ERROR, "no data on " + ", ".join(heard.topic for heard in silent)
        elif c.last_error and not c.kept:
            level, message = WARN, c.last_error
        elif used and lost > MOST_DROPPED * used:
            level = WARN
            message = (
                f"{lost} of the last {used} images dropped for TF: {c.last_no_transform}; publish TF of an image's "
                "stamp within tf_timeout, or raise tf_timeout"
            )
        skew = camera.skew_s()
        return _status(
            f"{self._node_name}: camera {camera.name}",
            level,
            message,
            {
                "image topic": camera.heard["image"].topic,
                "rate (Hz)": f"{rate:.2f}",
                "age of newest image (s)": f"{(now_ns - stamp) / NS:.3f}" if stamp else "none",
                "image - camera_info stamp (s)": "none" if skew is None else f"{skew:.3f}",
                "received": c.received,
                "kept as keyframe": c.kept,
                "nothing new": c.familiar,
                "superseded by newer": c.superseded,
                "dropped for TF": c.no_transform,
                "bad": c.bad,
                "image callback p50 (ms)": c.callback.text(50),
                "image callback p99 (ms)": c.callback.text(99),
                "image to keyframe p50 (ms)": c.intake.text(50),
                "image to keyframe p99 (ms)": c.intake.text(99),
                "last problem": c.last_error or "none",
            },
        )

    def engine(self, core: Core) -> DiagnosticStatus:
        """The engine and its queue."""
        m = core.measured
        busy = core.worker.busy_since
        running_s = time.monotonic() - busy if busy is not None else 0.0
        frames = core.store.all()
        level, message = OK, f"{core.engine.name}: {len(frames)} keyframes"
        if not frames:
            level, message = WARN, f"{core.engine.name}: no keyframes yet"
        elif running_s > core.settings["service_time_limit"]:
            level, message = ERROR, f"{core.engine.name}: a request runs for {running_s:.0f} s"
        seconds = np.array(m.seconds) if m.seconds else np.array([np.nan])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
        values: dict[str, object] = {
            "model": core.engine.name,
            "keyframes": len(frames),
            "keyframe memory (MB)": f"{sum(frame.size_bytes for frame in frames) / MB:.1f}",
            "blurred images refused": core.store.blurred,
            "synthesis p50 (s)": f"{np.median(seconds):.3f}",
            "synthesis max (s)": f"{seconds.max():.3f}",
            "keyframe preparation p50 (s)": f"{np.median(m.prepare_seconds):.3f}" if m.prepare_seconds else "none",
            "running for (s)": f"{running_s:.2f}",
            "waiting requests": core.worker.waiting,
            "refused with BUSY": core.worker.refused,
            "stream pictures dropped": core.worker.dropped,
            "failures": m.failures,
            "last failure": m.last_failure or "none",
            "scale valid": "unknown" if m.scale_valid is None else m.scale_valid,
            "time jumps": core.jumps,
            "peak memory (MB)": f"{peak:.0f}",
        }
        values |= {f"last {stage} (s)": f"{taken:.3f}" for stage, taken in m.stages.items()}
        return _status(f"{self._node_name}: engine", level, message, values)

    def stream(self, camera: VirtualCamera) -> DiagnosticStatus:
        """One virtual camera."""
        c, s = camera.counters, camera.settings
        rate = self._rate(f"out {s.name}", c.published)
        failing = bool(c.last_error) and not c.published
        return _status(
            f"{self._node_name}: virtual camera {s.name}",
            WARN if failing else OK,
            c.last_error if failing else f"{rate:.1f} Hz of {s.rate:g}",
            {
                "rate (Hz)": f"{rate:.2f}",
                "published": c.published,
                "failed": c.failed,
                "ticks skipped": c.skipped,
                "publishing p50 (ms)": c.publishing.text(50),
                "publishing p95 (ms)": c.publishing.text(95),
                "last problem": c.last_error or "none",
            },
        )

    def array(
        self,
        state: str,
        now_ns: int,
        core: Core | None,
        cameras: Sequence[CameraInput],
        streams: Sequence[VirtualCamera],
    ) -> DiagnosticArray:
        """All of it; without a core only the state."""
        message = DiagnosticArray()
        message.header.stamp = time_message(now_ns)
        message.status = [
            _status(f"{self._node_name}: state", OK if state == "active" else WARN, state, {"state": state})
        ]
        if core is not None:
            silence = core.settings["no_data_warning"]
            message.status += [self.camera(camera, now_ns, silence) for camera in cameras]
            message.status += [self.stream(stream) for stream in streams]
            message.status.append(self.engine(core))
        return message


def _frustum(camera: Camera) -> list[Point]:
    """Line segments of a camera's view cone in the world, as pairs of points."""
    corners = np.array([[0, 0], [camera.width, 0], [camera.width, camera.height], [0, camera.height]]) - 0.5
    rays = np.linalg.inv(camera.K) @ np.vstack([corners.T, np.ones(4)])
    ends = (camera.world_from_cam[:3, :3] @ (rays * FRUSTUM_DEPTH_M)).T + camera.centre
    pairs = [(camera.centre, end) for end in ends] + [(ends[i], ends[(i + 1) % 4]) for i in range(4)]
    return [Point(x=float(p[0]), y=float(p[1]), z=float(p[2])) for pair in pairs for p in pair]


def keyframe_markers(core: Core) -> MarkerArray:
    """Frusta of all keyframes: green those that served the last synthesis, blue the others."""
    message = MarkerArray(markers=[Marker(action=Marker.DELETEALL)])
    frames = core.store.all()
    newest = frames[-1].view.stamp_ns if frames else 0
    for index, frame in enumerate(frames):
        used = frame.view.key in core.in_use
        marker = Marker(header=header(newest, core.fixed_frame), ns="keyframes", id=index, type=Marker.LINE_LIST)
        marker.pose.orientation.w = 1.0
        marker.scale.x = 0.01 if used else 0.004
        r, g, b = USED if used else UNUSED
        marker.color = ColorRGBA(r=r, g=g, b=b, a=1.0)
        marker.points = _frustum(frame.view.camera)
        message.markers.append(marker)
    return message
