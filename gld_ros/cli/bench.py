"""``gld bench``: times, evaluations, operations and peak memory."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gld_ros.errors import GldError

if TYPE_CHECKING:
    from gld_ros.evaluation.bench.rows import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--full-size", action="store_true", help="the published sizes with random weights, 1+1 views")
    parser.add_argument(
        "--model", type=Path, help="with --full-size: measure this model file instead of random weights"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows to this file")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--dtype", default="bf16", help="fp32, bf16 or fp16 (default: bf16)")
    parser.add_argument("--updates", type=int, default=2, help="with --full-size: sampler updates a stage (default: 2)")
    parser.add_argument("--guidance", type=float, default=1.5, help="guidance scale (default: 1.5; 1 = off)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")


def run(args: argparse.Namespace) -> int:
    """Measure, print a line per row, and write the JSON."""
    from gld_ros.evaluation.bench.rows import report
    from gld_ros.model.precision import dtype_named

    dtype_named(args.dtype)
    if args.updates < 1:
        raise GldError(f"--updates is {args.updates}, must be at least 1")
    if args.threads < 0:
        raise GldError(f"--threads is {args.threads}, must be at least 0")
    if not args.full_size:
        raise GldError("nothing to measure: pass --full-size")
    rows = [_full_size(args)]
    for row in rows:
        seconds = ", ".join(f"{name} {value:.1f} s" for name, value in row.seconds.items())
        print(
            f"{row.model} {row.mode} {row.size[0]}x{row.size[1]} {row.views[0]}+{row.views[1]} views, "
            f"{row.evaluations} evaluations on {row.device} in {row.dtype}: {row.seconds_p50:.1f} s ({seconds}), "
            f"{row.flops / 1e12:.2f} TF, {row.flops / row.seconds_p50 / 1e9:.0f} GF/s, "
            f"peak {row.peak_bytes / 1e9:.2f} GB"
        )
    if args.json is not None:
        try:
            args.json.write_text(json.dumps(report(rows), indent=1) + "\n")
        except OSError as error:
            raise GldError(f"{args.json} cannot be written: {error.strerror}") from None
    return 0


def _full_size(args: argparse.Namespace) -> Row:
    from gld_ros.evaluation.bench.child import in_child
    from gld_ros.evaluation.bench.full_size import full_size_row, write_random_model

    with tempfile.TemporaryDirectory(prefix="gld_bench_") as folder:
        path = args.model
        if path is None:
            path = Path(folder) / "random.safetensors"
            write_random_model(path)
        return in_child(
            full_size_row,
            path=path,
            device=args.device,
            dtype=args.dtype,
            updates=args.updates,
            guidance=args.guidance,
            threads=args.threads,
        )
