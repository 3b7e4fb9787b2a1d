"""More condition views than an engine reads: each target gets its nearest, and the parts become one result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from gld_ros.errors import Status
from gld_ros.geometry.camera import Camera, view_costs
from gld_ros.synthesis.many_views import MAX_VIEWS, synthesize_nearest
from gld_ros.synthesis.types import Cloud, PosedView, Request, Result, SynthesizedView


def camera_at(x: float) -> Camera:
    pose = np.eye(4)
    pose[0, 3] = x
    return Camera(8, 6, np.array([[8.0, 0, 3.5], [0, 8, 2.5], [0, 0, 1]]), pose)


class Recorder:
    """An engine that notes which views it was given, and paints each target with its place."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None: ...

    def forget(self, keys: Sequence[str]) -> None: ...

    def synthesize(self, views, request, progress=None, cancelled=None) -> Result:  # type: ignore[no-untyped-def]
        self.calls.append([v.key for v in views])
        made = []
        for target in request.targets:
            rgb = np.full((6, 8, 3), int(target.centre[0]), np.uint8)
            flat = np.ones((6, 8), np.float32)
            made.append(SynthesizedView(target, Status.OK, "", rgb, rgb, flat, flat, np.full((6, 8), 2, np.uint8)))
        cloud = Cloud(np.zeros((2, 3), np.float32), np.zeros((2, 3), np.uint8), np.ones(2, np.float32))
        seed = request.seed if request.seed >= 0 else 77
        return Result(
            Status.OK, "", made, cloud, None, self.name, "fast", (0, 0), seed, 1.0, True, True, "none",
            {"total": 1.0}, (f"call {len(self.calls)}",),
        )  # fmt: skip


def views_along_a_line(count: int) -> list[PosedView]:
    return [PosedView(f"v{i}", camera_at(float(i)), np.zeros((6, 8, 3), np.uint8)) for i in range(count)]


def test_few_views_are_one_call() -> None:
    engine = Recorder()
    synthesize_nearest(engine, views_along_a_line(MAX_VIEWS), Request([camera_at(0.5), camera_at(6.5)]))
    assert engine.calls == [[f"v{i}" for i in range(MAX_VIEWS)]]


def test_targets_get_their_own_neighbours_and_keep_their_order() -> None:
    engine = Recorder()
    targets = [camera_at(x) for x in (29.0, 1.0, 28.9)]
    result = synthesize_nearest(engine, views_along_a_line(30), Request(targets, seed=-1))
    assert [int(v.rgb[0, 0, 0]) for v in result.views] == [29, 1, 28]
    assert sorted(len(c) for c in engine.calls) == [MAX_VIEWS, MAX_VIEWS]
    assert {"v29", "v22"} <= set(engine.calls[0])
    assert {"v0", "v7"} <= set(engine.calls[1])
    assert result.points_observed is not None
    assert len(result.points_observed.xyz) == 4
    assert result.seconds["total"] == pytest.approx(2.0)
    assert result.seed == 77
    assert any("nearest of 30" in n for n in result.notes)


def test_cost_is_distance_in_spacings_plus_turn() -> None:
    turned = np.eye(4)
    angle = np.radians(60)
    turned[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    cameras = [camera_at(0), camera_at(2), camera_at(0).moved(turned)]
    assert view_costs(cameras, camera_at(0))[0] == pytest.approx(0)
    assert view_costs(cameras[:2], camera_at(0))[1] == pytest.approx(1)
    assert view_costs(cameras, camera_at(0))[2] == pytest.approx(2)
