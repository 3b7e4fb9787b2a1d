"""Options of every command that loads an engine: how a network computes."""

from __future__ import annotations

import argparse

from gld_ros.model.accelerate import COMPILE_CHOICES, PRECISION_CHOICES, Acceleration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument(
        "--compile",
        choices=COMPILE_CHOICES,
        default="auto",
        help="compile the network's blocks first: auto does on CUDA (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="auto",
        help="auto: fp16 on Jetson Orin, bf16 on other GPUs, fp32 on CPUs (default: %(default)s)",
    )


def acceleration(args: argparse.Namespace) -> Acceleration:
    """What they say."""
    return Acceleration(args.compile, args.precision)
