"""``gld check-numerics``: recompute golden files on this machine and report the worst deviation per output."""

from __future__ import annotations

import argparse
from pathlib import Path

from gld_ros.errors import GldError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder with tiny_config.json and golden .safetensors")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--dtype", default="fp32", help="fp32, bf16 or fp16 (default: fp32)")
    parser.add_argument(
        "--tolerance",
        type=float,
        help="largest deviation as a share of max(1, max |expected|) (default: 2e-4 in fp32, looser in 16 bits)",
    )


def run(args: argparse.Namespace) -> int:
    """Print one line per output and the verdict; 0 only if all are within tolerance."""
    from gld_ros.evaluation.goldens import check_folder
    from gld_ros.model.precision import dtype_named

    if args.tolerance is not None and not args.tolerance > 0:
        raise GldError(f"--tolerance is {args.tolerance}, must be above 0")
    total = failed = 0
    for outcome in check_folder(args.dir, args.device, dtype_named(args.dtype), args.tolerance):
        print(outcome, flush=True)
        total += 1
        failed += not outcome.passed
    if not total:
        print(f"FAIL: no expected outputs in {args.dir}")
        return 1
    print(f"{'FAIL' if failed else 'PASS'}: {total - failed} of {total} outputs within tolerance")
    return 1 if failed else 0
