"""Anchors: how many there are, and the bases that parties find from them."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from cases import CASES, ENDS, draw, given, sampled, scalar, small, theta
from matrices import seeded, spectral
from reference import jacobian, relative
from torch import Tensor

from fedsciml import MLP, Problem, Term
from fedsciml.collocation import strips
from fedsciml.linalg.basis import Basis, basis
from fedsciml.residual import System
from fedsciml.residual.anchors import FEWEST, FIRST, MOST, Anchors, Span


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Two terms; three clients."""
    return sampled(scalar())


def own(problem: Problem, span: Span) -> list[int]:
    """Pivots of each term, for each row that an anchor has."""
    counts = span.counts.tolist()
    _, owners = Anchors(problem).rows(theta(problem), counts)
    chosen = owners[span.pivots.long()]
    rows = [int((owners == t).sum()) // n for t, n in enumerate(counts)]
    return [math.ceil(int((chosen == t).sum()) / q) for t, q in enumerate(rows)]


def enough(count: int, pivots: int) -> bool:
    """Ten for each pivot up to 256, three beyond, 32 at least."""
    return count >= min(MOST, max(3 * pivots, min(10 * pivots, 256), FEWEST))


def same(a: Basis, b: Basis) -> bool:
    pairs = zip(a, b, strict=True)
    return all(x is y or torch.equal(x, y) for x, y in pairs)


def spans(problem: Problem) -> dict[str, Span]:
    """Several of one theta."""
    span, _ = Anchors(problem).chosen(theta(problem), 1e-6, 0.0)
    beyond = torch.ones(problem.network.size, dtype=torch.float64)
    return {
        "one": span,
        "fewer": replace(span, pivots=span.pivots[:-1]),
        "another order": replace(span, pivots=span.pivots.flip(0)),
        "more anchors": replace(span, counts=2 * span.counts),
        "beyond": replace(span, beyond=beyond, scale=0.5),
        "beyond elsewhere": replace(span, beyond=beyond.cumsum(0), scale=0.5),
        "of another scale": replace(span, beyond=beyond, scale=0.25),
    }


@pytest.mark.parametrize("name", ["scalar", "system", "beam", "periodic"])
def test_rows_of_anchors_are_those_of_a_problem_that_has_its_points_there(
    name: str,
) -> None:
    problem = sampled(CASES[name]())
    counts = [5, 7][: len(problem.terms)]
    drawn = problem.anchors(counts)
    terms = [
        replace(term, points=rows.points, target=rows.target, partner=rows.partner)
        for term, rows in zip(problem.terms, drawn, strict=True)
    ]
    there = replace(problem, terms=terms, partition=strips([0, 1]))
    expected = jacobian(there, there.pooled(), theta(problem))
    found, owners = Anchors(problem).rows(theta(problem), counts)
    assert relative(found, expected) < 1e-13
    for t, rows in enumerate(drawn):
        points, of_term = len(rows.points), int((owners == t).sum())
        assert points == counts[t]
        assert of_term % points == 0
        assert of_term >= points
    assert bool((owners.diff() >= 0).all())


@pytest.mark.parametrize("reach", [1e-2, 1e-6, 1e-10])
@pytest.mark.parametrize("name", ["scalar", "system", "inverse", "allen_cahn"])
def test_counts_grow_where_a_term_has_many_pivots(name: str, reach: float) -> None:
    problem = sampled(CASES[name]()) if name in CASES else small(name)
    terms = len(problem.terms)
    few = (FEWEST,) * terms
    span, after = Anchors(problem).chosen(theta(problem), reach, 0.0, few)
    counts = span.counts.tolist()
    assert after == tuple(counts)  # they never shrink
    for count, pivots_ in zip(counts, own(problem, span), strict=True):
        assert count >= FEWEST
        assert enough(count, pivots_)
        # Not more than are asked for: of a choice among fewer there were as many.
        assert count == FEWEST or not enough(count // 2, pivots_ + 3)
    if reach == 1e-10:
        assert max(counts) > FEWEST


def test_a_first_round_begins_with_many_and_the_next_with_what_is_needed(
    problem: Problem,
) -> None:
    span, after = Anchors(problem).chosen(theta(problem), 1e-2, 0.0)
    assert span.counts.tolist() == [FIRST, FIRST]
    for count, pivots_ in zip(after, own(problem, span), strict=True):
        assert enough(count, pivots_)
        assert FEWEST <= count <= FIRST
        assert count in [f * 2**i for f in (1, 3) for i in range(9)]  # changes seldom
    ends = own(problem, span)[1]
    assert ends <= 2  # two points, however many anchors
    assert after[1] == FEWEST
    again, last = Anchors(problem).chosen(theta(problem), 1e-2, 0.0, after)
    assert last == tuple(again.counts.tolist())


def test_a_basis_holds_the_rows_of_all_clients_to_the_reach() -> None:
    problem = small("allen_cahn")
    start = theta(problem)
    for reach in (1e-3, 1e-6, 1e-9):
        anchors = Anchors(problem)
        span, _ = anchors.chosen(start, reach, 0.0)
        found = anchors.basis(start, span)
        for shard in problem.shards():
            j = System(problem, shard).linearise(start).jacobian()
            missed = j - found.steps(found.restricted(j))
            # |J_a|_F stands for the largest singular value; below the reach it is.
            assert spectral(missed) < 3 * reach * float(j.norm())


def test_the_cutoff_is_relative_to_what_is_known_of_the_whole(problem: Problem) -> None:
    start = theta(problem)
    whole, _ = Anchors(problem).rows(start, [FIRST, FIRST])
    norm = float(torch.linalg.matrix_norm(whole))
    sizes = [
        Anchors(problem).chosen(start, 1e-5, top)[0].size
        for top in (0.0, norm, 1e3 * norm)
    ]
    assert sizes[0] == sizes[1] > sizes[2]


def test_a_basis_is_that_of_the_dense_rows(problem: Problem) -> None:
    start = theta(problem)
    for name, span in spans(problem).items():
        found = Anchors(problem).basis(start, span)
        j, _ = Anchors(problem).rows(start, span.counts.tolist())
        k = len(span.pivots)
        expected = basis(j, span.pivots.long())
        assert torch.equal(found.directions[:, :k], expected.directions), name
        assert found.size == span.size == k + name.startswith(("beyond", "of"))
        if span.beyond is not None:
            assert relative(found.outside(span.beyond) + 1, torch.ones(1)) < 1e-12
            assert float(found.triangle[-1, -1]) == span.scale


def test_the_same_span_gives_the_same_basis_without_computing_it(
    problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = theta(problem)
    for span in spans(problem).values():
        anchors = Anchors(problem)
        first = anchors.basis(start, span)
        monkeypatch.setattr(anchors, "rows", None)
        tensors = (span.counts, span.pivots, span.beyond)
        copies = [None if x is None else x.clone() for x in tensors]
        copy = Span(copies[0], copies[1], copies[2], span.scale)
        assert anchors.basis(start, span) is first
        assert anchors.basis(start.clone(), copy) is first
        assert same(Anchors(problem).basis(start, copy), first)


def test_who_chooses_a_span_has_the_basis_of_those_who_are_told_it(
    problem: Problem,
) -> None:
    start, server = theta(problem), Anchors(problem)
    span, _ = server.chosen(start, 1e-6, 0.0)
    assert same(server.basis(start, span), Anchors(problem).basis(start, span))


def test_a_basis_is_never_that_of_another_theta_or_span(problem: Problem) -> None:
    kept, thetas = Anchors(problem), [theta(problem), theta(problem, 1)]
    asked = [(at, span) for span in spans(problem).values() for at in thetas]
    order = torch.randperm(3 * len(asked), generator=seeded(0)) % len(asked)
    for i in order.tolist():
        at, span = asked[i]
        assert same(kept.basis(at, span), Anchors(problem).basis(at, span))


def test_a_theta_that_was_changed_in_place_is_another(problem: Problem) -> None:
    kept, start = Anchors(problem), theta(problem)
    span, _ = kept.chosen(start, 1e-6, 0.0)
    start += 0.1
    assert same(kept.basis(start, span), Anchors(problem).basis(start, span))


def test_the_points_depend_on_the_seed_alone(problem: Problem) -> None:
    start = theta(problem)
    span, _ = Anchors(problem).chosen(start, 1e-6, 0.0, seed=3)
    again, _ = Anchors(problem).chosen(start, 1e-6, 0.0, seed=3)
    assert torch.equal(span.pivots, again.pivots)
    first, _ = Anchors(problem).rows(start, [40, 40])
    other, _ = Anchors(problem, seed=1).rows(start, [40, 40])
    assert relative(other, first) > 0.1


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_rows_that_the_anchors_do_not_have_are_refused(
    problem: Problem, wrong: int
) -> None:
    span, start = spans(problem)["one"], theta(problem)
    rows = span.pivots.clone()
    rows[-1] = wrong
    with pytest.raises(ValueError, match=r"directions was asked for, rows of \d+ anch"):
        Anchors(problem).basis(start, replace(span, pivots=rows))
    too_many = torch.arange(problem.network.size + 1, dtype=torch.int32)
    with pytest.raises(ValueError, match="Do server and client have the same problem"):
        Anchors(problem).basis(start, replace(span, pivots=too_many))


def rooted(residual: Callable[..., Tensor]) -> Problem:
    pde = Term("pde", residual, draw(9, 1), sample=lambda n, g: draw(n, 1, 5))
    ends = Term("ends", given, ENDS, 0.0, sample=lambda n, g: ENDS)
    return Problem("rooted", MLP((1, 4, 1)), [pde, ends], strips([0, 0.5, 1]))


def test_a_derivative_that_does_not_exist_at_the_anchors_is_told() -> None:
    problem = rooted(lambda u, row: (0 * u.value).sqrt() + u.x)
    with pytest.raises(FloatingPointError, match="Mend the residual, or the sample"):
        Anchors(problem).chosen(theta(problem), 1e-6, 0.0)


def test_a_term_without_a_sample_is_named() -> None:
    with pytest.raises(ValueError, match="'pde' does not say where it holds"):
        Anchors(scalar()).chosen(theta(scalar()), 1e-6, 0.0)


def test_scaled_anchors_weigh_their_terms(problem: Problem) -> None:
    start, anchors = theta(problem), Anchors(problem)
    plain, owners = anchors.rows(start, [10, 8])
    scaled = anchors.scaled([4.0, 0.25])
    found, _ = scaled.rows(start, [10, 8])
    factors = torch.where(owners == 0, 2.0, 0.5).double()[:, None]
    assert relative(found, factors * plain) < 1e-15
    span, _ = anchors.chosen(start, 1e-6, 0.0)
    one, other = anchors.basis(start, span), scaled.basis(start, span)
    assert not same(one, other)
    assert same(anchors.basis(start, span), one)


@pytest.mark.parametrize("whiten", [True, False])
def test_single_precision_anchors_choose_fewer_and_agree(
    problem: Problem, whiten: bool
) -> None:
    start = theta(problem)
    single = Anchors(problem, dtype=torch.float32, whiten=whiten)
    span, _ = single.chosen(start.float(), 1e-11, 0.0)
    found = single.basis(start.float(), span)
    assert found.directions.dtype == torch.float32
    assert 1 < span.size < Anchors(problem).chosen(start, 1e-11, 0.0)[0].size
    double = Anchors(problem, whiten=whiten).basis(start, span)
    j, _ = Anchors(problem).rows(start, span.counts.tolist())
    seen = j @ (found.directions.double() - double.directions)
    # As a Jacobian with noise of single precision. Measured 1e-7.
    assert spectral(seen) < 2e-6 * spectral(j)
    assert (found.whitening is not None) == whiten
