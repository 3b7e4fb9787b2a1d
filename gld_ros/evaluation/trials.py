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
from gld_ros.model.depth_head import DepthOutput
from gld_ros.model.encoder import grid_of
from gld_ros.model.gld_model import GldModel
from gld_ros.model.known_depth import KnownDepth
from gld_ros.model.rays import cameras_from_rays
from gld_ros.synthesis.gld import GldRequest, generate
from gld_ros.synthesis.network import MAX_CONDITIONS, NetworkEngine
from gld_ros.synthesis.network_inputs import best_size, geometric_guess, network_inputs, spread_to, with_guess
from gld_ros.synthesis.types import PosedView, Request

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
    """One scene as the network reads it, and the cameras its pictures are wanted for."""

    request: GldRequest  # one scene
    network: list[Camera]  # targets as the network makes them
    targets: list[Camera]
    truths: list[NDArray[np.uint8]]  # (H, W, 3) per target
    around: list[NDArray[np.uint8]]  # (H, W, 3) per target: shown outside the network's field

    @property
    def conditions(self) -> int:
        """Number of condition views."""
        return int(self.request.cond_rgb.shape[1])


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


def network_request(
    engine: NetworkEngine, views: Sequence[PosedView], targets: Sequence[Camera], preset: str
) -> tuple[GldRequest, list[Camera]]:
    """What ``engine`` gives its network for one scene, and the targets as the network makes them.

    Depth of the views and what geometry shows of the targets is the engine's, and stays in its cache.
    """
    config = engine.model.config
    chosen = list(views[:MAX_CONDITIONS])
    inputs = network_inputs(chosen, targets, best_size(config.trained_sizes, targets[0]))
    request = GldRequest(inputs.cond_rgb, inputs.world_from_cam, inputs.K)
    if config.level1.warp_channels:
        seen = engine.geometry.synthesize(views, Request(list(targets), preset=preset, clouds=False)).views
        depths = engine.geometry.view_depths(views, preset)[:MAX_CONDITIONS]
        request = with_guess(request, geometric_guess(inputs, depths, seen), config)
    return request, inputs.targets


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
        made: list[list[list[Prediction]]] = []
        cameras: list[dict[str, float]] = []
        for n in range(trial.samples):
            progress(f"{trial.name} sample {n + 1} of {trial.samples}")
            first = n == 0
            output = generate(engine.model, dataclasses.replace(whole, seed=seed + n, rays=first, depth=first))
            assert output.rgb is not None
            depth = None if output.depth is None else output.depth.depth
            made.append(
                [_on_targets(t, output.rgb[b], depth[b] if depth is not None else None) for b, t in enumerate(batch)]
            )
            if output.depth is not None:
                cameras = [_camera_errors(t, output.depth, b) for b, t in enumerate(batch)]
        for b, errors in enumerate(cameras):
            samples = [[run[b][k].rgb for run in made] for k in range(len(batch[b].targets))]
            drawn.append(Drawn(made[0][b], samples, errors))
    return drawn


@torch.no_grad()
def run_oracle(engine: NetworkEngine, tasks: Sequence[SceneTask]) -> list[Drawn]:
    """The real pictures of all views encoded together and decoded again: what perfect features would show."""
    model, drawn = engine.model, []
    dtype = next(model.encoder.parameters()).dtype
    for batch in _batches(model, tasks):
        rgb = torch.cat([_with_truths(task) for task in batch]).to(engine.device, dtype)
        grid = grid_of(rgb, model.config.encoder.patch)
        levels = [level[:, :, 1:] for level in model.encoder(rgb)]
        picture = model.decode_rgb(levels, grid)
        output = model.depth_head(model.layer_normed(levels), grid)
        for b, task in enumerate(batch):
            predictions = _on_targets(task, picture[b], output.depth[b])
            drawn.append(Drawn(predictions, [[p.rgb] for p in predictions], _camera_errors(task, output, b)))
    return drawn


def joined(requests: Sequence[GldRequest]) -> GldRequest:
    """One batch of requests of equal shapes; settings are those of the first."""
    parts: dict[str, Any] = {}
    for field in dataclasses.fields(GldRequest):
        values = [getattr(r, field.name) for r in requests]
        if isinstance(values[0], Tensor):
            parts[field.name] = torch.cat(values)
        elif isinstance(values[0], KnownDepth):
            parts[field.name] = KnownDepth(
                torch.cat([v.depth for v in values]), torch.cat([v.confidence for v in values])
            )
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


def _with_truths(task: SceneTask) -> Tensor:
    """Condition and target pictures as the network would read them, (1, V, 3, H, W)."""
    views = [PosedView(str(i), c, rgb) for i, (c, rgb) in enumerate(zip(task.targets, task.truths, strict=True))]
    size = (task.network[0].width, task.network[0].height)
    return torch.cat([task.request.cond_rgb, network_inputs(views, [], size).cond_rgb], dim=1)


def _on_targets(task: SceneTask, rgb: Tensor, depth: Tensor | None) -> list[Prediction]:
    """The network's maps of one scene, (V, 3, h, w) and (V, h, w), on the pixels that were asked for."""
    predictions = []
    for k, (target, network, around) in enumerate(zip(task.targets, task.network, task.around, strict=True)):
        view = task.conditions + k
        maps = [rgb[view].float().clamp(0, 1).cpu()]
        if depth is not None:
            maps.append(depth[view : view + 1].float().cpu())
        spread, field = spread_to(target, network, torch.cat(maps))
        picture = (spread[:3].transpose(1, 2, 0) * 255).round().astype(np.uint8)
        z = np.where(field, spread[3], np.nan).astype(np.float32) if depth is not None else None
        predictions.append(Prediction(np.where(field[..., None], picture, around), z))
    return predictions


def _camera_errors(task: SceneTask, output: DepthOutput, index: int) -> dict[str, float]:
    """Errors of the cameras that the ray head sees in the features of scene ``index``, in world units."""
    assert output.ray is not None
    assert output.ray_conf is not None
    size = (task.network[0].height, task.network[0].width)
    found = cameras_from_rays(output.ray[index].float(), output.ray_conf[index].float(), size)[0]
    return trajectory_errors(found.cpu().numpy(), task.request.world_from_cam[0].numpy())
