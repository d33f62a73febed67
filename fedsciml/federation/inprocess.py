"""All clients in this process, one after the other: the default and the reference."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fedsciml.federation.backend import Traffic
from fedsciml.methods import Message, Method, State
from fedsciml.problem import Problem
from fedsciml.residual import System

Answer = TypeVar("Answer")


class InProcess:
    """Every client of a problem, or one client with all rows for a pooled method.

    Args:
        problem: Gives the shards.
        method: Whose ``client`` function is run.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.
        clock: Tells the seconds that a client takes. A client is not interrupted at a
            deadline; its upload is late when it comes.
    """

    name = "inprocess"
    remote = False

    def __init__(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        shards = [problem.pooled()] if method.pooled else problem.shards()
        self.method = method
        self.systems = [System(problem, shard, device, dtype) for shard in shards]
        self.shares = [shard.share for shard in shards]
        self.memories: list[State] = [{} for _ in shards]
        self.traffic = Traffic()
        self.clock = clock

    def here(self, number: int) -> list[int]:
        """All clients."""
        del number
        return list(range(len(self.systems)))

    def ask(
        self,
        broadcast: Message,
        clients: Sequence[int],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Message | Exception]:
        """Uploads, or what the clients raised; a ``TimeoutError`` for a late one."""
        del number

        def upload(m: int) -> Message:
            sent, memory = self.method.client(
                self.systems[m], broadcast, self.memories[m]
            )
            self.memories[m] = memory
            return sent

        return self._answers(upload, clients, deadline)

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, float | Exception]:
        """Each client's loss at theta [p]."""
        return self._answers(lambda m: self.systems[m].loss(theta), clients, deadline)

    def exchange(self, broadcast: Message) -> list[Message]:
        """The uploads of all clients, in their order: a federation without faults.

        Raises:
            Exception: What the first client raised that did.
        """
        clients = range(len(self.systems))
        uploads: list[Message] = []
        for m, answer in self.ask(broadcast, clients, 0).items():
            if isinstance(answer, Exception):
                answer.add_note(f"Raised by client {m} (backend {self.name}).")
                raise answer
            uploads.append(answer)
        if not self.method.pooled:
            self.traffic = self.traffic.plus(broadcast, len(clients), uploads)
        return uploads

    def _answers(
        self,
        answer: Callable[[int], Answer],
        clients: Sequence[int],
        deadline: float | None,
    ) -> dict[int, Answer | Exception]:
        found: dict[int, Answer | Exception] = {}
        for m in clients:
            begin = self.clock()
            try:
                found[m] = answer(m)
            except Exception as error:
                found[m] = error
                continue
            seconds = self.clock() - begin
            if deadline is not None and seconds > deadline:
                found[m] = TimeoutError(
                    f"Client {m} answered after {seconds:.3g} s; the deadline is "
                    f"{deadline:g} s"
                )
        return found
