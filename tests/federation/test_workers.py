"""Clients that compute at a time in threads: the same bytes, errors and memories."""

import time
from dataclasses import replace
from threading import Barrier, current_thread, main_thread
from typing import Any

import numpy as np
import pytest
import torch
from cases import CASES, ENDS, draw, owned, sampled, scalar, theta
from torch import Generator, Tensor, nn

from fedsciml import methods, problems, run, wrappers
from fedsciml.collocation import strips
from fedsciml.collocation.sampling import numpy_seeded
from fedsciml.federation.inprocess import InProcess, LocalClients
from fedsciml.methods import Method
from fedsciml.network import ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System

FIPA = methods.load("fipa", basis="own")

METHODS = {
    "own sketches": FIPA,
    "shared rows": methods.load("fipa", basis="shared"),
    "shared sums": methods.load("fipa", basis="shared", upload="sums"),
    "local training": methods.load("fipa", basis="own", local="adam", tau=2),
    "secure sums": wrappers.load("fipa", secure=True, basis="shared", upload="sums"),
    "balanced": wrappers.Balanced(methods.load("fipa", basis="shared"), "terms"),
    "resampled": wrappers.Resampled(FIPA, every=1),
    "compressed": wrappers.load("fedavg", compress="bfloat16,feedback", tau=2),
    "batches": methods.load("fedavg", tau=2, batch=4),
    "scaffold": methods.load("scaffold", tau=2, keep_state=True),
}
"""Every way of a round: exchanges, memories, what a process keeps for all clients."""


def same(problem: Problem, method: Method, workers: int = 2, rounds: int = 2) -> None:
    """Runs with one worker and with several end alike to the last bit."""
    one, several = (
        run(problem, method, rounds, backend=InProcess(workers=w)) for w in (1, workers)
    )
    assert several.theta_sha256() == one.theta_sha256()
    assert several.loss == one.loss
    assert several.held_out == one.held_out
    assert several.history[-1].sent == one.history[-1].sent
    assert several.personal.keys() == one.personal.keys()
    assert all(torch.equal(f, one.personal[m]) for m, f in several.personal.items())


@pytest.mark.parametrize("name", METHODS)
def test_threads_change_no_byte_of_a_run(name: str) -> None:
    same(sampled(scalar()), METHODS[name])


@pytest.mark.parametrize("name", [name for name in CASES if name != "scalar"])
def test_threads_change_no_byte_whatever_the_network_and_equation(name: str) -> None:
    same(CASES[name](), FIPA, 3, rounds=1)


@pytest.mark.parametrize("method", [FIPA, methods.load("fedavg", tau=2)])
def test_threads_change_no_byte_of_parameters_of_clients_own(method: Method) -> None:
    same(owned(), method, workers=4)


def test_a_thread_computes_with_as_many_threads_as_the_one_that_asks() -> None:
    before = torch.get_num_threads()
    problem = problems.load("poisson2d", clients=2, points=0.1)
    try:
        for number in (2, 1):
            torch.set_num_threads(number)
            same(problem, FIPA, rounds=1)
    finally:
        torch.set_num_threads(before)


def test_a_thread_has_the_settings_of_torch_of_the_one_that_asks() -> None:
    clients = LocalClients(scalar(), FIPA, workers=3)
    barrier = Barrier(3)

    def settings(m: int) -> tuple[bool, bool, torch.device, int]:
        barrier.wait(60)  # all three are under way at once
        apart = current_thread() is not main_thread()
        grad, device = torch.is_grad_enabled(), torch.get_default_device()
        return apart, grad, device, torch.get_num_threads()

    before = torch.get_num_threads()
    for threads, graph, device in ((1, True, "cpu"), (2, False, "meta")):
        try:
            torch.set_num_threads(threads)
            with torch.set_grad_enabled(graph), torch.device(device):
                found = clients._answers(settings, range(3), None)
        finally:
            torch.set_num_threads(before)
        wanted = True, graph, torch.device(device), threads
        assert found == dict.fromkeys(range(3), wanted)


