"""One process or several (torchrun): rank 0 does once what must not be done twice, and the others wait for it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")
LONGEST_WAIT = timedelta(days=2)  # for rooms being rendered or a large model being measured; steps keep PyTorch's limit


def rank() -> int:
    """Number of this process among all."""
    return int(os.environ.get("RANK", 0))


def world() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", 1))


def device() -> torch.device:
    """The device of this process."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return torch.device("cpu")


def join() -> None:
    """Connect the processes, if there are several."""
    if world() > 1 and not distributed.is_initialized():
        if device().type == "cuda":
            torch.cuda.set_device(device())
        distributed.init_process_group("nccl" if device().type == "cuda" else "gloo")
        _waiting()


def wait() -> None:
    """Go on when all processes are here."""
    if world() > 1:
        distributed.barrier(_waiting())


@functools.cache
def _waiting() -> distributed.ProcessGroup | None:
    """A connection of its own, because waits are longer than a step may take, and not for a GPU."""
    return distributed.new_group(backend="gloo", timeout=LONGEST_WAIT)


def rank_0_first(work: Callable[[], T]) -> T:
    """What ``work`` returns on every process; the others begin when rank 0 has finished, and find its files."""
    if rank():
        wait()
    result = work()
    if not rank():
        wait()
    return result
