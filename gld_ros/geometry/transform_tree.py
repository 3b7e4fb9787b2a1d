"""Transforms between named frames over time: a tree with interpolation, and the quaternions it needs.

It stores, per child frame, a time-sorted list and interpolates (lerp, slerp), with tf2's rules and exception names.
Settled differences from tf2: none in values; a frame looked up in itself answers identity even when unknown, and a pair
that is connected by no chain of edges is a ConnectivityException at any time.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NS = 1_000_000_000
Pose = tuple[NDArray[np.float64], NDArray[np.float64]]  # translation (3,), quaternion x y z w (4,)


class TransformException(Exception):
    """Base of all transform errors, named as in tf2_ros."""


class LookupException(TransformException):
    """A frame that nobody has published."""


class ConnectivityException(TransformException):
    """Two known frames in different trees."""


class ExtrapolationException(TransformException):
    """A time outside what is in the buffer."""


class InvalidArgumentException(TransformException):
    """A malformed frame name."""


def quaternion_to_matrix(q: Sequence[float] | NDArray) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) of a unit quaternion x y z w."""
    x, y, z, w = (float(v) for v in q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_to_quaternion(rotation: NDArray) -> NDArray[np.float64]:
    """Unit quaternion x y z w of a rotation matrix (3, 3), with w >= 0 (Shepperd's method)."""
    m = np.asarray(rotation, dtype=np.float64)
    trace = m[0, 0] + m[1, 1] + m[2, 2]
    choices = np.array([m[0, 0], m[1, 1], m[2, 2], trace])
    i = int(choices.argmax())
    q = np.empty(4)
    if i == 3:
        q[:] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], 1 + trace
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q[i] = 1 - trace + 2 * m[i, i]
        q[j] = m[j, i] + m[i, j]
        q[k] = m[k, i] + m[i, k]
        q[3] = m[k, j] - m[j, k]
    q /= np.linalg.norm(q)
    return -q if q[3] < 0 else q


def rotate(q: NDArray, v: NDArray) -> NDArray[np.float64]:
    """A vector turned by a unit quaternion x y z w."""
    t = 2.0 * np.cross(q[:3], v)
    return v + q[3] * t + np.cross(q[:3], t)


