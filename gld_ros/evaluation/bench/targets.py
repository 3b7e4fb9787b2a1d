"""The targets of the comparison: frozen rooms as the network sees them, with their truth, holes and starting noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.data.scene import Scene
from gld_ros.evaluation.frozen_rooms import room_scenes
from gld_ros.evaluation.predictors import warp
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.config import ModelConfig
from gld_ros.model.gld_model import Latents
from gld_ros.model.preprocess import preprocess
from gld_ros.synthesis.classical import ClassicalEngine
from gld_ros.synthesis.network_inputs import NetworkInputs, best_size, network_inputs
from gld_ros.synthesis.types import Request, SynthesizedView

GEOMETRY_PRESET = "balanced"  # of the condition views' depth; the same for all rows, so that only the network differs
FIRST_NOISE_SEED = 20_000


@dataclass(frozen=True, eq=False)
class BenchScene:
    """One request, condition views first, and what it should show."""

    number: int
    inputs: NetworkInputs
    depths: list[ViewDepth]  # of the condition views, as the engine has them in its cache
    seen: list[SynthesizedView]  # the classical engine's pictures of the targets
    truth: NDArray[np.uint8]  # (T, H, W, 3) at the network's size
    holes: NDArray[np.bool_]  # (T, H, W) what no condition view shows, by their sensor depth

    @property
    def views(self) -> tuple[int, int]:
        """Condition views and targets."""
        return self.inputs.cond_rgb.shape[1], len(self.truth)

    @property
    def size(self) -> tuple[int, int]:
        """(W, H) of the network's pictures."""
        return self.truth.shape[2], self.truth.shape[1]


def bench_scenes(config: ModelConfig, geometry: ClassicalEngine, count: int) -> Iterator[BenchScene]:
    """The first ``count`` scenes of ``rooms/test`` as requests to a model.

    The condition views come with depth images, as from an RGB-D camera. Raises GldError when rooms cannot be rendered.
    """
    for number, scene in enumerate(room_scenes(count)):
        yield _bench_scene(number, scene, config, geometry)


def _bench_scene(number: int, scene: Scene, config: ModelConfig, geometry: ClassicalEngine) -> BenchScene:
    conditions, targets = scene.splits["test"]
    views = [scene.posed_view(i) for i in conditions]
    cameras = [scene.frames[i].camera for i in targets]
    size = best_size(config.trained_sizes, cameras[0])
    inputs = network_inputs(views, cameras, size)
    depths = geometry.view_depths(views, GEOMETRY_PRESET)
    seen = geometry.synthesize(views, Request(cameras, preset=GEOMETRY_PRESET, clouds=False)).views
    geometry.forget([v.key for v in views])
    sensor = [v.depth for v in views if v.depth is not None]
    holes = [warp(views, sensor, camera).holes() for camera in inputs.targets]
    pictures = [scene.frames[i].load_rgb() for i in targets]
    truth = [preprocess(rgb, camera.K, size)[0] for rgb, camera in zip(pictures, cameras, strict=True)]
    return BenchScene(number, inputs, depths, list(seen), np.stack(truth), np.stack(holes))


def starting_noise(scene: BenchScene, config: ModelConfig, sample: int = 0) -> Latents:
    """Noise of one scene: the same for every preset and mode."""
    generator = torch.Generator().manual_seed(FIRST_NOISE_SEED + 1000 * sample + scene.number)
    patch = config.encoder.patch
    width, height = scene.size
    shape = (1, sum(scene.views), config.encoder.channels, height // patch, width // patch)
    level1, level0 = (torch.randn(shape, generator=generator) for _ in range(2))
    return Latents(level0, level1)
