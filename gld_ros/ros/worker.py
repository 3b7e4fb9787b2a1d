"""The inference thread: a bounded queue of requests, one newest-only slot per stream; beside it, preparation.

Nothing here knows ROS. Requests go before streams; a job that nobody waits for any more is not started.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from gld_ros.errors import GldError, Status, is_out_of_memory

log = logging.getLogger(__name__)
T = TypeVar("T")


def as_gld_error(error: BaseException) -> GldError:
    """The status of any exception: GldError keeps its own, memory errors are OUT_OF_MEMORY, the rest INTERNAL."""
    if isinstance(error, GldError):
        return error
    text = f"{type(error).__name__}: {error}"
    if is_out_of_memory(error):
        return GldError(
            f"out of memory ({text}): ask for fewer or smaller views, or a faster preset", Status.OUT_OF_MEMORY
        )
    return GldError(f"internal error ({text}): see the node's log", Status.INTERNAL)


class Job(Generic[T]):
    """One piece of inference: ``work(job)`` runs on the worker thread and should poll ``job.cancelled``."""

    def __init__(self, name: str, work: Callable[[Job[T]], T]) -> None:
        self.name = name
        self.work = work
        self._cancel = threading.Event()
        self._done = threading.Event()
        self._result: T | None = None
        self._error: GldError | None = None
        self._lock = threading.Lock()

    def cancelled(self) -> bool:
        """Whether someone asked to stop."""
        return self._cancel.is_set()

    def cancel(self) -> None:
        """Ask to stop; a running job ends at its next check, a waiting one never starts."""
        self._cancel.set()

    def done(self) -> bool:
        """Whether a result or an error is there."""
        return self._done.is_set()

    def finish(self, result: T | None = None, error: GldError | None = None) -> None:
        """Give the outcome to whoever waits; the first one counts."""
        with self._lock:
            if not self._done.is_set():
                self._result, self._error = result, error
                self._done.set()

    def result(self, timeout_s: float | None = None) -> T:
        """Wait for the outcome: the result, or the GldError it ended with; BUDGET_EXCEEDED when the wait runs out."""
        if not self._done.wait(timeout_s):
            self.cancel()
            raise GldError(
                f"{self.name} took longer than the limit of {timeout_s:g} s: ask for less, raise service_time_limit, "
                "or use the action",
                Status.BUDGET_EXCEEDED,
            )
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class Worker:
    """Runs jobs one at a time on its own thread, and prepares keyframes on a second one."""

    def __init__(self, queue_size: int, prepare: Callable[[], bool] | None = None, niceness: int = 0) -> None:
        """``prepare`` does one piece of background work and says whether there was any; called while requests allow.

        ``niceness`` lowers the threads' priority.
        """
        self.queue_size = queue_size
        self.dropped = 0  # stream jobs replaced by a newer one before they started
        self.refused = 0  # requests answered BUSY
        self.busy_since: float | None = None  # monotonic start of the running job
        self._requests: deque[Job[Any]] = deque()
        self._streams: OrderedDict[str, Job[Any]] = OrderedDict()
        self._running: Job[Any] | None = None
        self._stopping = False
        self._wake = threading.Condition()
        self._prepare = prepare
        self._niceness = niceness
        self._threads = [threading.Thread(target=self._run, name="gld_inference", daemon=True)]
        if prepare is not None:
            self._threads.append(threading.Thread(target=self._run_prepare, name="gld_prepare", daemon=True))

    def start(self) -> Worker:
        """Start the threads; apart from construction, so that ``prepare`` finds its owner complete."""
        for thread in self._threads:
            thread.start()
        return self

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._requests)

    def submit(self, job: Job[T]) -> Job[T]:
        """Queue a request; raises GldError(BUSY) when the queue is full, NOT_ACTIVE when the worker has stopped."""
        with self._wake:
            self._check_running()
            # what was cancelled while it waited has left the queue as far as anyone can see
            for old in [old for old in self._requests if old.cancelled()]:
                self._requests.remove(old)
                old.finish(error=_cancelled(old))
            # with nothing running, the first in the queue only waits for the thread to wake up
            if len(self._requests) >= self.queue_size + (self._running is None):
                self.refused += 1
                raise GldError(
                    f"{len(self._requests)} requests wait already, the limit is {self.queue_size}: retry later or "
                    "raise queue_size",
                    Status.BUSY,
                )
            if job.cancelled():  # before it was queued
                job.finish(error=_cancelled(job))
            else:
                self._requests.append(job)
                self._wake.notify_all()
        return job

    def submit_newest(self, key: str, job: Job[T]) -> Job[T]:
        """Put a stream's job in its slot, in place of the one that has not started yet."""
        with self._wake:
            self._check_running()
            old = self._streams.pop(key, None)
            if old is not None:
                self.dropped += 1
                old.finish(error=_cancelled(old))
            self._streams[key] = job
            self._wake.notify_all()
        return job

    def stream_pending(self, key: str) -> bool:
        """Whether this stream's job waits or runs."""
        running = self._running
        return key in self._streams or (running is not None and running.name == key)

    def nudge(self) -> None:
        """Say that there is something to prepare."""
        with self._wake:
            self._wake.notify_all()

    def withdraw(self, job: Job[Any]) -> None:
        """Cancel a job; one that waits ends at once, a running one at its next check."""
        job.cancel()
        with self._wake:
            if job in self._requests:
                self._requests.remove(job)
                job.finish(error=_cancelled(job))

    def cancel_all(self) -> None:
        """Answer everything with NOT_ACTIVE, what runs too, and ask that to stop."""
        with self._wake:
            pending = [*self._requests, *self._streams.values()]
            self._requests.clear()
            self._streams.clear()
            running = self._running
            self._wake.notify_all()
        for job in (*pending, *((running,) if running is not None else ())):
            job.finish(error=GldError("the node was deactivated: activate it and ask again", Status.NOT_ACTIVE))
        if running is not None:  # after its answer: nobody cancelled it, so that is not what its answer shall say
            running.cancel()

    def stop(self, timeout_s: float = 5.0) -> bool:
        """End the threads and what is queued; False if the engine did not come back in time."""
        self._stopping = True
        self.cancel_all()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _check_running(self) -> None:
        if self._stopping:
            raise GldError("the node is not active: activate it", Status.NOT_ACTIVE)

    def _next(self) -> Job[Any] | None:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or self._requests or self._streams)
            if self._stopping:
                return None
            job = self._requests.popleft() if self._requests else self._streams.popitem(last=False)[1]
            self._running, self.busy_since = job, time.monotonic()
            return job

    def _be_nice(self) -> None:
        """Lower this thread's priority, and that of the compute threads it will start, against those of images."""
        if self._niceness and sys.platform == "linux":  # where priorities are per thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)

    def _run(self) -> None:
        self._be_nice()
        while (job := self._next()) is not None:
            result, known = None, None
            try:
                if job.cancelled():
                    raise _cancelled(job)
                result = job.work(job)
            except Exception as error:
                known = as_gld_error(error)
                if isinstance(error, GldError):
                    log.warning("%s refused: %s", job.name, error)
                elif known.status == Status.INTERNAL:
                    log.exception("%s failed", job.name)
            with self._wake:  # before the answer: who has it may ask again at once, and finds this place free
                self._running, self.busy_since = None, None
                self._wake.notify_all()
            job.finish(result, known)

    def _run_prepare(self) -> None:
        assert self._prepare is not None
        self._be_nice()
        while not self._stopping:
            try:
                worked = self._prepare()
            except Exception:  # a view that cannot be prepared will fail again, visibly, in the request that uses it
                log.exception("preparing a keyframe failed")
                worked = False
            if not worked:
                with self._wake:
                    if not self._stopping:
                        self._wake.wait(0.5)


def _cancelled(job: Job[Any]) -> GldError:
    return GldError(f"{job.name} was cancelled", Status.CANCELLED)
