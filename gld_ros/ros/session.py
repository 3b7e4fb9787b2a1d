"""A whole robot on one machine: a scene replayed as its camera, the node, and a client that asks for views.

Runs in a DDS domain of its own, on this host only, so that it never publishes TF into a live robot's network.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.launch_plan import use_image_profile
from gld_ros.synthesis.many_views import join_clouds
from gld_ros.synthesis.types import Progress, Result

MAX_DOMAIN = 101  # the largest domain id whose ports stay below Linux's ephemeral range
NODE = (sys.executable, "-m", "gld_ros.ros.node")
FRAME = "odom"


@dataclass(frozen=True)
class SessionSettings:
    """What to replay and what to ask for; ``targets`` are cameras in the scene's world."""

    scene: Path
    conditions: Sequence[int]
    targets: Sequence[Camera]
    model: str = "default"
    device: str = "auto"
    preset: str = ""
    seed: int = 0
    use_depth: bool = True
    logs: Path = Path(".")
    start_s: float = 120.0  # for node and keyframes; loading a model may take a while
    answer_s: float = 1800.0
    node_command: tuple[str, ...] = NODE


@dataclass
class SessionResult:
    """What came back: the result, the reply's stamps, and how long each part took."""

    result: Result
    keyframes: int
    newest_input_ns: int
    seconds: dict[str, float] = field(default_factory=dict)
    domain: int = 0


def isolate() -> int:
    """Put this process and its children into a DDS domain of their own on this host; before rclpy starts."""
    domain = 1 + os.getpid() % MAX_DOMAIN
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    if os.environ.get("ROS_DISTRO") == "humble":
        os.environ["ROS_LOCALHOST_ONLY"] = "1"
    else:
        os.environ.pop("ROS_LOCALHOST_ONLY", None)
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    use_image_profile()
    return domain


