"""Sketches: what they keep, what they drop, and that they add up."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from cases import CASES, theta
from hypothesis import given
from hypothesis import strategies as st
from matrices import by_products, decaying, gramian, random, seeded, spectral
from reference import relative
from torch import Tensor

from fedsciml.linalg import (
    Sketch,
    compress,
    from_jacobian,
    gather,
    merge,
    range_finder,
    truncate,
)
from fedsciml.linalg.sketch import BATCH
from fedsciml.methods._sketching import Sketcher, sketched
from fedsciml.problem import Problem, Rows, Shard
from fedsciml.residual import System

SHAPES = [(9, 25), (25, 9), (9, 9), (1, 7), (7, 1)]
WAYS: dict[str, Callable[[Tensor, Tensor], Sketch]] = {
    "svd": from_jacobian,
    "range": lambda j, r: range_finder(j, r, 1e-3, 2, seeded(3)),
    "subspace": lambda j, r: by_products(j, r, 6),
    "truncated": lambda j, r: truncate(from_jacobian(j, r), 4),
    "compressed": lambda j, r: compress(Sketch(j, -r)),
    "merged": lambda j, r: merge(
        from_jacobian(a, b) for a, b in zip(j.split(4), r.split(4), strict=True)
    ),
    "merged and compressed": lambda j, r: compress(WAYS["merged"](j, r)),
}
"""Every way to a sketch of J D ~ -r."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_full_sketch_has_the_normal_equations_of_the_jacobian(
    shape: tuple[int, int],
) -> None:
    j, r = random(*shape), random(shape[0], seed=1)
    sketch = from_jacobian(j, r)
    assert sketch.rank == min(shape)
    assert sketch.error == 0
    # Measured at most 4e-15 and 2e-15.
    assert relative(gramian(sketch), j.mT @ j) < 5e-14
    assert relative(sketch.gradient, j.mT @ r) < 5e-14
    values = torch.linalg.svdvals(j)
    torch.testing.assert_close(sketch.singular_values, values, rtol=1e-13, atol=0)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "merged"])
@pytest.mark.parametrize("shape", [(9, 25), (25, 9), (30, 40)])
def test_rows_are_orthogonal_and_the_longest_come_first(
    way: str, shape: tuple[int, int]
) -> None:
    sketch = WAYS[way](decaying(*shape, 0.3), random(shape[0], seed=1))
    values = sketch.singular_values
    assert all(a >= b for a, b in pairwise(values.tolist()))
    products = sketch.factor @ sketch.factor.mT - values.square().diag()
    assert float(products.abs().max()) < 1e-14  # of s_1 = 1; measured 4e-16


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [*SHAPES, (30, 40)])
def test_left_projects_residual_and_jacobian_to_target_and_factor(
    way: str, shape: tuple[int, int]
) -> None:
    j, r = decaying(*shape, 0.3), random(shape[0], seed=1)
    sketch = WAYS[way](j, r)
    left = sketch.left
    assert left is not None
    assert left.shape == (shape[0], sketch.rank)
    # Measured at most: 5e-16, 2e-15, 5e-15.
    assert float((-(left.mT @ r) - sketch.target).abs().max()) < 5e-14
    assert float((left.mT @ left - torch.eye(sketch.rank)).abs().max()) < 5e-14
    assert float((left.mT @ j - sketch.factor).abs().max()) < 5e-14


@pytest.mark.parametrize("rank", [0, 1, 4, 8])
@pytest.mark.parametrize("shape", [(9, 25), (25, 9)])
def test_sketch_error_is_the_first_dropped_eigenvalue(
    rank: int, shape: tuple[int, int]
) -> None:
    j, r = decaying(*shape, 0.5), random(shape[0], seed=1)
    sketch = truncate(from_jacobian(j, r), rank)
    assert sketch.rank == rank
    dropped = 0.25**rank  # the singular values are 1, 1/2, 1/4, ...
    # J^T J is known to about 1e-16 of its largest eigenvalue 1.
    assert spectral(j.mT @ j - gramian(sketch)) == pytest.approx(dropped, abs=1e-14)
    assert sketch.error == pytest.approx(dropped, rel=1e-11)
    u, _, _ = torch.linalg.svd(j, full_matrices=False)
    expected = (u[:, :rank].mT @ r).abs()  # up to the signs of the vectors
    torch.testing.assert_close(sketch.target.abs(), expected, rtol=1e-10, atol=1e-12)


def test_truncating_to_more_than_there_is_changes_nothing() -> None:
    sketch = from_jacobian(random(5, 8), random(5, seed=1))
    assert truncate(sketch, 5) is sketch
    assert truncate(sketch, 9) is sketch


def test_truncating_twice_bounds_the_error_of_both() -> None:
    j, r = decaying(12, 20, 0.5), random(12, seed=1)
    whole = from_jacobian(j, r)
    once, twice = truncate(whole, 3), truncate(truncate(whole, 6), 3)
    assert torch.equal(once.factor, twice.factor)
    assert once.error < twice.error
    assert spectral(j.mT @ j - gramian(twice)) <= twice.error


