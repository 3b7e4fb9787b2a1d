"""Furniture models from a fetched cache file: their meshes, pictures and sizes, and how they are put into a room."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gld_ros.data.rooms.meshes import Meshes, build
from gld_ros.data.rooms.textures import TextureSet, with_mips
from gld_ros.errors import GldError

PLACES = ("wall", "floor", "top")  # back to a wall, anywhere on the floor, on a table


@dataclass(frozen=True, eq=False)
class ModelLibrary:
    """Models of one split; textures count from the first picture they brought into the texture set."""

    size_m: NDArray[np.float32]  # (M, 3) width, depth, height
    places: dict[str, NDArray[np.int64]]  # place -> model numbers
    triangle_range: NDArray[np.int64]  # (M + 1,)
    part_range: NDArray[np.int64]  # (M + 1,)
    corners: NDArray[np.int16]  # (T, 3, 3), 32000 = the side of the box
    normals: NDArray[np.int8]  # (T, 3, 3), 127 = unit length
    uv: NDArray[np.float16]  # (T, 3, 2)
    part: NDArray[np.int16]  # (T,)
    colours: NDArray[np.float64]  # (P, 3) linear light
    textures: NDArray[np.int64]  # (P,) row of the texture set
    textured: NDArray[np.bool_]  # (P,) the picture is the part's own, not plain white
    _built: dict[int, Meshes] = field(default_factory=dict)

    def mesh(self, number: int) -> Meshes:
        """A model's triangles with their tree."""
        if number not in self._built:
            rows = slice(self.triangle_range[number], self.triangle_range[number + 1])
            self._built[number] = build(
                self.corners[rows] / np.float32(32000), self.normals[rows] / np.float32(127), self.uv[rows],
                self.part[rows],
            )  # fmt: skip
        return self._built[number]

    def parts(self, number: int) -> range:
        """Rows of a model's parts."""
        return range(int(self.part_range[number]), int(self.part_range[number + 1]))

    def pick(self, place: str, rng: np.random.Generator) -> int | None:
        """A random model for a place; None when the split has none."""
        numbers = self.places[place]
        return int(rng.choice(numbers)) if len(numbers) else None


def with_models(textures: TextureSet, path: Path, split: str) -> TextureSet:
    """The texture set and the models of a cache file that ``tools/fetch_assets --furniture`` wrote.

    ``split`` is ``train`` or ``test``. Raises GldError when the file is missing or not such a cache.
    """
    if not path.is_file():
        raise GldError(
            f"furniture cache {path} does not exist: run tools/fetch_assets --furniture, or leave it out of the config"
        )
    try:
        with np.load(path, allow_pickle=False) as cache:
            arrays = {name: cache[name] for name in cache.files}
        chosen = arrays["is_test"] == (split == "test")
        triangles, parts = np.repeat(chosen, arrays["triangles"]), np.repeat(chosen, arrays["parts"])
        used = np.unique(arrays["textures"][parts])
        used = used[used >= 0]
        own = arrays["textures"][parts]
        side = 1 << (len(textures.offsets) - 1)
        rows = [with_mips(picture, side) for picture in arrays["pictures"][used]]
        rank = np.searchsorted(used, own)
        white = int(textures.categories["plain"][0])
        library = ModelLibrary(
            size_m=arrays["size_m"][chosen],
            places={place: np.nonzero(arrays["places"][chosen] == place)[0] for place in PLACES},
            triangle_range=np.concatenate([[0], np.cumsum(arrays["triangles"][chosen])]),
            part_range=np.concatenate([[0], np.cumsum(arrays["parts"][chosen])]),
            corners=arrays["corners"][triangles],
            normals=arrays["normals"][triangles],
            uv=arrays["uv"][triangles],
            part=arrays["part"][triangles],
            colours=textures.linear[np.clip(arrays["colours"][parts] * 255, 4, 250).round().astype(int)],
            textures=np.where(own >= 0, len(textures.texels) + rank, white),
            textured=own >= 0,
        )
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise GldError(
            f"{path} is not a furniture cache ({error}): make it again with tools/fetch_assets --furniture"
        ) from error
    return replace(textures, texels=np.concatenate([textures.texels, *(r[None] for r in rows)]), models=library)
