"""``gld replay``: publish a scene or a bag as a live camera."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gld_ros.cli import options
from gld_ros.data.scene import is_bag, load_scene
from gld_ros.errors import GldError, SceneError
from gld_ros.ros.launch_plan import use_image_profile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("scene", metavar="SCENE", help=options.SCENE_HELP)
    parser.add_argument("--camera", default="camera", help="topic prefix of a scene's frames (default: %(default)s)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--frames", metavar="I,J,K-L", help="frames of the scene (or images of a bag) to show, default: all"
    )
    chosen.add_argument("--split", metavar="NAME", help="show the condition frames of this split only")
    parser.add_argument("--fixed-frame", default="odom", help="TF frame of the scene's world (default: %(default)s)")
    parser.add_argument(
        "--base-frame",
        default="",
        metavar="NAME",
        help="of a scene: also publish a robot frame at the camera, x forward, as base_link (default: none)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=None,
        help="frames per second of a scene (default: 5), or speed of a bag (default: 1)",
    )
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--no-depth", action="store_true", help="leave a scene's depth images out")
    parser.add_argument(
        "--stamps",
        choices=("now", "keep"),
        default="now",
        help="of a bag: moved to the present, or kept with /clock published (then set use_sim_time on the nodes)",
    )
    parser.add_argument(
        "--wait", type=float, default=10.0, help="seconds to wait for subscribers (default: %(default)s)"
    )
    parser.add_argument("--ros-args", nargs=argparse.REMAINDER, default=[], help="ROS arguments: remaps, namespace")


def run(args: argparse.Namespace) -> int:
    """Play until the end, or Ctrl-C."""
    path = Path(args.scene)
    # frames of a bag by number are shown as a scene's are
    bag = is_bag(path) and args.frames is None and args.split is None
    rate = args.rate if args.rate is not None else (1.0 if bag else 5.0)
    if not 0.001 <= rate <= 1000:
        raise GldError(f"--rate {rate:g} must lie in 0.001 to 1000")
    if args.wait < 0:
        raise GldError(f"--wait {args.wait:g} must not be negative")
    use_image_profile()  # without it pictures of half a megabyte delay TF by seconds
    try:
        from gld_ros.ros.replay import ReplaySettings, ScenePlayer, play
        from gld_ros.ros.replay_bag import BagPlayer
    except ImportError as error:
        raise GldError(
            f"gld replay needs ROS ({error}): source a ROS installation, or pip install 'gld_ros[ros]'"
        ) from None
    settings = ReplaySettings(
        camera=args.camera,
        fixed_frame=args.fixed_frame,
        base_frame=args.base_frame,
        rate=rate,
        loop=args.loop,
        depth=not args.no_depth,
        wait_s=args.wait,
    )

    make: Any
    if bag:
        make = lambda node: BagPlayer(node, path, settings, keep_stamps=args.stamps == "keep")  # noqa: E731
    else:
        scene = load_scene(path)
        indices = list(range(len(scene.frames)))
        if args.frames is not None:
            indices = options.frame_indices(args.frames, "--frames")
        elif args.split is not None:
            indices = scene.split(args.split)[0]
        if not scene.check_indices(indices, "replayed"):
            raise SceneError(f"no frames to replay: split {args.split} has no condition frames")
        make = lambda node: ScenePlayer(node, scene, indices, settings)  # noqa: E731
    return 0 if play(make, args.ros_args) else 1
