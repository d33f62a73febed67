"""Clients of which some are missing in some rounds."""

import time
from collections.abc import Callable, Container, Mapping

import torch
from torch import Generator

from fedsciml import run
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method
from fedsciml.problem import Problem

CLIENTS = 5
ROUNDS = 60
NOBODY = "nobody"
SCENARIOS = (
    *(NOBODY, "two for ten rounds", "one for ever"),
    *("an end for ever", "at random"),
)
"""Who is missing."""

RATE = 0.1
"""How often a client is missing at random."""

Away = Mapping[int, Container[int]]
"""The rounds in which clients are missing, by client."""


def away(scenario: str, seed: int) -> Away:
    """Who is missing when.

    Raises:
        KeyError: If there is no such scenario.
    """
    generator = Generator().manual_seed(seed)
    missing = torch.rand(CLIENTS, ROUNDS + 1, generator=generator) < RATE
    ever = range(6, ROUNDS + 1)
    return {
        NOBODY: {},
        "two for ten rounds": {1: range(6, 16), 3: range(6, 16)},
        "one for ever": {2: ever},
        "an end for ever": {0: ever},
        "at random": {m: row.nonzero()[:, 0].tolist() for m, row in enumerate(missing)},
    }[scenario]


class Patchy(LocalClients):
    """Clients of which some are missing in some rounds; connected already."""

    def __init__(
        self,
        problem: Problem,
        method: Method,
        away: Away,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(problem, method, dtype=dtype)
        self.problem, self.away = problem, away

    def connect(
        self, problem: Problem, method: Method, *how: object, **more: object
    ) -> "Patchy":
        """Themselves, as a backend, with the method as it is bound."""
        self.method = method
        return self

    def here(self, number: int) -> list[int]:
        """Those that are not missing."""
        return [m for m in super().here(number) if number not in self.away.get(m, ())]

    def run(
        self,
        rounds: int,
        seed: int,
        rules: Rules,
        progress: Callable[[Round], None] | bool = False,
    ) -> list[Round]:
        """The history of a run with them."""
        return run(
            self.problem,
            self.method,
            rounds,
            seed,
            backend=self,
            rules=rules,
            progress=progress,
            clock=time.process_time,
        ).history
