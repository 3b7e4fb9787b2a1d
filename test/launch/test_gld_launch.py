"""`gld launch`: the same plan as command lines, and processes that end together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from gld_ros.cli.launch import Command, make_commands, parse_assignments, supervise
from gld_ros.cli.main import main
from gld_ros.errors import GldError
from gld_ros.ros.launch_plan import ARGUMENTS, make_plan


def test_values_reach_the_node_through_a_parameter_file(tmp_path: Path) -> None:
    plan = make_plan({"cameras": "front,rear", "model": "1e5", "namespace": "/robot1/"})
    (node,) = make_commands(plan, tmp_path)
    files = [node.argv[i + 1] for i, word in enumerate(node.argv) if word == "--params-file"]
    assert files[0].endswith("config/gld.yaml")
    written = yaml.safe_load(Path(files[1]).read_text())["/**/gld"]["ros__parameters"]
    assert written == {"cameras": ["front", "rear"], "model": "1e5"}  # text stays text
    assert "__ns:=/robot1" in node.argv
    assert node.argv[:3] == (sys.executable, "-m", "gld_ros.ros.node")


def test_assignments_are_read_at_the_first_sign() -> None:
    assert parse_assignments(["a:=b:=c", "d:="]) == {"a": "b:=c", "d": ""}
    with pytest.raises(GldError, match="name:=value"):
        parse_assignments(["model=tiny"])


def test_unknown_argument_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "modle:=tiny"]) == 2
    message = capsys.readouterr().err
    assert "modle" in message
    assert "model" in message


def test_show_args_lists_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["launch", "--show-args"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{argument.name}:=" in printed for argument in ARGUMENTS)


def test_rviz_without_rviz_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GldError, match="rviz2"):
        make_commands(make_plan({"rviz": "true"}), tmp_path)


def python(code: str) -> Command:
    return Command("child", (sys.executable, "-c", code))


def touch(file: Path) -> str:
    """Code of a child that says it is ready."""
    return f"import pathlib, sys, time; pathlib.Path({str(file)!r}).touch()\n"


def test_the_nodes_status_is_returned_and_the_rest_is_stopped(tmp_path: Path) -> None:
    mark, ready = tmp_path / "stopped", tmp_path / "ready"
    other = touch(ready) + f"try: time.sleep(60)\nexcept KeyboardInterrupt: pathlib.Path({str(mark)!r}).touch()"
    # the first ends only once the second can be interrupted
    first = f"import os, sys, time\nwhile not os.path.exists({str(ready)!r}): time.sleep(0.02)\nsys.exit(7)"
    assert supervise([python(first), python(other)], dict(os.environ)) == 7
    assert mark.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_and_is_no_error(number: signal.Signals, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = touch(ready) + "try: time.sleep(60)\nexcept KeyboardInterrupt: sys.exit(0)"
    code = (
        "import os, sys\nfrom gld_ros.cli.launch import Command, supervise\n"
        f"sys.exit(supervise([Command('c', (sys.executable, '-c', {child!r}))], dict(os.environ)))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    parent.send_signal(number)
    output, _ = parent.communicate(timeout=20)
    assert parent.returncode == 0
    assert "ended with status 0" in output


def test_a_child_that_ignores_ctrl_c_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gld_ros.cli.launch.STOP_PATIENCE_S", ((signal.SIGINT, 0.3), (signal.SIGKILL, 5.0)))
    ready = tmp_path / "ready"
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + touch(ready) + "time.sleep(60)"

    def interrupt_when_ready() -> None:
        while not ready.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_when_ready, daemon=True).start()
    assert supervise([python(code)], dict(os.environ)) == 128 + signal.SIGKILL
