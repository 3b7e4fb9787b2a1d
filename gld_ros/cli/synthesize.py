"""``gld synthesize``: views of a scene's target frames from its condition frames, offline."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from gld_ros.cli import acceleration
from gld_ros.data.scene import Scene, load_scene
from gld_ros.errors import GldError, Status
from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.many_views import synthesize_nearest
from gld_ros.synthesis.output import write_result
from gld_ros.synthesis.types import Progress, Request

WIDEST_DEFAULT = 640
LARGEST_SIDE = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scene", metavar="SCENE", help="folder with cameras.json or transforms.json, or a rosbag2")
    parser.add_argument("--condition", metavar="I,J,…", help="frames whose pictures are given")
    parser.add_argument("--target", metavar="I,J,…", help="frames to synthesise; only their pose and lens are read")
    parser.add_argument("--split", metavar="NAME", help="a split of the scene that names both lists")
    parser.add_argument("--camera", metavar="NAME", help="image topic or camera namespace of a bag")
    parser.add_argument(
        "--model", default="default", help="classical, tiny or a checkpoint file (default: the best shipped)"
    )
    parser.add_argument("--preset", default="balanced", help="reference, full, balanced or fast (default: %(default)s)")
    parser.add_argument(
        "--size", nargs=2, type=int, metavar=("W", "H"), help="size of the pictures (default: the target's)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of what is generated (default: %(default)s)")
    parser.add_argument(
        "--samples", type=int, default=1, help="samples per view, for a depth spread (default: %(default)s)"
    )
    parser.add_argument("--time-budget", type=float, default=0.0, metavar="S", help="seconds allowed, 0 = no limit")
    parser.add_argument("--compose", choices=("observed_first", "generated"), default="observed_first")
    parser.add_argument("--no-depth", action="store_true", help="leave the scene's depth images out")
    parser.add_argument(
        "--metric", choices=("yes", "no"), help="whether poses are in metres (default: as the scene says)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, … (default: %(default)s)")
    acceleration.add_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="output folder")


def run(args: argparse.Namespace) -> int:
    """Synthesise and write; exit status 0 if at least one view succeeded."""
    scene = load_scene(args.scene, args.camera, None if args.metric is None else args.metric == "yes")
    condition, target = choose_frames(args, scene)
    cameras = [sized(scene.frames[i].camera, args.size) for i in target]
    views = [scene.posed_view(i, use_depth=not args.no_depth) for i in condition]
    engine = load_engine(args.model, args.device, acceleration.acceleration(args))
    request = Request(
        cameras,
        preset=args.preset,
        time_budget_s=args.time_budget,
        num_samples=args.samples,
        seed=args.seed,
        compose=args.compose,
        metric=scene.metric,
    )
    with tqdm(unit="step", leave=False, disable=None) as bar:

        def show(progress: Progress) -> None:
            bar.set_description(progress.stage)
            bar.total, bar.n = progress.steps, progress.step
            bar.refresh()

        result = synthesize_nearest(engine, views, request, show)
    path = write_result(result, [scene.frames[i].name for i in target], args.out, scene.metric)
    for note in (*scene.notes, *result.notes):
        print(f"note: {note}")
    for view, i in zip(result.views, target, strict=True):
        share = float((view.provenance == 2).mean())
        print(f"frame {i}: {Status(view.status).name} {view.message or f'{share:.0%} observed'}")
    print(f"{len(result.views)} views in {result.seconds['total']:.2f} s with {result.model}/{result.preset}: {path}")
    return 0 if result.status == Status.OK else 1


def choose_frames(args: argparse.Namespace, scene: Scene) -> tuple[list[int], list[int]]:
    """Condition and target indices from the options. Raises SceneError for frames that do not exist."""
    if args.split and (args.condition or args.target):
        raise GldError("--split excludes --condition and --target: give one or the other")
    if bool(args.condition) != bool(args.target):
        raise GldError("--condition and --target go together: give both, or --split, or neither")
    if args.condition:
        condition, target = parse_indices(args.condition), parse_indices(args.target)
    else:
        condition, target = scene.split(args.split)
    return scene.check_indices(condition, "condition"), scene.check_indices(target, "target")


def parse_indices(text: str) -> list[int]:
    """Indices of ``0,2,5`` or ``0-3,7``."""
    indices: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise GldError(f"'{text}' is not a list of frame indices: write 0,2,5 or 0-3")
        indices += range(int(first), int(last if dash else first) + 1)
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
