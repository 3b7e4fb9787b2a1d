"""The TF buffer: interpolation, extrapolation, unknown and disconnected frames, time jumps, and properties. No ROS."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from gld_ros.geometry import transform_tree
from gld_ros.geometry.transform_tree import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
    TransformTree,
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from gld_ros.ros.tf_buffer import Buffer

S = 1_000_000_000
UNIT = (0.0, 0.0, 0.0, 1.0)
finite = st.floats(-100, 100)
quaternions = (
    st.tuples(*[st.floats(-1, 1)] * 4)
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: np.array(q) / np.linalg.norm(q))
)
poses = st.tuples(st.tuples(finite, finite, finite), quaternions)


def matrix(pose):
    out = np.eye(4)
    out[:3, :3] = Rotation.from_quat(pose[1]).as_matrix()
    out[:3, 3] = pose[0]
    return out


def tree(*edges):
    made = TransformTree()
    for parent, child, stamp, x in edges:
        assert made.insert(parent, child, stamp, (x, 0, 0), UNIT)
    return made


def test_interpolates_between_stamps():
    made = TransformTree()
    a, b = Rotation.identity(), Rotation.from_euler("xyz", [0.3, -0.5, 1.2])
    made.insert("odom", "base", 1 * S, (0, 0, 0), a.as_quat())
    made.insert("odom", "base", 2 * S, (1, 2, 3), b.as_quat())
    stamp, (p, q) = made.lookup("odom", "base", int(1.25 * S))
    assert stamp == int(1.25 * S)
    np.testing.assert_allclose(p, [0.25, 0.5, 0.75])
    expected = Slerp([0, 1], Rotation.concatenate([a, b]))(0.25)
    assert (Rotation.from_quat(q) * expected.inv()).magnitude() < 1e-7


def test_slerp_takes_the_shorter_arc():
    made = TransformTree()
    q = Rotation.from_euler("z", 20, degrees=True).as_quat()
    made.insert("a", "b", 1 * S, (0, 0, 0), UNIT)
    made.insert("a", "b", 2 * S, (0, 0, 0), -q)
    _, (_, middle) = made.lookup("a", "b", int(1.5 * S))
    assert np.degrees(Rotation.from_quat(middle).magnitude()) == pytest.approx(10)


@pytest.mark.parametrize(("stamp", "where"), [(int(2.5 * S), "future"), (int(0.5 * S), "past")])
def test_extrapolation_is_refused_with_the_range(stamp, where):
    made = tree(("odom", "base", S, 0), ("odom", "base", 2 * S, 1))
    with pytest.raises(ExtrapolationException, match=f"{where}.*1.000000 to 2.000000"):
        made.lookup("odom", "base", stamp)


def test_time_zero_is_the_newest_common_time():
    made = tree(
        ("odom", "base", 1 * S, 1), ("odom", "base", 3 * S, 3), ("base", "arm", 1 * S, 10), ("base", "arm", 2 * S, 20)
    )
    stamp, (p, _) = made.lookup("odom", "arm")
    assert stamp == 2 * S
    assert p[0] == pytest.approx(22)


def test_static_holds_for_all_times():
    made = tree(("odom", "base", 5 * S, 1))
    made.insert("base", "camera", 0, (0, 1, 0), UNIT, static=True)
    _, (p, _) = made.lookup("odom", "camera", 5 * S)
    np.testing.assert_allclose(p, [1, 1, 0])
    assert made.lookup("base", "camera", 10**18)[0] == 10**18


def test_unknown_disconnected_and_malformed_frames():
    made = tree(("odom", "base", S, 0), ("map2", "other", S, 0))
    with pytest.raises(LookupException, match="nowhere"):
        made.lookup("odom", "nowhere")
    with pytest.raises(ConnectivityException, match="other"):
        made.lookup("odom", "other", S)
    with pytest.raises(ConnectivityException):  # also at a time outside both caches
        made.lookup("odom", "other", 99 * S)
    for bad in ("", "/odom", " odom"):
        with pytest.raises(InvalidArgumentException):
            made.lookup(bad, "base")


def test_same_frame_is_identity():
    _, (p, q) = tree().lookup("anything", "anything")
    assert not p.any()
    np.testing.assert_allclose(q, UNIT)


def test_loops_end_in_an_exception():
    made = tree(("a", "b", S, 0), ("b", "c", S, 0), ("c", "a", S, 0), ("x", "y", S, 0))
    with pytest.raises(TransformException):
        made.lookup("a", "y", S)


def test_malformed_transforms_are_counted_and_dropped():
    made = TransformTree()
    assert not made.insert("a", "a", S, (0, 0, 0), UNIT)
    assert not made.insert("a", "", S, (0, 0, 0), UNIT)
    assert not made.insert("a", "b", S, (np.nan, 0, 0), UNIT)
    assert not made.insert("a", "b", S, (0, 0, 0), (0, 0, 0, 0))
    assert not made.insert("a", "b", S, (0, 0, 0), (0, 0, np.nan, 1))
    assert not made.insert("a", "b", S, (0, 0, 0), (0, 0, 0, 2))
    assert made.rejected == 6
    assert not made.frames()


def test_only_the_cache_time_is_kept_and_older_data_is_refused():
    made = TransformTree(cache_s=10)
    for i in range(1000):
        made.insert("a", "b", i * S // 10, (i, 0, 0), UNIT)
    assert len(made._edges["b"].stamps) == 101
    assert not made.insert("a", "b", S, (0, 0, 0), UNIT)
    with pytest.raises(ExtrapolationException, match="past"):
        made.lookup("a", "b", 80 * S)


def test_late_data_is_sorted_in():
    made = tree(("a", "b", 1 * S, 1), ("a", "b", 3 * S, 3), ("a", "b", 2 * S, 20))
    assert made.lookup("a", "b", 2 * S)[1][0][0] == 20


def test_clear_keeps_static():
    made = tree(("odom", "base", S, 0))
    made.insert("base", "camera", 0, (0, 1, 0), UNIT, static=True)
    made.clear()
    assert made.newest() == 0
    with pytest.raises(LookupException):
        made.lookup("odom", "camera", S)
    assert made.insert("odom", "base", S // 2, (0, 0, 0), UNIT)  # time went back
    assert made.lookup("odom", "camera", S // 2)[1][0][1] == 1


def test_a_frame_may_change_its_parent():
    made = tree(("a", "b", S, 1), ("c", "b", 2 * S, 5), ("a", "c", S, 100), ("a", "c", 2 * S, 100))
    assert made.lookup("c", "b", 2 * S)[1][0][0] == 5
    assert made.lookup("a", "b", 2 * S)[1][0][0] == 105
    assert made.lookup("a", "b", S)[1][0][0] == 1


def test_waiting_ends_when_the_transform_comes():
    buffer = Buffer()
    threading.Timer(0.1, lambda: buffer.insert("a", "b", S, (7, 0, 0), UNIT)).start()
    assert buffer.wait("a", "b", S, 5 * S)[1][0][0] == 7
    started = time.monotonic()
    assert not buffer.can_transform("a", "nowhere", S, S // 20)
    assert 0.04 < time.monotonic() - started < 1.0


def test_exceptions_have_the_names_of_tf2():
    for name in ("Lookup", "Connectivity", "Extrapolation", "InvalidArgument"):
        assert issubclass(getattr(transform_tree, f"{name}Exception"), TransformException)


@given(quaternions)
def test_matrix_and_quaternion_are_inverse(q):
    expected = Rotation.from_quat(q).as_matrix()
    np.testing.assert_allclose(quaternion_to_matrix(q), expected, atol=1e-12)
    back = matrix_to_quaternion(expected)
    np.testing.assert_allclose(quaternion_to_matrix(back), expected, atol=1e-9)
    assert back[3] >= 0


@settings(max_examples=60, deadline=None)
@given(st.lists(poses, min_size=5, max_size=5), st.integers(0, 4), st.integers(0, 4))
def test_any_two_frames_of_a_tree_agree_with_matrices(edges, i, j):
    """A fixed tree 0-1, 0-2, 1-3, 1-4, 2-5 (edges to frames 1..5) against products of 4x4 matrices."""
    parents = (0, 0, 1, 1, 2)
    made, world = TransformTree(), {0: np.eye(4)}
    for child, (parent, pose) in enumerate(zip(parents, edges, strict=True), start=1):
        made.insert(f"f{parent}", f"f{child}", S, *pose, static=child % 2 == 0)
        world[child] = world[parent] @ matrix(pose)
    _, found = made.lookup(f"f{i + 1}", f"f{j + 1}", S)
    np.testing.assert_allclose(matrix(found), np.linalg.inv(world[i + 1]) @ world[j + 1], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(poses, poses, st.floats(0.01, 0.99))
def test_interpolation_stays_between_and_inverts(a, b, ratio):
    made = TransformTree()
    made.insert("w", "c", 1 * S, *a)
    made.insert("w", "c", 2 * S, *b)
    stamp = int((1 + ratio) * S)
    _, there = made.lookup("w", "c", stamp)
    _, back = made.lookup("c", "w", stamp)
    np.testing.assert_allclose(matrix(there) @ matrix(back), np.eye(4), atol=1e-6)
    low, high = np.minimum(a[0], b[0]) - 1e-9, np.maximum(a[0], b[0]) + 1e-9
    assert ((low <= there[0]) & (there[0] <= high)).all()
    assert np.linalg.norm(there[1]) == pytest.approx(1)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_any_order_of_arrival_keeps_stamps_sorted_and_within_the_cache(stamps):
    made = TransformTree(cache_s=10)
    for stamp in stamps:
        made.insert("w", "c", stamp * S, (stamp, 0, 0), UNIT)
    kept = made._edges["c"].stamps
    assert kept == sorted(set(kept))
    assert kept[-1] == max(stamps) * S
    assert kept[-1] - kept[0] <= 10 * S
    for stamp in kept:
        assert made.lookup("w", "c", stamp)[1][0][0] == stamp / S


def test_fast_enough_for_every_image():
    made = tree(*[("odom", "base", i * S // 100, i) for i in range(1000)])
    made.insert("base", "camera", 0, (0, 1, 0), UNIT, static=True)
    started = time.perf_counter()
    for i in range(500):
        made.lookup("odom", "camera", i * S // 100 + 12345)
    assert (time.perf_counter() - started) / 500 < 2e-3
