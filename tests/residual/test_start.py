"""What is told before the first round."""

from dataclasses import replace

import pytest
import torch
from cases import draw, given, scalar
from torch import Tensor, nn

from fedsciml import MLP, ModuleNetwork, Problem, Term, methods, problems, run
from fedsciml.collocation import strips
from fedsciml.federation.site import Order, Site
from fedsciml.methods import Opening
from fedsciml.network import Network
from fedsciml.residual.start import unsuitable


def infinite() -> Problem:
    """A residual that divides by x, at x = 0 in row 3."""
    (pde, *rest) = scalar().terms
    points = draw(10, 1)
    points[3] = 0.0
    terms = [replace(pde, residual=lambda u, row: u.x / row.x, points=points), *rest]
    return replace(scalar(), terms=terms, partition=strips([0, 1]))


@pytest.mark.parametrize("method", ["fipa", "fedavg", "gauss_newton"])
def test_a_residual_that_is_infinite_at_the_start_names_term_and_point(
    method: str,
) -> None:
    with pytest.raises(FloatingPointError, match=r"'pde'.*inf.*row 3.*x = 0"):
        run(infinite(), methods.load(method), 2)


def test_a_site_names_the_row_and_not_the_point() -> None:
    problem, method = infinite(), methods.load("fipa")
    site = Site(problem, method, 0)
    start = problem.network.init(torch.Generator().manual_seed(0))
    state = method.start(start, 0)
    ask = next(method.round(state))
    assert isinstance(ask, Opening)
    with pytest.raises(FloatingPointError, match=r"'pde'.*row 3") as caught:
        site.exchange(ask, site.counts, Order("1.1", "", ""), {})
    assert "x =" not in str(caught.value)


def raw(network: Network, length: float, size: float) -> Problem:
    ends = torch.tensor([[0.0], [length]], dtype=torch.float64)
    return Problem(
        "raw",
        network,
        [
            Term("pde", lambda u, row: u.xx - row.target, length * draw(20, 1), 1e9),
            Term("ends", given, ends, torch.tensor([size, 2 * size])),
        ],
        strips([0, length]),
    )


def told(network: Network, length: float, size: float) -> str:
    problem = raw(network, length, size)
    return " ".join(unsuitable(problem, problem.pooled()))


class Scaled(nn.Module):
    """A module that scales its coordinate itself."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x / 1e6)


def test_units_that_do_not_suit_are_told_and_those_of_the_network_help() -> None:
    plain = MLP((1, 8, 1))
    assert told(plain, 1.0, 1.0) == "" == told(plain, 30.0, 10.0)
    assert "numbers of up to 1e+06" in told(plain, 1e6, 1.0)
    assert "differ by" in told(plain, 1e-4, 1.0)
    assert "targets of term 'ends'" in told(plain, 1.0, 400.0)
    assert "targets of term 'ends'" in told(plain, 1.0, 1e-6)
    own = MLP((1, 8, 1), inputs=([0], [1e6]), outputs=(600.0, 200.0))
    assert told(own, 1e6, 400.0) == ""
    features = MLP((1, 8, 1), features=lambda x: x / 1e6)
    assert told(features, 1e6, 1.0) == ""
    assert told(ModuleNetwork(Scaled()), 1e6, 1.0) == ""
    assert "up to 1e+06" in told(ModuleNetwork(Scaled().net), 1e6, 1.0)


@pytest.mark.parametrize("name", problems.names())
def test_no_problem_has_units_that_do_not_suit(name: str) -> None:
    problem = problems.load(name)
    assert unsuitable(problem, problem.pooled()) == []
