"""The inference thread: order, bounds, cancel, errors, stopping. No ROS needed."""

import logging
import os
import sys
import threading

import pytest

from gld_ros.errors import GldError, Status
from gld_ros.ros.worker import Job, Worker, as_gld_error

WAIT_S = 30.0  # bounds a wait, on a busy machine too


@pytest.fixture
def worker():
    made = Worker(queue_size=2).start()
    yield made
    made.stop()


class Gate:
    """A job's work that waits to be let through."""

    def __init__(self, value=None):
        self.started, self.open, self.value = threading.Event(), threading.Event(), value

    def __call__(self, job):
        self.started.set()
        while not self.open.wait(0.01):
            if job.cancelled():
                raise GldError("stopped at a step", Status.CANCELLED)
        return self.value


def busy(worker):
    gate = Gate("first")
    job = worker.submit(Job("first", gate))
    assert gate.started.wait(WAIT_S)
    return gate, job


def test_results_come_in_order(worker):
    order = []
    jobs = [worker.submit(Job(str(i), lambda job: order.append(job.name))) for i in range(2)]
    for job in jobs:
        job.result(WAIT_S)
    assert order == ["0", "1"]


def test_a_full_queue_is_busy_and_recovers(worker):
    gate, job = busy(worker)
    waiting = [worker.submit(Job("w", lambda job: 1)) for _ in range(2)]
    with pytest.raises(GldError, match="limit is 2") as error:
        worker.submit(Job("too many", lambda job: 1))
    assert error.value.status == Status.BUSY
    assert worker.refused == 1
    gate.open.set()
    assert [job.result(WAIT_S), *(w.result(WAIT_S) for w in waiting)] == ["first", 1, 1]
    assert worker.submit(Job("again", lambda job: 2)).result(WAIT_S) == 2


def test_an_idle_worker_takes_one_more_than_may_wait():
    """Requests that come together do not depend on how fast the thread wakes up."""
    worker = Worker(queue_size=2)
    jobs = [worker.submit(Job("w", lambda job: 1)) for _ in range(3)]
    with pytest.raises(GldError) as error:
        worker.submit(Job("too many", lambda job: 1))
    assert error.value.status == Status.BUSY
    worker.start()
    assert [job.result(WAIT_S) for job in jobs] == [1, 1, 1]
    worker.stop()


def test_the_place_is_free_when_the_answer_is_there(worker):
    after = []

    class AsksAgain(Job):
        def finish(self, result=None, error=None):
            after.append(worker.submit(Job("next", lambda job: 2)))
            super().finish(result, error)

    gate = Gate("first")
    job = worker.submit(AsksAgain("first", gate))
    assert gate.started.wait(WAIT_S)
    waiting = [worker.submit(Job("w", lambda job: 1)) for _ in range(2)]
    gate.open.set()
    assert job.result(WAIT_S) == "first"
    assert [job.result(WAIT_S) for job in (*waiting, *after)] == [1, 1, 2]


def test_requests_go_before_streams_and_streams_keep_only_the_newest(worker):
    gate, _ = busy(worker)
    order = []
    stale = worker.submit_newest("s", Job("old", lambda job: order.append("old")))
    fresh = worker.submit_newest("s", Job("new", lambda job: order.append("new")))
    request = worker.submit(Job("request", lambda job: order.append("request")))
    gate.open.set()
    request.result(WAIT_S)
    fresh.result(WAIT_S)
    assert order == ["request", "new"]
    assert worker.dropped == 1
    with pytest.raises(GldError) as error:
        stale.result(WAIT_S)
    assert error.value.status == Status.CANCELLED


def test_a_running_job_sees_its_cancel(worker):
    _, job = busy(worker)
    worker.withdraw(job)
    with pytest.raises(GldError) as error:
        job.result(WAIT_S)
    assert error.value.status == Status.CANCELLED


def test_a_waiting_job_is_withdrawn_at_once_and_never_runs(worker):
    gate, _ = busy(worker)
    ran = []
    waiting = worker.submit(Job("waiting", ran.append))
    worker.withdraw(waiting)
    assert waiting.done()
    gate.open.set()
    worker.submit(Job("next", lambda job: None)).result(WAIT_S)
    assert not ran


