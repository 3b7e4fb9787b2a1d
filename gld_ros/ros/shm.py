"""DDS's files in shared memory: who still uses them, and which ones a dead process left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

SHM = Path("/dev/shm")
PATTERNS = ("fastrtps_*", "fastdds_*", "sem.fastrtps_*", "sem.fastdds_*")
YOUNG_S = 10.0  # a process may have created a file and not mapped it yet


def in_use(folder: Path = SHM) -> set[str]:
    """Paths under ``folder`` that some process maps or has open; other users' processes cannot be looked into."""
    prefix = f"{folder}/"
    paths: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            maps = (process / "maps").read_text().splitlines()
            paths.update(line[line.index(prefix) :] for line in maps if prefix in line)
            # Fast DDS marks a port as taken with a file it holds open and never maps
            paths.update(os.readlink(descriptor) for descriptor in (process / "fd").iterdir())
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return paths


def leftovers(folder: Path = SHM) -> list[Path]:
    """DDS files of this user that nobody uses any more."""
    candidates = [path for pattern in PATTERNS for path in folder.glob(pattern)]
    used = in_use(folder) if candidates else set()
    found = []
    for path in candidates:
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        if str(path) not in used and state.st_uid == os.getuid() and time.time() - state.st_mtime > YOUNG_S:
            found.append(path)
    return found


def clean(folder: Path = SHM) -> list[Path]:
    """Delete the leftovers; returns what was deleted."""
    gone = leftovers(folder)
    for path in gone:
        path.unlink(missing_ok=True)
    return gone