def multiply(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """Hamilton product of two quaternions x y z w."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


def slerp(a: NDArray, b: NDArray, ratio: float) -> NDArray[np.float64]:
    """Spherical interpolation of unit quaternions along the shorter arc."""
    dot = float(a @ b)
    if dot < 0:
        b, dot = -b, -dot
    if dot > 0.9999999:
        q = a + ratio * (b - a)
    else:
        angle = np.arccos(dot)
        q = (np.sin((1 - ratio) * angle) * a + np.sin(ratio * angle) * b) / np.sin(angle)
    return q / np.linalg.norm(q)


def compose(a: Pose, b: Pose) -> Pose:
    """a after b: the transform that first applies b."""
    return a[0] + rotate(a[1], b[0]), multiply(a[1], b[1])


def inverse(a: Pose) -> Pose:
    """The transform back."""
    conjugate = a[1] * np.array([-1.0, -1.0, -1.0, 1.0])
    return -rotate(conjugate, a[0]), conjugate


class _Edge:
    """What is known of one child frame: its parents and poses over time; a static edge holds one pose for all times."""

    def __init__(self, static: bool) -> None:
        self.static = static
        self.stamps: list[int] = []
        self.items: list[tuple[str, Pose]] = []

    def insert(self, stamp: int, parent: str, pose: Pose, cache_ns: int) -> bool:
        if self.static:
            self.stamps, self.items = [0], [(parent, pose)]
            return True
        if self.stamps and stamp < self.stamps[-1] - cache_ns:
            return False
        i = bisect.bisect_left(self.stamps, stamp)
        if i < len(self.stamps) and self.stamps[i] == stamp:
            self.items[i] = (parent, pose)
        else:
            self.stamps.insert(i, stamp)
            self.items.insert(i, (parent, pose))
        old = bisect.bisect_left(self.stamps, self.stamps[-1] - cache_ns)
        del self.stamps[:old], self.items[:old]
        return True

    def at(self, stamp: int, child: str) -> tuple[str, Pose]:
        if self.static:
            return self.items[0]
        first, last = self.stamps[0], self.stamps[-1]
        if not first <= stamp <= last:
            where = "future" if stamp > last else "past"
            raise ExtrapolationException(
                f"lookup of frame '{child}' would require extrapolation into the {where}: requested time "
                f"{stamp / NS:.6f} but the buffer has {first / NS:.6f} to {last / NS:.6f} "
                f"({(stamp - last if where == 'future' else first - stamp) / NS:.3f} s apart)"
            )
        i = bisect.bisect_left(self.stamps, stamp)
        if self.stamps[i] == stamp or self.items[i - 1][0] != self.items[i][0]:
            # between two parents there is nothing to blend: the older one holds
            return self.items[i if self.stamps[i] == stamp else i - 1]
        t0, t1 = self.stamps[i - 1], self.stamps[i]
        ratio = (stamp - t0) / (t1 - t0)
        (p0, q0), (p1, q1) = self.items[i - 1][1], self.items[i][1]
        return self.items[i][0], (p0 + ratio * (p1 - p0), slerp(q0, q1, ratio))


class TransformTree:
    """The thread-safe store behind ``Buffer``; speaks nanoseconds and (translation, quaternion) pairs."""

    def __init__(self, cache_s: float = 10.0) -> None:
        self.cache_ns = int(cache_s * NS)
        self.rejected = 0  # malformed or too old transforms
        self._edges: dict[str, _Edge] = {}
        self.changed = threading.Condition()

    def insert(
        self, parent: str, child: str, stamp: int, translation: Any, quaternion: Any, static: bool = False
    ) -> bool:
        """Store one transform; False (and counted) when it is malformed or older than the cache."""
        parent, child = parent.lstrip("/"), child.lstrip("/")
        p, q = np.array(translation, dtype=np.float64), np.array(quaternion, dtype=np.float64)
        norm = float(np.linalg.norm(q)) if np.isfinite(q).all() else 0.0
        good = bool(parent and child and parent != child and np.isfinite(p).all() and abs(norm - 1.0) < 1e-2)
        with self.changed:
            edge = self._edges.get(child)
            if good and (edge is None or edge.static != static):
                edge = _Edge(static)
            good = good and edge is not None and edge.insert(stamp, parent, (p, q / norm), self.cache_ns)
            if not good or edge is None:
                self.rejected += 1
                return False
            self._edges[child] = edge
            self.changed.notify_all()
            return True

    def clear(self) -> None:
        """Forget what moves; static transforms stay, since nobody sends them twice (as in tf2)."""
        with self.changed:
            self._edges = {child: edge for child, edge in self._edges.items() if edge.static}

    def newest(self) -> int:
        """The newest stamp of any moving transform, 0 without one."""
        with self.changed:
            return max((edge.stamps[-1] for edge in self._edges.values() if not edge.static), default=0)

    def frames(self) -> set[str]:
        """All frames that anyone has named."""
        with self.changed:
            return set(self._edges) | {item[0] for edge in self._edges.values() for item in edge.items}

    def root(self, frame: str) -> str:
        """The topmost ancestor of a frame, by newest parents; itself when nothing is known of it.

        Raises ConnectivityException on a loop.
        """
        with self.changed:
            return self._newest_chain(frame)[-1]

    def _newest_chain(self, frame: str) -> list[str]:
        chain = [frame]
        while (edge := self._edges.get(chain[-1])) is not None:
            parent = edge.items[-1][0]
            if parent in chain:
                raise ConnectivityException(f"frames {chain} form a loop")
            chain.append(parent)
        return chain

    def lookup(self, target: str, source: str, stamp: int = 0) -> tuple[int, Pose]:
        """The transform of points in ``source`` to ``target`` at a time (0: the newest common one), and that time."""
        identity = (np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        for name in (target, source):
            if not name or name.startswith("/") or name != name.strip():
                raise InvalidArgumentException(
                    f"frame id '{name}' is malformed: must be non-empty without a leading '/'"
                )
        with self.changed:
            if target == source:
                return stamp, identity
            known = self.frames()
            for name in (target, source):
                if name not in known:
                    raise LookupException(f"frame '{name}' does not exist: nobody has published a transform for it")
            newest = self._newest_common(target, source)
            stamp = stamp or newest
            up_target = self._climb(target, source, stamp)
            up_source = self._climb(source, target, stamp)
            common = next((frame for frame in up_source if frame in up_target), None)
            if common is None:
                raise ConnectivityException(f"frames '{target}' and '{source}' are in two trees that nothing connects")
            return stamp, compose(inverse(up_target[common]), up_source[common])

    def _newest_common(self, target: str, source: str) -> int:
        a, b = self._newest_chain(target), self._newest_chain(source)
        common = next((frame for frame in b if frame in a), None)
        if common is None:
            raise ConnectivityException(f"frames '{target}' and '{source}' are in two trees that nothing connects")
        used = [self._edges[frame] for frame in a[: a.index(common)] + b[: b.index(common)]]
        return min((edge.stamps[-1] for edge in used if not edge.static), default=0)

    def _climb(self, frame: str, other: str, stamp: int) -> dict[str, Pose]:
        """Transforms from ``frame`` to each ancestor that is needed, nearest first."""
        pose: Pose = (np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        found = {frame: pose}
        needed = set(self._newest_chain(other))
        while frame not in needed and (edge := self._edges.get(frame)) is not None:
            parent, step = edge.at(stamp, frame)
            if parent in found:
                raise ConnectivityException(f"frames {list(found)} form a loop")
            pose = compose(step, pose)
            frame = parent
            found[frame] = pose
        return found
