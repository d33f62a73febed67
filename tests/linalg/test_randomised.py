"""The range finder and subspace iteration, against the full decomposition."""

import pytest
import torch
from matrices import by_products, decaying, gramian, random, seeded, spectral
from reference import relative

from fedsciml.linalg import from_jacobian, range_finder, truncate


@pytest.mark.parametrize("shape", [(80, 200), (200, 80)])
@pytest.mark.parametrize("columns", [1, 2, 30])
def test_the_range_finder_equals_the_full_decomposition_down_to_the_cutoff(
    shape: tuple[int, int], columns: int
) -> None:
    j, r = decaying(*shape, 0.5), random(shape[0], seed=1)
    cutoff = 1e-3  # 2^-9 > 1e-3: ten singular values above it
    found = range_finder(j, r, cutoff, columns, seeded(2))
    full = from_jacobian(j, r)
    assert found.rank < min(shape) / 2
    kept = int((found.singular_values > cutoff).sum())
    assert kept == 10
    # What Q misses of J enters squared, and is below the cut-off, since the last of the
    # columns found is. Measured at most 0.02 of this.
    assert spectral(j.mT @ j - gramian(found)) < cutoff**2
    strong = full.singular_values[:kept]
    assert torch.all(found.singular_values[:kept] <= strong * (1 + 1e-12))
    missed = strong.square() - found.singular_values[:kept].square()
    assert float(missed.max()) < cutoff**2


def test_the_range_finder_has_all_digits_with_enough_columns() -> None:
    j, r = decaying(80, 200, 0.1), random(80, seed=1)
    found, full = range_finder(j, r, 1e-14, 24, seeded(2)), from_jacobian(j, r)
    assert found.rank == 25  # and the residual
    values, expected = found.singular_values[:12], full.singular_values[:12]
    # To rounding of the largest, 1. Measured 6e-16, and 7e-15 where LAPACK's own SVD
    # gives J^T J back to 9e-15.
    assert float((values - expected).abs().max()) < 5e-15
    assert spectral(j.mT @ j - gramian(found)) < 5e-14
    assert float((found.gradient - j.mT @ r).norm()) < 1e-13


@pytest.mark.parametrize(
    ("cutoff", "columns", "rank"),
    [(0.3, 4, 4), (1e-3, 4, 16), (1e-3, 20, 20), (1e-6, 1, 32), (1e-6, 39, 39)],
)
def test_the_range_finder_doubles_its_columns_until_the_cutoff_is_met(
    cutoff: float, columns: int, rank: int
) -> None:
    j, r = decaying(80, 200, 0.5), torch.zeros(80).double()  # no gradient is missed
    assert range_finder(j, r, cutoff, columns, seeded(2)).rank == rank


def test_steps_descend_where_the_residual_is_below_the_cutoff() -> None:
    """A large residual that J hardly sees, as at the start of a Helmholtz equation."""
    j = decaying(80, 200, 0.5)
    left = torch.linalg.svd(j)[0]
    r = left[:, :20] @ torch.logspace(-8, 4, 20, dtype=torch.float64)
    gradient, cutoff = j.mT @ r, 0.05
    found = range_finder(j, r, cutoff, 6, seeded(2))
    assert found.rank < 20
    # Rounding of |J| |r| = 1e4 against a gradient of 2e-2: measured 2e-11.
    assert relative(found.gradient, gradient) < 1e-9
    kept = truncate(found, int((found.singular_values > cutoff).sum()))
    s = kept.singular_values
    for damping in (1.0, 1e-2, 1e-4):
        step = (kept.target / (s**2 + damping)) @ kept.factor
        expected = -(kept.target**2 * s**2 / (s**2 + damping)).sum()
        assert float(step @ gradient) == pytest.approx(float(expected), rel=1e-9)
        assert float(expected) < 0


def test_a_gradient_is_exact_however_much_of_the_jacobian_is_missed() -> None:
    """It may be large against the whole's, where those of the clients cancel."""
    j, r = decaying(80, 200, 0.5), random(80, seed=1)
    found = range_finder(j, r, 1e-3, 4, seeded(2))
    assert found.rank == 17
    assert spectral(j.mT @ j - gramian(found)) > 1e-12
    # The columns of J Omega alone miss 1e-6 and more of it.
    assert relative(found.gradient, j.mT @ r) < 1e-13


def test_the_range_finder_turns_to_the_full_decomposition_in_time() -> None:
    j, r = random(40, 60), random(40, seed=1)  # no singular value is small
    found, full = range_finder(j, r, 1e-10, 4, seeded(2)), from_jacobian(j, r)
    assert torch.equal(found.factor, full.factor)
    assert torch.equal(found.target, full.target)


def test_the_range_finder_draws_from_its_generator_alone() -> None:
    j, r = decaying(80, 200, 0.5), random(80, seed=1)
    a, b, c = (range_finder(j, r, 1e-3, 4, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(a.factor, b.factor)
    assert not torch.equal(a.factor, c.factor)


@pytest.mark.parametrize("shape", [(40, 70), (70, 40)])
def test_subspace_iteration_finds_the_leading_part_from_products_alone(
    shape: tuple[int, int],
) -> None:
    j, r = decaying(*shape, 0.5), random(shape[0], seed=1)
    found, best = by_products(j, r, 6), truncate(from_jacobian(j, r), 6)
    assert found.rank == 6
    # Five power steps with 14 columns for 6 leave (s_15 / s_6)^10 = 8e-28 of the rest,
    # so rounding is all there is. Measured 2e-15 and 3e-15.
    values, expected = found.singular_values, best.singular_values
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)
    assert spectral(gramian(found) - gramian(best)) < 1e-12
    assert float((found.gradient - best.gradient).norm()) < 1e-12
    assert found.error == pytest.approx(best.error, rel=1e-6)


def test_subspace_iteration_takes_what_there_is() -> None:
    j, r = random(5, 9), random(5, seed=1)
    found = by_products(j, r, 20)
    assert found.rank == 5
    assert found.error == 0
    assert relative(gramian(found), j.mT @ j) < 1e-13