def test_a_job_cancelled_before_it_is_queued_never_runs(worker):
    ran = []
    job = Job("early", ran.append)
    job.cancel()
    worker.submit(job)
    with pytest.raises(GldError) as error:
        job.result(WAIT_S)
    assert error.value.status == Status.CANCELLED
    assert not ran


def test_a_wait_that_runs_out_names_the_limit_and_cancels(worker):
    _, job = busy(worker)
    with pytest.raises(GldError, match=r"0\.05 s") as error:
        job.result(0.05)
    assert error.value.status == Status.BUDGET_EXCEEDED
    assert job.cancelled()


def test_cancelled_jobs_make_room_in_the_queue(worker):
    _, first = busy(worker)
    waiting = [worker.submit(Job("w", lambda job: 1)) for _ in range(2)]
    waiting[0].cancel()
    worker.submit(Job("fits", lambda job: 1))
    first.cancel()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GldError("x", Status.NO_OVERLAP), Status.NO_OVERLAP),
        (MemoryError(), Status.OUT_OF_MEMORY),
        (RuntimeError("CUDA out of memory. Tried to allocate"), Status.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Status.OUT_OF_MEMORY),
        (RuntimeError("shapes differ"), Status.INTERNAL),
        (ZeroDivisionError("division by zero"), Status.INTERNAL),
    ],
)
def test_every_exception_has_a_status(worker, caplog, error, status):
    assert as_gld_error(error).status == status

    def work(job):
        raise error

    with caplog.at_level(logging.CRITICAL), pytest.raises(GldError) as caught:
        worker.submit(Job("bad", work)).result(WAIT_S)
    assert caught.value.status == status
    assert worker.submit(Job("good", lambda job: "alive")).result(WAIT_S) == "alive"


def test_torch_out_of_memory_is_known():
    torch = pytest.importorskip("torch")
    assert as_gld_error(torch.cuda.OutOfMemoryError("CUDA out of memory")).status == Status.OUT_OF_MEMORY


def test_stop_answers_everyone():
    worker = Worker(queue_size=2).start()
    _, running = busy(worker)
    waiting = worker.submit(Job("w", lambda job: 1))
    assert worker.stop(WAIT_S)
    with pytest.raises(GldError) as error:
        waiting.result(WAIT_S)
    assert error.value.status == Status.NOT_ACTIVE
    with pytest.raises(GldError) as error:
        running.result(WAIT_S)
    assert error.value.status == Status.NOT_ACTIVE
    with pytest.raises(GldError) as error:
        worker.submit(Job("late", lambda job: 1))
    assert error.value.status == Status.NOT_ACTIVE


def test_stop_does_not_hang_on_an_engine_that_does():
    worker = Worker(queue_size=2).start()
    release, started = threading.Event(), threading.Event()
    job = worker.submit(Job("stuck", lambda job: (started.set(), release.wait(WAIT_S))))
    assert started.wait(WAIT_S)
    assert not worker.stop(0.1)
    with pytest.raises(GldError) as error:
        job.result(WAIT_S)
    assert error.value.status == Status.NOT_ACTIVE
    release.set()


def test_preparation_runs_beside_requests_and_survives_errors(caplog):
    todo, done, failed = [1, 2, 3], [], threading.Event()

    def prepare():
        if not failed.is_set():
            failed.set()
            raise ValueError("cannot be prepared")
        if not todo:
            return False
        done.append(todo.pop())
        return True

    with caplog.at_level(logging.CRITICAL):
        worker = Worker(queue_size=2, prepare=prepare).start()
        gate, _ = busy(worker)
        worker.nudge()
        for _ in range(200):
            if len(done) == 3:
                break
            threading.Event().wait(0.01)
        gate.open.set()
        assert worker.stop(WAIT_S)
    assert done == [3, 2, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="priorities are per process elsewhere")
def test_inference_gives_way_to_images():
    worker = Worker(queue_size=1, niceness=7).start()
    own = os.getpriority(os.PRIO_PROCESS, 0)
    nice = worker.submit(Job("nice", lambda job: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
    assert nice.result(WAIT_S) == 7
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
    worker.stop()
