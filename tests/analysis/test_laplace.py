"""Uncertainty of unknown numbers against regression theory and dense algebra."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import draw, theta
from reference import relative
from scipy.stats import linregress
from torch import Generator, Tensor

from fedsciml import methods, problems, run
from fedsciml.analysis.laplace import laplace
from fedsciml.collocation import strips
from fedsciml.likelihoods import Huber
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System

X = draw(40, 1)


def line(y: Tensor, clients: int = 3) -> Problem:
    """y ~ a + b x; the network takes no part."""

    def reading(u: Jet, row: Row) -> Tensor:
        return u.a + u.b * row.x - row.target

    return Problem(
        "line",
        Parallel([MLP((1, 2, 1))], unknowns={"a": 1.0, "b": -1.0}),
        [Term("sensors", reading, X, target=y, weight=3.0)],
        strips([k / clients for k in range(clients + 1)]),
    )


def noisy() -> Tensor:
    errors = torch.randn(len(X), generator=Generator().manual_seed(1)).double()
    return 0.5 + 2 * X[:, 0] + 0.1 * errors


def small(clients: int = 4, measurements: int = 60) -> Problem:
    return problems.load(
        "heat_inverse",
        noise=0.05,
        measurements=measurements,
        points=30,
        clients=clients,
    )


def test_unknowns_of_a_linear_model_are_found_to_machine_precision() -> None:
    result = run(line(0.5 + 2 * X[:, 0]), methods.load("fipa"), rounds=8)
    found = result.unknowns()
    assert found["a"] == pytest.approx(0.5, abs=1e-14)
    assert found["b"] == pytest.approx(2.0, abs=1e-14)


def test_a_straight_line_has_the_standard_errors_of_linear_regression() -> None:
    y = noisy()
    result = run(line(y), methods.load("fipa"), rounds=8)
    found = laplace(result.problem, result.theta, damping=1e-14)
    known = linregress(X[:, 0].numpy(), y.numpy())
    assert found.mean["a"] == pytest.approx(known.intercept, rel=1e-12)
    assert found.mean["b"] == pytest.approx(known.slope, rel=1e-12)
    for value in (found.deviation, found.bound):
        # Relative to the eigenvalues the damping is 1e-13 at most.
        assert value["a"] == pytest.approx(known.intercept_stderr, rel=1e-11)
        assert value["b"] == pytest.approx(known.stderr, rel=1e-11)
    assert found.freedom == pytest.approx(len(X) - 2, rel=1e-11)
    off = y.numpy() - known.intercept - known.slope * X[:, 0].numpy()
    assert found.sigma == pytest.approx((off @ off / (len(X) - 2)) ** 0.5, rel=1e-11)
    # The value of the line at x is a functional of theta.
    at = torch.zeros(2, len(result.theta), dtype=torch.float64)
    at[:, -2:] = torch.tensor([[1.0, 0.0], [1.0, float(X.mean())]])
    first, middle = found.of(at).tolist()
    assert first == pytest.approx(known.intercept_stderr, rel=1e-11)
    assert middle == pytest.approx(found.sigma / len(X) ** 0.5, rel=1e-11)


def test_covariance_is_the_dense_formula() -> None:
    problem = small()
    at, relative_mu = theta(problem), 1e-6
    found = laplace(problem, at, damping=relative_mu)
    linear = System(problem, problem.pooled()).linearise(at)
    j, r = linear.jacobian().numpy(), linear.residual.numpy()
    # The column of the unknown is as long as all the others together.
    scales = np.ones(j.shape[1])
    scales[-1] = np.linalg.norm(j[:, :-1]) / np.linalg.norm(j[:, -1])
    j = j * scales
    jd, rd = j[30:], r[30:]
    mu = relative_mu * np.linalg.norm(j, 2) ** 2
    inverse = np.linalg.inv(j.T @ j + mu * np.eye(j.shape[1]))
    left = np.eye(60) - jd @ inverse @ jd.T
    s2 = rd @ rd / np.trace(left.T @ left)
    inverse = inverse * np.outer(scales, scales)
    jd = jd / scales
    sandwich = s2 * inverse @ jd.T @ jd @ inverse
    # The dense inverse has lost half the digits; measured 1e-10.
    assert relative(found.root.mT @ found.root, torch.from_numpy(sandwich)) < 1e-8
    assert found.deviation["nu"] == pytest.approx(sandwich[-1, -1] ** 0.5, rel=1e-8)
    assert found.bound["nu"] == pytest.approx((s2 * inverse[-1, -1]) ** 0.5, rel=1e-8)
    assert found.sigma == pytest.approx((s2 * 60) ** 0.5, rel=1e-8)  # w = 1 / sqrt(60)


@pytest.mark.parametrize(
    ("clients", "measurements", "damping"), [(4, 60, 1e-10), (8, 5, 1e-4)]
)
def test_federated_uncertainty_is_that_of_the_pooled_rows(
    clients: int, measurements: int, damping: float
) -> None:
    parts, one = small(clients, measurements), small(1, measurements)
    assert (min(len(s.rows[1].points) for s in parts.shards()) == 0) == (clients == 8)
    at = theta(one)
    federated, pooled = (laplace(p, at, damping=damping) for p in (parts, one))
    for name in ("sigma", "freedom", "deviation", "bound"):
        # Measured at most 1e-10, of the bound: rounding of J over the damping.
        found, known = getattr(federated, name), getattr(pooled, name)
        assert found == pytest.approx(known, rel=1e-8)


def test_exact_rows_make_the_bound_larger_than_the_deviation() -> None:
    problem = small()
    found = laplace(problem, theta(problem))
    assert found.bound["nu"] > found.deviation["nu"] > 0


def test_what_cannot_be_known_is_refused() -> None:
    problem = line(noisy())
    at = theta(problem)
    with pytest.raises(ValueError, match="no term 'pde'.* its terms are sensors"):
        laplace(problem, at, "pde")
    with pytest.raises(ValueError, match="must be positive, got 0"):
        laplace(problem, at, damping=0.0)
    with pytest.raises(ValueError, match=f"theta has {len(at) - 1} numbers"):
        laplace(problem, at[:-1])
    with pytest.raises(ValueError, match="or a prior; the noise of measurements"):
        laplace(replace(problem, prior=1e-4), at)
    robust = [replace(term, likelihood=Huber()) for term in problem.terms]
    with pytest.raises(ValueError, match="has a likelihood other than squares"):
        laplace(replace(problem, terms=robust), at)
    heat = problems.load("heat_inverse", measurements=40, points=20)
    with pytest.raises(ValueError, match="'equation' .* has no target"):
        laplace(heat, theta(heat), "equation")


def test_measurements_that_are_all_fitted_tell_no_noise() -> None:
    two = problems.load("heat_inverse", clients=1, measurements=2, points=1)
    with pytest.raises(ValueError, match="2 measurements leave .* measure more"):
        laplace(two, theta(two))
