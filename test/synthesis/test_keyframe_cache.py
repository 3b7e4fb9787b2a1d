import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from rendered import CONDITIONS, TARGET, look, posed

from gld_ros.synthesis import keyframe_cache
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.keyframe_cache import KeyframeCache
from gld_ros.synthesis.presets import PRESETS
from gld_ros.synthesis.types import Request

FAST = PRESETS["fast"]


@pytest.fixture(scope="module")
def views():
    return [posed(f"v{i}", c) for i, c in enumerate([*CONDITIONS, look(0.0, 0.2), look(-0.2, -0.2)])]


@pytest.fixture
def sweeps(monkeypatch):
    """Counts the sweeps."""
    swept = []
    real = keyframe_cache.sweep_view

    def counted(view, *rest):
        swept.append(view)
        return real(view, *rest)

    monkeypatch.setattr(keyframe_cache, "sweep_view", counted)
    return swept


@pytest.fixture
def cache():
    return KeyframeCache(torch.device("cpu"))


def test_a_new_keyframe_costs_one_sweep(views, sweeps):
    engine = ClassicalEngine("cpu")
    engine.prepare(views[:3], "fast")
    assert len(sweeps) == 3
    engine.prepare(views[:4], "fast")
    assert len(sweeps) == 4
    engine.prepare([views[4], *views[1:4]], "fast")
    assert len(sweeps) == 5


def test_requests_sweep_nothing_again_when_the_set_changes(views, sweeps):
    engine = ClassicalEngine("cpu")
    engine.prepare(views[:5], "fast")
    for chosen in (views[:4], views[1:5], views[:3], views[1:4], views[4:1:-1]):
        engine.synthesize(chosen, Request([TARGET.resized(40, 30)], preset="fast"))
    assert len(sweeps) == 5


def test_sweeps_from_one_place_are_redone_when_the_robot_has_moved(views, sweeps, cache):
    still = [replace(views[0], key=f"still{i}") for i in range(3)]
    for view in still:
        cache.depth(view, still, FAST)
    assert len(sweeps) == 3
    cache.depth(still[0], [*still, views[2]], FAST)
    assert len(sweeps) == 4
    cache.depth(still[0], [*still, views[2]], FAST)
    assert len(sweeps) == 4


def test_presets_and_keys_are_kept_apart(views, sweeps, cache):
    cache.depth(views[0], views[:2], FAST)
    cache.depth(views[0], views[:2], PRESETS["balanced"])
    cache.depth(replace(views[0], key="other"), views[:2], FAST)
    assert len(sweeps) == 3


def test_cross_check_is_kept_for_the_same_views(views, cache):
    first = cache.checked(views[:3], FAST)
    assert cache.checked(views[:3], FAST) is first
    assert cache.checked(views[1:4], FAST) is not first
    cache.forget(["v1"])
    assert cache.checked(views[:3], FAST) is not first


def test_forgotten_views_leave_nothing(views, sweeps, cache):
    cache.checked(views[:4], FAST)
    assert cache.bytes_held() > 10**6
    cache.forget([v.key for v in views[:3]])
    assert not cache.is_swept(views[0], views[:4], FAST)
    assert cache.is_swept(views[3], views[:4], FAST)
    cache.forget(["v3", "never seen"])
    assert cache.bytes_held() == 0


def test_memory_is_bounded(views):
    cache = KeyframeCache(torch.device("cpu"), limit=3)
    held = []
    for i in range(12):
        cache.depth(replace(views[i % 6], key=f"k{i}"), [replace(views[(i + 1) % 6], key=f"k{i + 1}")], FAST)
        held.append(len(cache._keyframes))
    assert max(held) <= 3
    assert len(cache._pairs) <= 3


def test_pictures_are_bounded_by_bytes(views, cache, monkeypatch):
    monkeypatch.setattr(keyframe_cache, "MAX_PICTURE_BYTES", 300_000)
    for size in range(60, 110, 2):
        assert cache.picture(views[0], size, size).shape == (3, size, size)
    assert sum(p.numel() * 4 for p in cache._pictures.values()) <= 300_000
    big = cache.picture(views[0], 400, 400)  # larger than all that may be kept: still served
    assert cache.picture(views[0], 400, 400) is big


def test_better_neighbours_are_preferred():
    camera = look(0.0)
    cost = {
        name: keyframe_cache._source_cost(camera, other, 0.5)
        for name, other in {
            "good": look(0.2),
            "same place": look(1e-4),
            "far": look(5.0),
            "turned": look(0.2, yaw_deg=80),
        }.items()
    }
    assert min(cost, key=cost.get) == "good"


def test_preparing_in_the_background_while_requests_run(views):
    engine, errors = ClassicalEngine("cpu"), []
    reference = engine.synthesize(views[:4], Request([TARGET.resized(40, 30)], preset="fast")).views[0].rgb

    def background():
        try:
            for i in range(8):
                extra = [replace(v, key=f"{v.key}-{i}") for v in views[4:]]
                engine.prepare([*extra, *views[:2]], "fast")
                engine.forget([v.key for v in extra])
        except Exception as error:  # reported by the main thread
            errors.append(error)

    thread = threading.Thread(target=background)
    thread.start()
    rounds = 0
    while thread.is_alive() or rounds < 3:
        made = engine.synthesize(views[:4], Request([TARGET.resized(40, 30)], preset="fast"))
        assert np.array_equal(made.views[0].rgb, reference)
        rounds += 1
    thread.join(timeout=60)
    assert not errors
    assert not thread.is_alive()
