"""Spinning that goes on: one failed callback, or an entity destroyed on another thread, must not end a process."""

from __future__ import annotations

import logging

from rclpy.executors import Executor, ExternalShutdownException
from rclpy.impl.implementation_singleton import rclpy_implementation

log = logging.getLogger(__name__)
# raised while an executor looks at what another thread has just destroyed
InvalidHandle: type[Exception] = getattr(rclpy_implementation, "InvalidHandle", RuntimeError)


def spin(executor: Executor) -> None:
    """Spin until the executor or its context is shut down; callbacks' exceptions are logged, never passed on."""
    while executor.context.ok():
        try:
            executor.spin()
            return
        except InvalidHandle:
            continue
        except ExternalShutdownException:
            return
        except Exception:
            log.exception("a callback failed")
