"""Damped and truncated least squares against dense solutions."""

import numpy as np
import pytest
import torch
from reference import from_gramian, gauss_newton, relative, stacked
from test_sketch import decaying, random
from torch import Tensor

from fedsciml.linalg.sketch import Sketch, from_jacobian, merge
from fedsciml.linalg.solve import Spectrum, spectrum

SHAPES = [(12, 30), (30, 12), (12, 12), (1, 5), (5, 1)]


def problem(shape: tuple[int, int], factor: float = 0.5) -> tuple[Tensor, Tensor]:
    """J with singular values 1, factor, factor^2, ..., and r."""
    return decaying(*shape, factor), random(shape[0], seed=7)


def solved(jacobian: Tensor, residual: Tensor) -> Spectrum:
    return spectrum(Sketch(jacobian, -residual))


@pytest.mark.parametrize("cutoff", [0.0, 0.01, 0.3])
@pytest.mark.parametrize("damping", [0.0, 1e-6, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_damping_and_cutoff_gives_the_dense_solution(
    shape: tuple[int, int], damping: float, cutoff: float
) -> None:
    j, r = problem(shape)
    step = solved(j, r).step(damping, cutoff)
    # Singular values go down to 2^-11: at most 2000 * 1e-16. Measured 7e-14.
    assert relative(step, gauss_newton(j, r, damping, cutoff)) < 1e-12


@pytest.mark.parametrize("damping", [1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_damped_step_is_least_squares_with_rows_added(
    shape: tuple[int, int], damping: float
) -> None:
    j, r = problem(shape)
    # The stacked matrix has a condition of at most 1e3. Measured 1e-13.
    assert relative(solved(j, r).step(damping), stacked(j, r, damping)) < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
def test_an_undamped_step_is_the_shortest_least_squares_solution(
    shape: tuple[int, int],
) -> None:
    j, r = problem(shape)
    expected, *_ = np.linalg.lstsq(j.numpy(), -r.numpy(), rcond=None)
    assert relative(solved(j, r).step(), torch.from_numpy(expected)) < 1e-12


@pytest.mark.parametrize("cutoff", [1e-10, 1e-4, 0.1])
def test_a_cutoff_drops_what_is_not_above_it(cutoff: float) -> None:
    j, r = problem((20, 35), 0.2)
    j *= 100  # the cut-off is relative
    expected, *_ = np.linalg.lstsq(j.numpy(), -r.numpy(), rcond=cutoff)
    kept = int((0.2 ** np.arange(20) > cutoff).sum())
    found = solved(j, r)
    assert int((found.inverse(0.0, cutoff) > 0).sum()) == kept
    # What is kept is known to 1e-16 / cutoff; measured at most 2e-7 for 1e-10.
    step = found.step(0.0, cutoff)
    assert relative(step, torch.from_numpy(expected)) < 1e-14 / cutoff


def test_directions_without_information_do_not_move() -> None:
    j, r = problem((6, 20))
    j = torch.cat([j, j, torch.zeros(3, 20).double()])
    found = solved(j, torch.cat([r, r, torch.ones(3).double()]))
    expected = gauss_newton(j[:6], r)
    assert relative(found.step(0.0, 1e-12), expected) < 1e-12
    assert torch.equal(
        solved(0 * j, torch.ones(15).double()).step(), torch.zeros(20).double()
    )


def test_without_rows_there_is_no_step() -> None:
    found = solved(torch.zeros(0, 5).double(), torch.zeros(0).double())
    assert len(found.s) == 0
    for damping, cutoff in ((0.0, 0.0), (1.0, 0.0), (0.0, 1e-10)):
        assert torch.equal(found.step(damping, cutoff), torch.zeros(5))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectrum_is_a_singular_value_decomposition(shape: tuple[int, int]) -> None:
    j, r = problem(shape)
    s, c, basis, left = solved(j, r)
    torch.testing.assert_close(s, torch.linalg.svdvals(j), rtol=1e-11, atol=0)
    # Measured at most 6e-15.
    assert float((left * s @ basis - j).norm()) < 1e-13
    eye = torch.eye(min(shape)).double()
    assert float((left.mT @ left - eye).norm()) < 1e-13
    assert float((basis @ basis.mT - eye).norm()) < 1e-13
    assert relative(c, -(left.mT @ r)) < 1e-13


@pytest.mark.parametrize("length", [1.0, 0.5, -0.3])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_predicted_decrease_is_that_of_the_linear_model(
    shape: tuple[int, int], length: float
) -> None:
    j, r = problem(shape)
    found = solved(j, r)
    coordinates = length * found.inverse(1e-2) * found.c
    step = coordinates @ found.basis
    expected = (r @ r - (r + j @ step).square().sum()) / 2
    both = torch.stack([coordinates, 0 * coordinates])
    decrease = found.decrease(both)
    assert float(decrease[0]) == pytest.approx(float(expected), rel=1e-12, abs=1e-13)
    assert float(decrease[1]) == 0


@pytest.mark.parametrize("clients", [1, 2, 5])
def test_square_roots_keep_the_digits_that_gramians_lose(clients: int) -> None:
    # Singular values 1 to 1e-7: those of J^T J end at 1e-14, hardly above rounding.
    n, p, k = 60, 20, 8
    s = torch.logspace(0, -7, k).double()
    u, v = (torch.linalg.qr(random(m, k, seed=m))[0] for m in (n, p))
    j = u * s @ v.mT
    exact = v @ torch.ones(k).double()
    r = -(u * s).sum(1)  # so that J D = -r
    pieces = n // clients
    parts = zip(j.split(pieces), r.split(pieces), strict=True)
    step = spectrum(merge(from_jacobian(a, b) for a, b in parts)).step(0.0, 1e-8)
    values, vectors = torch.linalg.eigh(j.mT @ j)
    keep = values > 1e-8**2  # the same cut-off
    filtered = torch.where(keep, 1 / values, 0.0)
    squared = vectors * filtered @ vectors.mT @ -(j.mT @ r)
    # eps / s_min = 1e-9 against eps / s_min^2 = 1e-2. Measured 2e-9 and 1e-3.
    assert relative(step, exact) < 1e-8
    assert relative(squared, exact) > 1e-4


def test_square_roots_keep_the_digits_of_a_damped_step() -> None:
    j, r = problem((40, 20), 0.3)  # down to 1e-10
    damping = 1e-14
    expected = stacked(j, r, damping)
    # Conditions 1e7 and 1e14. Measured 6e-10 and 2e-3.
    assert relative(solved(j, r).step(damping), expected) < 1e-8
    assert relative(from_gramian(j, r, damping), expected) > 1e-4
