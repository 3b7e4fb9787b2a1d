"""Surface pictures of the rooms: procedural by default, photographs from a cache file when one was fetched.

Every texture tiles, is square with a power-of-two side, and is kept with all its mip levels in one flat array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from gld_ros.errors import GldError

if TYPE_CHECKING:
    from gld_ros.data.rooms.models import ModelLibrary

Rgb = NDArray[np.float64]  # (S, S, 3) in [0, 1], display-referred

# how many of each kind a set holds
COUNTS = {
    "plain": 2, "wall": 24, "floor": 24, "planks": 6, "wood": 20, "fabric": 24, "rug": 16, "art": 40, "books": 8,
    "outside": 12, "stone": 12, "leaf": 6, "ceiling": 4, "print": 24, "screen": 4,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TextureSet:
    """Mip-mapped textures by category."""

    texels: NDArray[np.uint8]  # (T, sum of side^2 over levels, 3)
    offsets: NDArray[np.int64]  # (levels,) first texel of each level, finest first
    categories: dict[str, NDArray[np.int64]]  # category -> indices
    linear: NDArray[np.float64]  # (256,) display value -> linear light
    models: ModelLibrary | None = None  # furniture whose pictures are among the texels

    def pick(self, category: str, rng: np.random.Generator) -> int:
        """A random texture of the category."""
        return int(rng.choice(self.categories[category]))


def smooth_noise(
    size: int, rng: np.random.Generator, slope: float, stretch: tuple[float, float] = (1.0, 1.0)
) -> NDArray:
    """Periodic noise with a power-law spectrum, zero mean and unit deviation; stretch > 1 lengthens an axis (y, x)."""
    fy = np.fft.fftfreq(size)[:, None] * size * stretch[0]
    fx = np.fft.rfftfreq(size)[None, :] * size * stretch[1]
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / radius**slope
    spectrum[0, 0] = 0
    noise = np.fft.irfft2(spectrum, (size, size))
    return noise / (noise.std() + 1e-12)


def _colour(rng: np.random.Generator, low: float = 0.2, high: float = 0.9, saturation: float = 0.5) -> NDArray:
    grey = rng.uniform(low, high)
    return np.clip(grey * (1 + saturation * rng.uniform(-0.6, 0.6, 3)), 0.03, 0.97)


def _grid(size: int) -> tuple[NDArray, NDArray]:
    axis = (np.arange(size) + 0.5) / size
    return np.meshgrid(axis, axis, indexing="ij")


def _tone(base: NDArray, noise: NDArray, amount: float) -> Rgb:
    return base * (1 + amount * noise[..., None])


def wall(size: int, rng: np.random.Generator) -> Rgb:
    """Painted plaster, sometimes with a wallpaper motif or stripes."""
    base = _colour(rng, 0.55, 0.95, 0.3)
    image = _tone(base, smooth_noise(size, rng, 0.6), 0.018) * (1 + 0.02 * smooth_noise(size, rng, 1.8)[..., None])
    y, x = _grid(size)
    style = rng.integers(0, 5)
    n = int(rng.integers(3, 9))
    if style == 0:
        image *= np.where((x * n) % 1 < rng.uniform(0.3, 0.6), 1.0, rng.uniform(0.8, 0.95))[..., None]
    elif style == 1:
        cell = np.hypot((x * n) % 1 - 0.5, (y * n + np.floor(x * n) % 2 * 0.5) % 1 - 0.5)
        motif = (np.cos(cell * rng.uniform(10, 30)) > 0.6) & (cell < 0.42)
        image = np.where(motif[..., None], image * _colour(rng, 0.6, 1.0, 0.4), image)
    return image


def floor(size: int, rng: np.random.Generator) -> Rgb:
    """Planks, tiles, or carpet."""
    style = rng.integers(0, 4)
    if style <= 1:
        return planks(size, rng)
    if style == 2:
        return tiles(size, rng)
    return _tone(_colour(rng, 0.2, 0.7, 0.5), smooth_noise(size, rng, 0.2) + 0.6 * smooth_noise(size, rng, 1.5), 0.09)


def planks(size: int, rng: np.random.Generator) -> Rgb:
    """Floor boards along x with their own tone, grain and joints."""
    rows = int(rng.choice([4, 6, 8]))
    base = np.array([0.62, 0.45, 0.30]) * rng.uniform(0.55, 1.25) * rng.uniform(0.92, 1.08, 3)
    grain = smooth_noise(size, rng, 1.1, (6.0, 0.4)) * 0.07 + smooth_noise(size, rng, 0.5, (3.0, 0.3)) * 0.04
    image = _tone(np.broadcast_to(base, (size, size, 3)), grain, 1.0)
    height = size // rows
    line = max(1, size // 256)
    for r in range(rows):
        cut = int(rng.integers(0, size))
        strip = np.roll(image[r * height : (r + 1) * height], int(rng.integers(0, size)), axis=1)
        order = (np.arange(size) - cut) % size
        tone = np.where(order < size // 2, rng.uniform(0.85, 1.12), rng.uniform(0.85, 1.12))
        strip = strip * tone[None, :, None]
        strip[:, (order < line) | ((order >= size // 2) & (order < size // 2 + line))] *= 0.55
        strip[:line] *= 0.5
        image[r * height : (r + 1) * height] = strip
    return image


def tiles(size: int, rng: np.random.Generator) -> Rgb:
    """Square tiles with grout, one colour or a checkerboard, slightly marbled."""
    n = int(rng.choice([2, 4]))
    y, x = _grid(size)
    first, second = _colour(rng, 0.35, 0.95, 0.3), _colour(rng, 0.2, 0.9, 0.3)
    checker = ((np.floor(x * n) + np.floor(y * n)) % 2)[..., None]
    image = np.where((checker > 0) & bool(rng.random() < 0.5), second, first)
    veins = np.abs(smooth_noise(size, rng, 1.6))
    image = image * (1 - 0.12 * np.exp(-veins * 6))[..., None] * (1 + 0.03 * smooth_noise(size, rng, 1.2)[..., None])
    grout = (np.minimum((x * n) % 1, (y * n) % 1) < 0.022)[..., None]
    return np.where(grout, _colour(rng, 0.4, 0.7, 0.1), image)


def wood(size: int, rng: np.random.Generator) -> Rgb:
    """A furniture board with rings, or lacquer."""
    if rng.random() < 0.25:
        return _tone(_colour(rng, 0.1, 0.95, 0.5), smooth_noise(size, rng, 1.5), 0.02)
    base = np.array([0.58, 0.40, 0.25]) * rng.uniform(0.4, 1.4) * rng.uniform(0.9, 1.1, 3)
    y, _ = _grid(size)
    # whole rings per tile keep the texture periodic
    rings = np.sin(2 * np.pi * (int(rng.integers(4, 12)) * y + 0.35 * smooth_noise(size, rng, 2.2, (1.0, 0.3))))
    return _tone(base, rings, 0.06) * (1 + 0.05 * smooth_noise(size, rng, 0.6, (5.0, 0.3))[..., None])


def fabric(size: int, rng: np.random.Generator) -> Rgb:
    """A weave, plain, striped or checked."""
    y, x = _grid(size)
    threads = size / 4
    weave = np.sin(2 * np.pi * threads * x) * np.sin(2 * np.pi * threads * y)
    image = _tone(_colour(rng, 0.15, 0.9, 0.8), weave, 0.08) * (1 + 0.06 * smooth_noise(size, rng, 0.9)[..., None])
    style = rng.integers(0, 4)
    n = int(rng.integers(3, 10))
    if style == 0:
        image = np.where(((x * n) % 1 < 0.45)[..., None], image * _colour(rng, 0.5, 1.1, 0.6), image)
    elif style == 1:
        for axis in (x, y):
            image = np.where(((axis * n) % 1 < 0.3)[..., None], image * rng.uniform(0.6, 0.9), image)
    return image


def rug(size: int, rng: np.random.Generator) -> Rgb:
    """A bordered carpet with a symmetric figure; meant to be stretched over a rug."""
    y, x = _grid(size)
    u, v = np.abs(x - 0.5) * 2, np.abs(y - 0.5) * 2
    palette = [_colour(rng, 0.15, 0.85, 1.0) for _ in range(5)]
    image = np.broadcast_to(palette[0], (size, size, 3)).copy()
    n = int(rng.integers(4, 10))
    field_ = np.sin(n * np.pi * u) * np.sin(n * np.pi * v) + 0.5 * np.sin(2 * n * np.pi * (u + v))
    image[field_ > 0.35] = palette[1]
    image[field_ < -0.6] = palette[2]
    medallion = np.abs(u) + np.abs(v)
    image[medallion < 0.5] = palette[3]
    image[(medallion < 0.42) & (np.sin(24 * medallion * np.pi) > 0)] = palette[4]
    edge = np.maximum(u, v)
    image[edge > 0.78] = palette[2]
    image[(edge > 0.82) & (np.sin(18 * np.pi * u) * np.sin(18 * np.pi * v) > 0)] = palette[4]
    image[edge > 0.95] = palette[1]
    return _tone(image, smooth_noise(size, rng, 0.3), 0.08)


def art(size: int, rng: np.random.Generator) -> Rgb:
    """A picture for the wall: landscape, colour fields, shapes or clouds of colour."""
    y, x = _grid(size)
    style = rng.integers(0, 4)
    if style == 0:
        return outside(size, rng)
    if style == 1:
        image = np.stack([smooth_noise(size, rng, 2.2) for _ in range(3)], -1) * 0.22 + _colour(rng, 0.3, 0.8, 1.0)
        return image + 0.25 * np.sin(6 * smooth_noise(size, rng, 2.4))[..., None] * rng.uniform(-1, 1, 3)
    image = np.broadcast_to(_colour(rng, 0.5, 0.95, 0.5), (size, size, 3)).copy()
    for _ in range(int(rng.integers(4, 14))):
        paint = _colour(rng, 0.05, 0.95, 1.5)
        cx, cy, a, b = rng.random(4)
        if style == 2:
            image[(np.abs(x - cx) < 0.05 + 0.25 * a) & (np.abs(y - cy) < 0.03 + 0.25 * b)] = paint
        else:
            image[np.hypot((x - cx) / (0.4 + a), y - cy) < 0.04 + 0.22 * b] = paint
    return _tone(image, smooth_noise(size, rng, 0.8), 0.04)


def outside(size: int, rng: np.random.Generator) -> Rgb:
    """Sky, hills and trees: what a window shows."""
    y, _ = _grid(size)
    sky = np.array([0.45, 0.65, 0.95]) * rng.uniform(0.8, 1.05)
    image = sky * y[..., None] ** 0.3 * 0.35 + 0.65 * (1 - (1 - sky) * (1 - 0.8 * y[..., None]))
    clouds = np.clip(smooth_noise(size, rng, 1.9, (2.0, 1.0)), 0, 2)[..., None] * 0.16
    image = image + clouds
    horizon = rng.uniform(0.5, 0.7)
    for layer in range(3):
        n = smooth_noise(size, rng, 1.6)[0]
        top = horizon + 0.1 * layer + 0.035 * n
        green = np.array([0.35, 0.5, 0.3]) * (0.9 - 0.2 * layer) * rng.uniform(0.85, 1.15, 3)
        foliage = _tone(np.broadcast_to(green, (size, size, 3)), smooth_noise(size, rng, 0.9), 0.16)
        image = np.where((y > top[None])[..., None], foliage, image)
    return image


def books(size: int, rng: np.random.Generator) -> Rgb:
    """A row of spines; meant to be stretched over the front of a book block."""
    image = np.zeros((size, size, 3))
    y, _ = _grid(size)
    left = 0
    while left < size:
        width = max(3, int(size * rng.uniform(0.03, 0.08)))
        spine = np.broadcast_to(_colour(rng, 0.1, 0.9, 1.2), (size, min(width, size - left), 3)).copy()
        band = rng.uniform(0.1, 0.8)
        spine[(np.abs(y[:, 0] - band) < rng.uniform(0.02, 0.12))] = _colour(rng, 0.1, 0.95, 0.8)
        spine[:, :1] *= 0.4
        spine[: int(size * rng.uniform(0.0, 0.15))] *= 0.12
        image[:, left : left + width] = spine
        left += width
    return image


def stone(size: int, rng: np.random.Generator) -> Rgb:
    """Marble, granite, concrete or bricks."""
    style = rng.integers(0, 4)
    base = _colour(rng, 0.35, 0.9, 0.25)
    if style == 0:
        veins = np.abs(np.sin(2.5 * smooth_noise(size, rng, 1.9)))
        return base * (1 - 0.5 * np.exp(-veins * 9))[..., None]
    if style == 1:
        return _tone(base, np.sign(smooth_noise(size, rng, 0.5)) * 0.5 + smooth_noise(size, rng, 0.3), 0.13)
    if style == 2:
        return _tone(base, smooth_noise(size, rng, 1.1), 0.07)
    rows = 8
    y, x = _grid(size)
    shifted = x * rows / 2 + np.floor(y * rows) % 2 * 0.5
    tone = np.random.default_rng(rng.integers(2**32)).uniform(0.75, 1.2, (rows, rows // 2))
    brick = np.array([0.62, 0.33, 0.25]) * rng.uniform(0.8, 1.3)
    image = brick * tone[(y * rows).astype(int) % rows, shifted.astype(int) % (rows // 2)][..., None]
    mortar = ((shifted % 1 < 0.04) | ((y * rows) % 1 < 0.09))[..., None]
    return _tone(np.where(mortar, 0.75, image), smooth_noise(size, rng, 0.7), 0.07)


def leaf(size: int, rng: np.random.Generator) -> Rgb:
    """Foliage."""
    green = np.array([0.22, 0.45, 0.18]) * rng.uniform(0.7, 1.3)
    return _tone(green, smooth_noise(size, rng, 0.9), 0.22)


def ceiling(size: int, rng: np.random.Generator) -> Rgb:
    """White paint."""
    return _tone(np.full(3, rng.uniform(0.86, 0.95)), smooth_noise(size, rng, 0.7), 0.012)


def plain(size: int, rng: np.random.Generator) -> Rgb:
    """Nearly uniform white, to be tinted."""
    return _tone(np.full(3, 0.93), smooth_noise(size, rng, 1.2), 0.01)


def printed(size: int, rng: np.random.Generator) -> Rgb:
    """A carton or packet: blocks of colour with lines that look like text."""
    image = art(size, np.random.default_rng(rng.integers(2**32)))
    ink = _colour(rng, 0.02, 0.98, 0.5)
    left, top = int(size * rng.uniform(0.05, 0.4)), int(size * rng.uniform(0.05, 0.5))
    pitch = max(3, size // 18)
    for line in range(int(rng.integers(3, 8))):
        row = top + line * pitch
        image[row : row + pitch // 2, left : left + int(size * rng.uniform(0.2, 0.55))] = ink
    return image


def screen(size: int, rng: np.random.Generator) -> Rgb:
    """A dark display with windows on it."""
    return printed(size, rng) * rng.uniform(0.2, 0.9)


PAINTERS: dict[str, Callable[[int, np.random.Generator], Rgb]] = {
    "plain": plain, "wall": wall, "floor": floor, "planks": planks, "wood": wood, "fabric": fabric, "rug": rug,
    "art": art, "books": books, "outside": outside, "stone": stone, "leaf": leaf, "ceiling": ceiling, "print": printed,
    "screen": screen,
}  # fmt: skip


def linear_table() -> NDArray[np.float64]:
    """sRGB decoding of the 256 display values."""
    v = np.arange(256) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def with_mips(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """All mip levels of a square texture, finest first, as (sum of side^2, 3)."""
    levels = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)]
    while levels[-1].shape[0] > 1:
        side = levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], (side, side), interpolation=cv2.INTER_AREA))
    return np.concatenate([level.reshape(-1, 3) for level in levels])


def make_textures(
    seed: int, size: int = 128, photos: Path | None = None, photo_split: str = "train", scale: float = 1.0
) -> TextureSet:
    """The texture set of a seed: procedural ones, plus the photographs of a fetched cache file.

    ``photo_split`` is ``train`` or ``test``: photographs are divided by the hash of their names. ``scale`` multiplies
    the number of procedural textures. Raises GldError for a size that is not a power of two or an unreadable cache.
    """
    if size < 16 or size & (size - 1):
        raise GldError(f"texture size {size} must be a power of two >= 16")
    rows: list[NDArray[np.uint8]] = []
    categories: dict[str, list[int]] = {name: [] for name in PAINTERS}
    for number, (name, painter) in enumerate(PAINTERS.items()):
        for i in range(max(1, round(COUNTS[name] * scale))):
            rng = np.random.default_rng([seed, number, i])
            image = (np.clip(painter(size, rng), 0, 1) * 255).round().astype(np.uint8)
            categories[name].append(len(rows))
            rows.append(with_mips(image, size))
    if photos is not None:
        for category, image in load_photos(photos, photo_split):
            categories[category].append(len(rows))
            rows.append(with_mips(image, size))
    sides = [size >> k for k in range(size.bit_length())]
    offsets = np.concatenate([[0], np.cumsum([s * s for s in sides])[:-1]]).astype(np.int64)
    index = {name: np.array(members, np.int64) for name, members in categories.items()}
    return TextureSet(np.stack(rows), offsets, index, linear_table())


def load_photos(path: Path, split: str) -> list[tuple[str, NDArray[np.uint8]]]:
    """(category, picture) of the cache file that ``tools/fetch_assets`` wrote, for one split."""
    if not path.is_file():
        raise GldError(
            f"photo texture cache {path} does not exist: run tools/fetch_assets, or leave it out of the config"
        )
    with np.load(path, allow_pickle=False) as cache:
        return [
            (str(category), picture)
            for category, picture, test in zip(cache["categories"], cache["pictures"], cache["is_test"], strict=True)
            if bool(test) == (split == "test")
        ]
