"""Choosing an engine by the name or file a user gives."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from gld_ros.errors import GldError
from gld_ros.model.accelerate import Acceleration
from gld_ros.synthesis.types import Engine

log = logging.getLogger(__name__)


def check_device(device: str) -> None:
    """Raise GldError when torch cannot compute on ``device``."""
    if device == "auto":
        return
    try:
        torch.zeros(1, device=device)
    except Exception as error:  # torch raises AssertionError, RuntimeError and others here
        reason = str(error).splitlines()[0]
        raise GldError(
            f"device '{device}' cannot be used ({reason}): use auto, cpu, or cuda with a CUDA torch"
        ) from None


def load_engine(
    model: str = "default",
    device: str = "auto",
    acceleration: Acceleration = Acceleration(),  # noqa: B008  # frozen
) -> Engine:
    """Load ``classical``, ``tiny``, ``default`` (the best that is shipped) or a checkpoint file.

    Raises GldError naming what is missing.
    """
    check_device(device)
    if model == "default":
        from gld_ros.synthesis.shipped import NAME, shipped_file

        model = NAME
        if shipped_file() is None:
            log.warning(
                "no trained model is in this installation: using the classical engine (geometry only, unseen parts "
                "are smooth fill)"
            )
            model = "classical"
    if model == "classical":
        from gld_ros.synthesis.classical import ClassicalEngine

        return ClassicalEngine(device)
    if model == "tiny":
        from gld_ros.synthesis.shipped import ShippedEngine

        return ShippedEngine(device, acceleration=acceleration)
    if not Path(model).is_file():
        raise GldError(f"model '{model}' is neither classical nor tiny nor a file: check the path")
    from gld_ros.synthesis.network import NetworkEngine

    return NetworkEngine(Path(model), device, acceleration=acceleration)