@contextlib.contextmanager
def child(name: str, command: Sequence[str], logs: Path) -> Iterator[subprocess.Popen]:
    """A process whose output goes to ``logs/<name>.log``; ended and waited for when the block ends."""
    logs.mkdir(parents=True, exist_ok=True)
    stream: TextIO
    with (logs / f"{name}.log").open("w") as stream:
        process = subprocess.Popen(list(command), stdout=stream, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _parameters(settings: SessionSettings) -> list[str]:
    values: dict[str, Any] = {
        "model": settings.model,
        "device": settings.device,
        "fixed_frame": FRAME,
        "input_qos": "reliable",
        "condition_views": min(32, max(1, len(settings.conditions))),
        "keyframes_max": max(2, len(settings.conditions)),
        # every replayed frame is wanted, however close to another
        "keyframe_translation": 0.0,
        "keyframe_rotation": 0.0,
        "keyframe_sharpness": 0.0,
        "max_views": max(1, len(settings.targets)),
        "diagnostics_rate": 5.0,
    }
    return [part for name, value in values.items() for part in ("-p", f"{name}:={value}")]


def run_session(settings: SessionSettings, on_progress: Callable[[Progress], None] | None = None) -> SessionResult:
    """Replay, ask, collect. Raises GldError with the end of the log when a process dies or nothing comes in time."""
    domain = isolate()
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray

    from gld_ros.action import SynthesizeViews
    from gld_ros.ros.client import GldClient, make_request, result_of_response, spinning
    from gld_ros.ros.tf_buffer import nanoseconds

    replay = [sys.executable, "-m", "gld_ros.cli.main", "replay", str(settings.scene), "--loop", "--rate", "4"]
    replay += ["--frames", ",".join(map(str, settings.conditions))] + ([] if settings.use_depth else ["--no-depth"])
    node = [*settings.node_command, "--ros-args", "-r", "__node:=gld", *_parameters(settings)]
    seconds: dict[str, float] = {}
    started = time.monotonic()
    heard: dict[str, dict[str, str]] = {}

    def on_diagnostics(message: Any) -> None:
        for status in message.status:
            heard[status.name] = {"message": status.message, **{value.key: value.value for value in status.values}}

    def keyframes() -> int:
        return int(heard.get("gld: engine", {}).get("keyframes", 0))

    with contextlib.ExitStack() as stack:
        processes = {
            "node": stack.enter_context(child("node", node, settings.logs)),
            "replay": stack.enter_context(child("replay", replay, settings.logs)),
        }

        def check_alive() -> None:
            for name, process in processes.items():
                if process.poll() is not None:
                    log = settings.logs / f"{name}.log"
                    raise GldError(f"the {name} process ended with {process.returncode}; {log} ends with:\n{tail(log)}")

        context = rclpy.Context()
        rclpy.init(context=context, args=[])
        stack.callback(rclpy.try_shutdown, context=context)
        ros = rclpy.create_node("gld_demo", context=context)
        ros.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 10)
        client = GldClient(ros)
        stack.enter_context(spinning(ros))
        _wait(client.ready, check_alive, settings.start_s, "the node")
        seconds["start"] = time.monotonic() - started
        mark = time.monotonic()
        wanted = len(settings.conditions)
        _wait(
            lambda: keyframes() >= wanted,
            check_alive,
            settings.start_s,
            lambda: f"{wanted} keyframes (there are {keyframes()}; diagnostics: {_problems(heard)})",
        )
        seconds["keyframes"] = time.monotonic() - mark
        mark = time.monotonic()

        def on_feedback(message: Any) -> None:
            if on_progress is not None:
                on_progress(Progress(message.stage, message.step, message.steps, message.seconds_left))

        replies = []
        for lens, targets in by_lens(settings.targets):
            goal = make_request(
                [target.world_from_cam for target in targets],
                FRAME,
                lens,
                kind=SynthesizeViews.Goal,
                preset=settings.preset,
                seed=settings.seed,
            )
            future = client.result_future(client.start(goal, on_feedback))
            _wait(future.done, check_alive, settings.answer_s, "the views")
            replies.append(future.result().result)
            if replies[-1].status.code:
                raise GldError(f"the node answered: {replies[-1].status.message}", Status(replies[-1].status.code))
        seconds["synthesis"] = time.monotonic() - mark
        stamp = max(nanoseconds(reply.newest_input_stamp) for reply in replies)
        count = keyframes()
    return SessionResult(merge([result_of_response(reply) for reply in replies]), count, stamp, seconds, domain)


def by_lens(targets: Sequence[Camera]) -> list[tuple[Camera, list[Camera]]]:
    """Runs of targets with one size and K: a request has one camera for all its poses."""
    groups: list[tuple[Camera, list[Camera]]] = []
    for target in targets:
        lens = groups[-1][0] if groups else None
        if (
            lens is not None
            and (lens.width, lens.height) == (target.width, target.height)
            and (lens.K == target.K).all()
        ):
            groups[-1][1].append(target)
        else:
            groups.append((target, [target]))
    return groups


def merge(results: Sequence[Result]) -> Result:
    """Results of several requests as one: views in order, clouds together, times added."""
    if len(results) == 1:
        return results[0]
    return replace(
        results[0],
        views=[view for result in results for view in result.views],
        points_observed=join_clouds([result.points_observed for result in results]),
        points_generated=join_clouds([result.points_generated for result in results]),
        seconds={"total": sum(result.seconds["total"] for result in results)},
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
    )


def _problems(heard: dict[str, dict[str, str]]) -> str:
    return "; ".join(f"{name}: {values['message']}" for name, values in heard.items()) or "none heard"


def _wait(
    check: Callable[[], Any], check_alive: Callable[[], None], timeout_s: float, what: str | Callable[[], str]
) -> None:
    deadline = time.monotonic() + timeout_s
    while not check():
        check_alive()
        if time.monotonic() > deadline:
            named = what if isinstance(what, str) else what()
            raise GldError(f"waited {timeout_s:g} s for {named}")
        time.sleep(0.02)
