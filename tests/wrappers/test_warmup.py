"""Warm-up: one method for the first rounds, then another."""

from functools import cache

import pytest
import torch
from cases import CASES
from torch import Tensor

from fedsciml import methods, run
from fedsciml.federation.inprocess import InProcess
from fedsciml.methods import Method, State
from fedsciml.problem import Problem
from fedsciml.wrappers.warmup import Warmup


@cache
def scalar() -> Problem:
    return CASES["scalar"]()


def rounds(method: Method, start: Tensor, count: int) -> tuple[Tensor, list[State]]:
    """theta and the clients' memories after some rounds."""
    door = InProcess(scalar(), method)
    state, broadcast = method.init(start, 3)
    while count:
        state, broadcast, info = method.server(state, door.exchange(broadcast))
        count -= info is not None
    return state["theta"], door.memories


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
    assert [set(m) for m in known] == [set(m) for m in memories]


def test_a_run_counts_the_rounds_and_exchanges_of_both() -> None:
    both = Warmup(methods.load("fedavg", tau=3), 2, methods.load("fipa"))
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
