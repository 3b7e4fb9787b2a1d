"""Entry point of ``gld``: finds the subcommand, imports only that one, turns errors into one line."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

from gld_ros import __version__
from gld_ros.errors import GldError

# name -> (module with add_arguments(parser) and run(args) -> int, one-line help)
COMMANDS: dict[str, tuple[str, str]] = {
    "synthesize": ("gld_ros.cli.synthesize", "synthesise views of a scene from some of its images"),
    "eval": ("gld_ros.cli.eval", "measure pictures and depth against held-out views and baselines"),
    "bench": ("gld_ros.cli.bench", "times, evaluations, FLOPs and peak memory in one run"),
    "train": ("gld_ros.cli.train", "train a stage of the model"),
    "rooms": ("gld_ros.cli.rooms", "render procedural rooms for training and demos"),
    "weights": ("gld_ros.cli.weights", "import released weights, describe a checkpoint"),
    "check-numerics": ("gld_ros.cli.check_numerics", "recompute golden files and report deviations"),
    "demo": ("gld_ros.cli.demo", "replay a scene into the node, ask for views, draw an overview"),
    "launch": ("gld_ros.cli.launch", "start the node and its company without the launch package"),
    "replay": ("gld_ros.cli.replay", "publish a scene or bag as a live camera"),
    "doctor": ("gld_ros.cli.doctor", "check this machine and say what to do"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``gld`` with ``argv`` (default: sys.argv) and return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="gld", description="Virtual cameras for robots.")
    parser.add_argument("--version", action="version", version=f"gld {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name, (module_name, help_text) in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            module = importlib.import_module(module_name)
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except GldError as error:
        print(f"gld {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
