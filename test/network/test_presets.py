"""Presets: what they run, what that costs at full size, and features that are kept between requests."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
import torch

from gld_ros.errors import GldError
from gld_ros.evaluation.cost import preset_flops
from gld_ros.model.config import EncoderConfig, ModelConfig, SamplerConfig, released_config
from gld_ros.model.gld_model import GldModel, Latents
from gld_ros.model.sampler import count_evaluations
from gld_ros.synthesis import features
from gld_ros.synthesis.features import FeatureCache, encode_views
from gld_ros.synthesis.gld import GldOutput, GldRequest, generate
from gld_ros.synthesis.presets import network_presets

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "model"))
from small_model import lens, orbit, random_model, small_config

SIZE = (42, 28)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("reference", 1.9, 2.0), ("full", 0.4, 0.66), ("balanced", 0.1, 0.25), ("fast", 0.03, 0.08)],
)
def test_full_size_operations(name: str, low: float, high: float) -> None:
    """PFLOP of 4 condition and 4 target views at 504 x 280."""
    config = released_config()
    assert low < preset_flops(config, network_presets(config)[name], (504, 280), views=8, cond_num=4) / 1e15 < high


def test_released_reference_is_its_own_sampler() -> None:
    config = released_config()
    reference = network_presets(config)["reference"]
    assert reference.level1 == reference.cascade == dataclasses.replace(config.sampler, reuse=False)


def test_small_model_has_the_plain_path_too() -> None:
    """49 guided updates; the shift follows from 64 channels, 20 x 36 patches and 8 views."""
    presets = network_presets(small_config(trained_sizes=((504, 280),)))
    plain = presets["reference"].level1
    assert count_evaluations(plain).forwards == 98
    assert plain.shift == pytest.approx((64 * 20 * 36 * 8 / 4096) ** 0.5)
    assert (plain.reuse, plain.encoder_every, plain.solver) == (False, 1, "euler")
    narrow = [count_evaluations(presets[name].level1).encoded for name in ("reference", "full", "balanced", "fast")]
    assert narrow == sorted(narrow, reverse=True)
    assert presets["fast"].level1.points <= 7


def test_few_updates_grow_with_the_preset() -> None:
    """A model trained for few updates: its own sampler in the middle."""
    own = SamplerConfig(points=3, shift=16.0, guidance=1.0, last=0.0)
    presets = network_presets(small_config(trained_sizes=((504, 280),), sampler=own))
    updates = {name: presets[name].level1.points - 1 for name in ("full", "balanced", "fast")}
    assert updates == {"full": 4, "balanced": 2, "fast": 1}
    assert presets["balanced"].level1 == own


def small_request(model: GldModel, **changes: object) -> GldRequest:
    generator = torch.Generator().manual_seed(0)
    values: dict[str, object] = {
        "cond_rgb": torch.rand(1, 2, 3, SIZE[1], SIZE[0], generator=generator),
        "world_from_cam": orbit(4),
        "K": lens(4, SIZE),
        **changes,
    }
    return GldRequest(**values)  # type: ignore[arg-type]


def run(model: GldModel, **changes: object) -> GldOutput:
    return generate(model, small_request(model, **changes))


def test_only_targets_decoded_gives_the_same_targets(small_model: GldModel) -> None:
    every, some = run(small_model), run(small_model, decode_conditions=False)
    assert some.rgb is not None
    assert some.depth is not None
    assert some.rgb.shape[1] == 2
    torch.testing.assert_close(some.rgb, every.rgb[:, 2:])  # type: ignore[index]
    torch.testing.assert_close(some.depth.depth, every.depth.depth[:, 2:])  # type: ignore[union-attr]


def test_samples_in_one_batch_equal_samples_one_by_one(small_model: GldModel) -> None:
    together = run(small_model, samples=3, seed=5)
    for n in range(3):
        alone = run(small_model, seed=5 + n)
        torch.testing.assert_close(together.latents.level0[n : n + 1], alone.latents.level0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.rgb[n : n + 1], alone.rgb, rtol=1e-4, atol=1e-4)  # type: ignore[index]


def alone_config() -> ModelConfig:
    """Both levels before the first cross-view block."""
    encoder = EncoderConfig(
        width=32, heads=2, mlp_hidden=64, position_grid=7, level_blocks=(1, 2, 3, 5), alt_start=3, blocks=6
    )
    return small_config(encoder=encoder)


@pytest.fixture(params=["jointly", "alone", "alone, cls of the joint encoding"])
def encoding(request: pytest.FixtureRequest) -> GldModel:
    config = small_config() if request.param == "jointly" else alone_config()
    if request.param.endswith("encoding"):
        config = dataclasses.replace(config, propagation_cls="first_joint")
    return random_model(config)


def test_kept_features_equal_new_ones(encoding: GldModel) -> None:
    cache = FeatureCache()
    for _ in range(2):
        kept = generate(encoding, small_request(encoding, cond_keys=("a", "b")), cache=cache)
        new = run(encoding)
        torch.testing.assert_close(kept.latents.level0, new.latents.level0, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(kept.cls, new.cls, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(kept.rgb, new.rgb, rtol=1e-4, atol=1e-4)


def test_class_vector_of_one_pass_is_the_models(encoding: GldModel) -> None:
    rgb = torch.rand(1, 3, 3, SIZE[1], SIZE[0])
    torch.testing.assert_close(encode_views(encoding, rgb).cls, encoding.propagation_cls(rgb), rtol=1e-4, atol=1e-4)


def test_what_is_encoded_again(encoding: GldModel, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []

    def counting(model: GldModel, rgb: torch.Tensor, *_: object) -> features.ViewFeatures:
        encoded.append(rgb.shape[1])
        return encode_views(model, rgb)

    monkeypatch.setattr(features, "encode_views", counting)
    cache = FeatureCache()
    rgb = torch.rand(1, 3, 3, SIZE[1], SIZE[0])
    alone = encoding.config.encoder.encodes_views_alone
    cache.features(encoding, ("a", "b"), rgb[:, :2])
    cache.features(encoding, ("a", "b"), rgb[:, :2])
    assert encoded == ([1, 1] if alone else [2])
    encoded.clear()
    cache.features(encoding, ("b", "a", "c"), rgb[:, [1, 0, 2]])  # another list: joint features change with order
    assert encoded == ([1] if alone else [3])
    encoded.clear()
    cache.forget(["a"])
    cache.features(encoding, ("a", "b"), rgb[:, :2])
    assert encoded == ([1] if alone else [2])


def test_new_list_of_known_views_runs_only_the_blocks_that_join_them(small_model: GldModel) -> None:
    cache = FeatureCache()
    rgb = torch.rand(1, 3, 3, SIZE[1], SIZE[0])
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(small_model.encoder.blocks)
    ]
    cache.features(small_model, ("a", "b", "c"), rgb)
    assert set(ran) == set(range(8))
    ran.clear()
    joined = cache.features(small_model, ("c", "a"), rgb[:, [2, 0]])
    for handle in handles:
        handle.remove()
    assert set(ran) == {4, 5, 6, 7}
    new = encode_views(small_model, rgb[:, [2, 0]])
    torch.testing.assert_close(joined.latents.level0, new.latents.level0, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(joined.cls, new.cls, rtol=1e-4, atol=1e-4)


def test_kept_features_are_bounded(small_model: GldModel) -> None:
    rgb = torch.rand(1, 1, 3, SIZE[1], SIZE[0])
    one = encode_views(small_model, rgb).nbytes()
    cache = FeatureCache(limit_bytes=3 * one)
    for key in "abcdef":
        cache.features(small_model, (key,), rgb)
    assert cache.bytes_held() <= 3 * one


def test_guess_of_a_view_by_itself_is_not_encoded_twice() -> None:
    config = alone_config()
    level1 = dataclasses.replace(config.level1, latent_channels=128, warp_channels=129, prediction="data")
    model = random_model(dataclasses.replace(config, level1=level1, cascade=None))
    rgb = torch.rand(1, 2, 3, SIZE[1], SIZE[0])
    guess = {"warp_rgb": torch.cat([rgb, torch.rand_like(rgb)], 1), "warp_coverage": torch.ones(1, 4, SIZE[1], SIZE[0])}
    pictures: list[int] = []
    handle = model.encoder.register_forward_hook(lambda _m, a, _o: pictures.append(a[0].shape[1]))
    short = run(model, cond_rgb=rgb, **guess)
    handle.remove()
    assert pictures == [2, 2]
    plain = model.encode(guess["warp_rgb"])
    inputs = model.dit_inputs("level1", short.conditions, short.cameras, None, plain, torch.ones(1, 4, 2, 3))
    assert inputs.warp is not None
    noise = torch.randn(1, 4, 128, 2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(model.level1(noise, torch.ones(1), inputs)).all()
    torch.testing.assert_close(
        plain.level1[:, :2], short.conditions.level1, rtol=1e-4, atol=1e-4
    )  # so leaving them out changes nothing


def test_hurry_ends_each_stage_and_says_so(small_model: GldModel) -> None:
    sampler = SamplerConfig(9, 6.0, 1.0)
    request = small_request(small_model, level1=sampler, cascade=sampler)
    output = generate(small_model, request, hurry=lambda stage, step, _: step == (2 if stage == "level1" else 4))
    assert output.updates == (3, 5)
    assert generate(small_model, request).updates == (8, 8)


def test_warm_start_needs_something_to_start_from(small_model: GldModel) -> None:
    sampler = SamplerConfig(3, 6.0, 1.0, start=0.3)
    with pytest.raises(GldError, match="latents to start from"):
        run(small_model, level1=sampler)
    before = run(small_model)
    start = Latents(before.latents.level0[:, 2:], before.latents.level1[:, 2:])
    warm = run(small_model, level1=sampler, cascade=sampler, start=start, seed=9)
    cold = run(small_model, seed=9)
    distance = [(o.latents.level1 - before.latents.level1)[:, 2:].square().mean() for o in (warm, cold)]
    assert distance[0] < distance[1]


@pytest.mark.parametrize(
    ("changes", "words"), [({"samples": 0}, "samples is 0"), ({"cond_keys": ("a",)}, "1 cond_keys for 1 scenes of 2")]
)
def test_bad_requests(small_model: GldModel, changes: dict[str, object], words: str) -> None:
    with pytest.raises(GldError, match=words):
        run(small_model, **changes)


@pytest.fixture(scope="module")
def small_model() -> GldModel:
    torch.set_num_threads(1)
    return random_model(small_config())
