"""The last times something took, written by one thread and read by another."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

KEPT = 2000  # a minute of images at 30 Hz


class Durations:
    """A window of durations in seconds; safe to use from several threads."""

    def __init__(self, kept: int = KEPT) -> None:
        self._seconds: deque[float] = deque(maxlen=kept)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seconds)

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Add the time the block takes."""
        started = time.perf_counter()
        yield
        seconds = time.perf_counter() - started
        with self._lock:
            self._seconds.append(seconds)

    def percentile_ms(self, percent: float) -> float | None:
        """A percentile in milliseconds, None before anything was measured."""
        with self._lock:
            seconds = list(self._seconds)
        return float(np.percentile(seconds, percent)) * 1e3 if seconds else None

    def text(self, percent: float) -> str:
        """A percentile for people."""
        value = self.percentile_ms(percent)
        return "none" if value is None else f"{value:.3f}"
