"""A robot that drives through a room it has not seen, with a virtual camera fixed beside its real one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.types import PosedView

SEED = 950_000_000  # rooms that neither training nor the frozen test set draws
STEP_M = 0.04  # the robot moves this far from one picture to the next: 1.2 m/s at 30 Hz, 0.2 m/s at 5 Hz
OFFSET_M = (0.12, -0.08, 0.0)  # of the virtual camera in the real one's optical frame: right, down, forward
NS_PER_TICK = 200_000_000


@dataclass(frozen=True, eq=False)
class MovingSequence:
    """Real views in order, and where the virtual camera is at each of them with what it would see."""

    views: list[PosedView]
    targets: list[Camera]
    truth: list[NDArray[np.uint8]]  # (H, W, 3)


def moving_sequence(ticks: int, size: tuple[int, int], seed: int = SEED) -> MovingSequence:
    """``ticks`` views along a straight line with depth images, rendered at ``size`` = (W, H).

    Raises GldError when the package numba is missing or no room has a clear path.
    """
    try:
        from gld_ros.data.rooms.layout import random_room
        from gld_ros.data.rooms.motion import MotionConfig, is_clear, sample_cameras
        from gld_ros.data.rooms.render import RenderConfig, render_cameras, textures_of
    except ImportError as error:
        raise GldError(f"the moving sequence is rendered with numba ({error}): pip install numba") from error
    length = STEP_M * (ticks - 1) / 2  # the line motion drives twice this
    motion = MotionConfig("line", (length, length), camera_height_m=(0.6, 1.2))
    config = RenderConfig(samples=2, texture_seed=977, motion=motion)
    for attempt in range(40):
        number = seed + attempt
        room = random_room(number, textures_of(config), config.layout)
        try:
            real = sample_cameras(room, ticks, *size, number, motion)
        except GldError:
            continue
        virtual = [beside(camera) for camera in real]
        if not all(is_clear(room, camera, motion) for camera in virtual):
            continue
        made = render_cameras(room, [*real, *virtual], number, config)
        views = [
            PosedView(f"{number}/{i}", camera, made.rgb[i], made.depth[i], i * NS_PER_TICK)
            for i, camera in enumerate(real)
        ]
        return MovingSequence(views, virtual, made.rgb[ticks:])
    raise GldError(f"no room near seed {seed} has a clear path of {2 * length:.2f} m: use fewer ticks than {ticks}")


def beside(camera: Camera) -> Camera:
    """The virtual camera that rides with ``camera``."""
    pose = camera.world_from_cam.copy()
    pose[:3, 3] += pose[:3, :3] @ np.array(OFFSET_M)
    return replace(camera, world_from_cam=pose)


def window(views: Sequence[PosedView], tick: int, every: int, count: int) -> list[PosedView]:
    """The keyframes a request at ``tick`` would use: the newest ``count`` of every ``every``-th view so far."""
    return list(views[: tick + 1 : every][-count:])
