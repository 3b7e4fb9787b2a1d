"""Where the package's launch, config and rviz files lie, however it was installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gld_ros
from gld_ros.errors import GldError


def share_folder() -> Path:
    """The folder that holds launch/, config/ and rviz/: the source tree, or <prefix>/share/gld_ros.

    Works without ament_index: from a source or editable tree, a wheel, and a colcon install. Raises GldError.
    """
    module = Path(gld_ros.__file__).absolute()  # not resolved: colcon --symlink-install links the modules
    source = module.parents[1]
    if (source / "package.xml").exists() and (source / "launch").is_dir():
        return source
    for prefix in module.parents:
        if (prefix / "share" / "gld_ros" / "package.xml").exists():
            return prefix / "share" / "gld_ros"
    raise GldError(
        f"no share/gld_ros above {module}: the installation lacks its launch and config files; install gld_ros anew"
    )


def installed_share(package: str) -> Path | None:
    """<prefix>/share/<package> of a ROS package in an ament prefix or this Python's prefix, or None."""
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for prefix in (*prefixes, sys.prefix):
        share = Path(prefix) / "share" / package
        if (share / "package.xml").exists():
            return share
    return None
