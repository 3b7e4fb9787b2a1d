"""``gld bench --ros``: the ROS side's figures, printed line by line."""

from __future__ import annotations

import argparse
from typing import Any

from tqdm import tqdm

from gld_ros.errors import GldError

MIN_SECONDS, MAX_SECONDS = 1.0, 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this mode."""
    parser.add_argument("--ros", action="store_true", help="what ROS adds: callbacks, publishing, clouds, lost images")
    parser.add_argument("--seconds", type=float, default=60.0, help="with --ros: length of the 30 Hz run (default: 60)")


def check(args: argparse.Namespace) -> None:
    """Refuse a run of a length that makes no sense."""
    if not MIN_SECONDS <= args.seconds <= MAX_SECONDS:
        raise GldError(f"--seconds is {args.seconds:g}: must be {MIN_SECONDS:g} to {MAX_SECONDS:g}")


def measure_ros(args: argparse.Namespace) -> dict[str, Any]:
    """Measure and print a line per figure; the benchmark file, with the figures under ``ros``."""
    from gld_ros.evaluation.bench.rows import report

    try:
        from gld_ros.ros.bench import measure
    except ImportError as error:
        raise GldError(f"--ros needs ROS 2, which does not import ({error}): run make setup, or source it") from None
    with tqdm(total=args.seconds, unit="s", desc="30 Hz run") as bar:

        def on_second(passed: float) -> None:
            bar.update(min(passed, args.seconds) - bar.n)

        found = measure(args.model or "default", args.device, seconds=args.seconds, on_second=on_second)
    for figure in found.figures:
        print(figure.line())
    print(
        f"model {found.model}; machine load {found.load_before:.1f} before and {found.load_after:.1f} after, "
        "in processes that want a core"
    )
    return report([], ros=found.to_dict())
