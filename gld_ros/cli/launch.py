"""``gld launch``: start what ``gld.launch.py`` starts, with the same arguments, where ROS's launch does not exist."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import yaml

from gld_ros.errors import GldError
from gld_ros.ros.launch_plan import ARGUMENTS, NODE_NAME, Plan, make_plan
from gld_ros.ros.rviz import write_configuration

STOP_PATIENCE_S = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))  # launch does the same


@dataclass(frozen=True)
class Command:
    """One process to start."""

    name: str
    argv: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of ``gld launch``."""
    lines = []
    for argument in ARGUMENTS:
        choices = (
            f" One of: {', '.join(choice or '(empty)' for choice in argument.choices)}." if argument.choices else ""
        )
        lines.append(f"  {argument.name}:={argument.default}\n      {argument.description}{choices}")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "arguments, as of `ros2 launch gld_ros gld.launch.py`:\n" + "\n".join(lines)
    parser.add_argument("assignments", nargs="*", metavar="NAME:=VALUE", help="launch arguments, see below")
    parser.add_argument("--show-args", action="store_true", help="print the launch arguments and exit")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and exit")
    parser.set_defaults(epilog=parser.epilog)


def run(args: argparse.Namespace) -> int:
    """Start the processes and wait; Ctrl-C or SIGTERM stops all of them. Returns the node's exit status."""
    if args.show_args:
        print(args.epilog)
        return 0
    plan = make_plan(parse_assignments(args.assignments))
    with tempfile.TemporaryDirectory(prefix="gld_launch_") as folder:
        commands = make_commands(plan, Path(folder))
        if args.dry_run:
            for name, value in plan.environment.items():
                print(f"{name}={value}")
            for command in commands:
                print(" ".join(command.argv))
            return 0
        return supervise(commands, {**os.environ, **plan.environment})


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """``name:=value`` words as a dictionary; raises GldError on anything else."""
    values: dict[str, str] = {}
    for word in assignments:
        name, separator, value = word.partition(":=")
        if not separator:
            raise GldError(f"'{word}': launch arguments are written name:=value, e.g. model:=classical")
        values[name] = value
    return values


def make_commands(plan: Plan, folder: Path) -> list[Command]:
    """The command lines of ``plan``; values of arguments go through a parameter file in ``folder``, as with launch."""
    node = [sys.executable, "-m", "gld_ros.ros.node", "--ros-args", "-r", f"__node:={NODE_NAME}"]
    if plan.namespace:
        node += ["-r", f"__ns:=/{plan.namespace}"]
    node += ["--params-file", str(plan.params_file)]
    if plan.parameters:
        overrides = folder / "arguments.yaml"
        overrides.write_text(yaml.safe_dump({f"/**/{NODE_NAME}": {"ros__parameters": plan.parameters}}))
        node += ["--params-file", str(overrides)]
    commands = [Command(NODE_NAME, (*node, "--log-level", plan.log_level))]
    if plan.rviz_config:
        rviz = shutil.which("rviz2")
        if rviz is None:
            raise GldError("rviz:=true, but there is no rviz2 on PATH: install a ROS desktop, or leave rviz:=false")
        sim_time = str(plan.parameters.get("use_sim_time", False)).lower()
        config = str(write_configuration(plan))
        commands.append(Command("rviz2", (rviz, "-d", config, "--ros-args", "-p", f"use_sim_time:={sim_time}")))
    return commands


def supervise(commands: Sequence[Command], environment: dict[str, str]) -> int:
    """Run all until one ends or a signal comes, then stop the rest in order; returns the first command's status."""
    stop_requested: list[int] = []

    def request_stop(number: int, _frame: FrameType | None) -> None:
        stop_requested.append(number)

    previous = {number: signal.signal(number, request_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            print(f"[launch] {command.name}: {' '.join(command.argv)}", flush=True)
            # a session of its own: Ctrl-C reaches it once, from here, and not a second time from the terminal
            processes.append(subprocess.Popen(command.argv, env=environment, start_new_session=True))
        while not stop_requested and all(process.poll() is None for process in processes):
            time.sleep(0.1)
    finally:
        stop(processes)
        for number, handler in previous.items():
            signal.signal(number, handler)
    for command, process in zip(commands, processes, strict=True):
        print(f"[launch] {command.name} ended with status {process.returncode}", flush=True)
    interrupted = {0, -signal.SIGINT, 128 + signal.SIGINT}
    status = processes[0].returncode
    return 0 if stop_requested and status in interrupted else int(status) if status >= 0 else 128 - int(status)


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask with SIGINT, then SIGTERM, then SIGKILL, with patience between them."""
    for number, patience_s in STOP_PATIENCE_S:
        alive = [process for process in processes if process.poll() is None]
        for process in alive:
            process.send_signal(number)
        deadline = time.monotonic() + patience_s
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
