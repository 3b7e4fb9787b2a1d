"""Which ROS 2 wheels run and build gld_ros: the one list behind setup.py's [ros] extra and the Makefile.

``python cmake/ros_wheels.py build kilted`` prints requirements for pip, one a line.
"""

from __future__ import annotations

import sys

DISTROS = ("jazzy", "kilted")
ONLY_WHERE_BUILT = '; sys_platform == "linux" and platform_machine == "x86_64"'

JAZZY_ONLY = ""  # Kilted's packages no longer use it
# name -> Kilted's version line. Libraries built for one distro fit no other, so each line is pinned;
# the wheels called ros-jazzy-* pin themselves.
RUNTIME = {
    "rclpy": "9.1",
    "rmw-fastrtps-cpp": "9.3",  # the only RMW there is; rclpy does not ask for it, and without it does not import
    "std-msgs": "5.5",
    "sensor-msgs": "5.5",
    "geometry-msgs": "5.5",
    "visualization-msgs": "5.5",
    "diagnostic-msgs": "5.5",
}
# The wheels' metadata leave out what a build needs, so all of it is named.
BUILD = {
    "ament-cmake": "2.7",
    "ament-cmake-core": "2.7",
    "ament-cmake-include-directories": "2.7",
    "ament-cmake-python": "2.7",
    "ament-cmake-ros": "0.14",
    "ament-cmake-gmock": "2.7",
    "ament-cmake-gtest": "2.7",
    "ament-cmake-pytest": "2.7",
    "ament-package": "0.17",
    "python-cmake-module": JAZZY_ONLY,
    "rosidl-core-generators": "0.3",
    "rosidl-default-generators": "1.7",
    "rosidl-default-runtime": "1.7",
    "action-msgs": "2.3",
    "service-msgs": "2.3",
}
BUILD_TOOLS = (
    "setuptools>=68",  # editable installs with data files
    "wheel",
    "cmake>=3.21,<4",  # 3.19: DEFER in prune_missing_includes.cmake; 4 drops policies that ament of Jazzy sets
    "ninja",
    "numpy",
    "catkin_pkg",
    "empy",
    "lark",
)


def runtime(distro: str) -> list[str]:
    """Requirements of the [ros] extra."""
    return [_requirement(name, line, distro) for name, line in RUNTIME.items()]


def build(distro: str) -> list[str]:
    """Requirements to build the interfaces without build isolation, runtime included."""
    names = {name: line for name, line in BUILD.items() if distro == "jazzy" or line != JAZZY_ONLY}
    return [*BUILD_TOOLS, *runtime(distro), *(_requirement(name, line, distro) for name, line in names.items())]


def _requirement(name: str, kilted_line: str, distro: str) -> str:
    if distro not in DISTROS:
        raise SystemExit(f"GLD_ROS_DISTRO={distro!r}: there are ROS wheels for {' and '.join(DISTROS)} only")
    if distro == "jazzy":
        return f"ros-jazzy-{name}{ONLY_WHERE_BUILT}"
    return f"ros-{name}=={kilted_line}.*{ONLY_WHERE_BUILT}"


if __name__ == "__main__":
    print("\n".join({"runtime": runtime, "build": build}[sys.argv[1]](sys.argv[2])))
