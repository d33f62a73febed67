"""Runs that take turns, and parties that do not compute the same."""

import hashlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from fedsciml.federation.backend import Backend, Reply
from fedsciml.federation.exchange import Federation
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import InProcess, LocalClients
from fedsciml.federation.loop import _round
from fedsciml.methods import Method, Record
from fedsciml.methods._shared import Shared
from fedsciml.problem import Problem
from fedsciml.residual.anchors import Anchors

WHERE = torch.device("cpu"), torch.float64


class Turns:
    """A run of which somebody else asks for the next round.

    Args:
        problem: What to train.
        method: How.
        seed: Of the start.
        backend: Way to the clients; all in this process by default.
        theta: Where the run starts, shape [p]; the seed's start if not given.

    Attributes:
        history: The rounds so far; as ``fedsciml.run`` makes them.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        seed: int,
        backend: Backend | None = None,
        theta: Tensor | None = None,
    ) -> None:
        bound = method.bound(problem, *WHERE)
        clients = (backend or InProcess()).connect(problem, bound, *WHERE)
        self._federation = Federation(problem, bound, clients)
        if theta is None:
            theta = problem.network.init(Generator().manual_seed(seed), WHERE[1])
        self._latest = self._federation.start(theta, seed)
        self.history: list[Round] = []

    @property
    def theta(self) -> Tensor:
        """The model, shape [p]."""
        return self._latest.state.theta

    def one(self) -> bool:
        """One more round; False if the run diverges."""
        try:
            line, self._latest = _round(
                self._federation, self._latest, None, time.process_time
            )
        except FloatingPointError as error:
            print(f"Diverged: {error}", file=sys.stderr)
            return False
        self.history.append(line)
        return True


def in_turns(runs: Mapping[str, Turns], rounds: int) -> dict[str, list[Round]]:
    """The histories of runs that make each round one after the other.

    So the machine is as busy for one as for another, and their seconds compare. A run
    that diverges ends.
    """
    going = dict(runs)
    for _ in range(rounds):
        going = {name: run for name, run in going.items() if run.one()}
    return {name: run.history for name, run in runs.items()}


class Party(NamedTuple):
    """How a site computes.

    Attributes:
        noise: Relative error of its Jacobian at the anchors, of each entry.
        threads: That it computes with.
    """

    noise: float = 0.0
    threads: int = 1


def parties(word: str, clients: int) -> list[Party]:
    """The sites of ``threads``, with one and two in turn, or of ``noise 1e-15``.

    Raises:
        ValueError: If it is neither.
    """
    kind, _, size = word.partition(" ")
    if word == "threads":
        return [Party(threads=1 + m % 2) for m in range(clients)]
    if kind == "noise":
        return [Party(noise=float(size))] * clients
    raise ValueError(f"Sites differ by 'threads' or 'noise E', got '{word}'.")


@dataclass(eq=False)
class Disturbed(Anchors):
    """Anchors as a site finds them whose arithmetic is its own.

    Args:
        noise: Relative standard deviation of the error of each entry of J_a.
        site: Number of the site.
    """

    noise: float = 0.0
    site: int = 0

    def rows(self, theta: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As of ``Anchors``, with an error that the site makes again at this theta."""
        jacobian, owners = super().rows(theta, counts)
        digest = hashlib.sha256(theta.numpy().tobytes() + bytes([self.site])).digest()
        random = Generator().manual_seed(int.from_bytes(digest[:7]))
        error = torch.randn(jacobian.shape, generator=random, dtype=jacobian.dtype)
        return jacobian * (1 + self.noise * error), owners


class ApartClients(LocalClients):
    """Clients in this process that share no basis with the server or each other.

    Args:
        problem: Gives the shards.
        method: The server's, bound.
        sites: How each client computes.
    """

    def __init__(
        self, problem: Problem, method: Shared, sites: Sequence[Party]
    ) -> None:
        super().__init__(problem, method, *WHERE)
        self._threads = [site.threads for site in sites]
        whiten = method.upload == "sums"
        self._own = [
            replace(
                method,
                anchors=Disturbed(
                    problem, *WHERE, whiten=whiten, noise=site.noise, site=m
                ),
            )
            for m, site in enumerate(sites)
        ]

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """Answers of each by its own method, with its own threads."""
        found: dict[int, Reply | Exception] = {}
        for m, memory in memories.items():
            self.method = self._own[m]
            with threads(self._threads[m]):
                found |= super().ask(ask, {m: memory}, number, deadline)
        return found


@dataclass(frozen=True)
class Apart:
    """The backend of ``ApartClients``.

    Args:
        sites: How each client computes.
    """

    sites: Sequence[Party]

    def connect(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> ApartClients:
        """The clients of a run, on the CPU in float64."""
        assert isinstance(method, Shared)
        return ApartClients(problem, method, self.sites)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
