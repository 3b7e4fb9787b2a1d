"""Choosing an engine by the name or file a user gives."""

from __future__ import annotations

import logging
from pathlib import Path

from gld_ros.errors import GldError
from gld_ros.synthesis.types import Engine

log = logging.getLogger(__name__)


def load_engine(model: str = "default", device: str = "auto") -> Engine:
    """Load ``classical``, ``tiny``, ``default`` (the best that is shipped) or a checkpoint file.

    Raises GldError naming what is missing.
    """
    if model == "default":
        log.warning(
            "no trained model is shipped yet: using the classical engine (geometry only, unseen parts are smooth fill)"
        )
        model = "classical"
    if model == "classical":
        from gld_ros.synthesis.classical import ClassicalEngine

        return ClassicalEngine(device)
    if model == "tiny":
        raise GldError("model 'tiny' is not shipped yet: use --model classical, or a checkpoint file")
    if not Path(model).is_file():
        raise GldError(f"model '{model}' is neither classical nor tiny nor a file: check the path")
    from gld_ros.synthesis.network import NetworkEngine

    return NetworkEngine(Path(model), device)
