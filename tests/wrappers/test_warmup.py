"""Warm-up: one method for the first rounds, then another."""

from functools import cache

import pytest
import torch
from cases import CASES
from exchanges import connect
from faults import same
from torch import Tensor

from fedsciml import methods, run
from fedsciml.methods import Method, Record, conclude
from fedsciml.problem import Problem
from fedsciml.wrappers.warmup import Warmup


@cache
def scalar() -> Problem:
    return CASES["scalar"]()


def rounds(
    method: Method, start: Tensor, count: int
) -> tuple[Tensor, dict[int, Record | None]]:
    """theta and the clients' memories after some rounds."""
    clients, state = connect(scalar(), method), method.start(start, 3)
    for _ in range(count):
        state, _ = conclude(method.round(state), clients.exchange)
    return state.theta, clients.memories


def start() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return scalar().network.init(generator, torch.float64)


PAIRS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "fedavg fipa": ({"keep_state": True, "tau": 5}, {}),
    "fipa fedavg": ({}, {"keep_state": True, "tau": 5}),
    "fipa fipa": ({"policy": "fixed:damping=1"}, {"local": "adam", "tau": 3}),
    "scaffold fipa_paper": ({"tau": 3}, {"keep_state": True}),
    "adam gauss_newton": ({"tau": 5}, {}),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("count", [1, 3])
def test_after_its_rounds_the_second_method_goes_on_from_the_theta_reached(
    pair: str, count: int
) -> None:
    first, then = (
        methods.load(name, **options)
        for name, options in zip(pair.split(), PAIRS[pair], strict=True)
    )
    both = Warmup(first, count, then)
    reached, _ = rounds(first, start(), count)
    assert torch.equal(rounds(both, start(), count)[0], reached)
    theta, memories = rounds(then, reached, 2)
    found, known = rounds(both, start(), count + 2)
    assert torch.equal(found, theta)
    # Nothing of the first method, nor of the warm-up itself, is left.
    assert all(same(known[m], memory) for m, memory in memories.items())


def test_a_run_counts_the_rounds_and_exchanges_of_both() -> None:
    both = Warmup(
        methods.load("fedavg", tau=3),
        2,
        methods.load("fipa", policy="natural:curves=false"),
    )
    history = run(scalar(), both, rounds=4).history
    assert [line.epochs for line in history] == [3, 3, 1, 1]
    assert [bool(line.ranks) for line in history] == [False, False, True, True]
    # One exchange a round with three clients, then two.
    assert [line.messages for line in history] == [6, 12, 24, 36]


def test_the_name_tells_both_methods_and_the_rounds() -> None:
    both = Warmup(methods.load("fedavg"), 5, methods.load("fipa"))
    assert both.name == "fedavg:5+fipa"
    assert not both.pooled
    assert Warmup(methods.load("adam"), 5, methods.load("gauss_newton")).pooled


def test_a_warm_up_has_rounds_and_one_kind_of_method() -> None:
    fipa, adam = methods.load("fipa"), methods.load("adam")
    with pytest.raises(ValueError, match="at least 1 round, got 0"):
        Warmup(fipa, 0, fipa)
    for pair in ((fipa, adam), (adam, fipa)):
        with pytest.raises(ValueError, match="one is centralised, the other federated"):
            Warmup(pair[0], 1, pair[1])
