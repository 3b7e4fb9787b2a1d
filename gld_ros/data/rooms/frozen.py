"""The frozen test set ``rooms/test``: 100 rooms, two condition views, two targets; never change it, name a new one.

Rooms and textures come from seeds no training uses. The hash of its definition goes beside every figure.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.motion import MotionConfig
from gld_ros.data.rooms.render import RenderConfig, RenderedScene, render_scene
from gld_ros.data.rooms.shards import SceneArrays, config_hash, stack

NAME = "rooms/test"
RENDERER = 1  # raise it, and the set's name, when layout, furniture, textures or shading change what is drawn
SCENES = 100
SIZE = (128, 128)
FIRST_SEED = 900_000_000
CONFIG = RenderConfig(samples=2, texture_seed=977)
# the same number of rooms from each; views 0 and 1 are conditions, 2 and 3 targets
MOTIONS = (
    MotionConfig("orbit", (0.1, 0.32), camera_height_m=(0.4, 1.7)),
    MotionConfig("drive", (0.15, 0.5), camera_height_m=(0.25, 1.3)),
)
ORDERS = ((0, 1, 2, 3), (0, 2, 1, 3))  # drive: one target between the conditions, one beyond
CONDITION, TARGET = (0, 1), (2, 3)


def definition_hash() -> str:
    """Identity of the definition."""
    return config_hash(CONFIG, RENDERER, MOTIONS, ORDERS, SCENES, SIZE, FIRST_SEED)


def frozen_scene(number: int) -> RenderedScene:
    """Scene 0 <= number < SCENES: four views, conditions first. Higher numbers are like them, but not of the set."""
    kind = number % 2
    scene = render_scene(FIRST_SEED + number, 4, *SIZE, dataclasses.replace(CONFIG, motion=MOTIONS[kind]))
    order = ORDERS[kind]
    return RenderedScene(
        scene.seed, [scene.rgb[i] for i in order], [scene.depth[i] for i in order], [scene.cameras[i] for i in order]
    )


def frozen_arrays(scenes: int = SCENES) -> SceneArrays:
    """The first scenes of the set as arrays."""
    return stack([frozen_scene(i) for i in range(scenes)])


def validation_arrays(scenes: int) -> SceneArrays:
    """Scenes as those of the set, for choices while training: the set itself stays unseen until a model is done."""
    return stack([frozen_scene(SCENES + i) for i in range(scenes)])


def nearest_condition(arrays: SceneArrays) -> NDArray[np.int64]:
    """For each target the condition view with the least |dc| / s + angle / 30 deg, (S, targets).

    s is the distance of the two condition centres.
    """
    poses = arrays.world_from_cam
    spread = np.linalg.norm(poses[:, 0, :3, 3] - poses[:, 1, :3, 3], axis=-1)[:, None, None]
    cond, target = poses[:, list(CONDITION)][:, None], poses[:, list(TARGET)][:, :, None]
    distance = np.linalg.norm(cond[..., :3, 3] - target[..., :3, 3], axis=-1)
    trace = np.einsum("stcij,stcij->stc", np.broadcast_to(cond[..., :3, :3], (*distance.shape, 3, 3)),
                      np.broadcast_to(target[..., :3, :3], (*distance.shape, 3, 3)))  # fmt: skip
    angle = np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))
    return np.argmin(distance / np.maximum(spread, 1e-9) + angle / 30, axis=-1)
