#!/usr/bin/env python3
"""Make a trained model the one that ships: half precision, size limit, recorded SHA-256.

    python tools/ship_model.py runs/tiny/level1/model.safetensors      # writes gld_ros/weights/

Run it from a source tree. What it replaces stays in the history of the repository for ever: ship rarely.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gld_ros.errors import GldError
from gld_ros.model.checkpoint import ModelFile, save_model
from gld_ros.synthesis.shipped import DEMONSTRATION, FOLDER, LIMIT_BYTES, NAME, SUMS, recorded_hashes, sha256


def ship(source: Path, folder: Path = FOLDER) -> Path:
    """Write the model of ``source`` into ``folder`` and record its hash; returns its path. Raises GldError."""
    file = ModelFile(source)
    model = file.load()
    model.config = dataclasses.replace(file.config, name=NAME)
    broken = [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor.half()).all()]
    if broken:
        raise GldError(f"{source}: {len(broken)} tensors are not finite in half precision, such as {broken[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    path, trial = folder / f"{NAME}.safetensors", folder / f"{NAME}.safetensors.new"
    notes = {k: v for k, v in file.metadata.items() if k not in ("format", "config", "dtype")}
    try:
        save_model(trial, model, torch.float16, {**notes, "note": DEMONSTRATION, "licence": "Apache-2.0"})
        if (size := trial.stat().st_size) > LIMIT_BYTES:
            raise GldError(
                f"{source} has {size} bytes in half precision, at most {LIMIT_BYTES} may ship: train less wide"
            )
        trial.replace(path)
    finally:
        trial.unlink(missing_ok=True)
    hashes = {**recorded_hashes(folder), path.name: sha256(path)}
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())))
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.safetensors of the last training stage")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to (default: %(default)s)")
    options = parser.parse_args()
    try:
        written = ship(options.model, options.folder)
    except GldError as error:
        sys.exit(f"ship_model: {error}")
    print(f"{written}: {written.stat().st_size / 2**20:.1f} MiB, SHA-256 {sha256(written)}")
