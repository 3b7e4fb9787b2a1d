"""Which ROS 2 wheels run and build gld_ros: the one list behind setup.py's [ros] extra and the Makefile.

``python cmake/ros_wheels.py build kilted`` prints requirements for pip, one a line;
``python cmake/ros_wheels.py available`` prints "wheels", or why there are none for this machine.
"""

from __future__ import annotations

import platform
import sys

PYTHONS = ((3, 10), (3, 11), (3, 12), (3, 13))
DISTROS = ("jazzy", "kilted")
ONLY_WHERE_BUILT = '; sys_platform == "linux" and platform_machine == "x86_64"'

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
    "rosidl-core-generators": "0.3",
    "rosidl-default-generators": "1.7",
    "rosidl-default-runtime": "1.7",
    "action-msgs": "2.3",
    "service-msgs": "2.3",
}
BUILD_OF_ONE = {"jazzy": ("ros-jazzy-python-cmake-module",), "kilted": ("ros-ament-cmake-ros-core==0.14.*",)}
BUILD_TOOLS = (
    "setuptools>=68",  # editable installs with data files
    "wheel",
    "cmake>=3.21,<4",  # 3.19: DEFER in wheel_include_paths.cmake; 4 drops policies that ament of Jazzy sets
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
    ament = [_requirement(name, line, distro) for name, line in BUILD.items()]
    return [*BUILD_TOOLS, *runtime(distro), *ament, *(name + ONLY_WHERE_BUILT for name in BUILD_OF_ONE[distro])]


def _requirement(name: str, kilted_line: str, distro: str) -> str:
    if distro not in DISTROS:
        raise SystemExit(f"GLD_ROS_DISTRO={distro!r}: there are ROS wheels for {' and '.join(DISTROS)} only")
    if distro == "jazzy":
        return f"ros-jazzy-{name}{ONLY_WHERE_BUILT}"
    return f"ros-{name}=={kilted_line}.*{ONLY_WHERE_BUILT}"


def available() -> str:
    """Either "wheels", or why there are none for this machine and Python."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"ROS wheels exist for Linux x86_64, this is {platform.system()} {platform.machine()}"
    if sys.version_info[:2] not in PYTHONS:
        return f"ROS wheels exist for Python 3.10 to 3.13, this is {platform.python_version()}"
    return "wheels"


def main() -> None:
    """Print what the command line asks for."""
    match sys.argv[1:]:
        case ["available"]:
            print(available())
        case ["runtime", distro]:
            print("\n".join(runtime(distro)))
        case ["build", distro]:
            print("\n".join(build(distro)))
        case _:
            raise SystemExit("usage: ros_wheels.py available | runtime DISTRO | build DISTRO")


if __name__ == "__main__":
    main()
