"""All clients in this process, one after the other: the default and the reference."""

import torch

from fedsciml.backends import Traffic, payload
from fedsciml.method import Message, Method, State
from fedsciml.problem import Problem
from fedsciml.residual import System


class InProcess:
    """Every client of a problem, or one client with all rows for a pooled method.

    Args:
        problem: Gives the shards.
        method: Whose ``client`` function is run.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.
    """

    name = "inprocess"

    def __init__(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        shards = [problem.pooled()] if method.pooled else problem.shards()
        self.method = method
        self.systems = [System(problem, shard, device, dtype) for shard in shards]
        self.memories: list[State] = [{} for _ in shards]
        self.traffic = Traffic()

    def exchange(self, broadcast: Message) -> list[Message]:
        """Uploads in the order of the clients."""
        uploads = []
        for m, system in enumerate(self.systems):
            try:
                upload, self.memories[m] = self.method.client(
                    system, broadcast, self.memories[m]
                )
            except Exception as error:
                error.add_note(f"Raised by client {m} (backend inprocess).")
                raise
            uploads.append(upload)
        if not self.method.pooled:
            clients = len(self.systems)
            up, down, messages = self.traffic
            self.traffic = Traffic(
                up + sum(payload(upload) for upload in uploads),
                down + clients * payload(broadcast),
                messages + 2 * clients,
            )
        return uploads
