"""The learned engine: geometry shows what was seen, the GLD network draws what was not."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.geometry.carving import seen_through
from gld_ros.geometry.view_depth import ViewDepth
from gld_ros.model.checkpoint import ModelFile
from gld_ros.model.config import SamplerConfig
from gld_ros.model.rays import cameras_from_rays
from gld_ros.synthesis.classical import ClassicalEngine, check_request
from gld_ros.synthesis.clouds import clouds_of
from gld_ros.synthesis.gld import GldOutput, GldRequest, generate
from gld_ros.synthesis.network_inputs import NetworkInputs, best_size, geometric_guess, network_inputs, spread_to
from gld_ros.synthesis.types import (
    GENERATED,
    OBSERVED,
    CancelCheck,
    PosedView,
    Progress,
    ProgressCallback,
    Request,
    Result,
    SynthesizedView,
)

log = logging.getLogger(__name__)
MAX_CONDITIONS = 4  # released models were trained with 1 to 4
LAZY_BYTES = 512 << 20  # larger files keep their transformers on disk until a stage needs them
FEATHER_PX = 3.0  # blend between observed and generated pixels
MIN_SHARED_PIXELS = 200  # observed pixels needed to fit the depth scale
STEPS = {"reference": None, "full": None, "balanced": 16, "fast": 8}  # updates a stage; None: the model's own
UNGUIDED = "fast"  # preset without guidance


@dataclass(frozen=True, eq=False)
class _Drawn:
    """The network's picture of one target on the target's own pixels."""

    rgb: NDArray[np.float32]  # (H, W, 3) in [0, 1]
    depth: NDArray[np.float32]  # (H, W) world units
    confidence: NDArray[np.float32]  # (H, W) in [0, 1]
    field: NDArray[np.bool_]  # (H, W) inside the network's field of view
    depth_std: NDArray[np.float32] | None


class NetworkEngine:
    """A checkpoint of any size. Observed pixels, their depth and visibility come from the classical engine."""

    def __init__(self, path: Path, device: str = "auto", name: str | None = None) -> None:
        self.geometry = ClassicalEngine(device)
        self.device = self.geometry.device
        file = ModelFile(path)
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = file.load(self.device, dtype, lazy=file.nbytes() > LAZY_BYTES)
        self.name = name or file.config.name
        self._seconds: dict[str, float] = {}  # per preset and target, learned

    def prepare(self, views: Sequence[PosedView], preset: str = "balanced") -> None:
        """Depth of the views ahead of requests; see ``types.Engine``."""
        self.geometry.prepare(views, preset)

    def forget(self, keys: Sequence[str]) -> None:
        """Drop what is cached for these views."""
        self.geometry.forget(keys)

    def synthesize(
        self,
        views: Sequence[PosedView],
        request: Request,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Synthesise all targets; see ``types.Engine``."""
        start = time.perf_counter()
        check_request(views, request)
        preset = self._preset_for(request)
        base = self.geometry.synthesize(views, replace(request, preset=preset, time_budget_s=0.0), progress, cancelled)
        usable = [i for i, v in enumerate(base.views) if v.status == Status.OK]
        if not usable:
            return replace(base, model=self.name)
        depths = self.geometry.view_depths(views, preset)
        seed = request.seed if request.seed >= 0 else secrets.randbelow(2**31)
        notes = [n for n in base.notes if not n.startswith("classical engine")]
        if len(views) > MAX_CONDITIONS:
            notes.append(f"the network reads the first {MAX_CONDITIONS} of {len(views)} views, geometry all")
        chosen, chosen_depths = list(views[:MAX_CONDITIONS]), depths[:MAX_CONDITIONS]

        finished = list(base.views)
        through: list[NDArray | None] = [None] * len(finished)
        per_run = max(1, self.model.config.trained_views - len(chosen))
        scales = []
        for first in range(0, len(usable), per_run):
            part = usable[first : first + per_run]
            drawn, scale = self._draw(
                chosen, chosen_depths, [base.views[i] for i in part], preset, request, seed, notes, progress, cancelled
            )
            scales.append(scale)
            for i, picture in zip(part, drawn, strict=True):
                finished[i] = compose(base.views[i], picture, request.compose)
                inverse = torch.from_numpy(1.0 / np.maximum(finished[i].depth, 1e-6)).to(self.device)
                through[i] = seen_through(finished[i].camera, depths, inverse).cpu().numpy()
        seconds = dict(base.seconds)
        seconds["total"] = time.perf_counter() - start
        seconds["network"] = seconds["total"] - base.seconds["total"]
        self._seconds[preset] = seconds["total"] / len(request.targets)
        clouds = clouds_of(finished, through) if base.points_observed is not None else None  # geometry's own rule
        fitted = all(s is not None for s in scales)
        if not fitted:
            notes.append("depth of generated parts has no scale: too little was observed to fit it")
        sampler = self._sampler(preset)
        return replace(
            base,
            views=finished,
            points_observed=clouds[0] if clouds else None,
            points_generated=clouds[1] if clouds else None,
            model=self.name,
            preset=preset,
            updates=(sampler.points - 1, 0 if self.model.config.joint else sampler.points - 1),
            seed=seed,
            scale=float(np.median([s for s in scales if s is not None])) if any(scales) else 1.0,
            scale_valid=base.scale_valid and fitted,
            confidence_kind=f"{base.confidence_kind}+head",
            seconds=seconds,
            notes=tuple(dict.fromkeys(notes)),
        )

    def _sampler(self, preset: str) -> SamplerConfig:
        own = self.model.config.sampler
        updates = STEPS[preset]
        if updates is None or updates >= own.points - 1:
            return own
        return replace(own, points=updates + 1, guidance=1.0 if preset == UNGUIDED else own.guidance)

    def _preset_for(self, request: Request) -> str:
        if request.preset not in STEPS:
            raise GldError(f"preset '{request.preset}' is unknown: use one of {', '.join(STEPS)}")
        budget = request.time_budget_s
        candidates = list(dict.fromkeys([request.preset, "balanced", "fast"]))
        for name in candidates:
            if budget <= 0 or self._seconds.get(name, 0.0) * len(request.targets) <= budget:
                return name
        floor = min(self._seconds[name] for name in candidates) * len(request.targets)
        raise GldError(
            f"time_budget {budget:g} s is below the floor of {floor:.2f} s for {len(request.targets)} views "
            "with preset fast: ask for fewer views or more time",
            Status.BUDGET_EXCEEDED,
        )

    def _draw(
        self,
        views: Sequence[PosedView],
        depths: Sequence[ViewDepth],
        targets: Sequence[SynthesizedView],
        preset: str,
        request: Request,
        seed: int,
        notes: list[str],
        progress: ProgressCallback | None,
        cancelled: CancelCheck | None,
    ) -> tuple[list[_Drawn], float | None]:
        """Run the network once per sample; returns a drawing per target and the scale of its depth."""
        config = self.model.config
        size = best_size(config.trained_sizes, targets[0].camera)
        inputs = network_inputs(views, [t.camera for t in targets], size)
        warp = geometric_guess(inputs, depths) if config.level1.warp_channels else (None, None)
        sampler = self._sampler(preset)
        began = time.perf_counter()

        def report(stage: str, step: int, steps: int) -> None:
            if cancelled is not None and cancelled():
                raise GldError(f"cancelled before update {step + 1} of {steps} of {stage}", Status.CANCELLED)
            if progress is not None:
                done = max(step, 1)
                progress(Progress(stage, step, steps, (time.perf_counter() - began) / done * (steps - step)))

        samples: list[list[_Drawn]] = []
        scale = None
        for n in range(request.num_samples):
            output = generate(
                self.model,
                GldRequest(
                    inputs.cond_rgb,
                    inputs.world_from_cam,
                    inputs.K,
                    sampler,
                    sampler,
                    seed + n,
                    warp_rgb=warp[0],
                    warp_coverage=warp[1],
                    rays=len(views) > 1,
                ),
                report,
            )
            notes += output.notes
            maps = _maps(output, len(views))
            if n == 0:
                scale = fit_scale(targets, inputs, maps, output, len(views))
            samples.append([_on_target(t, c, m, scale) for t, c, m in zip(targets, inputs.targets, maps, strict=True)])
        if request.num_samples == 1:
            return samples[0], scale
        stacks = [np.stack([s[i].depth for s in samples]) for i in range(len(targets))]
        return [replace(d, depth=s.mean(0), depth_std=s.std(0)) for d, s in zip(samples[0], stacks, strict=True)], scale


