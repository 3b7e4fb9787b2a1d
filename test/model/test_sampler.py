"""The sampler: solvers converge as they should, and every saving either changes nothing or is counted."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from small_model import lens, orbit, random_model, small_config
from torch import Tensor

from gld_ros.errors import GldError
from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.config import DiTConfig, SamplerConfig
from gld_ros.model.dit import DiT, DiTInputs
from gld_ros.model.gld_model import GldModel, Stage
from gld_ros.model.sampler import Evaluations, count_evaluations, sample, sample_levels, time_grid

SIZE = (42, 28)
SPREAD = 0.3  # of the data in the Gaussian flow


class GaussianFlow:
    """The exact velocity for data drawn from N(0, SPREAD^2); x(t) then is proportional to the spread at t."""

    config = None

    def prepare(self, inputs: object) -> object:
        return inputs

    def embed_time(self, t: Tensor) -> Tensor:
        return t

    def encode(self, *_: object) -> Tensor:
        return torch.zeros(1)

    def velocity(self, x: Tensor, t: Tensor, *_: object) -> Tensor:
        s = float(t[0])
        return (s - (1 - s) * SPREAD**2) / (s**2 + (1 - s) ** 2 * SPREAD**2) * x


def error_of(solver: str, points: int) -> float:
    config = SamplerConfig(points, 2.0, 1.0, last=0.05, solver=solver)  # type: ignore[arg-type]
    end = sample(GaussianFlow(), SimpleNamespace(), torch.ones(1, 1, 1, 1, 1), config)  # type: ignore[arg-type]
    t = float(time_grid(2.0, points, 0.05)[-1])
    return abs(float(end) - math.hypot(t, (1 - t) * SPREAD))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("dpmpp_2m", 2)])
def test_order_of_solvers(solver: str, order: int) -> None:
    gain = math.log2(error_of(solver, 65) / error_of(solver, 129))
    assert gain == pytest.approx(order, abs=0.4)


def test_second_order_is_nearer_with_equal_evaluations() -> None:
    assert error_of("dpmpp_2m", 17) < 0.7 * error_of("euler", 17)
    assert error_of("heun", 9) < error_of("euler", 17)


@pytest.mark.parametrize("source_channels", [0, 64])
def test_cascade_follows_level_1_and_sees_it_only_where_it_reads_it(source_channels: int) -> None:
    config = small_config()
    assert config.cascade is not None
    config = dataclasses.replace(config, cascade=dataclasses.replace(config.cascade, source_channels=source_channels))
    made = {"level1": torch.ones(1), "cascade": torch.zeros(1)}
    seen: list[tuple[Stage, Tensor | None]] = []

    def run(stage: Stage, source: Tensor | None) -> Tensor:
        seen.append((stage, source))
        return made[stage]

    latents = sample_levels(config, run)
    assert seen == [("level1", None), ("cascade", made["level1"] if source_channels else None)]
    assert (latents.level0, latents.level1) == (made["cascade"], made["level1"])


def test_joint_model_makes_both_levels_in_one_stage() -> None:
    config = small_config()
    level1 = dataclasses.replace(config.level1, latent_channels=128)
    both = torch.randn(1, 2, 128, 2, 3)
    latents = sample_levels(dataclasses.replace(config, level1=level1, cascade=None), lambda _stage, _source: both)
    assert torch.equal(torch.cat([latents.level0, latents.level1], dim=2), both)


@pytest.fixture(scope="module", params=["level1", "cascade", "warped"])
def case(request: pytest.FixtureRequest) -> tuple[DiT, DiTInputs, Tensor]:
    """A transformer of each kind with inputs of two scenes, three views."""
    torch.set_num_threads(1)
    model = random_model(small_config())
    stage = "cascade" if request.param == "cascade" else "level1"
    source = torch.randn(2, 3, 64, 2, 3) if stage == "cascade" else None
    inputs = inputs_of(model, stage, source)
    dit: DiT = model.get_submodule(stage)  # type: ignore[assignment]
    if request.param == "warped":
        config = dataclasses.replace(dit.config, warp_channels=65, prediction="data")
        dit, inputs = warped(config), dataclasses.replace(inputs, warp=torch.rand(2, 3, 65, 2, 3))
    return dit, inputs, torch.randn(2, 3, 64, 2, 3)


def warped(config: DiTConfig) -> DiT:
    torch.manual_seed(1)
    return DiT(config).eval().requires_grad_(False)


def inputs_of(model: GldModel, stage: str, source: Tensor | None = None) -> DiTInputs:
    poses = torch.cat([orbit(3), orbit(3, 1)])
    cameras = relative_cameras(poses, lens(3, SIZE).repeat(2, 1, 1, 1))
    conditions = model.encode(torch.rand(2, 1, 3, SIZE[1], SIZE[0]))
    return model.dit_inputs(stage, conditions, cameras, source)  # type: ignore[arg-type]


def test_plain_path_and_reuse_agree(case: tuple[DiT, DiTInputs, Tensor]) -> None:
    dit, inputs, noise = case
    config = SamplerConfig(5, 6.0, 1.5)
    plain = sample(dit, inputs, noise, dataclasses.replace(config, reuse=False))
    torch.testing.assert_close(sample(dit, inputs, noise, config), plain, rtol=1e-4, atol=1e-4)


def test_embedding_in_parts_equals_the_convolution(case: tuple[DiT, DiTInputs, Tensor]) -> None:
    dit, inputs, x_t = case
    condition = dit.prepare(inputs)
    maps = [inputs.ref_cond, x_t] + ([] if inputs.warp is None else [inputs.warp])
    joined = torch.cat(maps, dim=2)
    expected = []
    for view in range(3):
        name = "x_embedder"
        if dit.config.split_embedders:
            name += "_ref" if view < inputs.cond_num else "_tgt"
        expected.append(dit.get_submodule(name)(joined[:, view]))
    found = condition.decoder_part + dit._embed("x_embedder", {"middle": x_t}, inputs.cond_num)
    torch.testing.assert_close(found, torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


@pytest.fixture
def forwards() -> Iterator[list[str]]:
    """Counts of forwards and of runs of the narrow half, per call."""
    seen: list[str] = []
    patch = pytest.MonkeyPatch()
    for name in ("forward", "encode"):
        original = getattr(DiT, name)
        patch.setattr(DiT, name, lambda self, *a, _o=original, _n=name, **k: (seen.append(_n), _o(self, *a, **k))[1])
    yield seen
    patch.undo()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Evaluations(16, 16)),
        ({"reuse": False}, Evaluations(16, 16)),
        ({"guidance": 1.0}, Evaluations(8, 8)),
        ({"guidance_interval": (0.9, 1.0)}, Evaluations(12, 12)),
        ({"encoder_every": 3}, Evaluations(16, 6)),
        ({"solver": "dpmpp_2m", "last": 0.0}, Evaluations(16, 16)),
        ({"solver": "heun", "guidance": 1.0, "last": 0.0}, Evaluations(15, 15)),
        ({"solver": "heun", "encoder_every": 2}, Evaluations(32, 16)),
    ],
)
def test_what_runs_is_what_is_counted(
    small_model: GldModel, forwards: list[str], changes: dict[str, object], expected: Evaluations
) -> None:
    config = SamplerConfig(**{"points": 9, "shift": 6.0, **changes})  # type: ignore[arg-type]
    sample(small_model.level1, inputs_of(small_model, "level1"), torch.randn(2, 3, 64, 2, 3), config)
    assert Evaluations(forwards.count("forward"), forwards.count("encode")) == expected
    assert count_evaluations(config) == expected


def test_shared_encoder_still_sees_the_time(small_model: GldModel) -> None:
    inputs, x = inputs_of(small_model, "level1"), torch.randn(2, 3, 64, 2, 3)
    condition = small_model.level1.prepare(inputs)
    t = [torch.full((2,), value) for value in (0.9, 0.5)]
    encoded = small_model.level1.encode(x, small_model.level1.embed_time(t[0]), condition)
    shared = [small_model.level1(x, time, condition, encoded=encoded) for time in t]
    own = [small_model.level1(x, time, condition) for time in t]
    torch.testing.assert_close(shared[0], own[0])
    assert 0 < F.mse_loss(shared[1], own[1]) < F.mse_loss(shared[0], own[1])


def test_guidance_outside_its_interval_changes_nothing(case: tuple[DiT, DiTInputs, Tensor]) -> None:
    dit, inputs, noise = case
    never = SamplerConfig(4, 2.0, 3.0, guidance_interval=(0.0, 0.0))
    torch.testing.assert_close(
        sample(dit, inputs, noise, never), sample(dit, inputs, noise, dataclasses.replace(never, guidance=1.0))
    )


def test_hurry_ends_with_one_update_to_the_end(small_model: GldModel) -> None:
    inputs, noise = inputs_of(small_model, "level1"), torch.randn(2, 3, 64, 2, 3)
    steps: list[int] = []
    config = SamplerConfig(9, 6.0, 1.5)
    hurried = sample(small_model.level1, inputs, noise, config, lambda i, n, x: steps.append(i), lambda i, n: i == 0)
    assert steps == [0]
    torch.testing.assert_close(
        hurried, sample(small_model.level1, inputs, noise, dataclasses.replace(config, points=2))
    )


def test_warm_start_begins_at_the_guess(small_model: GldModel) -> None:
    inputs, noise, guess = inputs_of(small_model, "level1"), torch.randn(2, 3, 64, 2, 3), torch.randn(2, 3, 64, 2, 3)
    states: list[Tensor] = []
    config = SamplerConfig(5, 6.0, 1.0, start=0.25)
    sample(small_model.level1, inputs, noise, config, lambda i, n, x: states.append(x), guess=guess)
    torch.testing.assert_close(states[0], 0.75 * guess + 0.25 * noise)
    assert float(time_grid(6.0, 5, 0.001, 0.25)[0]) == pytest.approx(0.25)
    torch.testing.assert_close(time_grid(6.0, 5, 0.001, 0.25)[-1], time_grid(6.0, 5)[-1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"solver": "rk4"}, "solver is 'rk4'"),
        ({"guidance_interval": (0.7, 0.2)}, "guidance_interval"),
        ({"encoder_every": 0}, "encoder_every is 0"),
        ({"encoder_every": 2, "reuse": False}, "needs reuse"),
        ({"start": 0.01}, "start is 0.01"),
        ({"start": 1.5}, "start is 1.5"),
    ],
)
def test_bad_sampler_settings(changes: dict[str, object], words: str) -> None:
    with pytest.raises(GldError, match=words):
        SamplerConfig(**changes)  # type: ignore[arg-type]
