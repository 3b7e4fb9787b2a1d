"""All presets on the same targets and the same noise, one after the other on each target."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gld_ros.evaluation.bench.presets import rotated, with_preset
from gld_ros.evaluation.bench.targets import BenchScene, starting_noise
from gld_ros.model.gld_model import GldModel
from gld_ros.synthesis.gld import GldRequest, generate, synchronise
from gld_ros.synthesis.network_inputs import geometric_guess, with_guess
from gld_ros.synthesis.presets import network_presets

TINY, PLAIN = "tiny", "tiny-plain"  # with the geometric guess the model was trained with, and without
SPREAD_SCENES = 4  # scenes that are drawn again from other noise: each costs as much as a scene
SAMPLES = 2  # pictures per target there
Key = tuple[str, str]  # mode, preset


@dataclass(eq=False)
class Measured:
    """What one preset did in one mode, scene by scene."""

    seconds: list[float] = field(default_factory=list)  # of a request: guess, encoding, sampling, decoding
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)  # (T, H, W, 3)
    more_samples: dict[int, list[NDArray[np.uint8]]] = field(default_factory=dict)  # scene -> pictures from other noise


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything measured, and the scenes it was measured on."""

    scenes: list[BenchScene]
    measured: dict[Key, Measured]


def modes_of(model: GldModel) -> tuple[str, ...]:
    """``tiny-plain`` exists only for models that use a geometric guess; the others are plain as they are."""
    return (TINY, PLAIN) if model.config.level1.warp_channels else (PLAIN,)


def compare(
    model: GldModel,
    scenes: Iterable[BenchScene],
    presets: Sequence[str],
    count: int | None = None,
    spread_scenes: int = SPREAD_SCENES,
) -> Comparison:
    """Run every preset in every mode on each scene before the next scene comes.

    What else the machine does so hits all presets alike. ``count`` is the number of scenes, for the progress bar.
    """
    keys = [(mode, preset) for mode in modes_of(model) for preset in presets]
    result = Comparison([], {key: Measured() for key in keys})
    for scene in tqdm(scenes, desc="presets side by side", unit="scene", total=count):
        if not result.scenes:
            for mode in modes_of(model):  # first calls pay for memory and kernels; none of them is timed
                run_request(model, scene, mode, presets[-1])
        for mode in modes_of(model):
            for preset in rotated(presets, len(result.scenes)):
                entry = result.measured[mode, preset]
                picture, seconds = run_request(model, scene, mode, preset)
                entry.pictures.append(picture)
                entry.seconds.append(seconds)
                if len(result.scenes) < spread_scenes:
                    drawn = [run_request(model, scene, mode, preset, sample)[0] for sample in range(1, SAMPLES)]
                    entry.more_samples[len(result.scenes)] = drawn
        result.scenes.append(scene)
    return result


def run_request(
    model: GldModel, scene: BenchScene, mode: str, preset: str, sample: int = 0
) -> tuple[NDArray[np.uint8], float]:
    """One request: the targets' pictures, (T, H, W, 3), and its seconds; keyframe depth is there before."""
    inputs, conditions = scene.inputs, scene.views[0]
    noise = starting_noise(scene, model.config, sample)
    begun = time.perf_counter()
    guess = geometric_guess(inputs, scene.depths, scene.seen) if mode == TINY else None
    plain = GldRequest(inputs.cond_rgb, inputs.world_from_cam, inputs.K, noise=noise)
    request = with_guess(plain, guess, model.config)
    output = generate(model, with_preset(request, network_presets(model.config)[preset]))
    synchronise(model.device)
    seconds = time.perf_counter() - begun
    assert output.rgb is not None
    shown = output.rgb[0, -len(scene.truth) :].float().clamp(0, 1).cpu()
    assert conditions + len(shown) == inputs.K.shape[1]
    return (shown * 255).round().byte().permute(0, 2, 3, 1).numpy(), seconds
