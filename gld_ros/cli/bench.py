"""``gld bench``: what a view costs with each preset on this machine, and what it is worth."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gld_ros.cli import bench_ros
from gld_ros.errors import GldError

if TYPE_CHECKING:
    from gld_ros.evaluation.bench.rows import Row

MAX_THREADS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--model", help="tiny (default) or a model file; with --full-size: instead of random weights")
    parser.add_argument("--full-size", action="store_true", help="the published sizes with random weights, 1+1 views")
    bench_ros.add_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="plot seconds against quality (needs matplotlib)")
    parser.add_argument("--pictures", type=Path, metavar="FILE", help="the presets side by side on a few targets")
    parser.add_argument("--page", type=Path, metavar="FILE", help="put the tables between their marks in this page")
    parser.add_argument("--targets", type=int, default=100, help="pictures per row, 2 to 200 (default: 100)")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")
    parser.add_argument("--dtype", default="bf16", help="with --full-size: fp32, bf16 or fp16 (default: bf16)")
    parser.add_argument("--updates", type=int, default=2, help="with --full-size: sampler updates a stage (default: 2)")
    parser.add_argument("--guidance", type=float, default=1.5, help="with --full-size: scale (default: 1.5; 1 = off)")


def run(args: argparse.Namespace) -> int:
    """Measure, print a line per row and the verdict, and write what was asked for."""
    check(args)
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    if args.ros:
        section, found = "ros", bench_ros.measure_ros(args)
    elif args.full_size:
        section, found = "full-size", _full_size(args)
    else:
        section, found = "presets", _presets(args)
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
        except OSError as error:
            raise GldError(f"{args.json} cannot be written: {error.strerror}") from None
    if args.page is not None:
        from gld_ros.evaluation.bench.page import fill_page

        fill_page(args.page, section, found)
    return 0


def check(args: argparse.Namespace) -> None:
    """Refuse options that cannot work before minutes of measuring."""
    from gld_ros.model.precision import dtype_named

    dtype_named(args.dtype)
    bench_ros.check(args)
    if args.updates < 1:
        raise GldError(f"--updates is {args.updates}, must be at least 1")
    if not 0 <= args.threads <= MAX_THREADS:
        raise GldError(f"--threads is {args.threads}, must lie in 0 (torch's choice) to {MAX_THREADS}")
    if args.ros and args.full_size:
        raise GldError("--ros and --full-size are two runs: give one of them")
    if args.full_size or args.ros:
        for name in ("plot", "pictures"):
            if getattr(args, name) is not None:
                raise GldError(f"--{name} shows the presets side by side: leave out --full-size and --ros")
    if args.plot is not None:
        from gld_ros.evaluation.bench.plot import check_matplotlib

        check_matplotlib()
    for name in ("json", "plot", "pictures", "page"):
        path = getattr(args, name)
        if path is not None and not path.parent.is_dir():
            raise GldError(f"--{name} {path}: folder {path.parent} does not exist: make it first")


def _presets(args: argparse.Namespace) -> dict[str, Any]:
    from gld_ros.evaluation.bench.pictures import write_side_by_side
    from gld_ros.evaluation.bench.plot import write_pareto
    from gld_ros.evaluation.bench.rows import report
    from gld_ros.evaluation.bench.run import BenchConfig, run_bench

    bench = run_bench(BenchConfig(args.model or "tiny", args.device, args.targets))
    found = report(bench.rows, **bench.sections)
    for row in bench.rows:
        print(row.line())
    for verdict in bench.verdicts:
        print(verdict.line())
    for note in bench.sections["notes"]:
        print(f"note: {note}")
    if args.plot is not None:
        machine = found["machine"]
        write_pareto(bench.rows, args.plot, f"{machine['cpu']}, {machine['threads']} threads, {found['revision']}")
    if args.pictures is not None:
        write_side_by_side(bench.comparison, args.pictures)
    return found


def _full_size(args: argparse.Namespace) -> dict[str, Any]:
    from gld_ros.evaluation.bench.child import in_child
    from gld_ros.evaluation.bench.full_size import full_size_row, full_size_verdicts, write_random_model
    from gld_ros.evaluation.bench.rows import report

    with tempfile.TemporaryDirectory(prefix="gld_bench_") as folder:
        path = Path(args.model) if args.model else Path(folder) / "random.safetensors"
        if not args.model:
            write_random_model(path)
        row: Row = in_child(
            full_size_row,
            path=path,
            device=args.device,
            dtype=args.dtype,
            updates=args.updates,
            guidance=args.guidance,
            threads=args.threads,
        )
    verdicts = full_size_verdicts(row)
    print(row.line())
    for verdict in verdicts:
        print(verdict.line())
    return report([row], verdict=[verdict.to_dict() for verdict in verdicts])
