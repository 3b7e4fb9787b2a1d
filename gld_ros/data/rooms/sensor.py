"""What a camera does to light: exposure, white balance, tone curve, blur, noise, vignetting, JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SensorConfig:
    """Strength of each effect; zeros give the clean picture. Ranges are per scene unless said otherwise."""

    key: float = 0.30  # where the typical brightness of a scene goes, linear
    exposure_stops: float = 0.35  # deviation of the scene's exposure
    exposure_jitter_stops: float = 0.04  # deviation between views
    white_balance: float = 0.06  # deviation of the channel gains
    white_balance_jitter: float = 0.008  # between views
    noise: float = 0.008  # largest read noise, display units
    blur_px: float = 0.5  # largest Gaussian sigma at 128 px width
    vignette: float = 0.15
    jpeg: tuple[int, int] = (70, 98)  # quality; (100, 100) = none


CLEAN = SensorConfig(
    exposure_stops=0.0, exposure_jitter_stops=0.0, white_balance=0.0, white_balance_jitter=0.0, noise=0.0, blur_px=0.0,
    vignette=0.0, jpeg=(100, 100),
)  # fmt: skip


def to_display(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Linear light to sRGB in [0, 1] with a soft shoulder above 0.7."""
    x = np.maximum(linear, 0.0)
    knee = 0.7
    x = np.where(x > knee, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee) * 0.8)), x)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def scene_exposure(pictures: list[NDArray[np.float32]], key: float) -> float:
    """One gain for all views that brings their typical brightness to ``key``."""
    brightness = np.concatenate([p.mean(-1).ravel() for p in pictures])
    return float(key / max(np.exp(np.mean(np.log(brightness + 1e-3))), 1e-3))


def develop(pictures: list[NDArray[np.float32]], seed: int, config: SensorConfig) -> list[NDArray[np.uint8]]:
    """Turn linear renderings (H, W, 3) of one scene into camera pictures."""
    rng = np.random.default_rng([seed, 13])
    gain = scene_exposure(pictures, config.key) * 2.0 ** float(rng.normal(0, config.exposure_stops))
    balance = np.exp(rng.normal(0, config.white_balance, 3))
    noise = float(rng.uniform(0, config.noise))
    blur = float(rng.uniform(0, config.blur_px))
    vignette = float(rng.uniform(0, config.vignette))
    quality = int(rng.integers(config.jpeg[0], config.jpeg[1] + 1))
    result = []
    for picture in pictures:
        h, w = picture.shape[:2]
        view_gain = gain * 2.0 ** float(rng.normal(0, config.exposure_jitter_stops))
        light = picture * (view_gain * balance * np.exp(rng.normal(0, config.white_balance_jitter, 3)))
        if vignette > 0:
            y, x = np.mgrid[0:h, 0:w].astype(np.float32)
            radius = ((x - w / 2) ** 2 + (y - h / 2) ** 2) / (w * w / 4 + h * h / 4)
            light = light * (1 - vignette * radius)[..., None]
        image = to_display(light.astype(np.float32))
        sigma = blur * w / 128
        if sigma > 0.15:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
        if noise > 0:
            image = image + (noise * rng.standard_normal(image.shape)).astype(np.float32)
        out = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
        if quality < 100:
            _, data = cv2.imencode(".jpg", out[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
            assert decoded is not None
            out = np.ascontiguousarray(decoded[..., ::-1]).astype(np.uint8)
        result.append(out)
    return result