def _maps(output: GldOutput, conditions: int) -> torch.Tensor:
    """Colour, depth and confidence of the targets, (T, 5, h, w)."""
    assert output.rgb is not None
    assert output.depth is not None
    rgb = output.rgb[0, conditions:].float().clamp(0, 1)
    depth = output.depth.depth[0, conditions:, None].float()
    confidence = 1 - 1 / output.depth.depth_conf[0, conditions:, None].float().clamp(min=1)
    return torch.cat([rgb, depth, confidence], dim=1).cpu()


def _on_target(target: SynthesizedView, network: Camera, maps: torch.Tensor, scale: float | None) -> _Drawn:
    spread, field = spread_to(target.camera, network, maps)
    depth = spread[3] * np.float32(1.0 if scale is None else scale)
    return _Drawn(spread[:3].transpose(1, 2, 0), depth, spread[4], field, None)


def fit_scale(
    targets: Sequence[SynthesizedView], inputs: NetworkInputs, maps: torch.Tensor, output: GldOutput, conditions: int
) -> float | None:
    """World units per unit of the network's depth, None where nothing says.

    Median ratio to the geometric depth of observed pixels, or else the ratio of spreads of known and predicted camera
    centres (GLD specification section 5.4).
    """
    ratios = []
    for target, network, picture in zip(targets, inputs.targets, maps, strict=True):
        spread, field = spread_to(target.camera, network, picture[3:4])
        valid = field & (target.provenance == OBSERVED) & np.isfinite(target.depth) & (spread[0] > 1e-6)
        ratios.append(target.depth[valid] / spread[0][valid])
    joined = np.concatenate(ratios)
    if len(joined) >= MIN_SHARED_PIXELS:
        return float(np.median(joined))
    if output.depth is None or output.depth.ray is None:
        return None
    known = inputs.world_from_cam[0, :, :3, 3].numpy()
    size = (inputs.cond_rgb.shape[-2], inputs.cond_rgb.shape[-1])
    predicted = cameras_from_rays(output.depth.ray[0], output.depth.ray_conf[0], size)[0][:, :3, 3].cpu().numpy()  # type: ignore[index]
    spreads = [float(np.linalg.norm(c - c.mean(axis=0))) for c in (known, predicted)]
    return spreads[0] / spreads[1] if min(spreads) > 1e-6 else None


