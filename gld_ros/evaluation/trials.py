"""The network's own pictures of many scenes at a time: a number of updates, with or without a geometric guess, samples.

Beside the engine's pictures these show what sampling steps and the guess are worth. Only the network's part is run, in
batches of scenes, so that a whole test set takes minutes on a CPU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gld_ros.evaluation.predictors import Prediction
from gld_ros.evaluation.trajectory import trajectory_errors
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.plane_sweep import sample
from gld_ros.model.depth_head import DepthOutput
from gld_ros.model.encoder import grid_of
from gld_ros.model.gld_model import GldModel
from gld_ros.model.known_depth import KnownDepth, join_depths
from gld_ros.model.rays import cameras_from_rays
from gld_ros.synthesis.features import depth_on
from gld_ros.synthesis.gld import GldRequest, decode_depth, generate, in_network_units
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.network_inputs import (
    best_size,
    geometric_guess,
    network_camera,
    network_inputs,
    same_pose_positions,
    spread_to,
    with_guess,
)
from gld_ros.synthesis.plan import MAX_CONDITIONS
from gld_ros.synthesis.types import PosedView, SynthesizedView

FEW, MANY = 1, 4  # updates
BATCH_TOKENS = 16384  # of all views of all scenes of a run: bounds memory


@dataclass(frozen=True)
class Trial:
    """One way to run the network. Without ``warp`` it sees condition pictures and cameras alone: plain GLD."""

    updates: int
    warp: bool = True
    samples: int = 1

    @property
    def name(self) -> str:
        """The predictor's name."""
        return f"{'generated' if self.warp else 'plain'}@{self.updates}"


@dataclass(frozen=True, eq=False)
class SceneTask:
    """One scene as the network reads it, and the views its pictures are wanted for."""

    request: GldRequest  # one scene
    network: list[Camera]  # targets as the network makes them
    targets: list[SynthesizedView]  # of the classical engine; shown outside the network's field
    real: GldRequest  # all views as they are: pictures (1, V, 3, H, W) and, for models that read it, depth


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the network made of one scene: a picture and raw depth per target, more samples, and all its cameras."""

    predictions: list[Prediction]
    samples: list[list[NDArray[np.uint8]]]  # per target, (H, W, 3) each, the first is the prediction's
    cameras: dict[str, float]  # trajectory errors


def trials_of(model: GldModel, samples: int) -> tuple[Trial, ...]:
    """The trials of a model; ``samples`` of the one with many updates, 1 for no spread."""
    guided = (Trial(FEW), Trial(MANY, samples=samples))
    return (*guided, Trial(FEW, warp=False), Trial(MANY, warp=False)) if model.config.level1.warp_channels else guided


def scene_task(
    engine: NetworkEngine,
    views: Sequence[PosedView],
    targets: Sequence[SynthesizedView],
    real: Sequence[PosedView],
    preset: str,
) -> SceneTask:
    """What ``engine`` gives its network for one scene.

    ``targets``: the classical engine's views from ``views``, whose depth is still in its cache; ``real``: conditions
    and targets with their pictures and depth images.
    """
    config = engine.model.config
    chosen, cameras = list(views[:MAX_CONDITIONS]), [t.camera for t in targets]
    inputs = network_inputs(chosen, cameras, best_size(config.trained_sizes, cameras[0]))
    request = GldRequest(inputs.cond_rgb, inputs.world_from_cam, inputs.K)
    if config.level1.warp_channels:
        depths = engine.geometry.view_depths(views, engine.presets[preset].geometry)[:MAX_CONDITIONS]
        request = with_guess(request, geometric_guess(inputs, depths, targets), config)
    size = (inputs.targets[0].width, inputs.targets[0].height)
    rgb = network_inputs(real, [], size).cond_rgb
    known = _known_depth(real, size) if config.encoder.depth_cells else None
    truth = GldRequest(rgb, inputs.world_from_cam, inputs.K, cond_depth=known)
    return SceneTask(request, inputs.targets, list(targets), truth)


def run_trial(
    engine: NetworkEngine,
    tasks: Sequence[SceneTask],
    trial: Trial,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Drawn]:
    """Draw all tasks; sample n uses seed + n. ``progress`` is told what is being done."""
    sampler = dataclasses.replace(engine.model.config.sampler, points=trial.updates + 1)
    drawn: list[Drawn] = []
    for batch in _batches(engine.model, tasks):
        requests = [task.request if trial.warp else _plain(task.request) for task in batch]
        whole = dataclasses.replace(joined(requests), level1=sampler, cascade=sampler)
        progress(f"{trial.name}, first sample")
        first = generate(engine.model, dataclasses.replace(whole, seed=seed))
        assert first.rgb is not None
        assert first.depth is not None
        scenes = [_drawn(t, first.rgb[b], first.depth, b) for b, t in enumerate(batch)]
        for n in range(1, trial.samples):
            progress(f"{trial.name}, sample {n + 1} of {trial.samples}")
            more = dataclasses.replace(whole, seed=seed + n, depth=False, decode_conditions=False)
            output = generate(engine.model, more)
            assert output.rgb is not None
            for task, rgb, scene in zip(batch, output.rgb, scenes, strict=True):
                for known, prediction in zip(scene.samples, _on_targets(task, rgb, None), strict=True):
                    known.append(prediction.rgb)
        drawn += scenes
    return drawn


@torch.no_grad()
def run_oracle(engine: NetworkEngine, tasks: Sequence[SceneTask]) -> list[Drawn]:
    """The real pictures of all views encoded together and decoded again: what perfect features would show.

    Models that read depth get the real depth of all views too, as the features they are trained to make.
    """
    model = engine.model
    drawn: list[Drawn] = []
    for batch in _batches(model, tasks):
        request, scale = in_network_units(joined([task.real for task in batch]))
        grid = grid_of(request.cond_rgb, model.config.encoder.patch)
        rgb = request.cond_rgb.to(model.device, next(model.encoder.parameters()).dtype)
        cameras = model.encoder_cameras(request.world_from_cam, request.K, scale)
        raw = model.encoder(rgb, depth=depth_on(request.cond_depth, model.device), cameras=cameras)
        levels = [level[:, :, 1:].float() for level in raw]
        picture = model.decode_rgb(levels, grid)
        output = decode_depth(model, levels, grid, rays=True)
        output = dataclasses.replace(output, depth=output.depth / scale.view(-1, 1, 1, 1).to(model.device))
        drawn += [_drawn(t, picture[b], output, b) for b, t in enumerate(batch)]
    return drawn


def joined(requests: Sequence[GldRequest]) -> GldRequest:
    """One batch of requests of equal shapes; settings are those of the first."""
    parts: dict[str, Any] = {}
    for field in dataclasses.fields(GldRequest):
        values = [getattr(r, field.name) for r in requests]
        if isinstance(values[0], Tensor):
            parts[field.name] = torch.cat(values)
        elif isinstance(values[0], KnownDepth):
            parts[field.name] = join_depths(values, dim=0)
    return dataclasses.replace(requests[0], **parts)


def _plain(request: GldRequest) -> GldRequest:
    return GldRequest(request.cond_rgb, request.world_from_cam, request.K)


def _batches(model: GldModel, tasks: Sequence[SceneTask]) -> Iterator[Sequence[SceneTask]]:
    """As many tasks at a time as BATCH_TOKENS allows; all have the same shapes."""
    if not tasks:
        return
    height, width = tasks[0].request.cond_rgb.shape[-2:]
    tokens = tasks[0].request.K.shape[1] * height * width // model.config.encoder.patch**2
    size = max(1, BATCH_TOKENS // tokens)
    for first in range(0, len(tasks), size):
        yield tasks[first : first + size]


def _known_depth(views: Sequence[PosedView], size: tuple[int, int]) -> KnownDepth:
    """Depth images at the network's size (W, H), (1, V, H, W); confidence 0 where there is none."""
    maps = []
    for view in views:
        crop = network_camera(view.camera, size)
        if view.depth is None:
            maps.append(torch.zeros(2, crop.height, crop.width))
            continue
        x, y = same_pose_positions(crop, view.camera)
        known = np.isfinite(view.depth)
        both = np.stack([np.where(known, view.depth, 1.0), known]).astype(np.float32)
        maps.append(sample(torch.from_numpy(both), x[None], y[None], "nearest")[:, 0])
    depth, confidence = torch.stack(maps, dim=1)
    return KnownDepth(depth[None], confidence[None])


