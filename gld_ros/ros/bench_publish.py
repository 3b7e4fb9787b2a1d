"""What the way out costs, without any network: clouds built, messages made and published to another process."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.parameter import Parameter

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.ros.bench_peer import FIXED_FRAME, READY_S, VIRTUAL_FRAME, peer
from gld_ros.ros.messages import POINT, cloud_message, header
from gld_ros.ros.settings import Settings
from gld_ros.ros.streaming import TOPICS, VirtualCamera
from gld_ros.synthesis.clouds import clouds_of
from gld_ros.synthesis.types import GENERATED, OBSERVED, Result, SynthesizedView

VIEW = "bench_view"
SIZE = (504, 280)
REPEATS = 40
NAIVE_REPEATS = 3
GAP_S = 0.1  # between two pictures, as a stream at 10 Hz has it


@dataclass(frozen=True)
class PublishTimes:
    """Seconds of each repetition."""

    clouds: NDArray  # both clouds built, as messages
    publishing: NDArray  # clouds built, all messages made and published
    processor: NDArray  # the part of that in which this thread had a processor
    naive: NDArray  # both clouds, point by point
    heard: int  # pictures the other process received


def sample_view(size: tuple[int, int] = SIZE, seed: int = 0) -> SynthesizedView:
    """A view with every pixel known, half of them generated: the most there can be to publish."""
    width, height = size
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    depth = rng.uniform(1.0, 4.0, (height, width)).astype(np.float32)
    provenance = np.full((height, width), OBSERVED, np.uint8)
    provenance[:, width // 2 :] = GENERATED
    focal = 0.8 * width
    K = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
    confidence = np.full((height, width), 0.5, np.float32)
    return SynthesizedView(Camera(width, height, K, np.eye(4)), Status.OK, "", rgb, rgb, depth, confidence, provenance)


def result_of(view: SynthesizedView) -> Result:
    """A result of this view, its clouds built."""
    observed, generated = clouds_of([view], [None])
    return Result(
        status=Status.OK,
        message="",
        views=[view],
        points_observed=observed,
        points_generated=generated,
        model="bench",
        preset="bench",
        updates=(0, 0),
        seed=0,
        scale=1.0,
        scale_valid=True,
        carved=True,
        confidence_kind="bench",
    )


def naive_clouds(view: SynthesizedView) -> tuple[bytes, bytes]:
    """The data of both cloud messages, made the usual way: a loop over pixels that packs point by point."""
    out = {OBSERVED: bytearray(), GENERATED: bytearray()}
    pack = struct.Struct("<fffIf").pack
    (fx, _, cx), (_, fy, cy), _ = view.camera.K.tolist()
    rotation, centre = view.camera.world_from_cam[:3, :3].tolist(), view.camera.centre.tolist()
    for v in range(view.camera.height):
        for u in range(view.camera.width):
            kind = int(view.provenance[v, u])
            z = float(view.depth[v, u])
            if kind not in out or not np.isfinite(z):
                continue
            p = ((u - cx) / fx * z, (v - cy) / fy * z, z)
            x, y, z = (sum(row[i] * p[i] for i in range(3)) + c for row, c in zip(rotation, centre, strict=True))
            r, g, b = (int(value) for value in view.rgb[v, u])
            out[kind] += pack(x, y, z, r << 16 | g << 8 | b, float(view.confidence[v, u]))
    return bytes(out[OBSERVED]), bytes(out[GENERATED])


def cloud_times(
    size: tuple[int, int] = SIZE, repeats: int = REPEATS, naive_repeats: int = NAIVE_REPEATS
) -> tuple[NDArray, NDArray]:
    """Seconds for both cloud messages, our way and point by point, in turns; raises GldError if they differ."""
    view, head = sample_view(size), header(0, FIXED_FRAME)

    def ours() -> list[bytes]:
        return [bytes(cloud_message(cloud, head).data) for cloud in clouds_of([view], [None])]

    for mine, plain in zip(ours(), naive_clouds(view), strict=True):
        a, b = np.frombuffer(mine, POINT), np.frombuffer(plain, POINT)
        if len(a) != len(b) or any(not np.allclose(a[n], b[n], rtol=1e-5, atol=1e-5) for n in POINT.names or ()):
            raise GldError("the clouds built in one go differ from those built point by point")
    fast, naive = [], []
    for _ in range(naive_repeats):
        naive.append(_seconds(lambda: naive_clouds(view)))
        for _ in range(repeats // naive_repeats):
            fast.append(_seconds(lambda: [cloud_message(cloud, head) for cloud in clouds_of([view], [None])]))
    return np.array(fast), np.array(naive)


def publish_times(repeats: int = REPEATS, size: tuple[int, int] = SIZE) -> PublishTimes:
    """Measure in this process, with a subscriber to every topic in another. rclpy must be initialised."""
    import rclpy

    values = {"frame": VIRTUAL_FRAME, "width": size[0], "height": size[1]}
    parameters = [Parameter("virtual_cameras", value=[VIEW])]
    parameters += [Parameter(f"{VIEW}.{name}", value=value) for name, value in values.items()]
    node = rclpy.create_node("gld_bench", parameter_overrides=parameters)
    camera = VirtualCamera(node, Settings(node), VIEW)
    topics = [f"/gld_bench/{VIEW}/{topic}" for topic in TOPICS]
    view = sample_view(size)
    pause = threading.Event()
    seconds, processor = [], []
    try:
        with peer("count", "viewer", *topics) as ask:
            _wait_for_subscribers(camera)
            before = ask("count", READY_S)[topics[0]]
            for _ in range(repeats):
                stamp = node.get_clock().now().nanoseconds
                started, on_processor = time.perf_counter(), time.thread_time()
                camera.publish(result_of(view), stamp, FIXED_FRAME, TOPICS)
                seconds.append(time.perf_counter() - started)
                processor.append(time.thread_time() - on_processor)
                pause.wait(GAP_S)
            heard = ask("count", READY_S)[topics[0]] - before
    finally:
        camera.close()
        node.destroy_node()
    clouds, naive = cloud_times(size, repeats)
    return PublishTimes(clouds, np.array(seconds), np.array(processor), naive, heard)


def _wait_for_subscribers(camera: VirtualCamera) -> None:
    deadline = time.monotonic() + READY_S
    while set(camera.wanted()) != set(TOPICS):
        if time.monotonic() > deadline:
            raise GldError(f"no subscriber to {sorted(set(TOPICS) - camera.wanted())} within {READY_S:g} s")
        time.sleep(0.02)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