def test_a_negative_rank_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        truncate(from_jacobian(random(3, 4), random(3)), -1)


@st.composite
def sketches(draw: st.DrawFn) -> tuple[list[Sketch], Tensor, Tensor]:
    """Three sketches, truncated or full, and the J and r of all their rows."""
    p, full = draw(st.integers(1, 8)), draw(st.booleans())
    parts, jacobians, residuals = [], [], []
    for _ in range(3):
        n, seed = draw(st.integers(0, 10)), draw(st.integers(0, 1000))
        size = 10.0 ** draw(st.integers(-3, 3))
        j, r = size * random(n, p, seed=seed), random(n, seed=seed + 1)
        rank = p if full else draw(st.integers(0, min(n, p)))
        parts.append(truncate(from_jacobian(j, r), rank))
        jacobians.append(j)
        residuals.append(r)
    return parts, torch.cat(jacobians), torch.cat(residuals)


@given(sketches())
def test_merge_is_associative(made: tuple[list[Sketch], Tensor, Tensor]) -> None:
    (a, b, c), _, _ = made
    left, right = merge([merge([a, b]), c]), merge([a, merge([b, c])])
    assert torch.equal(left.factor, right.factor)
    assert torch.equal(left.target, right.target)
    assert left.error == pytest.approx(right.error, rel=1e-15)
    # Also when the sums are compressed on the way, up to rounding of the largest.
    scale = 1e-13 * (1 + spectral(gramian(left)))
    left = compress(merge([compress(merge([a, b])), c]))
    right = compress(merge([a, compress(merge([b, c]))]))
    assert spectral(gramian(left) - gramian(right)) <= scale
    assert float((left.gradient - right.gradient).norm()) <= scale
    difference = left.singular_values - right.singular_values
    assert float(difference.norm()) <= scale


@given(sketches())
def test_the_order_of_a_merge_does_not_change_the_normal_equations(
    made: tuple[list[Sketch], Tensor, Tensor],
) -> None:
    parts, _, _ = made
    there, back = merge(parts), merge(reversed(parts))
    scale = 1e-14 * (1 + spectral(gramian(there)))
    assert spectral(gramian(there) - gramian(back)) <= scale
    assert float((there.gradient - back.gradient).norm()) <= scale


@given(sketches())
def test_bounds_add_up_and_hold_for_the_sum(
    made: tuple[list[Sketch], Tensor, Tensor],
) -> None:
    parts, jacobian, residual = made
    whole = merge(parts)
    assert whole.error == sum(part.error for part in parts)
    rounding = 1e-13 * (1 + spectral(jacobian) ** 2)
    difference = jacobian.mT @ jacobian - gramian(whole)
    assert spectral(difference) <= whole.error + rounding
    assert compress(whole).error == whole.error
    if whole.error == 0:
        gradient = jacobian.mT @ residual
        assert float((whole.gradient - gradient).norm()) <= rounding


def test_a_merge_without_left_parts_has_none() -> None:
    full = from_jacobian(random(3, 4), random(3))
    assert merge([full, full._replace(left=None)]).left is None


@pytest.mark.parametrize("p", [40, 700])
def test_many_sketches_gathered_have_the_normal_equations_of_all_their_rows(
    p: int,
) -> None:
    jacobian, c = decaying(3 * BATCH + 30, p, 0.5), random(3 * BATCH + 30, seed=3)
    parts = [Sketch(jacobian[k : k + 1], c[k : k + 1]) for k in range(len(jacobian))]
    found, stacked = gather(parts), merge(parts)
    # 0.5^52 is a rounding unit; a few more are left of the sum of rounding errors.
    assert found.rank <= 60
    assert spectral(gramian(found) - gramian(stacked)) <= 1e-14
    assert relative(found.gradient, stacked.gradient) < 1e-14
    assert found.left is not None
    assert relative(found.left.mT @ jacobian, found.factor) < 1e-14
    assert relative(found.left.mT @ c, found.target) < 1e-14


def test_few_sketches_gathered_are_stacked() -> None:
    parts = [Sketch(random(2, 9, seed=k), random(2, seed=-k)) for k in range(BATCH)]
    found, stacked = gather(parts), merge(parts)
    assert torch.equal(found.factor, stacked.factor)
    assert torch.equal(found.target, stacked.target)
    assert found.left is None


def test_sketches_of_different_networks_are_not_merged() -> None:
    parts = [from_jacobian(random(3, p), random(3)) for p in (5, 4, 5)]
    with pytest.raises(ValueError, match="p = 4, 5 parameters .* same network"):
        merge(parts)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match="at least one"):
        merge([])
    with pytest.raises(ValueError, match="at least one"):
        gather([])


@pytest.mark.parametrize("way", ["svd", "range", "subspace"])
def test_without_rows_there_is_an_empty_sketch(way: str) -> None:
    sketch = WAYS[way](torch.zeros(0, 6).double(), torch.zeros(0).double())
    assert sketch.factor.shape == (0, 6)
    assert sketch.target.shape == (0,)
    assert torch.equal(sketch.gradient, torch.zeros(6).double())
    other = from_jacobian(random(3, 6), random(3, seed=1))
    whole = merge([sketch, other])
    assert torch.equal(whole.factor, other.factor)


