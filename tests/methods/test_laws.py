"""Laws that answers of honest clients obey and lies break, in any unit."""

from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from typing import Any

import pytest
import torch
from cases import scalar, small
from faults import Connected, Faulty, opening, probing

from fedsciml import methods, problems, run
from fedsciml.collocation import strips
from fedsciml.federation import Result, Rules
from fedsciml.linalg.sketch import Sketch, gather
from fedsciml.linalg.solve import spectrum
from fedsciml.methods._laws import contradicting
from fedsciml.network import MLP, Jet
from fedsciml.problem import Problem, Row, Term


def own(**options: str) -> methods.Method:
    """FIPA by the clients' own sketches."""
    return methods.load("fipa", basis="own", **options)


LIAR = 1

Lie = Callable[[Any], Any]


def scaled(**factors: float) -> Lie:
    """Fields of an answer times these."""
    return lambda answer: replace(
        answer, **{name: f * getattr(answer, name) for name, f in factors.items()}
    )


def everywhere(loss: float) -> Lie:
    """This loss at all candidates."""
    return lambda found: replace(found, losses=torch.full_like(found.losses, loss))


def one(field: str, value: float) -> Lie:
    """This value in the first entry of a field."""

    def lie(found: Any) -> Any:  # noqa: ANN401
        changed = getattr(found, field).clone()
        changed.view(-1)[0] = value
        return replace(found, **{field: changed})

    return lie


def permuted(sketch: Any) -> Any:  # noqa: ANN401
    """B with its columns in the reverse order."""
    return replace(sketch, factor=sketch.factor.flip(1))


LIES: dict[str, tuple[Lie | None, Lie | None]] = {
    "B and c times 2": (scaled(factor=2, target=2), None),
    "B times 2, c times -2": (scaled(factor=2, target=-2), None),
    "B times 1.1": (scaled(factor=1.1), None),
    "-c": (scaled(target=-1), None),
    "-c, also at the candidates": (scaled(target=-1), scaled(targets=-1)),
    "c times 0.9": (scaled(target=0.9), None),
    "columns of B": (permuted, None),
    "loss 0": (scaled(loss=0), None),
    "loss times 1.1": (scaled(loss=1.1), None),
    "loss times 1e300": (scaled(loss=1e300), None),
    "veto": (None, everywhere(1e9)),
    "infinite veto": (None, everywhere(inf)),
    "no loss at a candidate": (None, one("losses", 0.0)),
    "NaN in a loss": (None, one("losses", nan)),
    "NaN in a target": (None, one("targets", nan)),
    "targets times 0.5": (None, scaled(targets=0.5)),
}
"""What is sent instead of the sketch, and of what was found at the candidates."""


def lied(problem: Problem, sketch: Lie | None, found: Lie | None) -> Result:
    """A run in which a client lies from the third round on."""
    method = own()
    lie = {
        LIAR: lambda answer: (sketch if hasattr(answer, "factor") else found)(answer)
    }
    at = {(True, True): bool, (True, False): opening, (False, True): probing}
    when = at[sketch is not None, found is not None]
    clients = Faulty(problem, method, lie, range(3, 99), when)
    rules = Rules(min_clients=2)
    return run(problem, method, 6, backend=Connected(clients), rules=rules)


@pytest.mark.parametrize("name", LIES)
def test_a_lie_is_named_at_once_and_its_teller_shut_out(name: str) -> None:
    result = lied(small("allen_cahn", clients=3, points=0.1, width=8), *LIES[name])
    assert [list(line.dropped) for line in result.history] == [[]] * 2 + [["1"]] * 4
    third, _, *rest = [line.dropped["1"] for line in result.history[2:]]
    assert "the upload of client 1 cannot be merged" in third
    said = "not finite" if name == "infinite veto" else "in rounds 3 and 4."
    assert all(said in told for told in rest)
    (warning,) = result.warnings
    assert warning.startswith("Client 1 was left out of 4 of 6 rounds")


def in_units(problem: Problem, factor: float) -> Problem:
    """The problem with every residual in other units; one term in others again."""
    first, *rest = problem.terms
    terms = [replace(first, weight=1e-6 * factor * first.weight)]
    terms += [replace(term, weight=factor * term.weight) for term in rest]
    return replace(problem, terms=tuple(terms))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("unit", [1e-10, 1e10])
@pytest.mark.parametrize("name", ["allen_cahn", "heat"])
def test_no_honest_client_is_refused_in_any_unit(
    name: str, unit: float, dtype: torch.dtype
) -> None:
    problem = in_units(small(name, clients=3, points=0.1, width=8), unit)
    run(problem, own(), 8, dtype=dtype)  # raises where one is


@pytest.mark.parametrize("sketch", ["svd", "range", "subspace"])
@pytest.mark.parametrize("rank", ["cutoff", "3", "energy:0.9"])
def test_no_honest_sketch_is_refused(sketch: str, rank: str) -> None:
    method = own(sketch=sketch, rank=rank)
    run(small("heat", clients=3, points=0.1, width=8), method, 3)


