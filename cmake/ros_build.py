"""Build a ROS interface package with the ROS wheels of this Python: what setup.py and `make setup` share.

Run as a script it installs a package straight into the virtual environment (which is an ament prefix):
``python cmake/ros_build.py compat/tf2_msgs``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PRUNE = Path(__file__).resolve().parent / "wheel_include_paths.cmake"


def ros_prefix() -> str:
    """The ament prefix to build against: AMENT_PREFIX_PATH, else where the ROS wheels lie."""
    given = os.environ.get("AMENT_PREFIX_PATH")
    if given:
        return given
    try:
        import ament_package
    except ImportError as error:
        raise SystemExit(
            "no ROS found: source /opt/ros/<distro>/setup.bash, or install the wheels with `make setup` "
            "(the build needs the packages of cmake/ros_wheels.py)"
        ) from error
    # <prefix>/lib/pythonX.Y/site-packages/ament_package/__init__.py; pip's isolated build has a prefix of its own
    return str(Path(ament_package.__file__).resolve().parents[4])


def cmake_install(source: Path, build: Path, destination: Path) -> None:
    """Configure, build and install the ament_cmake package ``source`` without its tests."""
    name = _package_name(source)
    prefix = ros_prefix()
    environment = {**os.environ, "AMENT_PREFIX_PATH": prefix}
    # started anew each time: a cache of another Python or ROS must never leak into this build
    shutil.rmtree(build, ignore_errors=True)
    configure = [
        "cmake", "-S", str(source), "-B", str(build), "-G", "Ninja",
        f"-DCMAKE_INSTALL_PREFIX={destination}",
        f"-DCMAKE_PREFIX_PATH={prefix.replace(os.pathsep, ';')}",
        f"-DCMAKE_PROJECT_{name}_INCLUDE={PRUNE}",
        f"-DPython3_EXECUTABLE={sys.executable}", "-DPython3_FIND_VIRTUALENV=ONLY",
        "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release",
    ]  # fmt: skip
    for command in (configure, ["cmake", "--build", str(build)], ["cmake", "--install", str(build)]):
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode:  # not an exception: setuptools swallows those in editable installs
            raise SystemExit(f"building {name} failed with status {done.returncode}: {' '.join(command)}")


def _package_name(source: Path) -> str:
    from xml.etree import ElementTree

    name = ElementTree.parse(source / "package.xml").findtext("name")
    if not name:
        raise SystemExit(f"{source / 'package.xml'} has no <name>")
    return name.strip()


def main() -> None:
    """Install the package named on the command line into this Python's prefix."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "package.xml").exists():
        raise SystemExit("usage: python cmake/ros_build.py PACKAGE_FOLDER (a folder with package.xml)")
    source = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as build:
        cmake_install(source, Path(build), Path(sys.prefix))


if __name__ == "__main__":
    main()
