"""Bounding-box trees, written depth first with skip links so that a ray walks them without a stack."""

from __future__ import annotations

import numpy as np

from gld_ros.data.rooms.jit import kernel
from gld_ros.data.rooms.rays import FAR


@kernel
def _half_area(low, high):
    x = high[0] - low[0]
    y = high[1] - low[1]
    z = high[2] - low[2]
    return x * y + y * z + z * x


@kernel
def sah_tree(low, high, bounds, skip, leaf):
    """Binary tree over boxes low, high (N, 3), split where the surface-area heuristic is least, written depth first."""
    n = low.shape[0]
    order = np.arange(n)
    first = np.zeros(2 * n, np.int64)  # stack of index ranges still to be written
    last = np.zeros(2 * n, np.int64)
    first[0] = 0
    last[0] = n
    top = 1
    node = 0
    right_cost = np.zeros(n)
    while top > 0:
        top -= 1
        a = first[top]
        b = last[top]
        for k in range(3):
            bounds[node, k] = low[order[a:b], k].min()
            bounds[node, 3 + k] = high[order[a:b], k].max()
        skip[node] = node + 2 * (b - a) - 1
        if b - a == 1:
            leaf[node] = order[a]
            node += 1
            continue
        node += 1
        best = FAR
        best_axis = 0
        split = a + 1
        for axis in range(3):
            members = order[a:b].copy()
            members = members[np.argsort(low[members, axis] + high[members, axis], kind="mergesort")]
            lo = np.full(3, FAR)
            hi = np.full(3, -FAR)
            for i in range(b - a - 1, 0, -1):
                lo = np.minimum(lo, low[members[i]])
                hi = np.maximum(hi, high[members[i]])
                right_cost[i] = _half_area(lo, hi) * (b - a - i)
            lo = np.full(3, FAR)
            hi = np.full(3, -FAR)
            for i in range(1, b - a):
                lo = np.minimum(lo, low[members[i - 1]])
                hi = np.maximum(hi, high[members[i - 1]])
                cost = _half_area(lo, hi) * i + right_cost[i]
                if cost < best:
                    best = cost
                    best_axis = axis
                    split = a + i
        members = order[a:b].copy()
        order[a:b] = members[np.argsort(low[members, best_axis] + high[members, best_axis], kind="mergesort")]
        first[top] = split
        last[top] = b
        first[top + 1] = a
        last[top + 1] = split
        top += 2
