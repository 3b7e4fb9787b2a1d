"""Shared fixtures of the network tests."""

from __future__ import annotations

import pytest
import torch
from small_model import random_model, small_config

from gld_ros.model.gld_model import GldModel


@pytest.fixture(scope="session")
def small_model() -> GldModel:
    torch.set_num_threads(1)
    return random_model(small_config())
