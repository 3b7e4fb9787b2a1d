"""A picture of each virtual camera, from which its next ones may start while it moves little.

Only pictures that were made from noise are kept: a picture that starts from one that did so itself repeats its errors,
and a chain of four loses 0.3 to 2 dB (nano model).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

from gld_ros.geometry.camera import Camera
from gld_ros.geometry.tracking import moved_px, same_lens
from gld_ros.model.config import SamplerConfig
from gld_ros.model.gld_model import Latents
from gld_ros.synthesis.presets import NetworkPreset

MAX_STREAMS = 8  # virtual cameras whose last picture is kept
START = 0.6  # share of noise that a warm start begins with
SHARE = 1 / 3  # of the updates that a warm start needs
LARGEST_MOVE = 0.5  # of a patch, at the scene's typical depth: beyond, the kept latents show something else


@dataclass(frozen=True, eq=False)
class _Last:
    camera: Camera
    size: tuple[int, int]
    latents: Latents  # (1, 1, D, h, w) each


class Streams:
    """Least recently used out first."""

    def __init__(self) -> None:
        self._last: OrderedDict[str, _Last] = OrderedDict()

    def start(self, name: str, camera: Camera, network: Camera, depth: float, patch: int) -> Latents | None:
        """Latents to start from, or None where there are none or the camera moved too far.

        Args:
            camera: the target.
            network: its crop at the network's size.
            depth: typical z-depth of the scene, world units.
        """
        last = self._last.get(name)
        if last is None or last.size != (network.width, network.height) or not same_lens(last.camera, camera):
            return None
        moved = moved_px(last.camera, camera, depth, float(network.K[0, 0]))
        return last.latents if moved <= LARGEST_MOVE * patch else None

    def keep(self, name: str, camera: Camera, network: Camera, latents: Latents) -> None:
        """Remember what was made from noise for this camera."""
        self._last[name] = _Last(camera, (network.width, network.height), latents)
        self._last.move_to_end(name)
        while len(self._last) > MAX_STREAMS:
            self._last.popitem(last=False)


def warm(preset: NetworkPreset) -> NetworkPreset:
    """The preset from a warm start: fewer updates, and unchanged where there is only one."""
    return replace(preset, level1=_warm(preset.level1), cascade=_warm(preset.cascade))


def _warm(sampler: SamplerConfig) -> SamplerConfig:
    updates = sampler.points - 1
    return sampler if updates < 2 else replace(sampler, start=START, points=math.ceil(SHARE * updates) + 1)
