"""``gld demo``: replay a scene into the node, ask for views the camera never had, and draw what came back."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from gld_ros.cli.options import sized
from gld_ros.data.scene import Scene, load_scene
from gld_ros.geometry.camera import Camera
from gld_ros.share import share_folder
from gld_ros.synthesis.types import Progress, Result

log = logging.getLogger(__name__)
MOST_CONDITIONS, MOST_TARGETS = 8, 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scene", metavar="SCENE", nargs="?", help="scene folder or rosbag2 (default: our own room)")
    parser.add_argument("--split", metavar="NAME", help="which frames are shown and which are asked for")
    parser.add_argument("--model", default="default", help="engine or checkpoint (default: %(default)s)")
    parser.add_argument("--preset", default="", help="quality preset (default: the node's)")
    parser.add_argument("--device", default="auto", help="where the engine computes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is generated (default: %(default)s)")
    parser.add_argument("--no-depth", action="store_true", help="leave the scene's depth images out")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="output folder (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Show the whole way once, over ROS where it is there, else in this process."""
    path = Path(args.scene) if args.scene else share_folder() / "demo" / "room"
    scene = load_scene(path)
    conditions, targets = shown_frames(scene, args.split)
    cameras = [sized(scene.frames[i].camera, None) for i in targets]
    args.out.mkdir(parents=True, exist_ok=True)
    over_ros = find_spec("rclpy") is not None and find_spec("gld_ros.srv") is not None
    with tqdm(desc="synthesis", unit="step", leave=False, disable=None) as bar:

        def on_progress(progress: Progress) -> None:
            bar.set_description(progress.stage)
            bar.total, bar.n = progress.steps, progress.step
            bar.refresh()

        if over_ros:
            result, seconds = _over_ros(args, path, conditions, cameras, on_progress)
        else:
            print("ROS is not installed: the same scene runs inside this process.")
            result, seconds = _in_process(args, scene, conditions, cameras, on_progress)
    # the drawing belongs to the library: the same pictures come from `gld synthesize`
    from gld_ros.evaluation.demo import write_demo

    began = time.monotonic()
    for line in write_demo(scene, conditions, targets, result, args.out):
        print(line)
    seconds["drawing"] = time.monotonic() - began
    print("seconds: " + ", ".join(f"{name} {taken:.1f}" for name, taken in seconds.items()))
    print(_next_steps(over_ros, path))
    return 0


def shown_frames(scene: Scene, split: str | None) -> tuple[list[int], list[int]]:
    """Condition and target frames of the demo; a long scene without splits shows a stretch of its beginning."""
    conditions, targets = scene.split(split)
    if scene.splits or len(scene.frames) <= MOST_CONDITIONS + MOST_TARGETS:
        return conditions, targets
    step = max(1, len(scene.frames) // (4 * (MOST_CONDITIONS + MOST_TARGETS)))  # a quarter: neighbours must overlap
    stretch = list(range(0, len(scene.frames), step))[: MOST_CONDITIONS + MOST_TARGETS]
    targets = stretch[1::3][:MOST_TARGETS]
    print(f"{len(scene.frames)} frames: the demo uses {len(stretch)} of them; `gld synthesize` takes any")
    return [i for i in stretch if i not in targets], targets


def _over_ros(
    args: argparse.Namespace, path: Path, conditions: Sequence[int], cameras: list[Camera], on_progress: object
) -> tuple[Result, dict[str, float]]:
    from gld_ros.ros.session import SessionSettings, run_session

    settings = SessionSettings(
        scene=path,
        conditions=conditions,
        targets=cameras,
        model=args.model,
        device=args.device,
        preset=args.preset,
        seed=args.seed,
        use_depth=not args.no_depth,
        logs=args.out / "logs",
    )
    back = run_session(settings, on_progress)  # type: ignore[arg-type]
    print(
        f"{back.keyframes} keyframes of {path} went into node /gld over DDS (domain {back.domain}, this host only), "
        f"{len(back.result.views)} views came back from {back.result.model}"
    )
    return back.result, dict(back.seconds)


def _in_process(
    args: argparse.Namespace, scene: Scene, conditions: Sequence[int], cameras: list[Camera], on_progress: object
) -> tuple[Result, dict[str, float]]:
    from gld_ros.synthesis.engine import load_engine
    from gld_ros.synthesis.types import Request

    began = time.monotonic()
    engine = load_engine(args.model, args.device)
    views = [scene.posed_view(i, use_depth=not args.no_depth) for i in conditions]
    request = Request(cameras, seed=args.seed, metric=scene.metric, **({"preset": args.preset} if args.preset else {}))
    result = engine.synthesize(views, request, on_progress)  # type: ignore[arg-type]
    return result, {"synthesis": time.monotonic() - began}


def _next_steps(over_ros: bool, path: Path) -> str:
    if not over_ros:
        return "next: install ROS, or `make setup` on Linux x86_64, to see the same as live topics"
    gld = "gld" if shutil.which("gld") else sys.argv[0]
    return (
        f"next: `{gld} launch fastdds:=true` (and rviz:=true where RViz is) with "
        f"`{gld} replay {path} --loop --base-frame base_link` to see it live, "
        "or remap your own camera to camera/image_raw and camera/camera_info (docs/rviz.md)"
    )
