"""Presets of both engines, and what a request will cost with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gld_ros.geometry.camera import Camera
from gld_ros.model.config import ModelConfig, SamplerConfig

SMALLEST_PX = 8  # least side of a working picture: two 9 px windows would not fit in less


@dataclass(frozen=True)
class ClassicalPreset:
    """Working size (longer side), number of depth planes, and size at which sensor depth is moved into targets."""

    work_px: int
    planes: int
    splat_px: int


PRESETS = {
    "reference": ClassicalPreset(256, 96, 1024),
    "full": ClassicalPreset(256, 96, 1024),
    "balanced": ClassicalPreset(256, 64, 640),
    "fast": ClassicalPreset(128, 32, 256),
}
FASTEST = "fast"

FEW_UPDATES = 8  # a model whose own sampler has no more was trained for few
FULL_UPDATES = 4  # of such a model at its best


@dataclass(frozen=True)
class NetworkPreset:
    """One way of running a request through the network."""

    level1: SamplerConfig  # a joint model's only stage
    cascade: SamplerConfig
    geometry: str  # preset of the classical engine that observed pixels come from
    keep_features: bool = True  # condition views are encoded once, not in every request
    decode_conditions: bool = False  # also make pictures and depth of the condition views, which nobody asked for

    def with_updates(self, updates: int) -> NetworkPreset:
        """The same with at most this many updates a stage."""
        first, second = (replace(s, points=min(s.points, updates + 1)) for s in (self.level1, self.cascade))
        return replace(self, level1=first, cascade=second)


def network_presets(config: ModelConfig) -> dict[str, NetworkPreset]:
    """The presets of a model.

    ``reference`` is the plain path of GLD specification section 10 in every model: 49 guided Euler updates, nothing
    kept, everything decoded. The others save what changes nothing, and for the released model trade quality for time
    with settings that are computed from its operation counts and not proven on its weights.
    """
    plain = replace(_plain_sampler(config), reuse=False)
    reference = NetworkPreset(plain, plain, "reference", keep_features=False, decode_conditions=True)
    own = config.sampler
    if own.points - 1 <= FEW_UPDATES:
        own = replace(own, guidance=1.0)
        return {
            "reference": reference,
            "full": _one_sampler(replace(own, points=max(own.points, FULL_UPDATES + 1)), "full"),
            "balanced": _one_sampler(own, "balanced"),
            "fast": _one_sampler(replace(own, points=own.points // 2 + 1), "fast"),
        }
    # A second-order solver on the same shift; few updates end at the data, for their last step is long anyway.
    quick = replace(own, solver="dpmpp_2m", last=0.0)
    guided_middle = replace(quick, points=9, guidance_interval=(0.3, 0.97))  # 4 of 8 updates with the released shift
    unguided = replace(quick, points=5, guidance=1.0)
    return {
        "reference": reference,
        "full": _one_sampler(replace(quick, points=17), "full"),
        "balanced": NetworkPreset(guided_middle, replace(guided_middle, encoder_every=2), "balanced"),
        "fast": NetworkPreset(unguided, replace(unguided, encoder_every=2), "fast"),
    }


def _one_sampler(sampler: SamplerConfig, geometry: str) -> NetworkPreset:
    return NetworkPreset(sampler, sampler, geometry)


def _plain_sampler(config: ModelConfig) -> SamplerConfig:
    """Section 10's sampler, its shift from that section's formula with the model's own latent size.

    The released model has its own: its evaluation takes the latent size from another resolution.
    """
    if config.sampler.points >= SamplerConfig().points:
        return config.sampler
    width, height = config.trained_sizes[0]
    patch = config.encoder.patch
    latent = config.level1.latent_channels * (height // patch) * (width // patch)
    return SamplerConfig(shift=math.sqrt(latent * config.trained_views / 4096))


UNKNOWN_RATE = 1e-9  # s per plane and pixel before anything was measured: below what any machine reaches
BLEND_PLANES = 4  # blending a target pixel costs about as much as this many planes
SPLAT_PLANES = 5  # a view's sensor depth is moved at about the cost of so many planes of the sweep
LEARNING = 0.3  # weight of the newest measurement


def work_camera(camera: Camera, longer_px: int) -> Camera:
    """The camera at working size: longer side ``longer_px`` or less, aspect kept."""
    factor = min(1.0, longer_px / max(camera.width, camera.height))
    return camera.resized(*(max(SMALLEST_PX, round(n * factor)) for n in (camera.width, camera.height)))


class CostModel:
    """Seconds a sweep or a target will take, from those that went before on this machine."""

    def __init__(self) -> None:
        self._rate: dict[str, float] = {}

    def sweep_units(self, camera: Camera, views: int, preset: ClassicalPreset) -> float:
        """Size of sweeping one of ``views`` views."""
        work = work_camera(camera, preset.work_px)
        return float(work.width * work.height * preset.planes * max(views - 1, 1))

    def target_units(self, target: Camera, views: int, preset: ClassicalPreset, sensors: int = 0) -> float:
        """Size of making one target from ``views`` views, ``sensors`` of which have depth images."""
        work, splat = work_camera(target, preset.work_px), work_camera(target, preset.splat_px)
        swept = work.width * work.height * preset.planes
        moved = SPLAT_PLANES * splat.width * splat.height * sensors
        return float((swept + BLEND_PLANES * target.width * target.height) * views + moved)

    def seconds(self, kind: str, units: float) -> float:
        """Expected seconds of work ``kind``; a lower limit while it has not been measured."""
        return units * self._rate.get(kind, UNKNOWN_RATE)

    def learn(self, kind: str, units: float, seconds: float) -> None:
        """Take in a measurement."""
        rate, known = seconds / max(units, 1.0), self._rate.get(kind)
        self._rate[kind] = rate if known is None else (1 - LEARNING) * known + LEARNING * rate

    def clear(self) -> None:
        """Forget what was measured."""
        self._rate.clear()
