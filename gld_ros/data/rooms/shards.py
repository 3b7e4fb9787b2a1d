"""Rendered rooms as shards of plain arrays: rgb uint8, depth float16, K, world_from_cam.

A shard is a folder of .npy files that appears by rename when complete, so an interrupted run loses one shard at most
and goes on where it stopped. Readers map the files and copy only what they need.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gld_ros.data.disk_space import require_space
from gld_ros.data.rooms.motion import MotionConfig
from gld_ros.data.rooms.render import RenderConfig, RenderedScene, render_scene
from gld_ros.errors import GldError

SHARD_SCENES = 50
ASSETS = ("photos", "furniture")  # fields of RenderConfig that name files
TRAINING_MOTIONS = (
    MotionConfig("orbit", (0.08, 0.7), camera_height_m=(0.4, 1.7)),
    MotionConfig("drive", (0.15, 1.0), camera_height_m=(0.25, 1.3)),
)


@dataclass(frozen=True, eq=False)
class SceneArrays:
    """Views of some scenes at one size."""

    rgb: NDArray[np.uint8]  # (S, V, H, W, 3)
    depth: NDArray[np.float16]  # (S, V, H, W) metres
    K: NDArray[np.float64]  # (S, V, 3, 3)
    world_from_cam: NDArray[np.float64]  # (S, V, 4, 4)


def training_scene(seed: int, views: int, width: int, height: int, config: RenderConfig) -> RenderedScene:
    """A training room: orbit and drive motions alternate with the seed."""
    motion = TRAINING_MOTIONS[seed % len(TRAINING_MOTIONS)]
    return render_scene(seed, views, width, height, dataclasses.replace(config, motion=motion))


def stack(scenes: list[RenderedScene]) -> SceneArrays:
    """Scenes of equal shape as arrays."""
    return SceneArrays(
        np.stack([np.stack(s.rgb) for s in scenes]),
        np.stack([np.stack(s.depth) for s in scenes]).astype(np.float16),
        np.stack([np.stack([c.K for c in s.cameras]) for s in scenes]),
        np.stack([np.stack([c.world_from_cam for c in s.cameras]) for s in scenes]),
    )


def asset_digests(config: RenderConfig, recorded: Mapping[str, str] | None = None) -> dict[str, str]:
    """What identifies the asset files of a config: their content, wherever they lie.

    A file that is gone has the digest in ``recorded``; without one, raises GldError.
    """
    digests = {}
    for name in ASSETS:
        path = getattr(config, name)
        if path is None:
            continue
        if Path(path).is_file():
            digests[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
        elif recorded and name in recorded:
            digests[name] = recorded[name]
        else:
            raise GldError(f"{name} file {path} does not exist: run tools/fetch_assets, or leave it out of the config")
    return digests


def config_hash(config: RenderConfig, *extra: object, assets: Mapping[str, str] | None = None) -> str:
    """Ten hex digits that change with anything that changes the pictures; ``assets`` as ``asset_digests`` gives."""
    fields = dataclasses.asdict(config) | dict(assets or {})
    if config.furniture is None:  # rooms without models are what they were before there were any
        del fields["furniture"], fields["layout"]["models"]
    text = json.dumps([fields, [str(e) for e in extra]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def write_shards(
    out: Path, seed: int, scenes: int, views: int, width: int, height: int, config: RenderConfig, threads: int = 1
) -> float:
    """Render rooms seed .. seed + scenes - 1 into ``out``; complete shards of the same config are kept.

    Returns the views rendered per second. Raises GldError when ``out`` holds another config or cannot be written.
    """
    index = out / "rooms.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = json.loads(index.read_text()) if index.exists() else {}
        if not isinstance(found, dict):
            raise ValueError("not an object")
        assets = asset_digests(config, found.get("assets"))
        tag = config_hash(config, TRAINING_MOTIONS, seed, views, width, height, assets=assets)
        if found and found.get("hash") != tag:
            raise GldError(
                f"{out} holds rooms of another configuration (hash {found.get('hash')}, wanted {tag}): choose another "
                "folder or delete it"
            )
        entry = {"hash": tag, "views": views, "size": [width, height], "seed": seed, "assets": assets}
        if entry != found:
            partial = index.with_name(".rooms.json.partial")
            partial.write_text(json.dumps(entry) + "\n")
            os.replace(partial, index)
    except ValueError as error:
        raise GldError(f"{index} is damaged ({error}): delete {out} and render again") from error
    except OSError as error:
        raise GldError(f"cannot write rooms to {out}: {error}: choose a writable folder with free space") from error
    require_space({out: missing_bytes(out, seed, scenes, views, width, height)})
    started, rendered = time.perf_counter(), 0
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for shard, numbers in tqdm(_wanted_shards(out, seed, scenes), desc="rooms", unit="shard"):
            if _holds(shard, numbers):
                continue
            done = list(pool.map(lambda n: training_scene(n, views, width, height, config), numbers))
            _write_shard(shard, stack(done))
            rendered += len(done) * views
    return rendered / max(time.perf_counter() - started, 1e-9)


def missing_bytes(out: Path, seed: int, scenes: int, views: int, width: int, height: int) -> int:
    """Disk space of the rooms that ``write_shards`` would render."""
    missing = sum(len(numbers) for shard, numbers in _wanted_shards(out, seed, scenes) if not _holds(shard, numbers))
    return missing * views * (5 * width * height + 8 * (9 + 16))


def _wanted_shards(out: Path, seed: int, scenes: int) -> list[tuple[Path, range]]:
    """Folders of rooms seed .. seed + scenes - 1, and the rooms of each."""
    end = seed + scenes
    return [
        (out / f"shard_{first:08d}", range(first, min(first + SHARD_SCENES, end)))
        for first in range(seed, end, SHARD_SCENES)
    ]


def _holds(shard: Path, numbers: range) -> bool:
    return shard.exists() and len(open_shard(shard).rgb) >= len(numbers)


def _write_shard(shard: Path, arrays: SceneArrays) -> None:
    partial = shard.with_name("." + shard.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        for field in dataclasses.fields(arrays):
            np.save(partial / f"{field.name}.npy", getattr(arrays, field.name))
        if shard.exists():  # with fewer rooms
            shutil.rmtree(shard)
        os.replace(partial, shard)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise GldError(
            f"cannot write {shard}: {error}: free some space and run again, finished shards are kept"
        ) from error


def open_shard(shard: Path) -> SceneArrays:
    """A shard's files, mapped. Raises GldError when they are damaged."""
    try:
        return SceneArrays(*(np.load(shard / f"{f.name}.npy", mmap_mode="r") for f in dataclasses.fields(SceneArrays)))
    except (OSError, ValueError) as error:
        raise GldError(f"{shard} is damaged ({error}): delete it and run 'gld rooms dataset' again") from error