def compose(geometry: SynthesizedView, drawn: _Drawn, how: str) -> SynthesizedView:
    """Observed pixels over the network's picture, with a soft seam; or, for ``generated``, its picture alone.

    Outside the network's field the geometric fill stays, marked generated.
    """
    inside = drawn.field
    fill = geometry.rgb.astype(np.float32) / 255
    own = np.where(inside[..., None], drawn.rgb, fill)
    own_depth = np.where(inside, drawn.depth, geometry.depth).astype(np.float32)
    own_confidence = np.where(inside, drawn.confidence, 0.0).astype(np.float32)
    generated = (own * 255).round().astype(np.uint8)
    std = geometry.depth_std
    if drawn.depth_std is not None:
        std = np.where(inside, drawn.depth_std, 0.0).astype(np.float32)
    if how == "generated":
        provenance = np.full(geometry.provenance.shape, GENERATED, np.uint8)
        return replace(
            geometry,
            rgb=generated,
            generated=generated,
            depth=own_depth,
            confidence=own_confidence,
            provenance=provenance,
            depth_std=std,
        )
    observed = geometry.provenance == OBSERVED
    distance = cv2.distanceTransform(observed.astype(np.uint8), cv2.DIST_L2, 3)
    alpha = np.clip(distance / FEATHER_PX, 0, 1)[..., None]  # real pixels fade out inside their own border only
    rgb = (np.where(observed[..., None], alpha * fill + (1 - alpha) * own, own) * 255).round().astype(np.uint8)
    return replace(
        geometry,
        rgb=rgb,
        generated=generated,
        depth=np.where(observed, geometry.depth, own_depth).astype(np.float32),
        confidence=np.where(observed, geometry.confidence, own_confidence).astype(np.float32),
        depth_std=std if std is None or geometry.depth_std is None else np.where(observed, geometry.depth_std, std),
    )
