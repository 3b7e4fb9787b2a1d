"""What must not change a result: the world's frame, who shares the batch, and what must merely work."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_model import lens, orbit, random_model, small_config
from torch import Tensor

from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.gld_model import GldModel, Latents
from gld_ros.synthesis.gld import GldOutput, GldRequest, generate

SIZE = (56, 42)


def request_of(views: int, cond_num: int, size: tuple[int, int] = SIZE, seed: int = 0) -> GldRequest:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.rand(1, cond_num, 3, size[1], size[0], generator=generator)
    return GldRequest(rgb, orbit(views, seed), lens(views, size), seed=seed)


def fields(output: GldOutput) -> dict[str, Tensor]:
    assert output.rgb is not None
    assert output.depth is not None
    assert output.depth.ray is not None
    return {
        "level1": output.latents.level1,
        "level0": output.latents.level0,
        "rgb": output.rgb,
        "depth": output.depth.depth,
        "ray": output.depth.ray,
    }


def assert_same(first: GldOutput, second: GldOutput, tolerance: float = 1e-4) -> None:
    for name, value in fields(first).items():
        limit = tolerance * max(1.0, float(value.abs().max()))
        assert float((value - fields(second)[name]).abs().max()) < limit, name


@pytest.mark.parametrize("offset_m", [0.0, 1e4])
def test_common_rigid_transform_changes_nothing(small_model: GldModel, offset_m: float) -> None:
    request = request_of(3, 2)
    world = orbit(1, seed=9)[:, :1]
    world[..., :3, 3] += offset_m
    moved = dataclasses.replace(request, world_from_cam=world @ request.world_from_cam)
    assert_same(generate(small_model, request), generate(small_model, moved))


def test_poses_do_matter(small_model: GldModel) -> None:
    request = request_of(3, 2)
    moved = request.world_from_cam.clone()
    moved[:, 1, 0, 3] += 1.0
    other = generate(small_model, dataclasses.replace(request, world_from_cam=moved))
    assert float((other.latents.level1 - generate(small_model, request).latents.level1).abs().max()) > 1e-3


def test_batch_of_two_equals_two_single_requests(small_model: GldModel) -> None:
    first, second = request_of(3, 2, seed=1), request_of(3, 2, seed=2)
    generator = torch.Generator().manual_seed(5)
    noise = [Latents(*(torch.randn(1, 3, 64, 3, 4, generator=generator) for _ in range(2))) for _ in (first, second)]
    both = GldRequest(
        torch.cat([first.cond_rgb, second.cond_rgb]),
        torch.cat([first.world_from_cam, second.world_from_cam]),
        torch.cat([first.K, second.K]),
        noise=Latents(torch.cat([n.level0 for n in noise]), torch.cat([n.level1 for n in noise])),
    )
    together = fields(generate(small_model, both))
    for index, request in enumerate((first, second)):
        alone = fields(generate(small_model, dataclasses.replace(request, noise=noise[index])))
        for name, value in alone.items():
            torch.testing.assert_close(together[name][index : index + 1], value, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("views", "cond_num"), [(2, 1), (3, 1), (5, 4), (8, 3)])
def test_view_counts(small_model: GldModel, views: int, cond_num: int) -> None:
    output = generate(small_model, request_of(views, cond_num))
    assert fields(output)["rgb"].shape == (1, views, 3, SIZE[1], SIZE[0])
    assert all(torch.isfinite(value).all() for value in fields(output).values())


@pytest.mark.parametrize("size", [(14, 70), (70, 14), (98, 98), (14, 14)])
def test_odd_shapes(small_model: GldModel, size: tuple[int, int]) -> None:
    output = fields(generate(small_model, request_of(2, 1, size)))
    assert output["rgb"].shape[-2:] == (size[1], size[0])
    assert output["ray"].shape[2:4] == (8 * size[1] // 14, 8 * size[0] // 14)
    assert all(torch.isfinite(value).all() for value in output.values())


def test_same_seed_same_result_other_seed_other_result(small_model: GldModel) -> None:
    request = request_of(2, 1)
    first, again = generate(small_model, request), generate(small_model, request)
    other = generate(small_model, dataclasses.replace(request, seed=1))
    assert torch.equal(first.latents.level0, again.latents.level0)
    assert not torch.equal(first.latents.level0, other.latents.level0)


def test_more_views_than_trained_is_said_aloud() -> None:
    model = random_model(small_config(trained_views=2))
    assert any("3 views" in note for note in generate(model, request_of(3, 1)).notes)


def test_identical_centres_are_finite_and_said_aloud(small_model: GldModel) -> None:
    request = request_of(3, 2)
    poses = request.world_from_cam.clone()
    poses[..., :3, 3] = torch.tensor([1e4, -2e4, 30.0], dtype=torch.float64)
    output = generate(small_model, dataclasses.replace(request, world_from_cam=poses))
    assert any("scale" in note for note in output.notes)
    assert not output.cameras.scale_valid.any()
    assert all(torch.isfinite(value).all() for value in fields(output).values())
    # A rotation about one point must look the same wherever the point is.
    poses[..., :3, 3] = 0
    assert_same(output, generate(small_model, dataclasses.replace(request, world_from_cam=poses)))


def test_largest_coordinate_is_scaled_to_one() -> None:
    cameras = relative_cameras(orbit(4), lens(4, SIZE))
    moved = cameras.ref_from_cam[..., :3, 3] * cameras.scale
    assert float(moved.abs().max()) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(cameras.ref_from_cam[0, -1], torch.eye(4, dtype=torch.float64))
