"""Running tasks: in this process, in processes of this machine, or on any `concurrent.futures.Executor`.

A task is a function and one argument, both picklable. What it returns does not depend on where or when it runs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import connection, resource_tracker
from typing import Any, Generic, TypeVar

from fahw.errors import FAULTS, ConfigError, Problem, fault_text, suggestion

T = TypeVar("T")
R = TypeVar("R")
_MOST_DEATHS = 3
"""Deaths of workers after which the pending tasks run one at a time, so that the one that causes them is found."""
_MOST_ENDING_S = 10.0
"""Seconds that a process told to end is waited for before it is left to the machine."""
_ENDING = [signal.SIGINT, signal.SIGTERM, *(getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name))]
EXECUTORS = ("processes", "dask")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What came of task number `index`: its value, or why there is none."""

    index: int
    value: R | None
    fault: BaseException | None = None

    @property
    def reason(self) -> str:
        """Why the task failed, in a line; empty where it did not."""
        if self.fault is None:
            return ""
        if isinstance(self.fault, ConfigError):
            return self.fault.problems[0].message
        if isinstance(self.fault, BrokenExecutor):
            return "the process that ran it died (killed, or out of memory)"
        return fault_text(self.fault)


def run_tasks(
    call: Callable[[T], R], tasks: Sequence[T], workers: int, executor: Executor | None = None,
    started_pool: Executor | None = None,
) -> Iterator[Outcome[R]]:  # fmt: skip
    """The outcome of every task as it comes. A task that fails, or whose process dies, does not stop the others.
    `started_pool`: processes of this machine that run already."""
    if executor is not None:
        yield from _run_on(executor, call, tasks, range(len(tasks)), cancel=True)
    elif min(workers, len(tasks)) <= 1:
        yield from (_run_here(call, task, index) for index, task in enumerate(tasks))
    else:
        yield from _run_in_processes(call, tasks, workers, started_pool)


def _run_here(call: Callable[[T], R], task: T, index: int) -> Outcome[R]:
    """The outcome of a task that runs in this process."""
    try:
        return Outcome(index, call(task))
    except (ConfigError, *FAULTS) as error:
        return Outcome(index, None, error)


def _run_in_processes(
    call: Callable[[T], R], tasks: Sequence[T], workers: int, started_pool: Executor | None
) -> Iterator[Outcome[R]]:
    """The outcomes of tasks in processes of this machine; a task whose process died runs again."""
    pending = dict.fromkeys(range(len(tasks)))
    for attempt in range(_MOST_DEATHS):
        with nullcontext(started_pool) if started_pool and not attempt else _pool(min(workers, len(pending))) as pool:
            for outcome in _run_on(pool, call, tasks, list(pending)):
                if not isinstance(outcome.fault, BrokenExecutor):
                    del pending[outcome.index]
                    yield outcome
        if not pending:
            return
    for index in pending:
        with _pool(1) as pool:
            yield from _run_on(pool, call, tasks, [index])


def _run_on(
    executor: Executor, call: Callable[[T], R], tasks: Sequence[T], chosen: Sequence[int], cancel: bool = False
) -> Iterator[Outcome[R]]:
    """The outcomes of the chosen tasks on an executor. Left early, it cancels those that have not begun where `cancel`;
    a pool of our own sees to that itself."""
    waiting: dict[Future[R], int] = {}
    try:
        for index in chosen:
            try:
                waiting[executor.submit(call, tasks[index])] = index
            except BrokenExecutor as error:
                yield Outcome(index, None, error)
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                index, fault = waiting.pop(future), future.exception()
                yield Outcome(index, None, fault) if fault else Outcome(index, future.result())
    finally:
        for future in waiting if cancel else ():
            future.cancel()


@contextmanager
def started_processes(workers: int, prepare: Callable[[], None]) -> Iterator[Executor]:
    """A context with processes that start now and run `prepare`, while this one goes on; for `run_tasks`, as
    `started_pool`."""
    with _pool(workers) as pool:
        for _ in range(workers):
            pool.submit(prepare)
        yield pool


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """A context with spawned processes; left early, they are ended at once, whatever they do, and none is left
    behind."""
    before, managers_before = set(multiprocessing.active_children()), _managers()
    _start_tracker()
    with _stops_deferred():  # half a pool could not be cleaned up
        pool = _Processes(workers, multiprocessing.get_context("spawn"), _start_worker)
    results: Any = pool._result_queue
    try:
        yield pool
        pool.shutdown()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        children = set(multiprocessing.active_children()) - before
        for child in children:
            child.terminate()
        for child in children:
            child.join(_MOST_ENDING_S)
            child.kill()  # where the signal is ignored
        results._writer.close()  # else its manager would wait, without end, for the rest of a result that was cut off
        for manager in _managers() - managers_before:  # the interpreter's end would wake one that is just ending
            manager.join(_MOST_ENDING_S)


def _managers() -> set[threading.Thread]:
    """The threads that manage pools of processes."""
    return {thread for thread in threading.enumerate() if type(thread).__module__ == ProcessPoolExecutor.__module__}


class _Processes(ProcessPoolExecutor):
    """Processes that hear of no Ctrl-C, not even while they start: it is their parent's business."""

    def submit(self, fn: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """The future of a call, for which a process may start."""
        with _stops_deferred(), _ctrl_c_held():
            return super().submit(fn, *args, **kwargs)


def _start_tracker() -> None:
    """Start the process that removes the semaphores of a command that ended at once. It does so in any case, and need
    not warn of it."""
    quiet = "ignore:resource_tracker:UserWarning"
    sys.warnoptions.append(quiet)  # which it takes over
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


@contextmanager
def _stops_deferred() -> Iterator[None]:
    """A context in which handlers of signals to end wait until it is left, whichever thread the signal came to."""
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


@contextmanager
def _ctrl_c_held() -> Iterator[None]:
    """A context in which Ctrl-C waits, where a system can do that; for processes that start in it, for good."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # which would let signals through again when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    """Prepare a worker: Ctrl-C is its parent's business, and it ends when its parent does, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with_parent, args=(parent.sentinel,), daemon=True).start()


def _exit_with_parent(sentinel: int) -> None:
    """Wait until the parent process is gone, and end this one."""
    connection.wait([sentinel])
    os._exit(1)


@contextmanager
def named_executor(name: str | None, address: str | None) -> Iterator[Executor | None]:
    """A context with the executor of a name: None for processes of this machine, else a cluster's at its address.

    Raises ConfigError: unknown name, missing package, nobody at the address.
    """
    if name not in (None, *EXECUTORS):
        message = f"no executor '{name}'{suggestion(str(name), EXECUTORS)}; known: {', '.join(EXECUTORS)}"
        raise ConfigError(Problem("--executor", message))
    if name != "dask":
        if address is not None:
            raise ConfigError(Problem("--address", "is for --executor dask"))
        yield None
        return
    client = _dask_client(address)
    try:
        yield client.get_executor()
    finally:
        client.close()


def _dask_client(address: str | None) -> Any:
    """A client of Dask's scheduler at `address`. Raises ConfigError where it does not answer or Dask is missing."""
    if address is None:
        raise ConfigError(Problem("--address", "where is Dask's scheduler? As tcp://10.0.0.1:8786"))
    try:
        import distributed
    except ImportError:
        raise ConfigError(Problem("--executor dask", "needs Dask: pip install 'fahw[dask]'")) from None
    try:
        connect: Any = distributed.Client
        return connect(address, timeout=20)
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(f"--address {address}", f"no scheduler answers: {error}")) from None
