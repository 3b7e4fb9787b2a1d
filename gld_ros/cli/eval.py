"""``gld eval``: figures of pictures and depth against held-out views, beside baselines."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gld_ros.cli import options
from gld_ros.data.scene import Scene, load_scene
from gld_ros.errors import GldError
from gld_ros.evaluation.bench.machine import revision
from gld_ros.evaluation.evaluate import HOLES, EvalConfig, EvaluatedSet, evaluate_split
from gld_ros.evaluation.frozen_rooms import room_scenes, rooms_identity
from gld_ros.evaluation.perceptual import PerceptualDistance, installed_distance
from gld_ros.evaluation.report import metrics, text_table, write_report
from gld_ros.evaluation.rooms import SAMPLES, RoomsEvaluation, routes
from gld_ros.evaluation.verdicts import goal_line
from gld_ros.geometry.camera import Camera
from gld_ros.synthesis.engine import load_engine
from gld_ros.synthesis.types import Engine, Progress

MOST_SAMPLES = 64
NO_SPLIT = "default"  # name of the set of a scene without splits: every third frame is a target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "scenes", metavar="SCENE", nargs="*", help="folders with cameras.json or transforms.json, or rosbag2s"
    )
    parser.add_argument("--split", metavar="NAME", help="only this split of each scene (default: all of them)")
    parser.add_argument("--rooms", action="store_true", help="also the frozen synthetic test rooms")
    parser.add_argument(
        "--rooms-limit",
        "--scenes",
        dest="rooms_limit",
        type=int,
        metavar="N",
        help="only the first N test rooms, for a quick look (not the full set)",
    )
    parser.add_argument(
        "--samples",
        type=int,
        default=SAMPLES,
        help="samples for the spread in the first set of test rooms, 1 = none (default: %(default)s)",
    )
    options.add_synthesis_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder for metrics.json and index.html")


def run(args: argparse.Namespace) -> int:
    """Measure and write; exit status 1 when the engine failed on a set."""
    if not args.scenes and not args.rooms:
        raise GldError("nothing to measure: name at least one SCENE, or --rooms")
    if not 1 <= args.samples <= MOST_SAMPLES:
        raise GldError(f"--samples {args.samples}: must be 1..{MOST_SAMPLES}")
    if args.rooms_limit is not None and (not args.rooms or args.rooms_limit < 1):
        raise GldError(f"--rooms-limit {args.rooms_limit}: must be at least 1 and goes with --rooms")
    loaded = [load_scene(path, args.camera) for path in args.scenes]
    jobs = [
        job
        for scene, name in zip(loaded, _names(loaded, args.scenes), strict=True)
        for job in _splits(scene, name, args.split)
    ]
    engine = load_engine(args.model, args.device, options.acceleration(args))
    config = EvalConfig(args.preset, args.seed, not args.no_depth)
    perceptual, backbone = installed_distance()
    sets: list[EvaluatedSet] = []

    bar = tqdm(total=len(jobs), unit="split", leave=False, disable=None)

    def show(progress: Progress) -> None:
        bar.set_postfix_str(f"{progress.stage} {progress.step + 1} of {progress.steps}")

    def at_size(camera: Camera) -> Camera:
        return options.sized(camera, args.size)

    def evaluate(scene: Scene, name: str, split: str | None) -> EvaluatedSet:
        condition, target = scene.split(split)
        bar.set_description(name)
        made = evaluate_split(scene, name, condition, target, engine, config, at_size, perceptual, show)
        bar.update()
        return made

    for scene, name, split in jobs:
        sets.append(evaluate(scene, name, split))
    settings: dict[str, Any] = {
        "model": engine.name,
        "preset": config.preset,
        "seed": config.seed,
        "use_depth": config.use_depth,
        "size": args.size,
        "perceptual": backbone,
        "holes": HOLES,
    }
    if args.rooms:
        sets += _rooms(args, engine, config, perceptual, settings, bar)
    bar.close()
    found = metrics(sets, settings, revision())
    numbers, page = write_report(sets, found, args.out)
    for evaluated in sets:
        print(text_table(evaluated, found["sets"][evaluated.name]))
        for note in evaluated.notes:
            print(f"  note: {note}")
    for row in found.get("goals", []):
        print(goal_line(row))
    if perceptual is None:
        print(f"note: {backbone}")
    print(f"written: {numbers}, {page}")
    return 1 if any(s.failed for s in sets) else 0


def _rooms(
    args: argparse.Namespace,
    engine: Engine,
    config: EvalConfig,
    perceptual: PerceptualDistance | None,
    settings: dict[str, Any],
    bar: tqdm,
) -> list[EvaluatedSet]:
    """The frozen test rooms, each rendered once; adds what defines them to ``settings``."""
    settings["rooms"] = rooms_identity(args.rooms_limit)
    settings["samples"] = args.samples
    ways = routes(settings["rooms"]["name"], config.use_depth, engine)
    runs = [RoomsEvaluation(engine, config, way, perceptual, args.samples if way is ways[0] else 1) for way in ways]
    bar.reset(total=settings["rooms"]["scenes"])
    for room in room_scenes(args.rooms_limit):
        bar.set_description(room.name)
        for run in runs:
            run.add(room)
        bar.update()
    return [run.finish(runs[0] if run is not runs[0] else None, bar.set_description) for run in runs]


def _names(scenes: list[Scene], paths: list[str]) -> list[str]:
    """Scene names, with the parent folder where names repeat."""
    repeated = {name for name, count in Counter(s.name for s in scenes).items() if count > 1}
    names = [
        f"{Path(path).resolve().parent.name}_{s.name}" if s.name in repeated else s.name
        for s, path in zip(scenes, paths, strict=True)
    ]
    if len(set(names)) < len(names):
        raise GldError(f"scenes have the same name and parent folder: {', '.join(names)}: give each once")
    return names


def _splits(scene: Scene, name: str, split: str | None) -> Iterator[tuple[Scene, str, str | None]]:
    if split is not None:
        scene.split(split)  # raises when there is none of this name
        yield scene, f"{name}/{split}", split
    elif scene.splits:
        for known in scene.splits:
            yield scene, f"{name}/{known}", known
    else:
        yield scene, f"{name}/{NO_SPLIT}", None
