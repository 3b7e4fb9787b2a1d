"""The numba decorators of the room kernels, with a compiled-code cache that follows every kernel file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gld_ros.errors import GldError

try:
    import numba
except ImportError as error:  # pragma: no cover - depends on the installation
    raise GldError(
        "rendering rooms needs numba, which is not installed: pip install 'gld_ros[train]' (or pip install numba)"
    ) from error

KERNEL_FILES = (
    "jit.py", "rays.py", "trees.py", "meshes.py", "tracer.py", "surfaces.py", "cells.py", "lighting.py", "drawing.py",
    "paths.py",
)  # fmt: skip
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": True, "error_model": "numpy"}


def cache_folder() -> str:
    """Where compiled kernels are kept: a folder per state of all kernel files.

    numba itself looks only at the file of the calling kernel and would go on running old inner kernels.
    """
    digest = hashlib.sha256()
    for name in KERNEL_FILES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "gld_ros", f"kernels-{digest.hexdigest()[:12]}")


def _compile(function: Callable, **more: Any) -> Any:
    config: Any = numba.config
    saved = config.CACHE_DIR
    config.CACHE_DIR = saved or cache_folder()  # read when the decorator runs
    try:
        return numba.njit(**OPTIONS, **more)(function)
    finally:
        config.CACHE_DIR = saved


def kernel(function: Callable) -> Any:
    """Compile a function on its first call."""
    return _compile(function)


def pure(function: Callable) -> Any:
    """Compile a function that creates no array: it then keeps no reference counts, which cost more than its work."""
    return _compile(function, _nrt=False)


def inlined(function: Callable) -> Any:
    """Compile a pure function into its callers: passing a room's arrays costs as much as tracing a ray through it."""
    return _compile(function, _nrt=False, forceinline=True)
