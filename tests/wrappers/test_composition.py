"""Wrappers around wrappers, in any order: they run, resume, and cross a wire."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest
import torch
from cases import small
from exchanges import connect
from faults import Connected, Faulty
from reference import relative
from torch import Generator

from fedsciml import methods, run
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules
from fedsciml.federation.result import Result
from fedsciml.methods import Method, conclude
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers import (
    Balanced,
    Compressed,
    LastLayers,
    Resampled,
    Warmup,
    compressed,
    factors,
    traces,
)

AROUND: dict[str, Callable[[Method], Method]] = {
    "balanced": lambda method: Balanced(method, "terms"),
    "resampled": lambda method: Resampled(method, every=2),
    "warmed": lambda method: Warmup(methods.load("fedavg", tau=3), 1, method),
    "compressed": lambda method: Compressed(method, "bfloat16", feedback=True),
}
MORE = {**AROUND, "last": lambda method: LastLayers(method, 1)}
ORDERS = [
    *(pytest.param(pair, marks=pytest.mark.slow) for pair in permutations(AROUND, 2)),
    tuple(AROUND),
    tuple(AROUND)[::-1],
    *(
        pytest.param(o, marks=pytest.mark.slow)
        for o in (tuple(MORE), tuple(MORE)[::-1])
    ),
]
"""All four and their reverse: any two of them are there in both orders."""

EVERY = pytest.mark.parametrize("order", ORDERS, ids="-".join)


@cache
def problem() -> Problem:
    return small("allen_cahn", points=0.03, width=6, clients=3)


def wrapped(order: tuple[str, ...]) -> Method:
    """FIPA in wrappers, the outermost first."""
    method = methods.load("fipa")
    for name in reversed(order):
        method = MORE[name](method)
    return method


@cache
def whole(order: tuple[str, ...]) -> Result:
    """Four rounds without interruption."""
    return run(problem(), wrapped(order), 4)


def essence(history: list[Round]) -> list[Round]:
    """A history without its seconds."""
    return [replace(line, seconds=0.0) for line in history]


@EVERY
def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(
    order: tuple[str, ...], tmp_path: Path
) -> None:
    method, out = wrapped(order), tmp_path / "run"
    # When the warm-up is over, and when points are due.
    run(problem(), method, 4, out=out, stop=lambda lines: len(lines) == 1)
    run(problem(), method, 4, out=out, resume=True, stop=lambda lines: len(lines) == 2)
    resumed = run(problem(), method, 4, out=out, resume=True)
    assert torch.equal(resumed.theta, whole(order).theta)
    assert essence(resumed.history) == essence(whole(order).history)


@EVERY
def test_over_flower_the_bytes_are_those_in_process(order: tuple[str, ...]) -> None:
    flower = pytest.importorskip("fedsciml.flower", exc_type=ImportError)
    here, there = whole(order), flower.run(problem(), wrapped(order), 4)
    assert torch.equal(here.theta, there.theta)
    assert essence(here.history) == essence(there.history)


@EVERY
def test_clients_come_and_go(order: tuple[str, ...]) -> None:
    # Nobody misses a drawing: a client that compresses inside of it would be refused
    # until the next one, as its memory is older than the server's.
    away = {0: (1, 2), 1: (4,), 2: (2,)}
    method = wrapped(order)
    backend = Connected(Faulty(problem(), method, away=away))
    found = run(problem(), method, 16, backend=backend, rules=Rules(1))
    # Measured at most 0.015; where most layers stay, 0.23.
    most = 0.3 if "last" in order else 0.1
    assert found.loss < most * whole(order).history[0].loss
    dropped = [[int(m) for m in line.dropped] for line in found.history]
    assert dropped == [[0], [0, 2], [], [1], *[[]] * 12]


INSIDE: dict[str, Callable[[Callable[[Method], Method]], Method]] = {
    "terms": lambda inner: Balanced(inner(methods.load("fipa")), "terms"),
    "clients": lambda inner: Balanced(inner(methods.load("fipa")), "clients"),
    "warmed": lambda inner: Warmup(
        inner(methods.load("fedavg", tau=3)), 2, inner(methods.load("fipa"))
    ),
    "resampled": lambda inner: Resampled(inner(methods.load("fipa")), every=2),
}
"""A wrapper around methods that are changed."""


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *((name, "bfloat16") for name in INSIDE),
        # Inside of a drawing, what feedback knows is forgotten with all else.
        *((name, "bfloat16,feedback") for name in INSIDE if name != "resampled"),
    ],
)
def test_compression_does_the_same_inside_and_outside(name: str, word: str) -> None:
    def inner(method: Method) -> Method:
        return compressed(method, word)

    inside, outside = INSIDE[name](inner), inner(INSIDE[name](lambda method: method))
    one, other = (run(problem(), method, 5) for method in (inside, outside))
    assert torch.equal(one.theta, other.theta)
    assert essence(one.history) == essence(other.history)


@pytest.mark.parametrize("name", INSIDE)
def test_rounding_an_answer_in_an_answer_to_its_own_precision_changes_nothing(
    name: str,
) -> None:
    plain = INSIDE[name](lambda method: method)
    methods_ = (plain, compressed(plain, "float32"))
    one, other = (run(problem(), m, 4, dtype=torch.float32) for m in methods_)
    assert torch.equal(one.theta, other.theta)


@pytest.mark.slow
def test_feedback_on_an_answer_in_an_answer_reaches_more_digits() -> None:
    larger = small("allen_cahn", points=0.1, width=8)
    balanced = Balanced(methods.load("fipa", basis="own"), "terms")
    words = ("bfloat16", "bfloat16,feedback")
    plain, feedback = (run(larger, compressed(balanced, w), 30, seed=2) for w in words)
    # Measured: 3e-14 and 3e-22; from starts 0, 1 and 3 a factor of 2e4 and more.
    assert feedback.loss < 1e-3 * plain.loss
    assert feedback.history[-1].bytes_up < 1.1 * plain.history[-1].bytes_up


def test_terms_are_balanced_once_for_a_warm_up_and_what_follows() -> None:
    both = Warmup(methods.load("fedavg", tau=3), 2, methods.load("fipa"))
    found = run(problem(), Balanced(both, "terms"), 4)
    start = problem().network.init(Generator().manual_seed(0), torch.float64)
    (scale,) = factors(
        traces(System(problem(), problem().pooled()), start)[None], "terms"
    )
    terms = [
        replace(term, weight=term.weight * float(f))
        for term, f in zip(problem().terms, scale, strict=True)
    ]
    expected = run(replace(problem(), terms=terms), both, 4)
    # Measured 3e-15: weights and factors are multiplied in another order.
    assert relative(found.theta, expected.theta) < 1e-9


def test_a_warm_up_of_what_is_drawn_again_is_made_once() -> None:
    both = Warmup(methods.load("fedavg", tau=3), 1, methods.load("fipa"))
    history = run(problem(), Resampled(both, every=2), 4).history
    assert [bool(line.ranks) for line in history] == [False, True, True, True]


def test_three_methods_may_follow_each_other() -> None:
    options = {"fedavg": {"tau": 3}, "scaffold": {"tau": 3}, "fipa": {"basis": "own"}}
    first, second, third = (methods.load(n, **given) for n, given in options.items())
    found = run(problem(), Warmup(Warmup(first, 1, second), 3, third), 5)
    state = first.start(problem().network.init(Generator().manual_seed(0)), 0)
    for method, count in ((first, 1), (second, 2), (third, 2)):
        clients, state = connect(problem(), method), method.start(state.theta, 0)
        for _ in range(count):
            state, _ = conclude(method.round(state), clients.exchange)
    assert torch.equal(found.theta, state.theta)


def test_a_wrapper_in_one_of_its_kind_is_refused() -> None:
    fipa = methods.load("fipa")
    both = Warmup(methods.load("fedavg"), 2, fipa)
    with pytest.raises(ValueError, match=r"fedavg:2\+fipa has a warm-up already"):
        Warmup(fipa, 1, Resampled(both))
    with pytest.raises(ValueError, match="balanced already"):
        Balanced(Compressed(Balanced(fipa, "terms")), "clients")
    with pytest.raises(ValueError, match="drawn again already"):
        Resampled(Warmup(fipa, 1, Resampled(fipa)))
