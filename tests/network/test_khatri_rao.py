"""Products of a Jacobian with Khatri-Rao test matrices, without either of them."""

from itertools import pairwise

import pytest
import torch
from cases import CASES, theta
from matrices import decaying, random, seeded
from reference import relative
from torch import Tensor

from fedsciml.linalg import from_jacobian
from fedsciml.linalg.randomised import ranged
from fedsciml.linalg.rows import Rows, Whole
from fedsciml.network import MLP
from fedsciml.network.khatri_rao import KhatriRao, khatri_rao, pays
from fedsciml.residual import System
from fedsciml.residual.pieces import Memory, Piece

CHAINS = [name for name, make in CASES.items() if isinstance(make().network, MLP)]


@pytest.mark.parametrize("name", CHAINS)
def test_its_products_are_those_of_the_matrix(name: str) -> None:
    problem = CASES[name]()
    system, start = System(problem, problem.pooled(), chunk=150), theta(problem)
    linear = system.linearise(start)
    omega = khatri_rao(problem.network.widths, 5, seeded(1), start)
    assert omega.matrix().shape == omega.shape == (problem.network.size, 5)
    found = Piece(linear, Memory()).mixed(omega)
    assert relative(found, linear.jacobian() @ omega.matrix()) < 1e-13


def test_its_entries_are_uncorrelated_with_variance_one() -> None:
    omega = khatri_rao((2, 3, 1), 40_000, seeded(0), torch.zeros(0).double()).matrix()
    second = omega @ omega.mT / omega.shape[1]
    # Five standard deviations of a mean of 40,000 products, of variance 2 or 1.
    assert float((second - torch.eye(len(omega))).abs().max()) < 5 * (2 / 40_000) ** 0.5


def test_a_range_finder_is_as_accurate_with_it() -> None:
    widths, n = (3, 8, 8, 1), 80
    p = sum((a + 1) * b for a, b in pairwise(widths))
    j, r = decaying(n, p, 0.5), random(n, seed=1)
    rows = Rows(
        r,
        p,
        lambda: [_Dense(j, r)],
        lambda k, g: khatri_rao(widths, k, g, j),
        whole=True,
    )
    found, full = ranged(rows, 1e-3, 4, seeded(2)).sketch, from_jacobian(j, r)
    kept = int((found.singular_values > 1e-3).sum())
    assert kept == 10
    miss = full.singular_values[:kept].square() - found.singular_values[:kept].square()
    assert 0 <= float(miss.max()) < 1e-6  # cut-off squared


class _Dense(Whole):
    def mixed(self, omega: KhatriRao) -> Tensor:
        return self.matrix @ omega.matrix()


def test_it_is_taken_where_layers_are_wide() -> None:
    assert not pays((2, 32, 32, 32, 1))
    assert pays((2, 222, 222, 1))
