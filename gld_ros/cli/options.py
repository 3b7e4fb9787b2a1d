"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from gld_ros.errors import GldError
from gld_ros.geometry.camera import Camera

if TYPE_CHECKING:
    from gld_ros.model.accelerate import Acceleration

WIDEST_DEFAULT = 640
LARGEST_SIDE = 4096
MOST_FRAMES = 1_000_000  # in a range: more is a slip of the keyboard
INDEX_OR_RANGE = re.compile(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", re.ASCII)
SCENE_HELP = "a folder with cameras.json or transforms.json, or a rosbag2"


def add_synthesis_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what every command needs that makes views of scenes: what is read, which engine, and how it computes."""
    from gld_ros.model.accelerate import COMPILE_CHOICES, PRECISION_CHOICES  # here: gld replay does without torch

    parser.add_argument("--camera", metavar="NAME", help="image topic or camera namespace of a bag")
    parser.add_argument(
        "--model", default="default", help="classical, tiny or a checkpoint file (default: the best shipped)"
    )
    parser.add_argument("--preset", default="balanced", help="reference, full, balanced or fast (default: %(default)s)")
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("W", "H"), help="size of the pictures (default: the target's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of what is generated (default: %(default)s)")
    parser.add_argument("--no-depth", action="store_true", help="leave the scene's depth images out")
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: %(default)s)")
    parser.add_argument(
        "--compile",
        choices=COMPILE_CHOICES,
        default="auto",
        help="compile the network's blocks first: auto does on CUDA (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="auto",
        help="auto: fp16 on Jetson Orin, bf16 on other GPUs, fp32 on CPUs (default: %(default)s)",
    )


def acceleration(args: argparse.Namespace) -> Acceleration:
    """How a network computes."""
    from gld_ros.model.accelerate import Acceleration

    return Acceleration(args.compile, args.precision)


def frame_indices(text: str, option: str) -> list[int]:
    """Indices of ``0,2,5`` or ``0-3,7``. Raises GldError naming the option."""
    indices: list[int] = []
    for part in text.split(","):
        found = INDEX_OR_RANGE.fullmatch(part)
        if found is None:
            raise GldError(f"{option} '{text}' is not a list of frame indices: write 0,2,5 or 0-3")
        first, last = int(found[1]), int(found[2] or found[1])
        if not 0 <= last - first < MOST_FRAMES:
            raise GldError(f"{option} '{text}': {first}-{last} must ascend over at most {MOST_FRAMES} frames")
        indices += range(first, last + 1)
    return indices


def sized(camera: Camera, size: list[int] | None) -> Camera:
    """The camera at ``size``, or at its own size up to WIDEST_DEFAULT pixels wide."""
    if size is None:
        if camera.width <= WIDEST_DEFAULT:
            return camera
        return camera.resized(WIDEST_DEFAULT, max(1, round(WIDEST_DEFAULT * camera.height / camera.width)))
    width, height = size
    if not (8 <= width <= LARGEST_SIDE and 8 <= height <= LARGEST_SIDE):
        raise GldError(f"--size {width} {height} is out of range: each side 8..{LARGEST_SIDE}")
    return camera.resized(width, height)
