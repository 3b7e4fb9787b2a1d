"""Render rooms: one view, one scene of posed views, and the scene folder other tools read."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gld_ros.data.rooms import drawing, paths
from gld_ros.data.rooms.cells import Cells, camera_cells
from gld_ros.data.rooms.denoise import denoise
from gld_ros.data.rooms.kernels import make_paths_ready
from gld_ros.data.rooms.layout import LayoutConfig, random_room
from gld_ros.data.rooms.models import with_models
from gld_ros.data.rooms.motion import MotionConfig, sample_cameras
from gld_ros.data.rooms.scene import PackedScene
from gld_ros.data.rooms.sensor import SensorConfig, develop
from gld_ros.data.rooms.showroom import showroom, showroom_tour
from gld_ros.data.rooms.textures import TextureSet, make_textures
from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera


@dataclass(frozen=True)
class RenderConfig:
    """How a scene is drawn.

    ``samples``: rays per pixel side (edges only while ``bounces`` is 0). ``bounces``: path-traced diffuse bounces;
    0 uses an ambient term and is meant for training. ``photos``: cache file of fetched photo textures. ``furniture``:
    cache file of fetched furniture models. ``photo_split``: ``train`` or ``test`` part of both.
    """

    samples: int = 2
    bounces: int = 0
    texture_size: int = 128
    texture_seed: int = 0
    photos: str | None = None
    photo_split: str = "train"
    furniture: str | None = None
    layout: LayoutConfig = field(default_factory=LayoutConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    sensor: SensorConfig = field(default_factory=SensorConfig)


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """Posed views of one room; the world is in metres, z up."""

    seed: int
    rgb: list[NDArray[np.uint8]]  # (H, W, 3)
    depth: list[NDArray[np.float32]]  # (H, W) z-depth in metres, every pixel valid
    cameras: list[Camera]


@functools.lru_cache(maxsize=4)
def _cached_textures(seed: int, size: int, photos: str | None, split: str, furniture: str | None) -> TextureSet:
    textures = make_textures(seed, size, Path(photos) if photos else None, split)
    return with_models(textures, Path(furniture), split) if furniture else textures


def textures_of(config: RenderConfig) -> TextureSet:
    """The texture set a config names (built once per process)."""
    return _cached_textures(
        config.texture_seed, config.texture_size, config.photos, config.photo_split, config.furniture
    )


def lens_of(camera: Camera) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy."""
    k = camera.K
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2])


def render_view(
    scene: PackedScene, camera: Camera, samples: int = 2, bounces: int = 0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Linear light (H, W, 3) and z-depth in metres (H, W) of a camera."""
    h, w = camera.height, camera.width
    rgb, depth, ids = np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32), np.zeros((h, w), np.int32)
    lens, pose = lens_of(camera), np.ascontiguousarray(camera.world_from_cam, np.float64)
    if bounces == 0:
        cells = Cells(*camera_cells(scene.prims, *lens, pose, w, h))
        rays = w * samples**2
        drawing.draw_kernel(
            scene.solids, scene.look, scene.main_lighting, scene.shadows, cells, np.array(lens), pose, samples, rgb,
            depth, ids, np.zeros_like(rgb), np.zeros((rays, 5)), np.zeros((rays, 3), np.int64), np.zeros((rays, 6)),
        )  # fmt: skip
        return rgb, depth
    make_paths_ready()
    own_colour = np.zeros((h, w, 3), np.float32)
    paths.path_kernel(
        scene.solids, scene.look, scene.lighting, *lens, pose, samples, bounces, seed, rgb, own_colour, depth, ids
    )
    return denoise(rgb, own_colour, ids, depth), depth


def render_depth(scene: PackedScene, camera: Camera) -> NDArray[np.float32]:
    """Z-depth in metres (H, W) of a camera."""
    depth = np.zeros((camera.height, camera.width), np.float32)
    pose = np.ascontiguousarray(camera.world_from_cam, np.float64)
    drawing.depth_kernel(scene.solids, *lens_of(camera), pose, depth)
    return depth


def render_cameras(
    scene: PackedScene,
    cameras: Sequence[Camera],
    seed: int,
    config: RenderConfig,
    threads: int = 1,
    progress: bool = False,
) -> RenderedScene:
    """Render given cameras of a given room and develop the pictures; ``progress`` shows a bar of views."""

    def one(job: tuple[int, Camera]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return render_view(scene, job[1], config.samples, config.bounces, seed * 1009 + job[0])

    bar = functools.partial(tqdm, total=len(cameras), desc="rendering", unit="view", disable=not progress)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            views = list(bar(pool.map(one, enumerate(cameras))))
    else:
        views = list(bar(map(one, enumerate(cameras))))
    return RenderedScene(
        seed, develop([v[0] for v in views], seed, config.sensor), [v[1] for v in views], list(cameras)
    )


def render_showroom(
    seed: int, width: int, height: int, config: RenderConfig, threads: int = 1, progress: bool = False
) -> RenderedScene:
    """The arranged living room along its tour: ten views."""
    config = replace(config, sensor=replace(config.sensor, key=0.21))  # bright windows in view: keep the room calm
    scene = showroom(seed, textures_of(config))
    return render_cameras(scene, showroom_tour(width, height), seed, config, threads, progress)


def render_scene(
    seed: int,
    views: int,
    width: int,
    height: int,
    config: RenderConfig | None = None,
    threads: int = 1,
    progress: bool = False,
) -> RenderedScene:
    """The room of ``seed`` seen by ``views`` cameras: same arguments, same result.

    A seed whose room leaves no place for the cameras goes on to a derived room. Raises GldError for empty sizes.
    """
    if views < 1 or width < 8 or height < 8:
        raise GldError(f"cannot render {views} views of {width}x{height}: at least 1 view of 8x8 is needed")
    config = config or RenderConfig()
    textures = textures_of(config)
    for attempt in range(20):
        number = seed + attempt * 1_000_003
        scene = random_room(number, textures, config.layout)
        try:
            cameras = sample_cameras(scene, views, width, height, number, config.motion)
        except GldError:
            continue
        return render_cameras(scene, cameras, seed, config, threads, progress)
    raise GldError(f"no room found for seed {seed} with motion {config.motion}: loosen the motion config")
