"""Known poses as an input of small models' encoders: rays before views meet, or PRoPE where they do."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from small_model import lens, orbit, random_model, small_config

from gld_ros.errors import GldError
from gld_ros.evaluation.cost import part_costs
from gld_ros.model.checkpoint import load_model, save_model
from gld_ros.model.config import EncoderConfig, ModelConfig
from gld_ros.model.encoder import Encoder
from gld_ros.model.gld_model import GldModel
from gld_ros.model.known_depth import KnownDepth
from gld_ros.model.known_pose import network_cameras, patch_rays
from gld_ros.model.prope import prope
from gld_ros.synthesis.gld import GldRequest, generate

SIZE = (42, 28)  # W, H
POSES = ("rays", "prope")
BEFORE, AFTER = EncoderConfig(alt_start=4), EncoderConfig(alt_start=8)  # the first cross-view block and level 1


def pose_config(pose_input: str, meets: EncoderConfig = AFTER, depth_cells: int = 0) -> ModelConfig:
    encoder = small_config().encoder
    encoder = replace(encoder, pose_input=pose_input, alt_start=meets.alt_start, depth_cells=depth_cells)
    return small_config(encoder=encoder, trained_sizes=(SIZE,))


def pose_model(pose_input: str, meets: EncoderConfig = AFTER, depth_cells: int = 0) -> GldModel:
    model = random_model(pose_config(pose_input, meets, depth_cells))
    if pose_input == "rays":
        model.encoder.ray_embed.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(1))
    return model


def pictures(views: int = 3) -> torch.Tensor:
    return torch.rand(1, views, 3, SIZE[1], SIZE[0], generator=torch.Generator().manual_seed(0))


def cameras_of(seed: int = 0, views: int = 3):
    return network_cameras(orbit(views, seed), lens(views, SIZE))


def test_the_switch_adds_nothing_but_the_ray_layer():
    models = {}
    for kind in ("none", *POSES):
        torch.manual_seed(0)
        models[kind] = Encoder(pose_config(kind).encoder).state_dict()
    assert set(models["prope"]) == set(models["none"])
    assert set(models["rays"]) - set(models["none"]) == {"ray_embed.weight"}
    assert all(torch.equal(v, m[k]) for m in models.values() for k, v in models["none"].items())


@pytest.mark.parametrize("meets", [BEFORE, AFTER])
def test_switched_off_does_not_look_at_cameras_and_rays_start_without_effect(meets):
    encoder, rgb = random_model(pose_config("none", meets)).encoder, pictures()
    plain = encoder(rgb)
    assert all(torch.equal(a, b) for a, b in zip(plain, encoder(rgb, cameras=cameras_of()), strict=True))
    new = random_model(pose_config("rays", meets)).encoder
    new.load_state_dict(encoder.state_dict(), strict=False)
    assert all(torch.equal(a, b) for a, b in zip(plain, new(rgb, cameras=cameras_of()), strict=True))


@pytest.mark.parametrize("kind", POSES)
@pytest.mark.parametrize("meets", [BEFORE, AFTER])
def test_features_follow_the_cameras_from_where_views_meet(kind, meets):
    encoder, rgb = pose_model(kind, meets).encoder, pictures()
    one, other = encoder(rgb, cameras=cameras_of(0)), encoder(rgb, cameras=cameras_of(1))
    changed = [not torch.allclose(a, b, atol=1e-4) for a, b in zip(one, other, strict=True)]
    assert changed == ([True] * 4 if meets is BEFORE else [False, False, True, True])


@pytest.mark.parametrize("kind", POSES)
def test_moving_the_whole_world_changes_nothing(kind):
    encoder, rgb, poses, K = pose_model(kind).encoder, pictures(), orbit(3), lens(3, SIZE)
    moved = orbit(1, seed=9) @ poses
    for a, b in zip(
        encoder(rgb, cameras=network_cameras(poses, K)), encoder(rgb, cameras=network_cameras(moved, K)), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("kind", POSES)
def test_baselines_count_in_their_unit(kind):
    """Poses twice as far apart are another input, unlike for the transformers, which normalise them."""
    encoder, rgb, poses, K = pose_model(kind).encoder, pictures(), orbit(3), lens(3, SIZE)
    far = poses.clone()
    far[..., :3, 3] *= 2
    near, wide = (encoder(rgb, cameras=network_cameras(p, K))[3] for p in (poses, far))
    assert not torch.allclose(near, wide, atol=1e-4)
    scaled = network_cameras(far, K, torch.tensor([0.5]))
    assert torch.allclose(near, encoder(rgb, cameras=scaled)[3], atol=1e-4)


@pytest.mark.parametrize("kind", POSES)
@pytest.mark.parametrize("meets", [BEFORE, AFTER])
def test_propagation_gives_what_the_encoder_gives(kind, meets):
    encoder, rgb = pose_model(kind, meets).encoder, pictures()
    raw = encoder(rgb, cameras=cameras_of())
    made = encoder.propagate(raw[1][:, :, 1:], raw[1][:, :, 0], (2, 3), cameras_of())
    for a, b in zip(made, raw[2:], strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("kind", POSES)
def test_missing_cameras_are_an_error_only_where_they_are_read(kind):
    model, rgb = pose_model(kind), pictures()
    latents = model.encode(rgb)  # views do not meet before level 1
    with pytest.raises(GldError, match=f"pose_input: {kind}.*3 views"):
        model.encoder(rgb)
    with pytest.raises(GldError, match="pose_input"):
        model.decoder_levels(latents, model.propagation_cls(rgb))
    with pytest.raises(GldError, match="one camera for every view"):
        model.encoder(rgb, cameras=cameras_of(views=2))
    with pytest.raises(GldError, match="pose_input"):
        pose_model(kind, BEFORE).encode(rgb)


def test_a_model_file_keeps_the_switch(tmp_path):
    for kind in POSES:
        model, rgb = pose_model(kind), pictures()
        save_model(tmp_path / "m.safetensors", model)
        again = load_model(tmp_path / "m.safetensors")
        assert again.config.encoder.pose_input == kind
        old, new = (m.encoder(rgb, cameras=cameras_of())[3] for m in (model, again))
        assert torch.equal(old, new)


def test_files_from_before_the_switch_have_it_off():
    values = json.loads(pose_config("prope").to_json())
    del values["encoder"]["pose_input"]
    assert ModelConfig.from_json(json.dumps(values)) == pose_config("none")


def test_impossible_switches_are_refused():
    with pytest.raises(GldError, match="no block attends over all views"):
        replace(AFTER, pose_input="rays", alt_start=12)
    with pytest.raises(GldError, match="multiple of 8"):
        replace(AFTER, pose_input="prope", width=48, heads=4)
    with pytest.raises(GldError, match="pose_input"):
        ModelConfig.from_json(json.dumps({"encoder": {"pose_input": "plucker"}}))


def test_patch_rays_pass_through_patch_centres():
    cameras, patch = cameras_of(), 14
    whole = cameras.map(0, (SIZE[1], SIZE[0]), ((patch - 1) / 2, (patch - 1) / 2))
    expected = whole[:, :, 1:, ::patch, ::patch].flatten(3).transpose(2, 3)
    assert torch.allclose(patch_rays(cameras, (2, 3), patch), expected, atol=1e-6)


def test_class_tokens_have_a_camera_and_no_place():
    turns = prope(orbit(2).float(), lens(2, SIZE), SIZE, (2, 3), head=16, class_tokens=1)
    without = prope(orbit(2).float(), lens(2, SIZE), SIZE, (2, 3), head=16)
    q = torch.randn(1, 1, 2 * 7, 16)
    turned = turns.query(q).unflatten(2, (2, 7))
    assert torch.equal(turned[:, :, :, 0, 8:], q.unflatten(2, (2, 7))[:, :, :, 0, 8:])
    patches = q.unflatten(2, (2, 7))[:, :, :, 1:].flatten(2, 3)
    assert torch.allclose(turned[:, :, :, 1:].flatten(2, 3), without.query(patches), atol=1e-6)


@pytest.mark.parametrize("kind", POSES)
@pytest.mark.parametrize("meets", [BEFORE, AFTER])
def test_a_request_in_another_unit_gives_the_same_picture(kind, meets):
    """With known depth, poses and depth in millimetres are as good as in metres."""
    model = pose_model(kind, meets, depth_cells=2)
    depth = KnownDepth(torch.rand(1, 2, SIZE[1], SIZE[0]) + 2, torch.ones(1, 2, SIZE[1], SIZE[0]))
    made = []
    for unit in (1.0, 1000.0):
        poses = orbit(3)
        poses[..., :3, 3] *= unit
        known = depth.scaled(torch.tensor([unit]))
        made.append(generate(model, GldRequest(pictures(2), poses, lens(3, SIZE), cond_depth=known)))
    assert torch.allclose(made[0].rgb, made[1].rgb, atol=1e-3)
    assert torch.allclose(made[0].depth.depth * 1000, made[1].depth.depth, rtol=1e-3)
    samples = generate(model, GldRequest(pictures(2), orbit(3), lens(3, SIZE), cond_depth=depth, samples=2))
    assert torch.allclose(samples.rgb[:1], made[0].rgb, atol=1e-3)


@pytest.mark.parametrize("kind", ["rays", "prope"])
def test_operations_are_counted_without_cameras(kind):
    found, plain = (part_costs(c, (4 * c.level1.patch,) * 2, 3, 2) for c in (pose_config(kind), pose_config("none")))
    assert found == plain
