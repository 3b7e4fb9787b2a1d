"""Batches of posed views. A batch is a function of (seed, stage, step): resuming needs no reader state."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gld_ros.data.rooms import frozen
from gld_ros.data.rooms.render import RenderConfig
from gld_ros.data.rooms.shards import RoomShards, SceneArrays, write_shards
from gld_ros.errors import GldError
from gld_ros.geometry.camera import scale_intrinsics
from gld_ros.training.config import DataConfig, TrainConfig


@dataclass(frozen=True, eq=False)
class Batch:
    """Views of some scenes; the first ``cond_num`` are conditions where that matters."""

    rgb: Tensor  # (B, V, 3, H, W) in [0, 1]
    depth: Tensor  # (B, V, H, W) metres
    K: Tensor  # (B, V, 3, 3) float64
    world_from_cam: Tensor  # (B, V, 4, 4) float64
    cond_num: int = 1

    def views(self, start: int, stop: int | None = None) -> Batch:
        """Some of the views."""
        return Batch(self.rgb[:, start:stop], self.depth[:, start:stop], self.K[:, start:stop],
                     self.world_from_cam[:, start:stop])  # fmt: skip

    def to(self, device: torch.device) -> Batch:
        """On another device."""
        return Batch(*(x.to(device) for x in (self.rgb, self.depth, self.K, self.world_from_cam)), self.cond_num)


def generator(*keys: int | str) -> np.random.Generator:
    """A random stream named by its keys."""
    return np.random.default_rng([zlib.crc32(k.encode()) if isinstance(k, str) else k for k in keys])


def open_rooms(config: TrainConfig) -> RoomShards:
    """The training rooms, rendered first where they are missing. Raises GldError for seeds of the test rooms."""
    data = config.data
    if data.seed + data.scenes > frozen.FIRST_SEED:
        raise GldError(
            f"data.seed {data.seed} with {data.scenes} scenes: must lie below {frozen.FIRST_SEED}, the rooms "
            "beyond are for tests"
        )
    rendering = RenderConfig(photos=data.photos, furniture=data.furniture)
    write_shards(Path(data.folder), data.seed, data.scenes, data.views, *config.size, rendering, threads=1)
    return RoomShards(Path(data.folder), data.scenes)


def draw_encoder(rooms: RoomShards, config: TrainConfig, step: int, rank: int = 0) -> Batch:
    """Views for the encoder stage: any of a scene, so that overlap varies."""
    rng = generator(config.seed, "encoder", step, rank)
    scenes = rng.integers(0, len(rooms), config.encoder.batch)
    count = config.encoder_loss.views
    views = np.stack([rng.permutation(config.data.views)[:count] for _ in scenes])
    return augment(cropped(to_batch(rooms.take(scenes, views)), _size(config, rng)), config.data, rng)


def draw_diffusion(rooms: RoomShards, config: TrainConfig, stage: str, step: int, rank: int = 0) -> Batch:
    """Conditions and targets; near targets in the first share of the steps."""
    rng = generator(config.seed, stage, step, rank)
    settings, loss = config.stage(stage), config.diffusion
    scenes = rng.integers(0, len(rooms), settings.batch)
    conditions = int(rng.integers(loss.conditions[0], loss.conditions[1] + 1))
    every = config.data.views - conditions
    fewest, most = loss.targets or (every, every)
    targets = int(rng.integers(fewest, most + 1))
    views = np.stack([rng.permutation(config.data.views) for _ in scenes])
    if step < loss.nearest_first * settings.steps:
        centres = rooms.take(scenes, views).world_from_cam[..., :3, 3]
        views = np.stack([_near(v, c, conditions) for v, c in zip(views, centres, strict=True)])
    batch = cropped(to_batch(rooms.take(scenes, views[:, : conditions + targets])), _size(config, rng))
    return replace(augment(batch, config.data, rng), cond_num=conditions)


def _near(views: NDArray[np.int64], centres: NDArray, conditions: int) -> NDArray[np.int64]:
    """Keep the first views as conditions and order the others by distance to the nearest of them."""
    gaps = np.linalg.norm(centres[conditions:, None] - centres[None, :conditions], axis=-1).min(1)
    return np.concatenate([views[:conditions], views[conditions:][np.argsort(gaps)]])


def _size(config: TrainConfig, rng: np.random.Generator) -> tuple[int, int]:
    """One of the sizes (W, H) the model is to know, which rooms of ``config.size`` can be cropped to."""
    sizes = [s for s in config.model.trained_sizes if s[0] <= config.size[0] and s[1] <= config.size[1]]
    return sizes[int(rng.integers(len(sizes)))]


def cropped(batch: Batch, size: tuple[int, int]) -> Batch:
    """The middle (W, H) of all views."""
    height, width = batch.rgb.shape[-2:]
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    rows, columns = slice(top, top + size[1]), slice(left, left + size[0])
    K = batch.K.clone()
    K[..., 0, 2] -= left
    K[..., 1, 2] -= top
    return replace(batch, rgb=batch.rgb[..., rows, columns], depth=batch.depth[..., rows, columns], K=K)


def to_batch(arrays: SceneArrays) -> Batch:
    """Arrays as tensors, colours in [0, 1]."""
    rgb = torch.from_numpy(np.ascontiguousarray(arrays.rgb)).permute(0, 1, 4, 2, 3).float() / 255
    depth = torch.from_numpy(np.ascontiguousarray(arrays.depth)).float()
    return Batch(rgb, depth, torch.from_numpy(arrays.K), torch.from_numpy(arrays.world_from_cam))


def augment(batch: Batch, data: DataConfig, rng: np.random.Generator) -> Batch:
    """Change colours alike in all views of a scene; half of the scenes also swap channels."""
    rgb = batch.rgb.clone()
    for scene in range(len(rgb)):
        gain = rng.uniform(1 - data.colour_jitter, 1 + data.colour_jitter, 3) * rng.uniform(
            1 - 1.25 * data.colour_jitter, 1 + 1.25 * data.colour_jitter
        )
        order = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
        rgb[scene] = rgb[scene][:, torch.from_numpy(order)] * torch.from_numpy(gain).float().view(3, 1, 1)
    return replace(batch, rgb=rgb.clamp(0, 1))


def validation_batch(config: TrainConfig) -> Batch:
    """Rooms like those of the frozen test set at the training size: two conditions, two targets."""
    arrays = frozen.validation_arrays(config.data.validation_scenes)
    return replace(to_batch(resized(arrays, *config.size)), cond_num=2)


def resized(arrays: SceneArrays, width: int, height: int) -> SceneArrays:
    """Area-averaged pictures, nearest depth, and intrinsics of another size."""
    h, w = arrays.rgb.shape[2:4]
    if (w, h) == (width, height):
        return arrays
    scenes, views = arrays.rgb.shape[:2]
    flat = arrays.rgb.reshape(-1, h, w, 3)
    rgb = np.stack([cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in flat])
    depth = np.stack(
        [cv2.resize(d.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
         for d in arrays.depth.reshape(-1, h, w)]
    )  # fmt: skip
    K = np.stack([scale_intrinsics(k, width / w, height / h) for k in arrays.K.reshape(-1, 3, 3)])
    return SceneArrays(
        rgb.reshape(scenes, views, height, width, 3),
        depth.reshape(scenes, views, height, width).astype(np.float16),
        K.reshape(scenes, views, 3, 3),
        arrays.world_from_cam,
    )
