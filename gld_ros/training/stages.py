"""What each stage trains and how a step's loss is computed. A stage is a module, so DDP can wrap it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gld_ros.data.rooms.shards import RoomShards
from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.config import IMAGENET_MEAN, IMAGENET_STD
from gld_ros.model.dit import DiT, initialise_dit
from gld_ros.model.encoder import Encoder
from gld_ros.model.gld_model import GldModel, Latents, Stage
from gld_ros.model.known_depth import KnownDepth, scene_scale
from gld_ros.model.rgb_decoder import RgbDecoder
from gld_ros.model.whitening import PatchWhitening
from gld_ros.training.batches import Batch, draw_diffusion, draw_encoder, to_batch
from gld_ros.training.config import TrainConfig
from gld_ros.training.depth_noise import draw_known_depth, scaled_to_network
from gld_ros.training.known_views import (
    encode_levels,
    exactly,
    network_unit,
    place_views,
    predict_depth,
    rescaled,
    true_geometry,
    warp_guess,
)
from gld_ros.training.losses import (
    PixelMetric,
    depth_loss,
    diffusion_time,
    flow_loss,
    noised_source,
    patch_weight,
    picture_loss,
    ray_loss,
    shifted_time,
)

SMALL = 0.1  # gain of residual branches before training
METRIC_SCENES = 64  # scenes the pixel metric is fitted on
RANK_SEEDS = 0x9E3779B9  # between ranks; 2^32 / golden ratio, as the generator reads 32 bits of a seed
METRIC_DEPTH = 0.3  # weight of log depth beside colours in it


class TrainingStage(nn.Module):
    """One stage: which parameters learn, and ``forward(batch, step)`` -> ``loss`` and its named terms."""

    def __init__(self, name: str, config: TrainConfig, model: GldModel) -> None:
        super().__init__()
        self.name = name
        self.rank = 0  # of the process that runs it
        self.config = config
        self.model = model
        model.requires_grad_(False)
        for part in self.trained():
            part.requires_grad_(True)
        for module in model.modules():
            if isinstance(module, DiT):
                module.t_embedder.W.requires_grad_(False)
            elif isinstance(module, RgbDecoder):
                module.decoder_pos_embed.requires_grad_(False)

    def trained(self) -> list[nn.Module]:
        """Parts of the model that learn."""
        raise NotImplementedError

    def draw(self, rooms: object, step: int, rank: int) -> Batch:
        """The batch of a step."""
        return draw_encoder(rooms, self.config, step, rank)  # type: ignore[arg-type]

    def begin(self, rooms: RoomShards) -> None:
        """Look at the data once before the first step."""

    def given_depth(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, KnownDepth | None]:
        """True depth in the unit the encoder works in, and what it is given of it: a sensor's, a sweep's or nothing."""
        if not self.model.config.encoder.depth_cells:
            return batch.depth, None
        return scaled_to_network(batch.depth, draw_known_depth(batch.depth, self.config.depth_noise, rng))

    def generator(self, step: int) -> torch.Generator:
        """Random numbers of a step, the same after a resume and others on every rank."""
        seed = (self.config.seed * 1_000_003 + step) * 31 + len(self.name) + self.rank * RANK_SEEDS
        return torch.Generator().manual_seed(seed)


class EncoderStage(TrainingStage):
    """Encoder, RGB decoder and depth head together, from pictures to pictures, depth and rays."""

    def trained(self) -> list[nn.Module]:
        return [self.model.encoder, self.model.rgb_decoder, self.model.depth_head]

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        weights = self.config.encoder_loss
        truth, known = self.given_depth(batch, self.generator(step))
        unit = network_unit(truth, batch.depth)
        cameras = place_views(self.model, batch, unit)
        levels, grid = encode_levels(self.model, batch.rgb, known, cameras)
        picture = self.model.decode_rgb(levels, grid)
        with_rays = weights.rays > 0 and step % weights.rays_every == 0
        output = self.model.depth_head(self.model.layer_normed(levels), grid, rays=with_rays)
        terms = {
            "rgb": picture_loss(picture.float(), batch.rgb, weights),
            "depth": depth_loss(output, truth, weights),
        }
        loss = terms["rgb"] + terms["depth"]
        if with_rays:
            # Predicted centres are in the unit of the centres that were given; without poses they stay in metres.
            terms["rays"] = ray_loss(output, batch if cameras is None else rescaled(batch, unit), weights)
            loss = loss + weights.rays * weights.rays_every * terms["rays"]
        return {"loss": loss, **terms}


class RgbStage(TrainingStage):
    """The RGB decoder alone on a frozen encoder, on features with noise on each channel as generation leaves them."""

    def trained(self) -> list[nn.Module]:
        return [self.model.rgb_decoder]

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        rng = self.generator(step)
        with torch.no_grad():
            truth, known = self.given_depth(batch, rng)
            cameras = place_views(self.model, batch, network_unit(truth, batch.depth))
            latents = self.model.encode(batch.rgb, known, cameras)
            sigma = self.config.rgb_noise * torch.rand(2, len(batch.rgb), 1, 1, 1, 1, generator=rng)
            noisy = Latents(
                *(
                    z + s.to(z.device) * torch.randn(z.shape, generator=rng).to(z.device)
                    for z, s in zip((latents.level0, latents.level1), sigma, strict=True)
                )
            )
            levels = self.model.decoder_levels(noisy, self.model.propagation_cls(batch.rgb, cameras=cameras), cameras)
        grid = (latents.level0.shape[-2], latents.level0.shape[-1])
        loss = picture_loss(self.model.decode_rgb(levels, grid).float(), batch.rgb, self.config.encoder_loss)
        return {"loss": loss}


class DiffusionStage(TrainingStage):
    """Level-1 or cascade transformer on the frozen encoder (GLD specification section 11)."""

    def __init__(self, name: str, config: TrainConfig, model: GldModel) -> None:
        super().__init__(name, config, model)
        self.kind: Stage = "cascade" if name == "cascade" else "level1"
        self.pixels: PixelMetric | None = None

    def trained(self) -> list[nn.Module]:
        return [self.model.get_submodule(self.name)]

    def draw(self, rooms: object, step: int, rank: int) -> Batch:
        return draw_diffusion(rooms, self.config, self.name, step, rank)  # type: ignore[arg-type]

    def begin(self, rooms: RoomShards) -> None:
        loss = self.config.diffusion
        if loss.pixel_share > 0:
            latents, pictures = [], []
            device = next(self.model.parameters()).device
            for chunk in rooms.chunks(8):
                batch = to_batch(chunk).to(device)
                truth, known, cameras = true_geometry(self.model, batch)
                with torch.no_grad():
                    made = self.model.stage_latents(self.model.encode(batch.rgb, known, cameras), self.kind)
                latents.append(made.flatten(0, 1))
                log_depth = METRIC_DEPTH * truth.clamp(min=1e-2).log().unsqueeze(2)
                pictures.append(torch.cat([batch.rgb, log_depth], dim=2).flatten(0, 1))
                if len(latents) * 8 >= METRIC_SCENES:
                    break
            self.pixels = PixelMetric(torch.cat(latents), torch.cat(pictures), loss.pixel_share)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        loss, rng = self.config.diffusion, self.generator(step)
        dit = self.model.get_submodule(self.name)
        assert isinstance(dit, DiT)
        device = batch.rgb.device
        c = batch.cond_num
        with torch.no_grad():
            known = self._known_depth(batch, rng)
            scale = torch.ones(len(batch.rgb), 1, 1, 1, device=device)
            if known is not None:
                scale = scene_scale(known.depth, known.confidence).view(-1, 1, 1, 1)
            placed = place_views(self.model, batch, scale)
            truth = self.model.encode(batch.rgb, exactly(batch.depth * scale), placed)
            conditions = self.model.encode(
                batch.rgb[:, :c],
                None if known is None else known.scaled(scale),
                None if placed is None else placed.views(slice(c)),
            )
            guess, coverage = None, None
            if dit.config.warp_channels:
                guess, coverage = warp_guess(self.model, batch, known, scale, conditions)
            source = None
            if dit.config.source_channels:
                source = noised_source(truth.level1, loss.source_noise, rng)
            cameras = relative_cameras(batch.world_from_cam, batch.K, self.model.config.camera)
            inputs = self.model.dit_inputs(self.kind, conditions, cameras, source, guess, coverage)
            dropped = torch.rand(len(batch.rgb), generator=rng) < loss.drop_cameras
            inputs = inputs.unconditional(dit.config, dropped.to(device))
            data = self.model.stage_latents(truth, self.kind)
            noise = torch.randn(data.shape, generator=rng).to(device)
            if dit.config.prediction == "data":
                t = diffusion_time(len(data), loss.time_logit, loss.pure_noise, rng)
            else:
                t = shifted_time(len(data), loss.shift, rng)
            t = t.to(device)
            mix = t.view(-1, 1, 1, 1, 1)
            noisy = (1 - mix) * data + mix * noise
            if coverage is None:
                coverage = torch.zeros_like(data[:, :, 0])
            weight = patch_weight(coverage, c, loss.hole_weight, loss.condition_weight)
        prediction = dit(noisy, t, inputs)
        return {
            "loss": flow_loss(prediction, data, noise, t, dit.config.prediction, loss.min_time, weight, self.pixels)
        }

    def _known_depth(self, batch: Batch, rng: torch.Generator) -> KnownDepth | None:
        """Depth of the condition views as this step has it: the model's own, a robot's, or none (plain GLD)."""
        predicted, given = self.config.diffusion.warp_depth
        draw = torch.rand(1, generator=rng).item()
        if draw < predicted:
            return predict_depth(self.model, batch.views(0, batch.cond_num))
        if draw < predicted + given:
            return draw_known_depth(batch.depth[:, : batch.cond_num], self.config.depth_noise, rng)
        return None


@torch.no_grad()
def prepare_new_model(model: GldModel, pictures: Tensor) -> None:
    """Start values a training from nothing needs: small layer scales, whitening from data, transformers at identity.

    pictures: (n, 3, H, W) in [0, 1].
    """
    for module in model.modules():
        if isinstance(module, DiT):
            initialise_dit(module)
    prepare_autoencoder(model.encoder, model.rgb_decoder, pictures)
    # depth starts near the typical 2.5 m of a room instead of 1 m
    model.depth_head.scratch.output_conv2[2].bias[0] = 0.9


@torch.no_grad()
def prepare_autoencoder(encoder: Encoder, decoder: RgbDecoder, pictures: Tensor) -> None:
    """Whitening from pictures (n, 3, H, W) in [0, 1], and residual branches that hardly act yet."""
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(3, 1, 1)
    for module in (*encoder.modules(), *decoder.modules()):
        if isinstance(module, PatchWhitening):
            module.fit((pictures - mean) / std)
    # Residual branches start small, so that pixels reach the decoder almost linearly and details are not lost in noise:
    # 27.5 instead of 23.5 dB after 300 steps of the nano configuration.
    for block in encoder.blocks:
        for scale in ("ls1", "ls2"):
            block.get_submodule(scale).get_parameter("gamma").fill_(SMALL)
    for layer in decoder.decoder_layers:
        for out in ("attention.output.dense", "output.dense"):
            layer.get_submodule(out).get_parameter("weight").mul_(SMALL)
    decoder.decoder_pos_embed.mul_(SMALL)


@torch.no_grad()
def measure_statistics(model: GldModel, batches: list[Batch]) -> None:
    """Per-channel mean and variance of raw levels 0 and 1 over views with their depth."""
    totals = [torch.zeros(3, model.config.encoder.channels, dtype=torch.float64) for _ in range(2)]
    for batch in batches:
        _, known, cameras = true_geometry(model, batch)
        for level, raw in enumerate(model.encoder(batch.rgb, last_level=1, depth=known, cameras=cameras)):
            flat = raw[:, :, 1:].flatten(0, 2).double()
            totals[level] += torch.stack([flat.sum(0), flat.square().sum(0), torch.full_like(flat[0], len(flat))])
    for level, (total, squares, count) in enumerate(totals):
        mean = total / count
        model.level_statistics(level).set(mean.float(), (squares / count - mean.square()).clamp(min=0).float())
