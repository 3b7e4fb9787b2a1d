"""Presets of the classical engine, and what a request will cost with them."""

from __future__ import annotations

from dataclasses import dataclass

from gld_ros.geometry.camera import Camera

SMALLEST_PX = 8  # least side of a working picture: two 9 px windows would not fit in less


@dataclass(frozen=True)
class ClassicalPreset:
    """Working size (longer side) and number of depth planes."""

    work_px: int
    planes: int


PRESETS = {
    "reference": ClassicalPreset(256, 96),
    "full": ClassicalPreset(256, 96),
    "balanced": ClassicalPreset(256, 64),
    "fast": ClassicalPreset(128, 32),
}
FASTEST = "fast"

UNKNOWN_RATE = 1e-9  # s per plane and pixel before anything was measured: below what any machine reaches
BLEND_PLANES = 4  # blending a target pixel costs about as much as this many planes
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

    def target_units(self, target: Camera, views: int, preset: ClassicalPreset) -> float:
        """Size of making one target from ``views`` views."""
        work = work_camera(target, preset.work_px)
        swept = work.width * work.height * preset.planes
        return float((swept + BLEND_PLANES * target.width * target.height) * views)

    def seconds(self, kind: str, units: float) -> float:
        """Expected seconds of work ``kind``; a lower limit while it has not been measured."""
        return units * self._rate.get(kind, UNKNOWN_RATE)

    def learn(self, kind: str, units: float, seconds: float) -> None:
        """Take in a measurement."""
        rate, known = seconds / max(units, 1.0), self._rate.get(kind)
        self._rate[kind] = rate if known is None else (1 - LEARNING) * known + LEARNING * rate