def pooled(name: str, chunk: int = 2048) -> tuple[System, Tensor]:
    problem = CASES[name]()
    return System(problem, problem.pooled(), chunk=chunk), theta(problem)


@pytest.mark.parametrize("how", ["svd", "range"])
@pytest.mark.parametrize("name", ["scalar", "mixed", "system", "module"])
def test_a_shard_sketched_in_pieces_has_the_same_normal_equations(
    name: str, how: Sketcher
) -> None:
    system, start = pooled(name, chunk=4)
    linear = system.linearise(start)
    jacobian, residual = linear.jacobian(), linear.residual
    reach, top = 1e-10, spectral(jacobian)
    pieces = sketched(system, start, how, reach, top, 3, seeded(1), largest=1)
    whole = sketched(system, start, how, reach, top, 3, seeded(1))
    assert len(list(system.parts(start, 0))) > 3
    for found in (pieces, whole):
        sketch = found.sketch
        assert found.cutoff == reach * top
        assert found.loss == pytest.approx(linear.loss, rel=1e-14)
        # Measured at most 3e-14; what is dropped is below 1e-20 of it.
        assert relative(gramian(sketch), jacobian.mT @ jacobian) < 1e-13
        assert relative(sketch.gradient, linear.gradient) < 1e-13
        assert sketch.left is not None
        assert relative(-(sketch.left.mT @ residual), sketch.target) < 1e-13


@pytest.mark.parametrize("how", ["svd", "range"])
def test_a_coarse_sketch_in_pieces_misses_only_what_is_below_the_cutoff(
    how: Sketcher,
) -> None:
    system, start = pooled("mixed", chunk=4)
    jacobian = system.linearise(start).jacobian()
    reach, top = 0.3, spectral(jacobian)
    found = sketched(system, start, how, reach, top, 1, seeded(1), largest=1)
    pieces = len(list(system.parts(start, 0)))
    # Each piece drops at most what is below a tenth of the cut-off.
    bound = pieces * (0.1 * found.cutoff) ** 2
    if how == "range":  # it has one sketch for all pieces
        assert found.sketch.error == 0
        bound = found.cutoff**2
    else:
        assert 0 < found.sketch.error <= bound
    error = spectral(jacobian.mT @ jacobian - gramian(found.sketch))
    assert error <= bound + 1e-14 * top**2


@pytest.mark.parametrize("how", ["svd", "range", "subspace"])
def test_a_client_s_cutoff_is_relative_to_the_whole_where_that_is_known(
    how: Sketcher,
) -> None:
    system, start = pooled("scalar")
    top = spectral(system.linearise(start).jacobian())
    known = sketched(system, start, how, 1e-4, 100 * top, 5, seeded(1))
    assert known.cutoff == pytest.approx(1e-2 * top)
    alone = sketched(system, start, how, 1e-4, 0.0, 5, seeded(1))
    # Relative to the Frobenius or the spectral norm of its own.
    assert 1e-4 * top * 0.999 < alone.cutoff < 2e-4 * top


@pytest.mark.parametrize("how", ["svd", "range", "subspace"])
def test_a_shard_without_rows_gives_an_empty_sketch(how: Sketcher) -> None:
    problem = CASES["scalar"]()
    system, start = System(problem, nothing(problem)), theta(problem)
    found = sketched(system, start, how, 1e-10, 1.0, 24, seeded(1))
    assert found.loss == 0
    assert found.sketch.factor.shape == (0, len(start))
    assert found.sketch.left is not None
    assert found.sketch.left.shape == (0, 0)


def nothing(problem: Problem) -> Shard:
    """A shard without a single row."""
    rows = tuple(
        Rows(t, torch.zeros(0, len(problem.coordinates)).double(), None, 1.0)
        for t in range(len(problem.terms))
    )
    return Shard(0, rows, 0.0)


@pytest.mark.parametrize("fall", [0.9, 0.3])
def test_a_tall_problem_is_the_same_by_its_triangle_alone(
    fall: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 0.3 rounding hides the last columns, and Householder's Q is taken."""
    monkeypatch.setattr("fedsciml.linalg.sketch.MANY", 1)
    j, r = decaying(200, 60, fall), random(200, seed=1)
    found = from_jacobian(j, r)
    assert found.left is not None
    eye = torch.eye(60, dtype=torch.float64)
    # Rounding of 200 products, of which |1| is the largest sum. Measured 3e-15.
    assert float((found.left.mT @ found.left - eye).abs().max()) < 1e-14
    assert float((found.left @ found.factor - j).abs().max()) < 1e-14
    assert torch.equal(found.target, -(found.left.mT @ r))
    s = torch.linalg.svdvals(j)
    torch.testing.assert_close(found.singular_values, s, rtol=0, atol=1e-14)
