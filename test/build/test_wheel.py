"""Plain `pip install .`: a pure Python wheel with everything in it, and nothing of a ROS build."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(".*", "build", "install", "log", "*.egg-info", "__pycache__", "test", "runs", "demo_out")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}  # no GLD_ROS, no sourced ROS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of this tree, generated interfaces in it or not."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=NOT_SOURCE)
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), str(folder / "source")]
    subprocess.run([sys.executable, *command], check=True, env=ENVIRONMENT)
    (built,) = folder.glob("*.whl")
    return built


def test_it_is_for_any_platform(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")


def test_it_holds_every_module_and_data_file_and_nothing_generated(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("gld_ros/")}
    generated = {"msg", "srv", "action", "__pycache__"}
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "gld_ros").rglob("*")
        if path.is_file() and path.suffix != ".so" and not generated & set(path.relative_to(ROOT / "gld_ros").parts)
    }
    assert names == expected


def test_it_carries_launch_and_config_files(wheel: Path) -> None:
    names = {name.split(".data/data/")[-1] for name in zipfile.ZipFile(wheel).namelist() if ".data/data/" in name}
    for folder in ("launch", "config", "rviz", "demo"):
        paths = [path for path in (ROOT / folder).rglob("*.*") if path.suffix != ".pyc"]
        assert {f"share/gld_ros/{path.relative_to(ROOT)}" for path in paths} <= names
    assert "share/gld_ros/launch/gld.launch.py" in names


def test_installed_it_finds_its_files(wheel: Path, tmp_path: Path) -> None:
    command = ["-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", "--prefix", str(tmp_path), str(wheel)]
    subprocess.run([sys.executable, *command], check=True, env=ENVIRONMENT)
    (site,) = tmp_path.glob("lib/python*/site-packages")
    code = "from gld_ros.share import share_folder; from gld_ros.cli.main import main; print(share_folder()); main(['--version'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env={**ENVIRONMENT, "PYTHONPATH": str(site)}, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == str(tmp_path / "share" / "gld_ros")
    assert (tmp_path / "bin" / "gld").exists()
