"""Plain, slow versions of what is written compactly, and the configurations small models use."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from small_model import lens, orbit, random_model, small_config
from torch import Tensor

from gld_ros.model.camera_map import relative_cameras
from gld_ros.model.config import (
    DepthHeadConfig,
    DiTConfig,
    EncoderConfig,
    ModelConfig,
    RgbDecoderConfig,
    SamplerConfig,
)
from gld_ros.model.dit import DiT, DiTInputs, initialise_dit
from gld_ros.model.encoder import Encoder
from gld_ros.model.gld_model import GldModel
from gld_ros.model.precision import cast, fp32_names, full_fp32
from gld_ros.model.prope import normalised_intrinsics, prope
from gld_ros.model.rays import cameras_from_rays
from gld_ros.model.sampler import sample, time_grid
from gld_ros.synthesis.gld import GldRequest, generate


def plain_prope_attention(
    q: Tensor, k: Tensor, v: Tensor, viewmats: Tensor, K: Tensor, grid: tuple[int, int]
) -> Tensor:
    """Specification section 7, token by token, for one scene and one head: (tokens, d)."""
    tokens, width = q.shape
    per_view = grid[0] * grid[1]
    eighth = width // 8

    def turn(x: Tensor, matrix: Tensor, token: int, sign: float) -> Tensor:
        row, column = divmod(token % per_view, grid[1])
        out = [matrix @ x[4 * group : 4 * group + 4] for group in range(eighth)]
        for part, position in enumerate((column, row)):
            a = x[width // 2 + part * width // 4 :][:eighth]
            b = x[width // 2 + part * width // 4 + eighth :][:eighth]
            angle = torch.tensor([position * 100 ** (-n / eighth) for n in range(eighth)], dtype=x.dtype)
            out += [a * angle.cos() + sign * b * angle.sin(), b * angle.cos() - sign * a * angle.sin()]
        return torch.cat(out)

    P, P_tilde = [], []
    for view in range(len(viewmats)):
        L = normalised_intrinsics(K[view], (56, 42))
        P.append(L @ viewmats[view])
        P_tilde.append(torch.linalg.inv(viewmats[view]) @ L)
    owner = [token // per_view for token in range(tokens)]
    qs = torch.stack([turn(q[i], P[owner[i]].T, i, 1) for i in range(tokens)])
    ks = torch.stack([turn(k[i], P_tilde[owner[i]], i, 1) for i in range(tokens)])
    vs = torch.stack([turn(v[i], P_tilde[owner[i]], i, 1) for i in range(tokens)])
    mixed = torch.softmax(qs @ ks.T / math.sqrt(width), dim=-1) @ vs
    return torch.stack([turn(mixed[i], P[owner[i]], i, -1) for i in range(tokens)])


def test_prope_equals_its_plain_version() -> None:
    torch.manual_seed(0)
    viewmats = relative_cameras(orbit(3), lens(3, (56, 42))).cam_from_ref_scaled().float()
    q, k, v = torch.randn(3, 2, 3 * 12, 16)
    fast = prope(viewmats, lens(3, (56, 42)), (56, 42), (3, 4), 16).attend(q[None], k[None], v[None])
    for head in range(2):
        plain = plain_prope_attention(q[head], k[head], v[head], viewmats[0], lens(3, (56, 42))[0], (3, 4))
        torch.testing.assert_close(fast[0, head], plain, rtol=1e-4, atol=1e-5)


def test_prope_matrices_stay_fp32_under_autocast() -> None:
    viewmats = relative_cameras(orbit(2), lens(2, (56, 42))).cam_from_ref_scaled()
    q = torch.randn(1, 2, 24, 16)
    plain = prope(viewmats, lens(2, (56, 42)), (56, 42), (3, 4), 16)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = prope(viewmats, lens(2, (56, 42)), (56, 42), (3, 4), 16)
        assert torch.equal(rounded.P_tilde, plain.P_tilde)
        assert torch.equal(rounded.query(q), plain.query(q))


def test_published_prope_cancels_for_equal_cameras() -> None:
    """With the published inverse, P times P-tilde of the same view is the identity."""
    viewmats = relative_cameras(orbit(2), lens(2, (56, 42))).cam_from_ref_scaled()
    published = prope(viewmats, lens(2, (56, 42)), (56, 42), (3, 4), 16, key_inverse=True)
    torch.testing.assert_close(published.P_tilde @ published.P, torch.eye(4).expand(1, 2, 4, 4), rtol=0, atol=1e-5)
    released = prope(viewmats, lens(2, (56, 42)), (56, 42), (3, 4), 16)
    assert not torch.allclose(released.P_tilde @ released.P, torch.eye(4).expand(1, 2, 4, 4), atol=1e-2)


def test_default_time_grid() -> None:
    config = SamplerConfig()
    times = time_grid(config.shift, config.points, config.last)
    assert config.shift == pytest.approx(31.1769, abs=1e-4)
    assert len(times) == 50
    assert float(times[0]) == 1.0
    assert times[-4:].tolist() == pytest.approx([0.6739, 0.5761, 0.4052, 0.0303], abs=1e-4)
    assert bool((times.diff() < 0).all())
    assert float(time_grid(6.0, 9, last=0.0)[-1]) == 0.0


def test_guidance_of_one_runs_one_branch(small_model: GldModel) -> None:
    counted = []
    handle = small_model.level1.register_forward_hook(lambda *_: counted.append(1))
    size = (28, 28)
    for guidance, expected in ((1.0, 2), (1.5, 4)):
        counted.clear()
        inputs = small_model.dit_inputs(
            "level1", small_model.encode(torch.rand(1, 1, 3, 28, 28)), relative_cameras(orbit(2), lens(2, size))
        )
        sample(small_model.level1, inputs, torch.randn(1, 2, 64, 2, 2), SamplerConfig(3, 6.0, guidance))
        assert len(counted) == expected
    handle.remove()


def test_cameras_can_be_dropped_for_some_scenes(small_model: GldModel) -> None:
    poses = torch.cat([orbit(2, seed) for seed in range(3)])
    rgb = torch.rand(3, 1, 3, 28, 28)
    inputs = small_model.dit_inputs(
        "level1", small_model.encode(rgb), relative_cameras(poses, lens(2, (28, 28)).repeat(3, 1, 1, 1))
    )
    config = small_model.config.level1
    some, full = inputs.unconditional(config, torch.tensor([False, True, False])), inputs.unconditional(config)
    for name in ("camera_map", "cam_from_ref", "K"):
        mixed = getattr(some, name)
        assert torch.equal(mixed[1], getattr(full, name)[1])
        assert torch.equal(mixed[::2], getattr(inputs, name)[::2])
    assert torch.equal(full.camera_map[:, :, 0], inputs.camera_map[:, :, 0])
    assert not full.camera_map[:, :, 1:].any()


def test_cameras_from_exact_rays() -> None:
    """Rays made from known cameras give them back; the intrinsics scale from the ray map to the picture."""
    first_from_cam = torch.linalg.inv(orbit(3)[0, 0]) @ orbit(3)[0]
    K = lens(1, (48, 32))[0, 0].double()
    v, u = torch.meshgrid(torch.arange(32.0).double(), torch.arange(48.0).double(), indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1)
    directions = pixels @ (first_from_cam[:, None, :3, :3] @ torch.linalg.inv(K)).transpose(-1, -2)
    centres = first_from_cam[:, None, None, :3, 3].expand(-1, 32, 48, -1)
    poses, found = cameras_from_rays(torch.cat([directions, centres], dim=-1), torch.ones(3, 32, 48), (64, 96))
    torch.testing.assert_close(poses, first_from_cam, rtol=0, atol=1e-8)
    torch.testing.assert_close(found, torch.diag(torch.tensor([2.0, 2.0, 1.0]).double()) @ K, rtol=0, atol=1e-6)


# -- configurations of small models -------------------------------------------------------------------------------


def late_views_config(joint: bool = False, warp: bool = False) -> ModelConfig:
    """As the small default model: patch 16, levels after blocks 1, 3, 5, 7, views meet only after level 1."""
    channels = 64 if joint else 32
    dit = DiTConfig(channels, 16, 32, 2, 2, 32, 1, 2, 16, prediction="data", warp_channels=channels + 1 if warp else 0)
    return ModelConfig(
        name="late",
        encoder=EncoderConfig(16, 32, 8, 2, 64, 8, level_blocks=(1, 3, 5, 7), level_features="last"),
        level1=dit,
        cascade=None if joint else dataclasses.replace(dit, split_embedders=False, source_channels=32),
        rgb=RgbDecoderConfig(128, 32, 1, 2, 64, (8, 8), 16),
        depth=DepthHeadConfig(32, 16, (8, 8, 16, 16), 8, 16),
        sampler=SamplerConfig(2, 1.0, 1.0, 0.0),
        trained_sizes=((64, 64),),
    )


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("warp", [False, True])
def test_small_model_variants_run(joint: bool, warp: bool) -> None:
    model = random_model(late_views_config(joint, warp))
    views, size = 3, (32, 48)
    request = GldRequest(torch.rand(1, 1, 3, 48, 32), orbit(views), lens(views, size))
    if warp:
        request = dataclasses.replace(
            request, warp_rgb=torch.rand(1, views, 3, 48, 32), warp_coverage=torch.ones(1, views, 48, 32)
        )
    output = generate(model, request)
    assert output.rgb is not None
    assert output.rgb.shape == (1, views, 3, 48, 32)
    assert output.latents.level0.shape == (1, views, 32, 3, 2)
    assert torch.isfinite(output.rgb).all()


@pytest.mark.parametrize("joint", [False, True])
def test_untrained_warp_model_returns_the_warp(joint: bool) -> None:
    """Data prediction is a residual on the warp, and the last layer starts at zero."""
    model = random_model(late_views_config(joint, warp=True))
    initialise_dit(model.level1)
    warp = torch.rand(1, 2, 3, 32, 32)
    request = GldRequest(
        torch.rand(1, 1, 3, 32, 32), orbit(2), lens(2, (32, 32)), warp_rgb=warp, warp_coverage=torch.ones(1, 2, 32, 32)
    )
    expected = model.encode(warp)
    torch.testing.assert_close(generate(model, request).latents.level1, expected.level1, rtol=1e-4, atol=1e-4)


def test_levels_before_the_first_cross_view_block_ignore_other_views() -> None:
    model = random_model(late_views_config())
    rgb = torch.rand(1, 3, 3, 32, 32)
    together, alone = model.encode(rgb), model.encode(rgb[:, 1:2])
    torch.testing.assert_close(together.level1[:, 1:2], alone.level1, rtol=1e-4, atol=1e-5)
    levels = model.encoder(rgb)
    assert not torch.allclose(levels[3][:, 1:2], model.encoder(rgb[:, 1:2])[3], atol=1e-3)


@pytest.mark.parametrize("config", [small_config(), late_views_config()], ids=lambda config: config.name)
def test_propagating_true_level1_equals_encoding(config: ModelConfig) -> None:
    model = random_model(config)
    patch = config.encoder.patch
    raw = model.encoder(torch.rand(1, 2, 3, 2 * patch, 3 * patch))
    levels = model.encoder.propagate(raw[1][:, :, 1:], raw[1][:, :, 0], (2, 3))
    for found, expected in zip(levels, raw[2:], strict=True):
        torch.testing.assert_close(found[:, :, 1:], expected[:, :, 1:], rtol=1e-4, atol=1e-5)


def test_everything_trains() -> None:
    """Gradients reach every trainable weight of every part."""
    model = random_model(late_views_config()).train().requires_grad_(True)
    model.level1.t_embedder.W.requires_grad_(False)
    model.cascade.t_embedder.W.requires_grad_(False)
    model.rgb_decoder.decoder_pos_embed.requires_grad_(False)
    rgb = torch.rand(1, 2, 3, 32, 32)
    levels = [level[:, :, 1:] for level in model.encoder(rgb)]
    depth = model.depth_head(model.layer_normed(levels), (2, 2))
    assert depth.ray is not None
    assert depth.ray_conf is not None
    loss = model.decode_rgb(levels, (2, 2)).square().mean() + depth.depth.mean() + depth.depth_conf.mean()
    loss = loss + depth.ray.square().mean() + depth.ray_conf.mean()
    latents, cameras = model.encode(rgb), relative_cameras(orbit(3), lens(3, (32, 32)))
    noise = torch.randn(1, 3, 32, 2, 2)
    for stage, source in (("level1", None), ("cascade", torch.randn_like(noise))):
        inputs = model.dit_inputs(stage, latents, cameras, source)  # type: ignore[arg-type]
        loss = loss + model.get_submodule(stage)(noise, torch.tensor([0.5]), inputs).square().mean()
    loss.backward()
    unread = ("output_conv1_aux.", "output_conv2_aux.")  # the three coarser ray outputs are never read
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not any(word in name for word in unread):
            assert parameter.grad is not None, name
            assert bool(parameter.grad.abs().sum() > 0), name


def test_cast_keeps_what_must_stay_fp32() -> None:
    model = cast(random_model(small_config()), torch.bfloat16)
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    kept = fp32_names(model)
    assert all((kind == torch.float32) == (name in kept) for name, kind in kinds.items())
    assert {name.split(".")[0] for name in kept} == {"statistics", "depth_head", "level1", "cascade"}
    output = generate(model, GldRequest(torch.rand(1, 1, 3, 28, 28), orbit(2), lens(2, (28, 28))))
    assert output.latents.level1.dtype == torch.float32
    assert output.depth is not None
    assert output.depth.depth.dtype == torch.float32


def test_full_fp32_switches_off_and_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    with torch.autocast("cpu", torch.bfloat16), full_fp32("cpu"):
        assert not torch.backends.cudnn.allow_tf32
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert torch.backends.cudnn.allow_tf32 == before


def test_dit_refuses_inputs_that_do_not_fit(small_model: GldModel) -> None:
    dit: DiT = small_model.level1
    size = (28, 28)
    inputs = small_model.dit_inputs(
        "level1", small_model.encode(torch.rand(1, 1, 3, 28, 28)), relative_cameras(orbit(2), lens(2, size))
    )
    changes: list[tuple[dict[str, object], str]] = [
        ({"cond_num": 0}, "cond_num"),
        ({"ref_cond": torch.zeros(1, 2, 63, 2, 2)}, "63 channels"),
        ({"camera_map": torch.zeros(1, 2, 7, 14, 28)}, "camera map"),
        ({"warp": torch.zeros(1, 2, 65, 2, 2)}, "warp is given"),
    ]
    for change, words in changes:
        with pytest.raises(Exception, match=words):
            dit.prepare(dataclasses.replace(inputs, **change))  # type: ignore[arg-type]
    assert isinstance(inputs, DiTInputs)


def test_encoder_position_table_is_used_as_it_is_at_its_own_size() -> None:
    encoder = Encoder(EncoderConfig(width=32, heads=2, mlp_hidden=64, position_grid=7))
    assert torch.equal(encoder.positions((7, 7)), encoder.pos_embed)
    assert encoder.positions((3, 9)).shape == (1, 28, 32)
