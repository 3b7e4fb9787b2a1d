"""The model that ships with the package: where it lies, whether it is the one that was recorded, and what it is."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gld_ros
from gld_ros.errors import GldError
from gld_ros.model.accelerate import Acceleration
from gld_ros.synthesis.network import NetworkEngine
from gld_ros.synthesis.types import CancelCheck, PosedView, ProgressCallback, Request, Result

log = logging.getLogger(__name__)
NAME = "tiny"
DEMONSTRATION = "demonstration model trained on synthetic rooms; import the released weights for real work"
FOLDER = Path(gld_ros.__file__).absolute().parent / "weights"  # beside the modules in every kind of installation
SUMS = "SHA256SUMS"
LIMIT_BYTES = 25 << 20  # what may ship: every clone and every wheel carries it
REMEDY = "install gld_ros anew (in a git clone: git checkout gld_ros/weights), or use model 'classical'"


def shipped_file(folder: Path | None = None) -> Path | None:
    """The checkpoint in ``folder`` (default: the package's), unchecked; None where it holds none."""
    path = (folder or FOLDER) / f"{NAME}.safetensors"
    return path if path.is_file() else None


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def recorded_hashes(folder: Path | None = None) -> dict[str, str]:
    """File names and digests of ``SHA256SUMS``, in the format of the tool sha256sum; empty where there is none."""
    try:
        lines = ((folder or FOLDER) / SUMS).read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return {name.lstrip("*"): digest.lower() for digest, name in pairs}


def verified_file(folder: Path | None = None) -> Path:
    """The checkpoint, once its SHA-256 is the recorded one.

    Raises GldError naming the file, both digests and the remedy when it is missing, unrecorded, changed or too large.
    """
    folder = folder or FOLDER
    path = shipped_file(folder)
    if path is None:
        raise GldError(f"model '{NAME}' is not in this installation: {folder / NAME}.safetensors is missing: {REMEDY}")
    wanted = recorded_hashes(folder).get(path.name)
    if wanted is None:
        raise GldError(f"{folder / SUMS} has no SHA-256 of {path.name}: {REMEDY}")
    size = path.stat().st_size
    if size > LIMIT_BYTES:
        raise GldError(f"{path} has {size} bytes, the shipped model at most {LIMIT_BYTES}: {REMEDY}")
    found = sha256(path)
    if found != wanted:
        raise GldError(f"{path} is damaged or another file: its SHA-256 is {found}, recorded is {wanted}: {REMEDY}")
    return path


class ShippedEngine(NetworkEngine):
    """The checkpoint of this package; every result says what it is."""

    def __init__(
        self,
        device: str = "auto",
        folder: Path | None = None,
        acceleration: Acceleration = Acceleration(),  # noqa: B008  # frozen
    ) -> None:
        super().__init__(verified_file(folder), device, NAME, acceleration)
        _say_once(f"model {NAME}: {DEMONSTRATION}")

    def synthesize(
        self,
        views: Sequence[PosedView],
        request: Request,
        progress: ProgressCallback | None = None,
        cancelled: CancelCheck | None = None,
    ) -> Result:
        """Synthesise all targets; see ``types.Engine``."""
        result = super().synthesize(views, request, progress, cancelled)
        return replace(result, notes=(DEMONSTRATION, *result.notes))


@functools.cache
def _say_once(text: str) -> None:
    """A process that loads the model again says it once."""
    log.warning(text)
