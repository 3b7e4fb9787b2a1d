"""One request through the GLD network, top to bottom: encode, sample level 1, cascade, propagate, decode.

Works on tensors; crops, colours of observed pixels and metric scale are the engine's business.
GLD specification section 0.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gld_ros.errors import GldError, Status
from gld_ros.model.camera_map import RelativeCameras, relative_cameras
from gld_ros.model.config import SamplerConfig
from gld_ros.model.depth_head import DepthOutput
from gld_ros.model.encoder import grid_of
from gld_ros.model.gld_model import GldModel, Latents, Stage, join_latents
from gld_ros.model.known_depth import KnownDepth, scene_scale
from gld_ros.model.precision import full_fp32, upload
from gld_ros.model.sampler import sample, sample_levels
from gld_ros.synthesis.features import (
    FeatureCache,
    ViewFeatures,
    depth_of_views,
    depth_on,
    encode_views,
    equal_depth,
)

logger = logging.getLogger(__name__)
GldProgress = Callable[[str, int, int], None]  # stage, update i of n begins; may raise to stop
GldHurry = Callable[[str, int, int], bool]  # stage, update i of n: must it be the last one?


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
    cond_depth: KnownDepth | None = None  # (B, C, H, W) in the poses' unit, for models whose encoder reads depth
    warp_depth: KnownDepth | None = None  # (B, V, H, W) of the geometric guess
    cond_keys: tuple[str, ...] = ()  # names of the C condition views in a ``FeatureCache``; one scene only
    start: Latents | None = None  # (B, V - C, D, h, w) where targets start with samplers that start below time 1;
    # None: at the geometric guess
    samples: int = 1  # pictures of each scene, drawn with seed, seed + 1, …; the batch of the output is samples x B
    rgb: bool = True
    depth: bool = True
    rays: bool = True
    decode_conditions: bool = True  # False: pictures and depth of the targets only


@dataclass(frozen=True, eq=False)
class GldOutput:
    """What the network makes; V views, condition views included, unless they were not to be decoded."""

    rgb: Tensor | None  # (B, V or T, 3, H, W), not clipped
    depth: DepthOutput | None  # (B, V or T, …) in the network's own scale per scene, or as the depth it was given
    latents: Latents  # generated, normalised
    levels: list[Tensor]  # raw levels 0..3, (B, V, N, D)
    conditions: Latents
    cls: Tensor  # (B, D) raw class vector used in propagation
    cameras: RelativeCameras
    updates: tuple[int, int]  # sampler updates run: level 1, cascade
    seconds: dict[str, float]  # encode, level1, cascade, decode
    notes: tuple[str, ...]  # degraded modes, said aloud


@torch.no_grad()
def generate(
    model: GldModel,
    request: GldRequest,
    progress: GldProgress | None = None,
    hurry: GldHurry | None = None,
    cache: FeatureCache | None = None,
) -> GldOutput:
    """Run one request.

    ``progress`` is called before every sampler update and may raise to cancel; ``hurry`` may make an update the last
    one of its stage; ``cache`` keeps features of condition views that have keys.
    Raises GldError on pictures or cameras that cannot be used, naming the limit.
    """
    notes = check(model, request)
    clock = StageClock(model.device)
    request, scale = in_network_units(request)
    grid = grid_of(request.cond_rgb, model.config.encoder.patch)
    count = request.cond_rgb.shape[1]
    placed = model.encoder_cameras(request.world_from_cam, request.K, scale)
    of_conditions = None if placed is None else placed.views(slice(count))
    if cache is not None and request.cond_keys:
        features = cache.features(model, request.cond_keys, request.cond_rgb, request.cond_depth, of_conditions)
    else:
        features = encode_views(model, request.cond_rgb, request.cond_depth, cameras=of_conditions)
    warp = None
    if request.warp_rgb is not None and (model.config.level1.warp_channels or _starts_warm(model, request)):
        warp = _encode_guess(model, request, features, placed)
    coverage = None
    if request.warp_coverage is not None:
        coverage = avg_pool2d(upload(request.warp_coverage, model.device).float(), model.config.encoder.patch)
    start = _start(features.latents, request.start, warp) if _starts_warm(model, request) else None

    def tiled(x: Tensor) -> Tensor:
        return x if request.samples == 1 else x.repeat(request.samples, *(1,) * (x.dim() - 1))

    def tiled_latents(latents: Latents | None) -> Latents | None:
        return None if latents is None else Latents(tiled(latents.level0), tiled(latents.level1))

    conditions, warp, start = (tiled_latents(x) for x in (features.latents, warp, start))
    assert conditions is not None
    cls, coverage = tiled(features.cls), None if coverage is None else tiled(coverage)
    cameras = relative_cameras(tiled(request.world_from_cam), tiled(request.K), model.config.camera)
    noise = request.noise or draw_noise(model, request, grid)
    updates: dict[Stage, int] = {"level1": 0, "cascade": 0}
    clock.done("encode")

    samplers: dict[Stage, SamplerConfig] = {
        "level1": request.level1 or model.config.sampler,
        "cascade": request.cascade or model.config.sampler,
    }

    def run(stage: Stage, source: Tensor | None) -> Tensor:
        def on_step(step: int, steps: int, _: Tensor) -> None:
            if progress is not None:
                progress(stage, step, steps)
            updates[stage] = step + 1

        inputs = model.dit_inputs(stage, conditions, cameras, source, warp, coverage)
        drawn = model.stage_latents(noise, stage).to(model.device)
        guess = None if start is None else model.stage_latents(start, stage)
        asked = None if hurry is None else functools.partial(hurry, stage)
        with model.diffusion(stage) as dit:
            made = sample(dit, inputs, drawn, samplers[stage], on_step, asked, guess)
        clock.done(stage)
        return made

    latents = sample_levels(model.config, run)
    placed = model.encoder_cameras(tiled(request.world_from_cam), tiled(request.K), tiled(scale))
    levels = model.decoder_levels(latents, cls, placed)
    shown = levels if request.decode_conditions else [level[:, count:] for level in levels]
    picture = model.decode_rgb(shown, grid) if request.rgb else None
    depth = decode_depth(model, shown, grid, request.rays) if request.depth else None
    if depth is not None:
        depth = replace(depth, depth=depth.depth / tiled(scale).view(-1, 1, 1, 1).to(model.device))
    clock.done("decode")
    ran = (updates["level1"], updates["cascade"])
    return GldOutput(picture, depth, latents, levels, conditions, cls, cameras, ran, clock.seconds, notes)


class StageClock:
    """Seconds of the stages that follow each other; waits for the device at their ends only."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._mark = time.perf_counter()

    def done(self, stage: str) -> None:
        """``stage`` ends here."""
        synchronise(self._device)
        now = time.perf_counter()
        self.seconds[stage] = now - self._mark
        self._mark = now


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_network_units(request: GldRequest) -> tuple[GldRequest, Tensor]:
    """The request with its known depth scaled as in training, and network units per unit of the poses, (B,)."""
    if request.cond_depth is None:
        return request, torch.ones(len(request.cond_rgb))
    scale = scene_scale(request.cond_depth.depth, request.cond_depth.confidence).cpu()
    warp_depth = None if request.warp_depth is None else request.warp_depth.scaled(scale)
    return replace(request, cond_depth=request.cond_depth.scaled(scale), warp_depth=warp_depth), scale


