"""The frozen synthetic test rooms as scenes."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from gld_ros.data.scene import Frame, Scene
from gld_ros.errors import GldError


def room_scenes(count: int | None = None) -> Iterator[Scene]:
    """The first ``count`` scenes of ``rooms/test`` (default all), rendered one by one, with a split ``test``.

    Raises GldError when the package numba is missing.
    """
    frozen = _frozen()
    total = frozen.SCENES if count is None else min(count, frozen.SCENES)
    for number in range(total):
        room = frozen.frozen_scene(number)
        frames = [
            Frame(
                f"{i}.png",
                camera,
                i,
                functools.partial(room.rgb.__getitem__, i),
                functools.partial(room.depth.__getitem__, i),
            )
            for i, camera in enumerate(room.cameras)
        ]
        splits = {"test": (list(frozen.CONDITION), list(frozen.TARGET))}
        yield Scene(f"room{number:03d}", frames, True, splits)


def rooms_identity(count: int | None = None) -> dict[str, str | int]:
    """What defines the set: name, hash of its definition, number of scenes."""
    frozen = _frozen()
    total = frozen.SCENES if count is None else min(count, frozen.SCENES)
    name = frozen.NAME if total == frozen.SCENES else f"{frozen.NAME}[:{total}]"
    return {"name": name, "hash": frozen.definition_hash(), "scenes": total}


def _frozen():  # type: ignore[no-untyped-def]
    try:
        from gld_ros.data.rooms import frozen
    except ImportError as error:
        raise GldError(f"the test rooms are rendered with numba ({error}): pip install numba") from error
    return frozen
