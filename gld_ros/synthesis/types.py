"""What goes into a synthesis and what comes out: plain data shared by the CLI, the node and the engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import Status
from gld_ros.geometry.camera import Camera

UNKNOWN, GENERATED, OBSERVED = 0, 1, 2  # provenance values


@dataclass(frozen=True, eq=False)
class PosedView:
    """A real image with its camera. ``key`` identifies it in caches: equal keys mean equal content."""

    key: str
    camera: Camera
    rgb: NDArray[np.uint8]  # (H, W, 3)
    depth: NDArray[np.float32] | None = None  # (H, W) z-depth in world units, NaN = no measurement
    stamp_ns: int = 0


@dataclass(frozen=True)
class Request:
    """One synthesis job: where to look from and how to make the pictures."""

    targets: Sequence[Camera]
    preset: str = "balanced"
    time_budget_s: float = 0.0  # 0 = no limit
    num_samples: int = 1
    seed: int = -1  # -1 = drawn, the drawn one is in the result
    compose: str = "observed_first"  # or "generated"
    clouds: bool = True
    metric: bool = True  # the poses are in metres
    stream: str = ""  # name of a virtual camera that follows the robot: its next picture may start from its last


@dataclass(frozen=True, eq=False)
class Cloud:
    """Coloured points in the world frame with a confidence in [0, 1]."""

    xyz: NDArray[np.float32]  # (N, 3)
    rgb: NDArray[np.uint8]  # (N, 3)
    confidence: NDArray[np.float32]  # (N,)


@dataclass(frozen=True, eq=False)
class SynthesizedView:
    """One virtual camera's picture. Depth is z-depth in world units, NaN where nothing is known."""

    camera: Camera
    status: Status
    message: str
    rgb: NDArray[np.uint8]  # (H, W, 3) composed as requested
    generated: NDArray[np.uint8]  # (H, W, 3) the engine's own picture
    depth: NDArray[np.float32]  # (H, W)
    confidence: NDArray[np.float32]  # (H, W) in [0, 1]
    provenance: NDArray[np.uint8]  # (H, W) UNKNOWN, GENERATED or OBSERVED
    depth_std: NDArray[np.float32] | None = None  # (H, W) over samples, where num_samples > 1
    known: NDArray[np.float32] | None = None  # (H, W) weight of real pixels in the geometric picture, in [0, 1]


@dataclass(frozen=True, eq=False)
class Result:
    """Everything a synthesis returns; ``status`` is the worst of its views' when none succeeded."""

    status: Status
    message: str
    views: list[SynthesizedView]
    points_observed: Cloud | None
    points_generated: Cloud | None
    model: str
    preset: str
    updates: tuple[int, int]  # sampler updates run: level 1, cascade
    seed: int
    scale: float
    scale_valid: bool
    carved: bool
    confidence_kind: str  # "sensor", "plane_sweep", "head", … as used
    seconds: dict[str, float] = field(default_factory=dict)  # per stage, and "total"
    notes: tuple[str, ...] = ()  # degraded modes, said aloud


@dataclass(frozen=True)
class Progress:
    """Where a running synthesis is: stage name, step i of n, and a guess of the seconds left."""

    stage: str
    step: int
    steps: int
    seconds_left: float


PREPARING = "preparing views"  # stage of a request whose views have no depth yet; kept for the requests that follow

ProgressCallback = Callable[[Progress], None]
CancelCheck = Callable[[], bool]


class Engine(Protocol):
    """A way to synthesise views: ``classical``, ``tiny`` or an imported checkpoint.

    An engine belongs to one worker thread; only ``prepare`` may be called from a second one.
    """

    name: str

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        """Do and cache the per-view work (depth) ahead of requests; safe to call in the background."""

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is cached for these views."""

    def synthesize(
        self,
        views: Sequence[PosedView],
        request: Request,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Synthesise all targets from the condition views.

        Raises GldError with a status (NO_KEYFRAMES, NO_OVERLAP, BUDGET_EXCEEDED, CANCELLED, …) when
        nothing can be returned; a view that fails alone carries its own status instead.
        """
        ...
