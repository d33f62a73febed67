"""Rounds as ``fedsciml.run`` makes them, timed part by part."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch import Generator, Tensor

from experiments._record import Entry
from fedsciml.federation.inprocess import InProcess
from fedsciml.methods import Info, Method, Record, conclude
from fedsciml.methods._fipa import Probe
from fedsciml.problem import Problem
from fedsciml.residual import JetBlock, Linearisation

PHASES = ("linearise", "jacobian", "sketch", "solve", "probe")


class Clock:
    """Wall-clock seconds that count what the device still has to do."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        """Now."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@contextmanager
def added(
    owner: type, name: str, clock: Callable[[], float], seconds: Entry, key: str
) -> Iterator[None]:
    """Add what a method of a class takes to ``seconds[key]``."""
    original = getattr(owner, name)

    def timed(*arguments: object) -> object:
        begin = clock()
        result = original(*arguments)
        seconds[key] = seconds.get(key, 0.0) + clock() - begin
        return result

    with patch.object(owner, name, timed):
        yield


class Rounds:
    """A run that is timed, by the device's clock unless told otherwise."""

    def __init__(
        self,
        problem: Problem,
        method: Method,
        device: torch.device,
        theta: Tensor | None = None,
        clock: Callable[[], float] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.problem, self.method = problem, method
        self.clock = clock or Clock(device)
        self.clients = InProcess().connect(problem, method, device, dtype)
        if theta is None:
            theta = problem.network.init(Generator().manual_seed(0), dtype)
        self.state = method.start(theta.to(device, dtype), 0)

    @property
    def theta(self) -> Tensor:
        """The model, shape [p]."""
        return self.state.theta

    def one(self) -> tuple[Entry, Info]:
        """Seconds in each phase of one more round, and what it reports."""
        clock, seconds = self.clock, dict[str, float](sketch=0.0, probe=0.0)

        def answers(ask: Record) -> Mapping[int, Record]:
            begin = clock()
            found = self.clients.exchange(ask)
            seconds["probe" if isinstance(ask, Probe) else "sketch"] += clock() - begin
            return found

        begin = clock()
        with ExitStack() as stack:
            for owner, name in ((JetBlock, "linearise"), (Linearisation, "jacobian")):
                stack.enter_context(added(owner, name, clock, seconds, name))
            self.state, info = conclude(self.method.round(self.state), answers)
        total = clock() - begin
        seconds["solve"] = total - seconds["sketch"] - seconds["probe"]
        seconds["sketch"] -= seconds.get("linearise", 0) + seconds.get("jacobian", 0)
        return {**seconds, "total": total}, info

    def several(
        self, most: int, budget: float = float("inf")
    ) -> tuple[list[Entry], Info]:
        """Up to so many rounds, at least one, and no more once the budget is spent."""
        lines: list[Entry] = []
        begin = time.perf_counter()
        while not lines or (len(lines) < most and time.perf_counter() - begin < budget):
            line, info = self.one()
            lines.append(line)
        return lines, info
