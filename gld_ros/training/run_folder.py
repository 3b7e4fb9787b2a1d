"""The folder of a stage: whether it can be written, and its curve."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gld_ros.errors import GldError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the disk while ``path`` is written, as GldError."""
    try:
        yield
    except OSError as error:
        raise GldError(f"cannot write {path}: {error.strerror or error}: free some space, then --resume") from None


def check_writable(folder: Path) -> None:
    """Make a folder. Raises GldError when nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise GldError(
            f"cannot write to {folder}: {error.strerror}: set 'out' to a writable folder with free space"
        ) from None


class Curve:
    """What a training logs, a line of JSON for every logged step. Raises GldError when it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, step: int, seconds: float, values: dict[str, float]) -> None:
        """Append a line; seconds: spent training until now."""
        line = {"step": step, "seconds": round(seconds, 1), **{k: round(v, 6) for k, v in values.items()}}
        with writing(self.path), open(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")

    def trim(self, step: int) -> None:
        """Drop lines beyond the step a training starts from, which a killed run may have left."""
        if not self.path.is_file():
            return
        lines = [line for line in self.path.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] <= step and step > 0]
        partial = self.path.with_suffix(".partial")
        with writing(self.path):
            partial.write_text("".join(line + "\n" for line in kept))
            os.replace(partial, self.path)
