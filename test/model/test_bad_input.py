"""What the network cannot use is refused with the value, the limit and the remedy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small_model import lens, orbit, small_config

from gld_ros.errors import GldError, Status
from gld_ros.model.config import DiTConfig, EncoderConfig, ModelConfig, SamplerConfig
from gld_ros.model.gld_model import GldModel
from gld_ros.model.precision import dtype_named
from gld_ros.model.preprocess import preprocess
from gld_ros.model.statistics import LatentStatistics
from gld_ros.synthesis.gld import GldRequest, generate

SIZE = (56, 42)


def good(views: int = 2, cond_num: int = 1) -> GldRequest:
    return GldRequest(torch.rand(1, cond_num, 3, SIZE[1], SIZE[0]), orbit(views), lens(views, SIZE))


def pixel(value: float) -> torch.Tensor:
    rgb = torch.rand(1, 1, 3, SIZE[1], SIZE[0])
    rgb[0, 0, 1, 2, 3] = value
    return rgb


BAD: dict[str, tuple[dict[str, Any], str, Status]] = {
    "size": ({"cond_rgb": torch.rand(1, 1, 3, 42, 60)}, "60x42.*multiples of the patch 14.*56x42", Status.INTERNAL),
    "nan pixel": ({"cond_rgb": pixel(float("nan"))}, "1 picture values are not finite", Status.INTERNAL),
    "inf pixel": ({"cond_rgb": pixel(float("inf"))}, "1 picture values are not finite", Status.INTERNAL),
    "no views": ({"cond_rgb": torch.rand(1, 0, 3, 42, 56)}, "no condition views", Status.NO_KEYFRAMES),
    "no targets": ({"cond_rgb": torch.rand(1, 2, 3, 42, 56)}, "2 poses for 2 condition views", Status.INTERNAL),
    "nan pose": ({"world_from_cam": orbit(2) * float("nan")}, "poses have non-finite", Status.BAD_POSE),
    "nan lens": ({"K": lens(2, SIZE) * float("nan")}, "intrinsics have non-finite", Status.BAD_INTRINSICS),
    "zero lens": ({"K": lens(2, SIZE) * 0}, "focal length", Status.BAD_INTRINSICS),
    "lens count": ({"K": lens(3, SIZE)}, r"must be .*\(1, 2, 3, 3\)", Status.INTERNAL),
    "warp count": ({"warp_rgb": torch.rand(1, 3, 3, 42, 56)}, r"warp_rgb.*must begin with \(1, 2\)", Status.INTERNAL),
    "grey": ({"cond_rgb": torch.rand(1, 1, 1, 42, 56)}, r"must be \(scenes, views, 3, H, W\)", Status.INTERNAL),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_bad_request(small_model: GldModel, case: str) -> None:
    change, words, status = BAD[case]
    with pytest.raises(GldError, match=words) as error:
        generate(small_model, dataclasses.replace(good(), **change))
    assert error.value.status == status


def test_unused_guess_is_said_aloud(small_model: GldModel) -> None:
    request = dataclasses.replace(good(), warp_rgb=torch.rand(1, 2, 3, 42, 56))
    assert any("does not use" in note for note in generate(small_model, request).notes)


def test_progress_may_stop_a_request(small_model: GldModel) -> None:
    seen = []

    def stop(stage: str, step: int, steps: int) -> None:
        seen.append((stage, step, steps))
        if len(seen) == 3:
            raise GldError("stopped", Status.CANCELLED)

    with pytest.raises(GldError, match="stopped"):
        generate(small_model, good(), stop)
    assert seen == [("level1", 0, 2), ("level1", 1, 2), ("cascade", 0, 2)]


@pytest.mark.parametrize(
    ("mean", "var", "words"),
    [
        (torch.zeros(5), torch.ones(4), "mean has 5 channels, this model has 4"),
        (torch.zeros(4), torch.ones(1, 3, 1, 1), "var has 3 channels"),
        (torch.zeros(4), -torch.ones(4), "negative"),
        (torch.full((4,), float("inf")), torch.ones(4), "non-finite"),
    ],
)
def test_bad_statistics(mean: torch.Tensor, var: torch.Tensor, words: str) -> None:
    with pytest.raises(GldError, match=words):
        LatentStatistics(4).set(mean, var)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: EncoderConfig(heads=7), "heads"),
        (lambda: EncoderConfig(level_blocks=(5, 7, 9, 12)), "level_blocks"),
        (lambda: EncoderConfig(level_blocks=(5, 5, 9, 11)), "level_blocks"),
        (lambda: DiTConfig(encoder_heads=64), "multiple of 8"),
        (lambda: DiTConfig(warp_channels=3), "warp_channels"),
        (lambda: SamplerConfig(points=1), "points"),
        (lambda: SamplerConfig(shift=0.0), "shift"),
        (lambda: SamplerConfig(last=1.0), "last"),
        (lambda: small_config(encoder=EncoderConfig()), "latent_channels"),
        (lambda: small_config(cascade=None), "latent_channels"),
        (lambda: small_config(level1=dataclasses.replace(small_config().level1, patch=16)), "patch"),
        (lambda: ModelConfig.from_json("{"), "not JSON"),
        (lambda: ModelConfig.from_json('{"colour": 1}'), "unknown names"),
        (lambda: ModelConfig.from_json('{"encoder": 3}'), "must be a mapping"),
        (lambda: ModelConfig.from_json('{"encoder": {"heads": "x"}}'), "encoder.heads is 'x', must be int"),
        (lambda: ModelConfig.from_json('{"encoder": {"level_blocks": [1]}}'), "must have 4"),
        (lambda: ModelConfig.from_json('{"propagation_cls": "x"}'), "must be one of"),
        (lambda: dtype_named("int8"), "dtype"),
    ],
)
def test_bad_configuration(build: Callable[[], object], words: str) -> None:
    with pytest.raises(GldError, match=words):
        build()


def test_config_survives_json() -> None:
    for config in (ModelConfig(), small_config()):
        assert ModelConfig.from_json(config.to_json()) == config


def test_principal_point_near_the_edge() -> None:
    K = np.array([[80.0, 0, 15], [0, 80, 30], [0, 0, 1]])
    with pytest.raises(GldError, match="principal point") as error:
        preprocess(np.zeros((60, 80, 3), np.uint8), K, (56, 42))
    assert error.value.status == Status.BAD_INTRINSICS


def test_picture_of_wrong_kind() -> None:
    with pytest.raises(GldError, match="uint8"):
        preprocess(np.zeros((60, 80), np.uint8), np.eye(3), (56, 42))