def _drawn(task: SceneTask, rgb: Tensor, depth: DepthOutput, index: int) -> Drawn:
    """Scene ``index`` of a batch; rgb (V, 3, h, w)."""
    predictions = _on_targets(task, rgb, depth.depth[index])
    return Drawn(predictions, [[p.rgb] for p in predictions], _camera_errors(task, depth, index))


def _on_targets(task: SceneTask, rgb: Tensor, depth: Tensor | None) -> list[Prediction]:
    """The network's maps of one scene, targets last, (…, 3, h, w) and (…, h, w), on the pixels that were asked for."""
    predictions = []
    count = len(task.targets)
    for k, (target, network) in enumerate(zip(task.targets, task.network, strict=True)):
        maps = [rgb[k - count].float().clamp(0, 1).cpu()]
        if depth is not None:
            maps.append(depth[k - count].float().cpu()[None])
        spread, field = spread_to(target.camera, network, torch.cat(maps))
        picture = (spread[:3].transpose(1, 2, 0) * 255).round().astype(np.uint8)
        z = np.where(field, spread[3], np.nan).astype(np.float32) if depth is not None else None
        predictions.append(Prediction(np.where(field[..., None], picture, target.rgb), z))
    return predictions


def _camera_errors(task: SceneTask, output: DepthOutput, index: int) -> dict[str, float]:
    """Errors of the cameras that the ray head sees in the features of scene ``index``, in world units."""
    assert output.ray is not None
    assert output.ray_conf is not None
    size = (task.network[0].height, task.network[0].width)
    found = cameras_from_rays(output.ray[index].float(), output.ray_conf[index].float(), size)[0]
    return trajectory_errors(found.cpu().numpy(), task.request.world_from_cam[0].numpy())
