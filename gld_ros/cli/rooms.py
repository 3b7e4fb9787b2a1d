"""``gld rooms``: render procedural rooms to scene folders and training shards."""

from __future__ import annotations

import argparse
from pathlib import Path

QUALITY = {"training": (2, 0), "good": (4, 2), "final": (9, 3)}  # samples per pixel side, bounces


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands render and dataset."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    render = actions.add_parser("render", help="one room as a scene folder")
    render.add_argument("--seed", type=int, default=0, help="which room (default 0)")
    render.add_argument("--views", type=int, default=9, help="number of views, 1 or more (default 9; showroom: 10)")
    render.add_argument("--size", type=int, nargs=2, default=(480, 360), metavar=("W", "H"), help="pixels (480 360)")
    render.add_argument("--motion", choices=("orbit", "drive", "line"), default="drive", help="camera path")
    render.add_argument("--baseline", type=float, nargs=2, default=(0.3, 1.2), metavar=("MIN", "MAX"),
                        help="spread (orbit) or half path length (drive) in metres, drawn between these")  # fmt: skip
    render.add_argument("--layout", choices=("random", "showroom"), default="random",
                        help="showroom: one arranged living room and its own camera tour")  # fmt: skip
    render.add_argument("--quality", choices=tuple(QUALITY), default="good", help="light transport and sampling")
    render.add_argument("--texture-size", type=int, default=256, help="texture side in pixels, a power of two (256)")
    render.add_argument("--photos", type=Path, default=None, help="photo texture cache made by tools/fetch_assets")
    render.add_argument("--furniture", type=Path, default=None, help="furniture cache made by tools/fetch_assets")
    render.add_argument("--camera-effects", action="store_true", help="exposure, white balance, noise, blur, JPEG")
    render.add_argument("--no-depth", action="store_true", help="leave depth out of the folder")
    render.add_argument("--threads", type=int, default=1, help="rendering threads (default 1)")
    render.add_argument("--out", type=Path, required=True, help="folder to write")

    data = actions.add_parser("dataset", help="many rooms as training shards")
    data.add_argument("--seed", type=int, default=0, help="number of the first room")
    data.add_argument("--scenes", type=int, required=True, help="number of rooms")
    data.add_argument("--views", type=int, default=8, help="views per room (default 8)")
    data.add_argument("--size", type=int, nargs=2, default=(128, 128), metavar=("W", "H"), help="pixels (128 128)")
    data.add_argument("--photos", type=Path, default=None, help="photo texture cache made by tools/fetch_assets")
    data.add_argument("--furniture", type=Path, default=None, help="furniture cache made by tools/fetch_assets")
    data.add_argument("--threads", type=int, default=1, help="rendering threads (default 1)")
    data.add_argument("--out", type=Path, required=True, help="folder to write; finished shards are kept")


def run(args: argparse.Namespace) -> int:
    """Run the chosen sub-command."""
    if args.action == "dataset":
        return _dataset(args)
    return _render(args)


def _render(args: argparse.Namespace) -> int:
    from gld_ros.data.rooms.folder import write_scene
    from gld_ros.data.rooms.motion import MotionConfig
    from gld_ros.data.rooms.render import RenderConfig, render_scene, render_showroom
    from gld_ros.data.rooms.sensor import CLEAN, SensorConfig
    from gld_ros.data.rooms.showroom import TOUR_SPLITS

    samples, bounces = QUALITY[args.quality]
    config = RenderConfig(
        samples=samples,
        bounces=bounces,
        texture_size=args.texture_size,
        photos=str(args.photos) if args.photos else None,
        furniture=str(args.furniture) if args.furniture else None,
        motion=MotionConfig(args.motion, tuple(args.baseline)),
        sensor=SensorConfig() if args.camera_effects else CLEAN,
    )
    width, height = args.size
    note = "procedural room rendered by gld rooms render; no photographs" + (
        " except surface textures" if args.photos or args.furniture else ""
    )
    if args.layout == "showroom":
        scene = render_showroom(args.seed, width, height, config, args.threads, progress=True)
        write_scene(scene, args.out, args.out.name, note, TOUR_SPLITS, not args.no_depth)
    else:
        scene = render_scene(args.seed, args.views, width, height, config, args.threads, progress=True)
        write_scene(scene, args.out, args.out.name, note, None, not args.no_depth)
    print(f"{len(scene.rgb)} views of {width}x{height} in {args.out}")
    return 0


def _dataset(args: argparse.Namespace) -> int:
    from gld_ros.data.rooms.render import RenderConfig
    from gld_ros.data.rooms.shards import write_shards

    config = RenderConfig(
        photos=str(args.photos) if args.photos else None, furniture=str(args.furniture) if args.furniture else None
    )
    width, height = args.size
    rate = write_shards(args.out, args.seed, args.scenes, args.views, width, height, config, args.threads)
    print(f"{args.scenes} rooms x {args.views} views in {args.out} ({rate:.0f} views/s)")
    return 0
