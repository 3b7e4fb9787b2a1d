"""A node under full load: images at 30 Hz from another process while it synthesises without a pause."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gld_ros.errors import GldError, Status
from gld_ros.ros.bench_peer import CAMERA, FIXED_FRAME, IMAGE_TOPIC, RATE_HZ, READY_S, VIRTUAL_FRAME, peer
from gld_ros.ros.bench_publish import SIZE, VIEW, sample_view
from gld_ros.ros.session import NODE, child, tail
from gld_ros.ros.streaming import BODY_FROM_OPTICAL, TOPICS

WARM_IMAGES = 20
WARM_ROUNDS = 60
KEYFRAMES = 3  # before measuring
LOAD_S = 180.0  # to load a model and compile it
ANSWER_S = 120.0
SETTLE_S = 3.0


@dataclass(frozen=True)
class LiveResult:
    """What node, plain subscriber and client counted over the same images."""

    sent: int
    seconds: float
    late: int  # images the camera process itself sent more than half an interval late
    received: int
    plain: int  # by a process that does nothing else
    answers: dict[str, int]  # status name -> requests
    published: int  # pictures of the streamed virtual camera
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)

    def number(self, status: str, key: str) -> float | None:
        """A figure of the node's diagnostics; None where it measured nothing."""
        text = self.diagnostics.get(status, {}).get(key, "none")
        return None if text == "none" else float(text)


def run_live(
    seconds: float,
    model: str = "default",
    device: str = "auto",
    preset: str = "balanced",
    on_second: Callable[[float], None] | None = None,
    node_command: Sequence[str] = NODE,
) -> LiveResult:
    """Measure for this long; ``on_second`` hears how much of it has passed. rclpy must be initialised.

    Raises GldError with the end of the node's log when something dies or nothing comes.
    """
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray

    from gld_ros.ros.client import GldClient, make_request, spinning

    diagnostics: dict[str, dict[str, str]] = {}
    heard = threading.Condition()

    def on_diagnostics(message: Any) -> None:
        with heard:
            for status in message.status:
                name = status.name.removeprefix("gld: ")
                diagnostics[name] = {"message": status.message, **{value.key: value.value for value in status.values}}
            heard.notify_all()

    def number(status: str, key: str) -> int:
        return int(diagnostics.get(status, {}).get(key, 0))

    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gld_bench_ros_")))
        process = stack.enter_context(child("node", [*node_command, *_arguments(model, device, preset)], logs))

        def wait(check: Callable[[], Any], what: str, timeout_s: float = READY_S) -> None:
            deadline = time.monotonic() + timeout_s
            with heard:
                while not check():
                    if process.poll() is not None or time.monotonic() > deadline:
                        ended = "" if process.poll() is None else f"; the node ended with {process.returncode}"
                        raise GldError(f"waited for {what}{ended}; its log ends with:\n{tail(logs / 'node.log')}")
                    heard.wait(0.1)

        node = rclpy.create_node("gld_bench_client")
        stack.callback(node.destroy_node)
        node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        client = GldClient(node)
        stack.enter_context(spinning(node))
        wait(lambda: "engine" in diagnostics and client.ready(), "the node to load its model", LOAD_S)
        wait(lambda: diagnostics["state"]["message"] == "active", "the node to be active")
        stack.enter_context(peer("count", "viewer", *(f"/gld/{VIEW}/{topic}" for topic in TOPICS)))
        plain = stack.enter_context(peer("count", "plain", IMAGE_TOPIC))
        camera = stack.enter_context(peer("camera"))

        for _ in range(WARM_ROUNDS):
            camera(f"go {WARM_IMAGES}", READY_S)
            if number("engine", "keyframes") >= KEYFRAMES and plain("count", READY_S)[IMAGE_TOPIC]:
                break
        else:
            raise GldError(f"no keyframes came: {diagnostics}; the log ends with:\n{tail(logs / 'node.log')}")

        def settled() -> tuple[int, int]:
            """What node and plain subscriber have received, once nothing is under way any more."""
            last = (-1, -1)
            deadline = time.monotonic() + SETTLE_S
            while time.monotonic() < deadline:
                now = (number(f"camera {CAMERA}", "received"), plain("count", READY_S)[IMAGE_TOPIC])
                if now == last:
                    break
                last = now
                with heard:
                    heard.wait(0.5)
                    heard.wait(0.5)
            return last

        before = settled()
        published = number(f"virtual camera {VIEW}", "published")
        answers: Counter[str] = Counter()
        stop = threading.Event()
        pose = BODY_FROM_OPTICAL.copy()
        pose[1, 3] = -0.1
        lens = sample_view(SIZE).camera

        def ask_on() -> None:
            while not stop.is_set():
                request = make_request([pose], FIXED_FRAME, lens, preset=preset, seed=1)
                answers[Status(client.synthesize(request, ANSWER_S).status.code).name] += 1

        asking = threading.Thread(target=_noting_errors(ask_on, answers), daemon=True)
        asking.start()
        images = max(1, round(seconds * RATE_HZ))
        sent = late = 0
        begun = time.monotonic()
        while sent < images:
            answer = camera(f"go {min(images - sent, round(RATE_HZ))}", READY_S)
            sent, late = sent + answer["sent"], late + answer["late"]
            if on_second is not None:
                on_second(sent / RATE_HZ)
            if process.poll() is not None:
                raise GldError(f"the node ended with {process.returncode}:\n{tail(logs / 'node.log')}")
        took = time.monotonic() - begun
        stop.set()
        asking.join(ANSWER_S)
        after = settled()
        return LiveResult(
            sent=sent,
            seconds=took,
            late=late,
            received=after[0] - before[0],
            plain=after[1] - before[1],
            answers=dict(answers),
            published=number(f"virtual camera {VIEW}", "published") - published,
            diagnostics=diagnostics,
        )


def _noting_errors(run: Callable[[], None], answers: Counter[str]) -> Callable[[], None]:
    def guarded() -> None:
        try:
            run()
        except GldError as error:
            answers[str(error)] += 1

    return guarded


def _arguments(model: str, device: str, preset: str) -> list[str]:
    values: dict[str, Any] = {
        "model": model,
        "device": device,
        "preset": preset,
        "fixed_frame": FIXED_FRAME,
        "cameras": [CAMERA],
        "virtual_cameras": [VIEW],
        f"{VIEW}.frame": VIRTUAL_FRAME,
        f"{VIEW}.width": SIZE[0],
        f"{VIEW}.height": SIZE[1],
        f"{VIEW}.rate": 10.0,
        "diagnostics_rate": 10.0,
        f"{CAMERA}.depth_transport": "none",
    }
    texts = {name: f"[{','.join(value)}]" if isinstance(value, list) else value for name, value in values.items()}
    parameters = [part for name, value in texts.items() for part in ("-p", f"{name}:={value}")]
    return ["--ros-args", "-r", "__node:=gld", *parameters]