def test_a_start_where_one_site_is_fitted_is_no_reason_to_refuse_another() -> None:
    problem, method = (problems.load("allen_cahn", clients=2), own())
    alone = run(problem.alone(0), method, 15)
    network = replace(problem.network, start=alone.theta)  # type: ignore[type-var]
    assert run(replace(problem, network=network), method, 3).history[-1].losses


def test_a_client_of_other_data_stands_out() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(10, generator=random).double()
    factors = [torch.randn(3, 10, generator=random).double() for _ in range(5)]
    factors = [*factors, factors[2] + factors[3]]  # the same unknowns once more
    targets = {m: b @ x for m, b in enumerate(factors)}
    assert contradicting(merged(factors, targets), targets) == {}
    targets[4] = targets[4] + 0.1
    found = contradicting(merged(factors, targets), targets)
    assert list(found) == [4]
    assert found[4] > 1e20


def test_noise_in_all_data_is_no_contradiction() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(10, generator=random).double()
    factors = [torch.randn(8, 10, generator=random).double() for _ in range(4)]
    noise = [0.1 * torch.randn(8, generator=random).double() for _ in range(4)]
    targets = {m: factors[m] @ x + noise[m] for m in range(4)}
    assert contradicting(merged(factors, targets), targets) == {}


def merged(factors: list[torch.Tensor], targets: dict[int, torch.Tensor]) -> Any:  # noqa: ANN401
    """B D ~ c of all."""
    return spectrum(gather([Sketch(b, targets[m]) for m, b in enumerate(factors)]))


def test_a_client_that_refuses_every_step_is_told_of() -> None:
    def adaptive(found: Any) -> Any:  # noqa: ANN401
        losses = torch.full_like(found.losses, 1e9)
        losses[-1] = found.losses[-1]  # the truth where it can be checked
        return replace(found, losses=losses)

    method = own(policy="natural:curves=false")
    clients = Faulty(scalar(), method, {LIAR: adaptive}, when=probing)
    result = run(scalar(), method, 12, backend=Connected(clients))
    assert [line.against for line in result.history] == [(LIAR,)] * 12
    (warning,) = result.warnings
    assert (
        "No step was taken in 12 of 12 rounds (alone against one: client 1" in warning
    )


def test_rows_on_a_kink_are_no_contradiction() -> None:
    x = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]  # biases begin at zero
    term = Term("data", given, x, lambda q: torch.sin(3 * q[:, 0]))
    network = MLP((1, 16, 16, 1), activation="relu")
    problem = Problem("relu", network, [term], strips([0, 0.5, 1]))
    for seed in range(3):
        run(problem, own(), 3, seed)  # raises where one is refused


@pytest.mark.parametrize("seed", [0, 1])
def test_no_honest_client_is_refused_where_neurons_are_saturated(seed: int) -> None:
    x = torch.linspace(0, 10, 40, dtype=torch.float64)[:, None]
    terms = [
        Term("pde", lambda u, row: u.xx, x),
        Term("ends", given, x[[0, -1]], lambda q: 300 + 10 * q[:, 0]),
    ]
    parts = strips([0, 2.5, 5, 7.5, 10])
    problem = Problem("rod", MLP((1, 12, 12, 1)), terms, parts, coordinates="x")
    run(problem, own(), 25, seed)


def given(u: Jet, row: Row) -> torch.Tensor:
    """u - target."""
    assert row.target is not None
    return u.value - row.target


@pytest.mark.parametrize("factor", [1e-200, 1e6, 1e200])
def test_a_sketch_of_any_size_ends_no_run(factor: float) -> None:
    result = lied(scalar(), scaled(factor=factor), None)
    assert [list(line.dropped) for line in result.history[2:]] == [["1"]] * 4


def test_a_lie_is_not_what_stands_in_for_its_teller() -> None:
    method = own()
    found = []
    for staleness in (0, 3):
        clients = Faulty(scalar(), method, {LIAR: scaled(target=-1)}, when=opening)
        rules = Rules(min_clients=2, staleness=staleness)
        found.append(run(scalar(), method, 5, backend=Connected(clients), rules=rules))
    assert not any(line.stale for line in found[1].history)
    assert found[0].theta_sha256() == found[1].theta_sha256()


def test_an_empty_sketch_does_not_hide_a_veto() -> None:
    def empty(answer: Any) -> Any:  # noqa: ANN401
        if hasattr(answer, "factor"):
            return replace(answer, factor=answer.factor[:0], target=answer.target[:0])
        losses = torch.full_like(answer.losses, 1e9)
        return replace(answer, losses=losses, targets=answer.targets[:, :0])

    method = own()
    clients = Faulty(scalar(), method, {LIAR: empty}, range(3, 99))
    rules = Rules(min_clients=2)
    result = run(scalar(), method, 5, backend=Connected(clients), rules=rules)
    assert [list(line.dropped) for line in result.history] == [[]] * 2 + [["1"]] * 3
