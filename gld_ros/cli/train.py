"""``gld train``: one stage of a model, or all in order."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "stage", choices=("encoder", "statistics", "rgb", "level1", "cascade", "all"), help="what to train"
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file, e.g. config/train/tiny64.yaml")
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument("--resume", action="store_true", help="go on from the stage's checkpoint, if there is one")
    earlier.add_argument("--overwrite", action="store_true", help="remove what an earlier run of the stage trained")
    parser.add_argument("--init-from", type=Path, default=None, help="model file to start from with a fresh optimiser")
    parser.add_argument("--out", default=None, help="folder for results (default: the configuration's)")
    parser.add_argument("--data", default=None, help="folder of the rooms (default: the configuration's)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: what PyTorch takes)")


def run(args: argparse.Namespace) -> int:
    """Train and print the held-out figures."""
    from dataclasses import replace

    import torch

    from gld_ros.training.config import read_config
    from gld_ros.training.run import run_stage

    config = read_config(args.config)
    if args.out is not None:
        config = replace(config, out=args.out)
    if args.data is not None:
        config = replace(config, data=replace(config.data, folder=args.data))
    if args.threads is not None:
        torch.set_num_threads(max(1, args.threads))
    torch.set_flush_denormal(True)
    figures = run_stage(args.stage, config, args.resume, args.init_from, args.overwrite)
    if int(os.environ.get("RANK", 0)) == 0:
        for name, value in figures.items():
            print(f"{name:28s} {value:.4f}")
    return 0
