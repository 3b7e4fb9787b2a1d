"""``gld synthesize``: views of a scene's target frames from its condition frames, offline."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from gld_ros.cli import options
from gld_ros.data.scene import Scene, load_scene, shared_frames_note
from gld_ros.errors import GldError, Status
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.many_views import synthesize_nearest
from gld_ros.synthesis.output import write_result
from gld_ros.synthesis.types import Progress, Request


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scene", metavar="SCENE", help=options.SCENE_HELP)
    parser.add_argument("--condition", metavar="I,J,K-L", help="frames whose pictures are given")
    parser.add_argument("--target", metavar="I,J,K-L", help="frames to synthesise; only their pose and lens are read")
    parser.add_argument("--split", metavar="NAME", help="a split of the scene that names both lists")
    parser.add_argument(
        "--samples", type=int, default=1, help="samples per view, for a depth spread (default: %(default)s)"
    )
    parser.add_argument("--time-budget", type=float, default=0.0, metavar="S", help="seconds allowed, 0 = no limit")
    parser.add_argument("--compose", choices=("observed_first", "generated"), default="observed_first")
    parser.add_argument(
        "--metric", choices=("yes", "no"), help="whether poses are in metres (default: as the scene says)"
    )
    options.add_synthesis_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="output folder")


def run(args: argparse.Namespace) -> int:
    """Synthesise and write; exit status 0 if at least one view succeeded."""
    scene = load_scene(args.scene, args.camera, None if args.metric is None else args.metric == "yes")
    condition, target = choose_frames(args, scene)
    cameras = [options.sized(scene.frames[i].camera, args.size) for i in target]
    views = [scene.posed_view(i, use_depth=not args.no_depth) for i in condition]
    engine = load_engine(args.model, args.device, options.acceleration(args))
    request = Request(
        cameras,
        preset=args.preset,
        time_budget_s=args.time_budget,
        num_samples=args.samples,
        seed=args.seed,
        compose=args.compose,
        metric=scene.metric,
    )
    notes = (*scene.notes, *shared_frames_note(condition, target))
    with tqdm(unit="step", leave=False, disable=None) as bar:

        def show(progress: Progress) -> None:
            bar.set_description(progress.stage)
            bar.total, bar.n = progress.steps, progress.step
            bar.refresh()

        result = synthesize_nearest(engine, views, request, show)
    result = replace(result, notes=(*notes, *result.notes))
    path = write_result(result, [scene.frames[i].name for i in target], args.out, scene.metric)
    for note in result.notes:
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
        condition = options.frame_indices(args.condition, "--condition")
        target = options.frame_indices(args.target, "--target")
    else:
        condition, target = scene.split(args.split)
    return scene.check_indices(condition, "condition"), scene.check_indices(target, "target")
