"""Status codes and the one exception type that carries them to a user.

The numbers are a contract shared with ``msg/Status.msg``; never renumber them.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Outcome of a request or of one synthesised view."""

    OK = 0
    BUSY = 1
    NOT_ACTIVE = 2
    NO_KEYFRAMES = 3
    STALE = 4
    NO_TRANSFORM = 5
    NO_OVERLAP = 6
    BAD_POSE = 7
    BAD_INTRINSICS = 8
    BUDGET_EXCEEDED = 9
    OUT_OF_MEMORY = 10
    CANCELLED = 11
    INTERNAL = 12


class GldError(Exception):
    """An error a user can act on: the message names the value, the limit and the remedy."""

    def __init__(self, message: str, status: Status = Status.INTERNAL) -> None:
        super().__init__(message)
        self.status = status


class SceneError(GldError):
    """A scene folder, bag or image file that cannot be used."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, torch or CUDA says that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError"):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate" in text)
