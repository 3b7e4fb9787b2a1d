"""One request through the GLD network, top to bottom: encode, sample level 1, cascade, propagate, decode.

Works on tensors; crops, colours of observed pixels and metric scale are the engine's business.
GLD specification section 0.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gld_ros.errors import GldError, Status
from gld_ros.model.camera_map import RelativeCameras, relative_cameras
from gld_ros.model.config import SamplerConfig
from gld_ros.model.depth_head import DepthOutput
from gld_ros.model.dit import DiTInputs
from gld_ros.model.encoder import grid_of
from gld_ros.model.gld_model import GldModel, Latents, Stage
from gld_ros.model.precision import full_fp32
from gld_ros.model.sampler import sample

logger = logging.getLogger(__name__)
GldProgress = Callable[[str, int, int], None]  # stage, update i of n begins; may raise to stop


@dataclass(frozen=True, eq=False)
class GldRequest:
    """A batch of B scenes of V views each, condition views first, then targets (at least one)."""

    cond_rgb: Tensor  # (B, C, 3, H, W) in [0, 1]
    world_from_cam: Tensor  # (B, V, 4, 4) OpenCV camera-to-world; float64 for maps with large coordinates
    K: Tensor  # (B, V, 3, 3) pixels of H x W, integer pixel centres
    level1: SamplerConfig | None = None  # None: the model's own
    cascade: SamplerConfig | None = None
    seed: int = 0
    noise: Latents | None = None  # starting noise of all views instead of a drawn one
    warp_rgb: Tensor | None = None  # (B, V, 3, H, W) a geometric guess of each view, for models that use one
    warp_coverage: Tensor | None = None  # (B, V, H, W) where the guess is known, in [0, 1]
    rgb: bool = True
    depth: bool = True
    rays: bool = True


@dataclass(frozen=True, eq=False)
class GldOutput:
    """What the network makes of all V views, condition views included."""

    rgb: Tensor | None  # (B, V, 3, H, W), not clipped
    depth: DepthOutput | None  # in the network's own scale per scene
    latents: Latents  # generated, normalised
    levels: list[Tensor]  # raw levels 0..3, (B, V, N, D)
    conditions: Latents
    cls: Tensor  # (B, D) raw class vector used in propagation
    cameras: RelativeCameras
    notes: tuple[str, ...]  # degraded modes, said aloud


@torch.no_grad()
def generate(model: GldModel, request: GldRequest, progress: GldProgress | None = None) -> GldOutput:
    """Run one request.

    ``progress`` is called before every sampler update and may raise to cancel.
    Raises GldError on pictures or cameras that cannot be used, naming the limit.
    """
    notes = check(model, request)
    rgb = request.cond_rgb.to(model.device)
    grid = grid_of(rgb, model.config.encoder.patch)

    conditions = model.encode(rgb)
    cls = model.propagation_cls(rgb)
    cameras = relative_cameras(request.world_from_cam, request.K, model.config.camera)
    warp = None
    if request.warp_rgb is not None and model.config.level1.warp_channels:
        warp = model.encode(request.warp_rgb.to(model.device))

    def inputs(stage: Stage, source: Tensor | None = None) -> DiTInputs:
        coverage = None
        if request.warp_coverage is not None:
            patch = model.config.encoder.patch
            coverage = torch.nn.functional.avg_pool2d(request.warp_coverage.to(model.device).float(), patch)
        return model.dit_inputs(stage, conditions, cameras, source, warp, coverage)

    def run(stage: Stage, stage_inputs: DiTInputs, noise: Tensor, sampler: SamplerConfig) -> Tensor:
        report = None if progress is None else lambda step, steps, _: progress(stage, step, steps)
        with model.diffusion(stage) as dit:
            return sample(dit, stage_inputs, noise, sampler, report)

    noise = request.noise or draw_noise(model, request, grid)
    first, second = request.level1 or model.config.sampler, request.cascade or model.config.sampler
    if model.config.joint:
        both = run("level1", inputs("level1"), model.stage_latents(noise, "level1").to(model.device), first)
        level0, level1 = both.chunk(2, dim=2)
    else:
        level1 = run("level1", inputs("level1"), noise.level1.to(model.device), first)
        level0 = run("cascade", inputs("cascade", source=level1), noise.level0.to(model.device), second)

    latents = Latents(level0, level1)
    levels = model.decoder_levels(latents, cls)
    picture = model.decode_rgb(levels, grid) if request.rgb else None
    depth = None
    if request.depth:
        with full_fp32(model.device.type):
            depth = model.depth_head(model.layer_normed(levels), grid, rays=request.rays)
    return GldOutput(picture, depth, latents, levels, conditions, cls, cameras, notes)


def draw_noise(model: GldModel, request: GldRequest, grid: tuple[int, int]) -> Latents:
    """Starting noise from the seed; drawn on the CPU so that every device gets the same numbers."""
    generator = torch.Generator().manual_seed(request.seed)
    shape = (*request.K.shape[:2], model.config.encoder.channels, *grid)
    level1, level0 = (torch.randn(shape, generator=generator).to(model.device) for _ in range(2))
    return Latents(level0, level1)


def check(model: GldModel, request: GldRequest) -> tuple[str, ...]:
    """Refuse what cannot run and name what the model was not trained for."""
    scenes, conditions = request.cond_rgb.shape[:2]
    views = request.world_from_cam.shape[1]
    if conditions == 0:
        raise GldError("no condition views: at least one posed picture is needed", Status.NO_KEYFRAMES)
    if views <= conditions:
        raise GldError(f"{views} poses for {conditions} condition views: at least one target pose must follow them")
    if request.world_from_cam.shape != (scenes, views, 4, 4) or request.K.shape != (scenes, views, 3, 3):
        raise GldError(
            f"poses {tuple(request.world_from_cam.shape)} and intrinsics {tuple(request.K.shape)} "
            f"must be ({scenes}, {views}, 4, 4) and ({scenes}, {views}, 3, 3)"
        )
    for name, guess in (("warp_rgb", request.warp_rgb), ("warp_coverage", request.warp_coverage)):
        if guess is not None and guess.shape[:2] != (scenes, views):
            raise GldError(f"{name} is {tuple(guess.shape)}, must begin with ({scenes}, {views}): one per view")
    notes = []
    if model.config.level1.warp_channels and (request.warp_rgb is None or request.warp_coverage is None):
        notes.append("no geometric guess was given, which this model was trained with: quality may drop")
    if request.warp_rgb is not None and not model.config.level1.warp_channels:
        notes.append("a geometric guess was given, which this model does not use")
    if views > model.config.trained_views:
        notes.append(f"{views} views, the model was trained with {model.config.trained_views}: quality may drop")
    height, width = request.cond_rgb.shape[-2:]
    if (width, height) not in model.config.trained_sizes:
        sizes = ", ".join(f"{w}x{h}" for w, h in model.config.trained_sizes)
        notes.append(f"pictures are {width}x{height}, the model was trained with {sizes}: quality may drop")
    if not relative_cameras(request.world_from_cam, request.K, model.config.camera).scale_valid.all():
        notes.append("all camera centres coincide: the scale of depth is undefined")
    for note in notes:
        _warn_once(note)
    return tuple(notes)


@functools.cache
def _warn_once(note: str) -> None:
    """A stream of requests says the same thing once; every result carries it in its notes."""
    logger.warning(note)
