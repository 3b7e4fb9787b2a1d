"""The learned engine around a small random network: what is observed stays real, the rest is the network's."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gld_ros.data.scene import Scene, load_scene
from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.model.checkpoint import save_model
from gld_ros.synthesis.compose import fit_scale
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.network_inputs import best_size, network_camera, network_inputs, spread_to
from gld_ros.synthesis.single_view import NOTE, blank_result, without_blanks
from gld_ros.synthesis.types import GENERATED, OBSERVED, UNKNOWN, PosedView, Request, Result

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test" / "model"))
from small_model import random_model, small_config  # noqa: E402


@pytest.fixture(scope="module")
def scene() -> Scene:
    torch.set_num_threads(1)
    return load_scene(ROOT / "demo" / "room")


@pytest.fixture(scope="module")
def views(scene: Scene) -> list[PosedView]:
    return [scene.posed_view(i) for i in (0, 4)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, random_model(small_config(trained_sizes=((112, 84), (84, 84)))), torch.float32)
    return path


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> NetworkEngine:
    made = load_engine(str(checkpoint), "cpu")
    assert isinstance(made, NetworkEngine)
    return made


@pytest.fixture(scope="module")
def request_(scene: Scene) -> Request:
    return Request([scene.frames[9].camera.resized(96, 72)], preset="fast", seed=3)


@pytest.fixture(scope="module")
def result(engine: NetworkEngine, views: list[PosedView], request_: Request) -> Result:
    return engine.synthesize(views, request_)


def test_says_what_ran(engine: NetworkEngine, result: Result) -> None:
    assert result.status == Status.OK
    assert result.model == "small"
    updates = engine.presets["fast"].level1.points - 1
    assert result.updates == (updates, updates)
    assert result.seed == 3
    assert result.carved
    assert result.confidence_kind.endswith("+head")
    assert not any("classical engine" in n for n in result.notes)


def test_observed_pixels_are_the_real_ones(
    engine: NetworkEngine, views: list[PosedView], request_: Request, result: Result
) -> None:
    geometry = engine.geometry.synthesize(views, request_).views[0]
    made = result.views[0]
    assert np.array_equal(geometry.provenance, made.provenance)
    observed = made.provenance == OBSERVED
    assert 0.2 < observed.mean() < 0.95
    assert np.allclose(made.depth[observed], geometry.depth[observed])
    exact = (made.rgb == geometry.rgb).all(axis=-1)
    assert exact[observed].mean() > 0.5  # all but the seam
    assert geometry.known is not None
    hole = geometry.known == 0
    assert hole.any()
    assert (made.provenance[hole] == GENERATED).all()
    assert np.array_equal(made.rgb[hole], made.generated[hole])
    assert not np.array_equal(made.rgb[hole], geometry.rgb[hole])


def test_same_seed_same_picture_other_seed_another(
    engine: NetworkEngine, views: list[PosedView], request_: Request, result: Result
) -> None:
    again = engine.synthesize(views, request_)
    other = engine.synthesize(views, replace(request_, seed=4))
    assert np.array_equal(again.views[0].generated, result.views[0].generated)
    assert not np.array_equal(other.views[0].generated, result.views[0].generated)


def test_samples_spread_where_generated(engine: NetworkEngine, views: list[PosedView], request_: Request) -> None:
    view = engine.synthesize(views, replace(request_, num_samples=3)).views[0]
    assert view.depth_std is not None
    hole = view.provenance == GENERATED
    assert np.median(view.depth_std[hole]) > 0


def test_generated_composition_has_nothing_observed(
    engine: NetworkEngine, views: list[PosedView], request_: Request
) -> None:
    made = engine.synthesize(views, replace(request_, compose="generated"))
    assert (made.views[0].provenance == GENERATED).all()
    assert np.array_equal(made.views[0].rgb, made.views[0].generated)
    assert made.points_observed is not None
    assert len(made.points_observed.xyz) == 0


@pytest.mark.parametrize("warp_channels", [0, 65])
@pytest.mark.parametrize("preset", ["reference", "fast"])
def test_one_view_without_depth_is_drawn_whole(
    tmp_path: Path, views: list[PosedView], request_: Request, warp_channels: int, preset: str
) -> None:
    config = small_config(trained_sizes=((84, 84),))
    level1 = replace(config.level1, warp_channels=warp_channels, prediction="data" if warp_channels else "velocity")
    encoder = replace(config.encoder, depth_cells=2 if warp_channels else 0)
    config = replace(config, level1=level1, encoder=encoder)
    save_model(tmp_path / "m.safetensors", random_model(config), torch.float32)
    engine = NetworkEngine(tmp_path / "m.safetensors", "cpu")
    one = [replace(views[0], depth=None)]
    made = engine.synthesize(one, replace(request_, preset=preset, stream="front"))
    view = made.views[0]
    assert (made.status, view.status) == (Status.OK, Status.OK)
    assert (view.provenance == GENERATED).all()
    assert np.array_equal(view.rgb, view.generated)
    assert view.rgb.std() > 1
    assert np.isfinite(view.depth).mean() > 0.7  # a square of the picture
    assert not made.scale_valid
    assert made.points_observed is None
    assert made.points_generated is None
    assert NOTE in made.notes
    assert made.confidence_kind == "head"
    with pytest.raises(GldError, match="1 condition view without depth") as caught:
        engine.geometry.synthesize(one, request_)
    assert caught.value.status == Status.NO_KEYFRAMES


@pytest.mark.parametrize("pose_input", ["rays", "prope"])
@pytest.mark.parametrize(("warp_channels", "alt_start"), [(0, 4), (65, 8)])
def test_an_encoder_that_reads_poses_is_given_them(
    tmp_path: Path, views: list[PosedView], request_: Request, pose_input: str, warp_channels: int, alt_start: int
) -> None:
    config = small_config(trained_sizes=((84, 84),))
    level1 = replace(config.level1, warp_channels=warp_channels, prediction="data" if warp_channels else "velocity")
    encoder = replace(config.encoder, pose_input=pose_input, depth_cells=2 if warp_channels else 0, alt_start=alt_start)
    model = random_model(replace(config, level1=level1, encoder=encoder))
    if pose_input == "rays":
        model.encoder.ray_embed.weight.normal_()
    save_model(tmp_path / "m.safetensors", model, torch.float32)
    engine = NetworkEngine(tmp_path / "m.safetensors", "cpu")
    shown = replace(request_, compose="generated")
    first = engine.synthesize(views, shown).views[0].rgb
    assert np.array_equal(engine.synthesize(views, shown).views[0].rgb, first)  # now from the cache of features
    engine.clear()
    assert np.array_equal(engine.synthesize(views, shown).views[0].rgb, first)
    assert engine.synthesize([replace(views[0], depth=None)], shown).status == Status.OK


def test_what_a_budget_left_undrawn_of_one_view_says_so(
    engine: NetworkEngine, views: list[PosedView], request_: Request
) -> None:
    one = [replace(views[0], depth=None)]
    drawn = engine.synthesize(one, request_).views[0]
    left = without_blanks([drawn, *blank_result(request_).views], 2.0)
    assert left[0] is drawn
    assert left[1].status == Status.BUDGET_EXCEEDED
    assert (left[1].provenance == UNKNOWN).all()


def test_cancel_takes_effect_within_one_update(
    engine: NetworkEngine, views: list[PosedView], request_: Request
) -> None:
    seen: list[str] = []
    request = replace(request_, preset="balanced")  # which has several
    with pytest.raises(GldError, match="cancelled before update 2") as caught:
        engine.synthesize(views, request, lambda p: seen.append(f"{p.stage}{p.step}"), lambda: seen[-1:] == ["level10"])
    assert caught.value.status == Status.CANCELLED
    assert seen[-1] == "level10"


def test_budget_below_the_floor_names_it(engine: NetworkEngine, views: list[PosedView], request_: Request) -> None:
    for preset in ("balanced", "fast"):
        engine.synthesize(views, replace(request_, preset=preset))
    with pytest.raises(GldError, match=r"time_budget 1e-06 s is below the floor of [\d.]+ s") as caught:
        engine.synthesize(views, replace(request_, time_budget_s=1e-6))
    assert caught.value.status == Status.BUDGET_EXCEEDED


def test_depth_takes_the_worlds_unit(engine: NetworkEngine, views: list[PosedView], request_: Request) -> None:
    def larger(camera: Camera) -> Camera:
        pose = camera.world_from_cam.copy()
        pose[:3, 3] *= 10
        return camera.moved(pose)

    big = [PosedView("10x" + v.key, larger(v.camera), v.rgb, None if v.depth is None else v.depth * 10) for v in views]
    one = engine.synthesize(views, request_).views[0]
    ten = engine.synthesize(big, replace(request_, targets=[larger(t) for t in request_.targets])).views[0]
    hole = (one.provenance == GENERATED) & (ten.provenance == GENERATED)
    assert np.median(ten.depth[hole] / one.depth[hole]) == pytest.approx(10, rel=0.05)


def test_scale_needs_evidence(engine: NetworkEngine, views: list[PosedView], request_: Request, result: Result) -> None:
    from gld_ros.synthesis.gld import GldRequest, generate

    inputs = network_inputs(views, request_.targets, (112, 84))
    output = generate(engine.model, GldRequest(inputs.cond_rgb, inputs.world_from_cam, inputs.K, rays=False))
    unseen = replace(result.views[0], provenance=np.full_like(result.views[0].provenance, GENERATED))
    assert output.depth is not None
    maps = torch.cat([torch.zeros(1, 3, 84, 112), output.depth.depth[:, 2:], output.depth.depth[:, 2:]], 1)
    assert fit_scale([unseen], inputs, maps, output, 2) is None
    assert fit_scale([result.views[0]], inputs, maps, output, 2) is not None


@pytest.mark.parametrize(("size", "expected"), [((640, 480), (112, 84)), ((300, 300), (84, 84)), ((90, 160), (84, 84))])
def test_trained_size_of_nearest_aspect(size: tuple[int, int], expected: tuple[int, int]) -> None:
    camera = Camera(*size, np.diag([100.0, 100.0, 1.0]), np.eye(4))
    assert best_size([(112, 84), (84, 84)], camera) == expected


def test_network_maps_land_on_their_pixels() -> None:
    K = np.array([[300.0, 0, 319.5], [0, 300.0, 239.5], [0, 0, 1]])
    target = Camera(640, 480, K, np.eye(4))
    network = network_camera(target, (112, 112))
    columns = torch.arange(112.0).expand(1, 112, 112)
    spread, field = spread_to(target, network, columns)
    ray_x = (np.arange(640) - K[0, 2]) / K[0, 0]
    expected = ray_x * network.K[0, 0] + network.K[0, 2]
    row_field = field[240]
    assert 0.7 < field.mean() < 0.8  # a square crop of 4:3
    inner = row_field & (expected > 0) & (expected < 111)
    assert np.allclose(spread[0, 240, inner], expected[inner], atol=1e-3)


def test_principal_point_near_an_edge_is_refused(views: list[PosedView]) -> None:
    bad = Camera(100, 100, np.array([[100.0, 0, 5], [0, 100.0, 50], [0, 0, 1]]), np.eye(4))
    with pytest.raises(GldError, match="principal point") as caught:
        network_inputs(views, [bad], (112, 84))
    assert caught.value.status == Status.BAD_INTRINSICS