def decode_depth(model: GldModel, levels: list[Tensor], grid: tuple[int, int], rays: bool) -> DepthOutput:
    """Depth and, if asked for, rays of raw levels 0..3 of some views."""
    with full_fp32(model.device.type):
        output: DepthOutput = model.depth_head(model.layer_normed(levels), grid, rays=rays)
    return output


def _starts_warm(model: GldModel, request: GldRequest) -> bool:
    return any((s or model.config.sampler).start < 1 for s in (request.level1, request.cascade))


def _start(conditions: Latents, targets: Latents | None, warp: Latents | None) -> Latents:
    """Condition views start at what they are, targets at given latents or at the geometric guess."""
    count = conditions.level0.shape[1]
    if targets is None and warp is not None:
        targets = Latents(warp.level0[:, count:], warp.level1[:, count:])
    if targets is None:
        raise GldError("the sampler starts below time 1: latents to start from or a geometric guess must be given")
    return join_latents([conditions, targets])


def _encode_guess(
    model: GldModel, request: GldRequest, features: ViewFeatures, cameras: RelativeCameras | None
) -> Latents:
    """Latents of the geometric guess; condition views that guess themselves have been encoded already."""
    assert request.warp_rgb is not None
    count, depth = request.cond_rgb.shape[1], request.warp_depth
    same = torch.equal(request.warp_rgb[:, :count], request.cond_rgb) and equal_depth(
        depth_of_views(depth, slice(count)), request.cond_depth
    )
    first = count if same and model.config.encoder.encodes_views_alone else 0
    rgb, depth = upload(request.warp_rgb[:, first:], model.device), depth_of_views(depth, slice(first, None))
    cameras = None if cameras is None else cameras.views(slice(first, None))
    made = model.encode(rgb, depth_on(depth, model.device), cameras)
    return join_latents([features.latents, made]) if first else made


def draw_noise(model: GldModel, request: GldRequest, grid: tuple[int, int]) -> Latents:
    """Starting noise from the seed; drawn on the CPU so that every device gets the same numbers."""
    shape = (*request.K.shape[:2], model.config.encoder.channels, *grid)
    drawn = []
    for n in range(request.samples):
        generator = torch.Generator().manual_seed(request.seed + n)
        drawn.append([upload(torch.randn(shape, generator=generator), model.device) for _ in range(2)])
    level1, level0 = (torch.cat(parts) for parts in zip(*drawn, strict=True))
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
    if request.samples < 1:
        raise GldError(f"samples is {request.samples}, must be at least 1")
    if request.cond_keys and (scenes, conditions) != (1, len(request.cond_keys)):
        raise GldError(f"{len(request.cond_keys)} cond_keys for {scenes} scenes of {conditions} condition views")
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
