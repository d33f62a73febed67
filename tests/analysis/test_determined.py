"""Unknown numbers that the rows do not determine, against dense algebra."""

from collections.abc import Callable, Mapping
from math import inf, isfinite

import numpy as np
import pytest
import torch
from cases import theta
from torch import Generator, Tensor

from fedsciml import methods, problems, run
from fedsciml.analysis import NETWORK, laplace, undetermined
from fedsciml.collocation import explicit, strips
from fedsciml.network import MLP, Jet, Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System

T = torch.linspace(0, 2, 25, dtype=torch.float64)[:, None]


def decay(
    rate: Callable[[Jet, Row], Tensor],
    starts: Mapping[str, float],
    times: Tensor = T,
    clients: int = 2,
) -> Problem:
    """u' = -rate u, and k a network of its own; u measured with errors of 2 %."""

    def equation(w: Jet, row: Row) -> Tensor:
        return w.u.t + rate(w, row) * w.u.value

    def reading(w: Jet, row: Row) -> Tensor:
        return w.u.value - row.target

    errors = torch.randn(len(times), generator=Generator().manual_seed(1)).double()
    return Problem(
        "decay",
        Parallel([MLP((1, 8, 1)), MLP((1, 4, 1))], starts),
        [
            Term("equation", equation, T),
            Term("sensors", reading, times, torch.exp(-times[:, 0]) + 0.02 * errors),
        ],
        strips([2 * k / clients for k in range(clients + 1)]),
        coordinates="t",
        outputs=("u", "k"),
    )


SUM = decay(lambda w, row: w.a + w.b, {"a": 0.2, "b": 0.7})
FOUND: dict[str, tuple[Problem, dict[str, tuple[str, ...]]]] = {
    "sum": (SUM, {"a": ("b",), "b": ("a",)}),
    "product and one more": (
        decay(lambda w, row: w.a * w.b + w.c * row.t, {"a": 0.5, "b": 1.0, "c": 0.1}),
        {"a": ("b",), "b": ("a",)},
    ),
    "beside a network": (
        decay(lambda w, row: w.a + w.k.value, {"a": 0.5}),
        {"a": (NETWORK,)},
    ),
    "factor of a network": (
        decay(lambda w, row: w.a * w.k.value, {"a": 0.5}),
        {"a": (NETWORK,)},
    ),
    "too few sensors": (
        decay(lambda w, row: w.a, {"a": 0.5}, T[12:13], 1),
        {"a": (NETWORK,)},
    ),
    "determined": (decay(lambda w, row: w.a, {"a": 0.5}), {}),
    "determined in another unit": (decay(lambda w, row: 1e9 * w.a, {"a": 5e-10}), {}),
    "nearly the same": (
        decay(lambda w, row: w.a + (1 + 1e-3 * row.t) * w.b, {"a": 0.5, "b": 0.1}),
        {},
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_unknowns_are_determined_or_it_is_told_what_they_are_mixed_with(
    name: str,
) -> None:
    problem, mixed = FOUND[name]
    result = run(problem, methods.load("fipa"), 12)
    assert result.undetermined() == mixed


@pytest.mark.parametrize("prior", [0.0, 1e-2])
def test_a_shared_number_may_be_mixed_with_the_clients_own(prior: float) -> None:
    def line(u: Jet, row: Row) -> Tensor:
        return u.slope * row.x + u.base + u.offset + 0 * u.value - row.target

    points = [T[m:20:3] for m in range(3)]
    targets = [2 * x[:, 0] + m for m, x in enumerate(points)]
    network = Parallel(
        [MLP((1, 1))], {"slope": 1.0, "base": 0.0}, personal={"offset": 0.0}
    )
    data = Term("data", line, points, target=targets)
    problem = Problem("line", network, [data], explicit(3), personal_prior=prior)
    result = run(problem, methods.load("fipa"), 3)
    mixed = {} if prior else {"base": ("offset",), "offset": ("base",)}
    assert result.undetermined() == mixed
    with pytest.raises(ValueError, match="parameters of its own"):
        undetermined(problem, result.theta)
    with pytest.raises(ValueError, match="each of the 3 clients"):
        undetermined(problem, result.theta, personal={0: result.personal[0]})


def test_what_is_not_determined_has_no_deviation() -> None:
    result = run(SUM, methods.load("fipa"), 12)
    found = laplace(SUM, result.theta)
    assert found.mixed == {"a": ("b",), "b": ("a",)}
    assert found.deviation == found.bound == {"a": inf, "b": inf}
    # The sum is known, as well as where it is one number.
    sizes = torch.tensor([0.2, 0.7], dtype=torch.float64)
    functional = torch.zeros_like(result.theta)
    functional[-2:] = sizes
    whole = (result.theta[-2:] @ sizes / 0.5)[None]
    same = torch.cat([result.theta[:-2], whole])
    one = laplace(FOUND["determined"][0], same)
    # The scale of the column changes the damping a little; measured 4e-5.
    assert float(found.of(functional)) == pytest.approx(one.deviation["a"], rel=1e-3)


@pytest.mark.parametrize("name", ["heat_inverse", "burgers_inverse"])
def test_unknowns_of_the_suite_are_determined(name: str) -> None:
    problem = problems.load(name, measurements=60, points=100)
    result = run(problem, methods.load("fipa"), 4)
    assert undetermined(problem, result.theta) == {}
    assert isfinite(laplace(problem, result.theta).deviation["nu"])


def test_an_unknown_is_told_by_the_prior_s_share_of_its_variance() -> None:
    problem = problems.load("heat_inverse", measurements=60, points=30)
    at = theta(problem)
    j = System(problem, problem.pooled()).linearise(at).jacobian().numpy()
    count = j.shape[1] - 1
    j[:, count:] *= np.linalg.norm(j[:, :count]) / np.linalg.norm(j[:, count:], axis=0)
    shares = {}
    for damping in (1e-8, 1e-4, 1e-2, 1.0):
        mu = damping * np.linalg.norm(j, 2) ** 2
        along = np.linalg.inv(j.T @ j + mu * np.eye(count + 1))[count]
        shares[damping] = mu * along @ along / along[count]
        assert bool(undetermined(problem, at, damping)) == (shares[damping] > 0.5)
    assert min(shares.values()) < 0.5 < max(shares.values())


def test_rows_that_are_elsewhere_tell_nothing() -> None:
    site = problems.load("heat_inverse", clients=2, measurements=40, points=20)
    site = Problem(
        "site",
        site.network,
        site.terms,
        site.partition,
        coordinates="xt",
        domain=site.domain,
        partial=True,
    )
    with pytest.raises(ValueError, match="let every client send laplace.evidence"):
        undetermined(site, theta(site))