def test_errors_and_answers_come_in_the_order_of_the_clients() -> None:
    clients = LocalClients(scalar(), FIPA, workers=3)

    def answer(m: int) -> int:
        time.sleep(0.02 * (2 - m))
        if m:
            raise ValueError(f"of {m}")
        return m

    found = clients._answers(answer, [0, 1, 2], None)
    assert list(found) == [0, 1, 2]
    assert found[0] == 0
    assert [str(found[m]) for m in (1, 2)] == ["of 1", "of 2"]
    clients.systems[1].problem = clients.systems[2].problem = None  # type: ignore[assignment]
    for system in clients.systems[1:]:
        system.blocks = []
        system.parts = None  # type: ignore[assignment]
    opening = next(FIPA.round(FIPA.start(theta(scalar()), 0)))
    with pytest.raises(Exception, match=r".") as caught:
        clients.exchange(opening)
    assert caught.value.__notes__ == ["Raised by client 1 (backend inprocess)."]
    assert clients.memories[0] is not None
    assert clients.memories[1] is clients.memories[2] is None


def test_a_client_that_takes_long_is_late_by_its_own_clock() -> None:
    def clock() -> float:
        return 0.0 if current_thread() is main_thread() else next(ticks)

    ticks = iter(range(100))
    clients = LocalClients(scalar(), FIPA, clock=clock, workers=2)
    found = clients._answers(lambda m: m, [0, 1, 2], deadline=0.5)
    assert all(isinstance(late, TimeoutError) for late in found.values())


def test_nobody_computes_on_when_a_run_is_interrupted() -> None:
    clients, seen = LocalClients(scalar(), FIPA, workers=2), list[int]()

    def answer(m: int) -> None:
        if not m:
            raise KeyboardInterrupt
        time.sleep(0.05)
        seen.append(m)

    with pytest.raises(KeyboardInterrupt):
        clients._answers(answer, [0, *range(1, 20)], None)
    ended = list(seen)
    time.sleep(0.1)
    assert seen == ended
    assert len(seen) < 19
    assert clients._answers(lambda m: m, [0, 1, 2], None) == {0: 0, 1: 1, 2: 2}


class Slow(nn.Module):
    """A module that another thread may run while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(1, 4, dtype=torch.float64)
        self.outer = nn.Linear(4, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.inner(x))
        time.sleep(1e-3)
        values: Tensor = self.outer(hidden)
        return values


def test_threads_do_not_share_what_a_module_is_given() -> None:
    def pde(u: Jet, row: Row) -> Tensor:
        return u.x + u.value

    term, known = Term("pde", pde, draw(9, 1)), Term("end", pde, ENDS[:1])
    problem = Problem("slow", ModuleNetwork(Slow()), [term, known], strips([0, 0.5, 1]))
    start = problem.network.init(Generator())
    systems = [System(problem, shard) for shard in problem.shards()]
    clients = LocalClients(problem, FIPA, workers=2)

    def answer(m: int) -> tuple[float, float]:
        again = problem.network.init(Generator(), torch.float64)
        return systems[m].loss((1 + m) * start), float(again.sum())

    found = clients._answers(answer, [0, 1], None)
    assert found == {m: answer(m) for m in (0, 1)}


def test_threads_draw_from_numpy_s_global_generator_one_by_one() -> None:
    clients = LocalClients(scalar(), FIPA, workers=3)

    def answer(m: int) -> float:
        with numpy_seeded(m):
            time.sleep(0.01)
            return float(np.random.rand())

    before = np.random.get_state()
    found = clients._answers(answer, [0, 1, 2], None)
    assert found == {m: np.random.RandomState(m).rand() for m in range(3)}
    assert all(map(np.array_equal, before, np.random.get_state()))


def test_what_threads_are_of_no_use_to_is_refused() -> None:
    wrong: Any
    for wrong in (0, "x", 1.5, None):
        with pytest.raises(ValueError, match=f"1 worker or more, got {wrong!r}"):
            InProcess(workers=wrong)
    with pytest.raises(ValueError, match="threads of the CPU, and 2 of them"):
        InProcess(workers=2).connect(scalar(), FIPA, torch.device("cuda"))


def test_one_client_needs_no_thread() -> None:
    assert LocalClients(scalar(), methods.load("adam", tau=1), workers=2)._pool is None
    alone = replace(scalar(), partition=strips([0, 1]))
    assert LocalClients(alone, FIPA, workers=2)._pool is None
