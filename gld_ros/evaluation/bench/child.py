"""Run a measurement in a fresh process, so that its peak memory is its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from gld_ros.errors import GldError, Status

T = TypeVar("T")


def in_child(job: Callable[..., T], **arguments: Any) -> T:
    """Run ``job`` in a fresh process and return what it returns. Raises GldError with what went wrong there."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, job, arguments))
    process.start()
    sender.close()
    try:
        done, outcome = receiver.recv()
    except EOFError:
        process.join()
        status = Status.OUT_OF_MEMORY if process.exitcode == -9 else Status.INTERNAL
        raise GldError(
            f"the measuring process ended with code {process.exitcode} (-9: out of memory)", status
        ) from None
    finally:
        process.join()
    if done:
        return outcome
    raise GldError(f"measuring failed: {outcome}")


def _child(sender: Connection, job: Callable[..., Any], arguments: dict[str, Any]) -> None:
    try:
        sender.send((True, job(**arguments)))
    except Exception as error:
        sender.send((False, f"{type(error).__name__}: {error}"))