class RoomShards:
    """The first scenes (default: all) below a folder that ``write_shards`` filled; maps files on demand.

    Raises GldError when there are fewer scenes, or damaged files.
    """

    def __init__(self, folder: Path, scenes: int | None = None) -> None:
        self.shards = sorted(folder.glob("shard_*"))
        if not self.shards:
            raise GldError(f"{folder} has no room shards: run 'gld rooms dataset --out {folder}' first")
        self._open: dict[Path, SceneArrays] = {}
        counts = [len(self._arrays(s).rgb) for s in self.shards]
        self.ends = np.cumsum(counts)
        self.count = scenes or int(self.ends[-1])
        if self.count > self.ends[-1]:
            raise GldError(
                f"{folder} has {self.ends[-1]} rooms, {self.count} are wanted: run 'gld rooms dataset --scenes "
                f"{self.count}' for it"
            )

    def __len__(self) -> int:
        return self.count

    def _arrays(self, shard: Path) -> SceneArrays:
        if shard not in self._open:
            self._open[shard] = open_shard(shard)
        return self._open[shard]

    def take(self, scenes: NDArray[np.int64], views: NDArray[np.int64]) -> SceneArrays:
        """Copies of chosen views, views (S, V), of chosen scenes (S,)."""
        parts: list[list[NDArray]] = [[], [], [], []]
        for scene, chosen in zip(scenes, views, strict=True):
            number = int(np.searchsorted(self.ends, scene, side="right"))
            row = int(scene) - (int(self.ends[number - 1]) if number else 0)
            arrays = self._arrays(self.shards[number])
            for part, field in zip(parts, dataclasses.fields(arrays), strict=True):
                part.append(getattr(arrays, field.name)[row][chosen])
        return SceneArrays(*(np.stack(p) for p in parts))

    def chunks(self, size: int) -> Iterator[SceneArrays]:
        """All scenes in order, ``size`` at a time, with all their views."""
        views = self._arrays(self.shards[0]).rgb.shape[1]
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))
            yield self.take(rows, np.tile(np.arange(views), (len(rows), 1)))
