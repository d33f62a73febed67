"""The rank schedule ``bytes``: what it costs, and who gets the rows."""

from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from cases import CASES, theta
from exchanges import connect, play
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsciml import methods, run
from fedsciml.linalg.ranks import Budget, Context, share
from fedsciml.methods import Method, Record, payload
from fedsciml.methods._fipa import Opening, Sketched, State
from fedsciml.methods.fipa_paper import Eigenpairs
from fedsciml.problem import Problem
from fedsciml.residual import System

LEAST = 3 * (8 * (53 + 1 + 3) + 8)
"""Of ``scalar``: a row of p + 1 numbers, a singular value for each of 3 clients, and a
loss, three times."""


@cache
def scalar() -> Problem:
    """Three unequal shards."""
    return CASES["scalar"]()


def sketches(
    method: Method, rounds: int, dtype: torch.dtype = torch.float64
) -> Iterator[tuple[State, Opening, list[Record]]]:
    """State, ask and answers of the sketches of each round."""
    clients = connect(scalar(), method, dtype)
    state = method.start(theta(scalar()).to(dtype), 0)
    for _ in range(rounds):
        after, _, ((ask, answers), *_) = play(method, state, clients.exchange)
        yield state, ask, list(answers.values())
        state = after


def rank(answer: Sketched | Eigenpairs) -> int:
    """Rows of factor or vectors."""
    values = answer.target if isinstance(answer, Sketched) else answer.eigenvalues
    return len(values)


def spectrum(client: int, where: Tensor) -> Tensor:
    """All singular values of a client's J."""
    system = System(scalar(), scalar().shards()[client])
    return torch.linalg.svdvals(system.linearise(where).jacobian())


spectra = st.lists(
    st.lists(st.floats(0, 1e3), max_size=4).map(
        lambda v: torch.tensor(sorted(v, reverse=True), dtype=torch.float64)
    ),
    min_size=1,
    max_size=3,
)


@given(spectra, st.integers(0, 12))
def test_the_shares_keep_the_most_energy_that_so_many_rows_can(
    found: list[Tensor], rows: int
) -> None:
    def energy(ranks: tuple[int, ...]) -> float:
        return sum(
            float(s[:r].square().sum()) for s, r in zip(found, ranks, strict=True)
        )

    shares = share(found, rows)
    assert sum(shares) == rows
    every = product(*(range(rows + 1) for _ in found))
    best = max(energy(ranks) for ranks in every if sum(ranks) <= rows)
    assert energy(tuple(shares)) == pytest.approx(best, rel=1e-14)


def test_rows_that_no_spectrum_asks_for_are_shared_equally() -> None:
    s = torch.tensor([4.0, 2.0]).double()
    assert share([s, s[:0], s[:1]], 3) == [2, 0, 1]
    assert share([s, s[:0], s[:1]], 8) == [2 + 2, 0 + 2, 1 + 1]
    assert share([s[:0]] * 3, 4) == [2, 1, 1]


def test_equal_values_go_to_the_first_client() -> None:
    s = torch.ones(2).double()
    assert share([s, s], 3) == [2, 1]


@pytest.mark.parametrize("budget", [LEAST, 5000])
@pytest.mark.parametrize(
    ("name", "options", "dtype"),
    [
        ("fipa", {}, torch.float64),
        ("fipa", {}, torch.float32),
        ("fipa", {"policy": "fixed:damping=1e-2", "sketch": "svd"}, torch.float64),
        ("fipa", {"local": "adam", "tau": 2}, torch.float64),
        ("fipa_paper", {"tau": 2, "sketch": "range"}, torch.float64),
    ],
)
def test_the_sketches_of_a_round_never_cost_more_than_the_budget(
    name: str, options: dict[str, object], dtype: torch.dtype, budget: int
) -> None:
    budget += (
        3 * 8 * 54 * (name == "fipa_paper" or "local" in options)
    )  # delta, desired
    method = methods.load(name, rank=f"bytes:{budget}", **options)
    for _, _, answers in sketches(method, 3, dtype):
        assert sum(map(payload, answers)) <= budget
        assert sum(map(rank, answers)) > 0


def test_most_of_a_tight_budget_is_used() -> None:
    method = methods.load("fipa", rank="bytes:4000")
    for _, ask, answers in sketches(method, 5):
        if ask.limits is not None:
            assert sum(map(payload, answers)) > 4000 - 8 * (54 + 3 * 8)


def test_the_shares_are_equal_at_first_and_then_follow_the_spectra() -> None:
    rows = 8
    budget = 8 * 57 * rows + 3 * 8
    method = methods.load("fipa", rank=f"bytes:{budget}", sketch="svd")
    before: list[int] | None = None
    for state, ask, answers in sketches(method, 4):
        ranks = [rank(answer) for answer in answers]
        if before is None:
            assert ranks == [rows // 3] * 3
        else:
            assert ask.limits.tolist() == before
            assert all(r <= limit for r, limit in zip(ranks, before, strict=True))
        every = [spectrum(client, state.at) for client in range(3)]
        least = torch.cat(every).sort(descending=True).values[rows - 1]
        before = [int((s >= least).sum()) for s in every]
    assert before is not None
    assert len({*before}) > 1


def test_a_budget_for_all_sends_what_the_default_sends() -> None:
    methods_ = [methods.load("fipa", rank=r) for r in ("cutoff", "bytes:99999")]
    a, b = (run(scalar(), method, rounds=5) for method in methods_)
    assert torch.equal(a.theta, b.theta)
    assert [x.ranks for x in a.history] == [x.ranks for x in b.history]


def test_a_budget_without_a_row_for_each_client_names_the_least_one() -> None:
    small = methods.load("fipa", rank=f"bytes:{LEAST - 1}")
    message = f"one direction of each of 3 clients; give at least bytes:{LEAST}."
    with pytest.raises(ValueError, match=message):
        next(sketches(small, 1))
    enough = methods.load("fipa", rank=f"bytes:{LEAST}")
    _, _, answers = next(sketches(enough, 1))
    assert [rank(answer) for answer in answers] == [1, 1, 1]


def test_a_limit_does_not_call_for_rows_below_the_cutoff() -> None:
    s = torch.tensor([4.0, 2.0, 1.0]).double()
    ranks = [Budget(1)(s, s, Context(cutoff=1.5, limit=k)) for k in range(4)]
    assert ranks == [0, 1, 2, 2]


def test_a_resumed_run_shares_as_an_uninterrupted_one(tmp_path: Path) -> None:
    method = methods.load("fipa", rank="bytes:4000")
    whole = run(scalar(), method, rounds=4)
    run(scalar(), method, rounds=4, out=tmp_path / "r", stop=lambda h: len(h) == 2)
    resumed = run(scalar(), method, rounds=4, out=tmp_path / "r", resume=True)
    assert len(resumed.history) == 4
    assert torch.equal(resumed.theta, whole.theta)
