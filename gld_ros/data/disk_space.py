"""Whether what will be written fits on the disk, asked before hours of work."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from gld_ros.errors import GldError


def require_space(needs: Mapping[Path, int]) -> None:
    """Raises GldError when the disk of a folder has not the bytes that all folders on it need together.

    needs: folder, which need not exist yet -> bytes to be written below it.
    """
    disks: dict[int, dict[Path, int]] = {}
    for folder, wanted in needs.items():
        disks.setdefault(_existing(folder).stat().st_dev, {})[folder] = wanted
    for wanted_on in disks.values():
        free = shutil.disk_usage(_existing(next(iter(wanted_on)))).free
        if sum(wanted_on.values()) > free:
            parts = " and ".join(f"{wanted / 1e9:.2g} GB in {folder}" for folder, wanted in wanted_on.items() if wanted)
            raise GldError(
                f"too little disk space: {parts} will be written, {free / 1e9:.2g} GB are free: free some, or choose a "
                "folder on another disk"
            )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
