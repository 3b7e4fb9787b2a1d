"""A model small enough for every test: every part, random weights."""

from __future__ import annotations

import dataclasses

import torch

from gld_ros.model.config import (
    DepthHeadConfig,
    DiTConfig,
    EncoderConfig,
    ModelConfig,
    RgbDecoderConfig,
    SamplerConfig,
)
from gld_ros.model.gld_model import GldModel


def small_config(**changes: object) -> ModelConfig:
    """Two DiTs, four levels, patch 14, 64 latent channels."""
    dit = DiTConfig(
        latent_channels=64,
        encoder_width=32,
        encoder_blocks=2,
        encoder_heads=2,
        decoder_width=48,
        decoder_blocks=1,
        decoder_heads=2,
        time_frequencies=16,
    )
    cascade = dataclasses.replace(
        dit, split_embedders=False, source_channels=64, prope_size=(504, 504), uncond_intrinsics="keep"
    )
    values: dict[str, object] = {
        "name": "small",
        "encoder": EncoderConfig(width=32, heads=2, mlp_hidden=64, position_grid=7),
        "level1": dit,
        "cascade": cascade,
        "rgb": RgbDecoderConfig(in_channels=256, width=32, layers=1, heads=2, mlp_hidden=64, base_grid=(6, 6)),
        "depth": DepthHeadConfig(in_channels=64, features=16, stage_channels=(8, 8, 16, 16), head_channels=8),
        "sampler": SamplerConfig(points=3, shift=6.0),
        **changes,
    }
    return ModelConfig(**values)  # type: ignore[arg-type]


def random_model(config: ModelConfig, seed: int = 0) -> GldModel:
    """Weights of a size at which every part changes the result."""
    torch.manual_seed(seed)
    model = GldModel(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if name.endswith("camera_token") or name.endswith("cls_token") or name.endswith("pos_embed"):
            tensor.normal_(0, 0.5)
        if name.endswith(".mean"):
            tensor.normal_()
        if name.endswith(".var"):
            tensor.uniform_(0.5, 2)
    return model


def orbit(views: int, seed: int = 0) -> torch.Tensor:
    """Random rigid camera-to-world transforms near each other, (1, V, 4, 4) float64."""
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, views, 1, 1)
    skew = torch.randn(views, 3, 3, generator=generator, dtype=torch.float64) * 0.2
    poses[0, :, :3, :3] = torch.linalg.matrix_exp(skew - skew.transpose(1, 2))
    poses[0, :, :3, 3] = torch.randn(views, 3, generator=generator, dtype=torch.float64)
    return poses


def lens(views: int, size: tuple[int, int]) -> torch.Tensor:
    """A camera matrix for pictures of (W, H), (1, V, 3, 3)."""
    width, height = size
    K = torch.tensor([[0.9 * width, 0, width / 2 - 0.5], [0, 0.9 * width, height / 2 - 0.5], [0, 0, 1]])
    return K.repeat(1, views, 1, 1)
