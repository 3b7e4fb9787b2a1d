"""Under `colcon test`: what is tested is what was installed, and the installation is complete."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import gld_ros
from gld_ros.share import share_folder

PREFIX = os.environ.get("GLD_INSTALL_PREFIX", "")
pytestmark = pytest.mark.skipif(not PREFIX, reason="not run by colcon")
ROOT = Path(__file__).resolve().parents[2]


def test_the_installed_package_is_imported() -> None:
    assert Path(gld_ros.__file__).is_relative_to(PREFIX)
    assert share_folder() == Path(PREFIX) / "share" / "gld_ros"


def test_interfaces_and_modules_share_the_name() -> None:
    from gld_ros.action import SynthesizeViews
    from gld_ros.msg import Status
    from gld_ros.srv import SynthesizeView

    assert Status().code == Status.OK
    assert SynthesizeView.Request().seed == SynthesizeViews.Goal().seed == -1


def test_files_are_where_ros2_run_and_launch_look() -> None:
    share = Path(PREFIX) / "share" / "gld_ros"
    for folder in ("launch", "config", "rviz", "demo"):
        files = [path for path in (ROOT / folder).rglob("*.*") if path.suffix != ".pyc"]
        assert [path for path in files if not (share / path.relative_to(ROOT)).exists()] == []
    scripts = {path.name: path for path in (Path(PREFIX) / "lib" / "gld_ros").iterdir()}
    assert {path.name for path in (ROOT / "scripts").iterdir()} == set(scripts)
    assert all(os.access(path, os.X_OK) for path in scripts.values())


def test_the_command_runs_as_ros2_run_starts_it() -> None:
    command = Path(PREFIX) / "lib" / "gld_ros" / "gld"
    done = subprocess.run([command, "--version"], text=True, capture_output=True, check=False, cwd="/")
    assert done.stdout.strip() == f"gld {gld_ros.__version__}", done.stderr
