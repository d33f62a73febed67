"""All clients in this process: the default and the reference.

One after the other, or several at a time in threads: torch computes without Python's
lock. A thread has the settings of the one that asks, each client's part of a round
depends on nothing of another's, and answers come in the order of the clients: the bytes
are the same.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import torch
from torch import Tensor

from fedsciml.federation.backend import Reply
from fedsciml.methods import Method, Record, addressed
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.held_out import Breakdown, Fresh, equations
from fedsciml.residual.start import check_finite

Answer = TypeVar("Answer")


class LocalClients:
    """Every client of a problem, or one client with all rows for a pooled method.

    Args:
        problem: Gives the shards.
        method: Whose ``client`` parts are run.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.
        clock: Tells the seconds that a client takes. A client is not interrupted at a
            deadline; its answer is late when it comes.
        workers: Clients that compute at a time.

    Raises:
        ValueError: If there is less than one worker, or several on an accelerator.

    Attributes:
        systems: The residual of each client.
        memories: What clients remember from one ``exchange`` to the next.
    """

    name = "inprocess"
    remote = False
    uncounted: Mapping[int, str] = {}
    kinds: tuple[type, ...] = ()
    notes: Mapping[str, object] = {}

    def __init__(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        clock: Callable[[], float] = time.monotonic,
        workers: int = 1,
    ) -> None:
        check_workers(workers, device)
        shards = [problem.pooled()] if method.pooled else problem.shards()
        self.method = method
        self.systems = [System(problem, shard, device, dtype) for shard in shards]
        self.shares = [shard.share for shard in shards]
        self.counts = [[len(rows.points) for rows in s.rows] for s in shards]
        self._begun: set[int] = set()
        known = cache(partial(equations, problem))
        self._fresh = [Fresh(system, known) for system in self.systems]
        self.memories: dict[int, Record | None] = dict.fromkeys(range(len(shards)))
        self._clock = clock
        workers = min(workers, len(shards))
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def here(self, number: int) -> list[int]:
        """All clients."""
        return list(range(len(self.systems)))

    def systems_here(self) -> Mapping[int, System]:
        """Those of all clients."""
        return dict(enumerate(self.systems))

    def joined(self, number: int) -> Mapping[int, Sequence[int]]:
        """Nobody: all are counted."""
        return {}

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """Answers, or what the clients raised; a ``TimeoutError`` for a late one."""

        def answer(m: int) -> Reply:
            own = addressed(ask, m)
            part, theta = self.method.part(own), getattr(own, "theta", None)
            fresh = m not in self._begun and not self.method.silent
            if fresh and theta is not None:
                check_finite(self.systems[m], theta, tell_point=True)
                self._begun.add(m)
            return Reply(*part(self.systems[m], own, memories[m]))

        return self._answers(answer, list(memories), deadline)

    def exchange(self, ask: Record) -> dict[int, Record]:
        """The answers of all clients, which remember: a federation without faults.

        Raises:
            Exception: What the first client raised that did.
        """
        answers: dict[int, Record] = {}
        for m, reply in self.ask(ask, self.memories, 0).items():
            if isinstance(reply, Exception):
                reply.add_note(f"Raised by client {m} (backend {self.name}).")
                raise reply
            answers[m], self.memories[m] = reply
        return answers

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, float | Exception]:
        """Each client's loss at theta [p]."""
        return self._answers(lambda m: self.systems[m].loss(theta), clients, deadline)

    def breakdown(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, Breakdown | Exception]:
        """Each client's losses at points that it does not train on, and by term."""
        return self._answers(
            lambda m: self._fresh[m].breakdown(theta), clients, deadline
        )

    def _answers(
        self,
        answer: Callable[[int], Answer],
        clients: Sequence[int],
        deadline: float | None,
    ) -> dict[int, Answer | Exception]:
        def timed(m: int) -> Answer | Exception:
            begin = self._clock()
            try:
                found = answer(m)
            except Exception as error:
                return error
            seconds = self._clock() - begin
            if deadline is not None and seconds > deadline:
                return TimeoutError(
                    f"Client {m} answered after {seconds:.3g} s; the deadline is "
                    f"{deadline:g} s"
                )
            return found

        if self._pool is None:
            return {m: timed(m) for m in clients}
        alike = _elsewhere(timed)
        asked = {m: self._pool.submit(alike, m) for m in clients}
        try:
            return {m: future.result() for m, future in asked.items()}
        except BaseException:  # nobody computes on when this has ended
            for future in asked.values():
                future.cancel()
            wait(asked.values())
            raise


def check_workers(workers: int, device: torch.device | str) -> None:
    """Refuse what threads are of no use to.

    Raises:
        ValueError: If that is no whole number of at least one, or more than one on an
            accelerator.
    """
    if type(workers) is not int or workers < 1:
        raise ValueError(f"Clients need 1 worker or more, got {workers!r}.")
    if workers > 1 and torch.device(device).type != "cpu":
        raise ValueError(
            f"Workers are threads of the CPU, and {workers} of them would wait for one "
            f"{device}: leave them out."
        )


def _elsewhere(timed: Callable[[int], Answer]) -> Callable[[int], Answer]:
    """The function, to be called in another thread, with this one's settings of torch.

    They are each thread's own. The last bits depend on the number of its threads.
    """
    threads, graph = torch.get_num_threads(), torch.is_grad_enabled()
    device = torch.get_default_device()

    def called(m: int) -> Answer:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        same = torch.get_default_device() == device  # a context slows every call
        with torch.set_grad_enabled(graph), nullcontext() if same else device:
            return timed(m)

    return called


@dataclass(frozen=True)
class InProcess:
    """Clients in this process.

    Args:
        clock: Tells the seconds that a client takes.
        workers: Clients that compute at a time, each with torch's number of threads:
            as many as there are cores for each of these. The bytes are the same.
            Functions of a problem, as residuals and samples, are then called by
            several threads at once; they must keep nothing from call to call.

    Raises:
        ValueError: If there is less than one; when it connects, if there are several on
            an accelerator.
    """

    clock: Callable[[], float] = time.monotonic
    workers: int = 1

    def __post_init__(self) -> None:
        check_workers(self.workers, "cpu")

    def connect(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> LocalClients:
        """The clients of a run."""
        how = device, dtype, self.clock, self.workers
        return LocalClients(problem, method, *how)
