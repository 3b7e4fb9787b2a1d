"""Training in any latent space: the VAE itself, decoders on noisy latents, and plain GLD diffusion."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_model
from torch import Tensor, nn

from gld_ros.errors import GldError
from gld_ros.evaluation.trajectory import trajectory_errors
from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.depth_head import DepthOutput
from gld_ros.model.dit import DiT, DiTInputs, initialise_dit
from gld_ros.model.gld_model import GldModel, plain_inputs
from gld_ros.model.rays import cameras_from_rays
from gld_ros.model.sampler import sample
from gld_ros.training.batches import Batch, draw_diffusion, draw_encoder
from gld_ros.training.config import TrainConfig
from gld_ros.training.known_views import encode_levels
from gld_ros.training.latent_spaces import LatentSpace, VaeSpace, kl_divergence
from gld_ros.training.losses import depth_loss, diffusion_time, flow_loss, picture_loss, ray_loss, shifted_time
from gld_ros.training.stages import TrainingStage
from gld_ros.training.trainer import Trainer
from gld_ros.training.validate import depth_error, psnr, write_grid

KL_WEIGHT = 1e-4  # beside a picture loss of about 0.05: weak, as in latent diffusion (Rombach et al. 2022)


class SpaceStage(TrainingStage):
    """A stage whose model is a latent space or has one."""

    model: nn.Module  # type: ignore[assignment]

    def figures(self, batch: Batch, pictures: Path | None = None) -> dict[str, float]:
        """Held-out figures of the weights as they are."""
        raise NotImplementedError


class VaeStage(SpaceStage):
    """A VAE from pictures to pictures."""

    model: VaeSpace

    def trained(self) -> list[nn.Module]:
        return [self.model]

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        mean, log_variance = self.model.posterior(batch.rgb)
        noise = torch.randn(mean.shape, generator=self.generator(step)).to(mean.device)
        drawn = mean + (0.5 * log_variance).exp() * noise
        side = batch.rgb.shape[-2] // self.model.patch, batch.rgb.shape[-1] // self.model.patch
        rgb = picture_loss(self.model.picture(drawn, side), batch.rgb, self.config.encoder_loss)
        kl = kl_divergence(mean, log_variance)
        return {"loss": rgb + KL_WEIGHT * kl, "rgb": rgb, "kl": kl}

    def figures(self, batch: Batch, pictures: Path | None = None) -> dict[str, float]:
        side = batch.rgb.shape[-2] // self.model.patch, batch.rgb.shape[-1] // self.model.patch
        return {"psnr": psnr(self.model.picture(self.model.tokens(batch.rgb), side), batch.rgb)}


class DecoderStage(SpaceStage):
    """The decoders of a frozen space, on latents with noise on each channel as generation leaves them."""

    model: LatentSpace

    def trained(self) -> list[nn.Module]:
        return self.model.decoders()

    def draw(self, rooms: object, step: int, rank: int) -> Batch:
        return draw_encoder(rooms, self.config, step, rank)  # type: ignore[arg-type]

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        rng, weights = self.generator(step), self.config.encoder_loss
        with torch.no_grad():
            latents = self.model.encode(batch.rgb)
            sigma = self.config.rgb_noise * torch.rand(len(batch.rgb), 1, 1, 1, 1, generator=rng)
            noise = sigma * torch.randn(latents.shape, generator=rng)
        with_rays = weights.rays > 0 and step % weights.rays_every == 0
        decoded = self.model.decode(latents + noise.to(latents.device), batch.rgb, rays=with_rays)
        terms = {"rgb": picture_loss(decoded.rgb, batch.rgb, weights)}
        loss = terms["rgb"]
        if decoded.geometry is not None:
            terms["depth"] = depth_loss(decoded.geometry, batch.depth, weights)
            loss = loss + terms["depth"]
            if with_rays:
                terms["rays"] = ray_loss(decoded.geometry, batch, weights)
                loss = loss + weights.rays * weights.rays_every * terms["rays"]
        return {"loss": loss, **terms}

    def figures(self, batch: Batch, pictures: Path | None = None) -> dict[str, float]:
        decoded = self.model.decode(self.model.encode(batch.rgb), batch.rgb)
        figures = {"psnr": psnr(decoded.rgb, batch.rgb)}
        if decoded.geometry is not None:
            figures["absrel"] = depth_error(decoded.geometry.depth, batch.depth)[0]
        return figures


class SpaceDiffusion(nn.Module):
    """A frozen space and the transformer that learns to generate in it."""

    def __init__(self, space: LatentSpace, config: TrainConfig) -> None:
        super().__init__()
        self.space = space
        torch.manual_seed(config.seed)
        self.level1 = DiT(replace(config.model.level1, latent_channels=space.channels, warp_channels=0))
        initialise_dit(self.level1)
        self.ray_offset_px = config.model.camera.ray_offset_px

    def inputs(self, batch: Batch, config: TrainConfig) -> DiTInputs:
        """Latents of the condition views, encoded alone, and all cameras."""
        cameras = relative_cameras(batch.world_from_cam, batch.K, config.model.camera)
        known = self.space.encode(batch.rgb[:, : batch.cond_num])
        return plain_inputs(known, cameras, self.space.patch, self.ray_offset_px)


class PlainDiffusionStage(SpaceStage):
    """Plain GLD (no warp) in any space: batches, times and noise depend on seed and step alone."""

    model: SpaceDiffusion

    def __init__(self, config: TrainConfig, model: SpaceDiffusion, judges: Judges, updates: tuple[int, ...]) -> None:
        super().__init__("level1", config, model)  # type: ignore[arg-type]
        self.judges = judges
        self.updates = updates

    def trained(self) -> list[nn.Module]:
        return [self.model.level1]

    def draw(self, rooms: object, step: int, rank: int) -> Batch:
        return draw_diffusion(rooms, self.config, self.name, step, rank)  # type: ignore[arg-type]

    def noise(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """The same numbers in every space as far as it has channels, (B, V, D, h, w)."""
        scenes, views = batch.rgb.shape[:2]
        patch, channels = self.model.space.patch, self.model.space.channels
        widest = max(3 * patch**2, self.config.model.encoder.channels)
        grid = batch.rgb.shape[-2] // patch, batch.rgb.shape[-1] // patch
        return torch.randn(scenes, views, widest, *grid, generator=rng)[:, :, :channels].to(batch.rgb.device)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        loss, rng, dit = self.config.diffusion, self.generator(step), self.model.level1
        with torch.no_grad():
            inputs = self.model.inputs(batch, self.config)
            dropped = torch.rand(len(batch.rgb), generator=rng) < loss.drop_cameras
            inputs = inputs.unconditional(dit.config, dropped.to(batch.rgb.device))
            data = self.model.space.encode(batch.rgb)
            if dit.config.prediction == "data":
                t = diffusion_time(len(data), loss.time_logit, loss.pure_noise, rng)
            else:
                t = shifted_time(len(data), loss.shift, rng)
            t, noise = t.to(data.device), self.noise(batch, rng)
            mix = t.view(-1, 1, 1, 1, 1)
            weight = torch.ones_like(data[:, :, 0])
        prediction = dit((1 - mix) * data + mix * noise, t, inputs)
        return {"loss": flow_loss(prediction, data, noise, t, dit.config.prediction, loss.min_time, weight)}

    @torch.no_grad()
    def generate(self, batch: Batch, updates: int) -> Tensor:
        """Latents of all views after so many Euler updates, (B, V, D, h, w)."""
        sampler = replace(self.config.model.sampler, points=updates + 1, last=0.0)
        noise = self.noise(batch, torch.Generator().manual_seed(0))
        return sample(self.model.level1, self.model.inputs(batch, self.config), noise, sampler)

    @torch.no_grad()
    def figures(self, batch: Batch, pictures: Path | None = None) -> dict[str, float]:
        """PSNR, depth and pose errors of the targets for every number of updates; see ``Judges``."""
        c, found, rows = batch.cond_num, {}, []
        for count in self.updates:
            decoded = self.model.space.decode(self.generate(batch, count), batch.rgb[:, :c])
            rgb = decoded.rgb[:, c:].clamp(0, 1)
            rows.append(rgb)
            measured = self.judges.figures(batch, rgb)
            if decoded.geometry is not None:
                own = geometry_figures(batch, decoded.geometry)
                measured.update({f"own_{name}": value for name, value in own.items()})
            found.update({f"{name}_{count}": value for name, value in measured.items()})
        if pictures is not None:
            views = [[batch.rgb[i, 0], batch.rgb[i, 1], batch.rgb[i, c], *(r[i, 0] for r in rows)]
                     for i in range(min(6, len(batch.rgb)))]  # fmt: skip
            write_grid(pictures, views)
        return found


@dataclass(frozen=True)
class Judges:
    """Frozen models that read depth and cameras in pictures, whatever space these came from.

    ``own`` is the model of the geometric arm. ``other`` is better trained and of another size: pictures are resampled
    for it, and its depth error is called ``absrel_judge``.
    """

    own: GldModel
    other: GldModel | None = None

    @torch.no_grad()
    def figures(self, batch: Batch, rgb: Tensor) -> dict[str, float]:
        """PSNR of target pictures (B, T, 3, H, W), and what the models see in them beside the real condition views."""
        c = batch.cond_num
        views = torch.cat([batch.rgb[:, :c], rgb], dim=1)
        levels, grid = encode_levels(self.own, views)
        seen = self.own.depth_head(self.own.layer_normed(levels), grid)
        found = {"psnr": psnr(rgb, batch.rgb[:, c:]), "turn_deg": apparent_turn_deg(batch, rgb)}
        found.update(geometry_figures(batch, seen))
        if self.other is not None:
            size = _size_of(self.other, views)
            large = F.interpolate(views.flatten(0, 1), size, mode="bicubic", align_corners=False).clamp(0, 1)
            with torch.autocast(rgb.device.type, torch.bfloat16):  # twice as fast, and moves the error by 0.001 at most
                levels, grid = encode_levels(self.other, large.unflatten(0, views.shape[:2]))
                depth = self.other.depth_head(self.other.layer_normed(levels), grid, rays=False).depth.float()
            truth = F.interpolate(batch.depth, size, mode="nearest")
            found["absrel_judge"] = depth_error(depth[:, c:], truth[:, c:])[0]
        return found


def apparent_turn_deg(batch: Batch, rgb: Tensor) -> float:
    """Mean turn of the camera, in degrees, that brings target pictures (B, T, 3, H, W) onto the true ones.

    The middle of each picture is sought in the true one by normalised cross-correlation, up to a quarter of the side
    away. A pose error that needs no network; it sees where the camera looks, not where it stands or how it rolls.
    """
    turns = []
    margin = rgb.shape[-2] // 4, rgb.shape[-1] // 4
    truth, K = batch.rgb[:, batch.cond_num :], batch.K[:, batch.cond_num :]
    for picture, true, k in zip(rgb.flatten(0, 1), truth.flatten(0, 1), K.flatten(0, 1), strict=True):
        made, real = (np.ascontiguousarray(x.permute(1, 2, 0).float().numpy()) for x in (picture, true))
        middle = made[margin[0] : -margin[0], margin[1] : -margin[1]]
        column, row = cv2.minMaxLoc(cv2.matchTemplate(real, middle, cv2.TM_CCOEFF_NORMED))[3]
        shift = (column - margin[1]) / float(k[0, 0]), (row - margin[0]) / float(k[1, 1])
        turns.append(math.degrees(math.atan(math.hypot(*shift))))
    return sum(turns) / len(turns)


def _size_of(judge: GldModel, views: Tensor) -> tuple[int, int]:
    """Rows and columns of a size the judge was trained at, of the same aspect. Raises GldError if there is none."""
    rows, columns = views.shape[-2:]
    for width, height in judge.config.trained_sizes:
        if width * rows == height * columns:
            return height, width
    raise GldError(f"the judge {judge.config.name} knows no size of the aspect of {columns}x{rows}: give another")


def geometry_figures(batch: Batch, output: DepthOutput) -> dict[str, float]:
    """Depth of the targets (metres, and after matching medians) and cameras of all views against the truth.

    ``ate_share`` and ``rpe_deg`` as in ``trajectory_errors``, mean over scenes.
    """
    assert output.ray is not None
    assert output.ray_conf is not None
    c, size = batch.cond_num, (batch.rgb.shape[-2], batch.rgb.shape[-1])
    absrel, aligned = depth_error(output.depth[:, c:], batch.depth[:, c:])
    errors = [
        trajectory_errors(cameras_from_rays(ray, confidence, size)[0].numpy(), truth.numpy())
        for ray, confidence, truth in zip(output.ray, output.ray_conf, batch.world_from_cam, strict=True)
    ]
    means = {name: sum(e[name] for e in errors) / len(errors) for name in ("ate_share", "rpe_deg")}
    return {"absrel": absrel, "absrel_median": aligned, **means}


class SpaceTrainer(Trainer):
    """The training loop for stages that measure themselves."""

    stage: SpaceStage

    def _measure(self, batch: Batch, pictures: Path) -> dict[str, float]:
        self.stage.cpu()  # where the judges are
        with torch.no_grad():
            return self.stage.figures(batch.to(torch.device("cpu")), pictures)

    def _export(self, path: Path, figures: dict[str, float]) -> None:
        partial = path.with_suffix(".partial")
        save_model(self.stage.model, str(partial), self._notes(figures))
        os.replace(partial, path)
