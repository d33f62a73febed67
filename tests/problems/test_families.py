"""Families of sites with numbers of their own, and a mixed-effects model."""

import numpy as np
import pytest
import torch
from cases import FAMILIES, small
from numpy.typing import NDArray
from torch import Tensor

from fedsciml import Result, methods, problems, run
from fedsciml.network.jet import Jet, Nested
from fedsciml.problem import Problem, Row
from fedsciml.problem.checks import joined
from fedsciml.problems import gauges, grunfeld, oscillations


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_sites_without_heterogeneity_are_alike(name: str) -> None:
    alike, half, all_ = (small(name, heterogeneity=h) for h in (0, 0.5, 1))
    for number, values in alike.truth.items():
        assert len({*values}) == 1
        middle = values[-1]
        own = slice(name == "gauges", None)  # the first of those is calibrated
        pairs = zip(half.truth[number][own], all_.truth[number][own], strict=True)
        for some, most in pairs:
            assert some - middle == pytest.approx((most - middle) / 2, abs=1e-15)
            assert most != middle
    if alike.test_owners is not None:
        every = alike.reference.view(alike.clients, -1)
        assert torch.equal(every, every[:1].expand_as(every))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_a_site_is_the_same_whoever_else_is_there(name: str) -> None:
    few, many = (small(name, clients=m, noise=0.0) for m in (2, 4))
    for a, b in zip(few.shards(), many.shards(), strict=False):
        assert few.true(a.client) == many.true(b.client)
        for r, s in zip(a.rows, b.rows, strict=True):
            assert torch.equal(r.points, s.points)
            assert r.target is None or torch.equal(r.target, s.target)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_errors_are_as_large_as_asked_for(name: str) -> None:
    exact, measured = (small(name, points=400, noise=s) for s in (0.0, 0.02))
    number = [t.target is not None for t in exact.terms].index(True)
    a, b = (joined(made.terms[number].target) for made in (exact, measured))
    a, b = (x if x.ndim == 1 else x[:, 0] for x in (a, b))
    unit = 1.0 if name == "oscillations" else float(a.square().mean().sqrt())
    # Of 1200 errors: a standard deviation of it is 2 %.
    assert float((b - a).std()) == pytest.approx(0.02 * unit, rel=0.08)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"clients": 0}, "at least 1 site"),
        ({"points": 0}, "at least 1 site with 1 point"),
        ({"noise": -0.1}, "at least 0; got -0.1"),
        ({"heterogeneity": 1.5}, "0, all sites alike, to 1"),
    ],
)
def test_what_no_family_can_have_is_refused(
    name: str, option: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        problems.load(name, **option)


@pytest.mark.parametrize("part", ["magnitudes", "layer", "inputs"])
def test_parts_of_a_network_are_each_site_s_own(part: oscillations.Part) -> None:
    known = {"magnitudes": 4, "layer": 51, "inputs": 2}
    alone = small("oscillations", equation=False, personal=part)
    both = small("oscillations", personal=part)
    for problem, more in ((alone, 0), (both, 2)):
        assert problem.personal is not None
        assert len(problem.personal.mine) == known[part] + more
        assert problem.network.size == alone.network.size
    assert [term.name for term in alone.terms] == ["data"]


def test_one_calibrated_gauge_fixes_field_offsets_and_gains() -> None:
    problem = small("gauges", noise=0.0)
    a, b = 0.3, 2.0
    for shard in problem.shards():
        (rows,) = shard.rows
        true = problem.true(shard.client)
        gain = true["gain"] / b
        own = torch.tensor([true["offset"] - a * gain, gain], dtype=torch.float64)
        x = rows.points.clone().requires_grad_()
        u = a + b * gauges.field(x)[:, None]
        read = Nested(torch.cat([u, own.expand(len(x), -1)], 1), x)
        jet = Jet(read, problem.coordinates, problem.outputs, problem.unknowns)
        off = gauges.reading(jet, Row(x, rows.target, problem.coordinates))
        off = off.detach().abs()
        if shard.client:
            assert float(off.max()) < 1e-14
        else:
            assert float(off.max()) > 0.1


@pytest.mark.slow
def test_offsets_and_gains_are_found() -> None:
    problem = problems.load("gauges")
    method = methods.load("fipa", policy="levenberg_marquardt")
    result = run(problem, method, rounds=30)
    for client, found in _numbers(problem, result).items():
        for name, value in problem.true(client).items():
            assert found[name] == pytest.approx(value, abs=0.02)  # measured 0.006


def _numbers(problem: Problem, result: Result) -> dict[int, dict[str, float]]:
    assert problem.personal is not None
    theta, found = result.theta, dict[int, dict[str, float]]()
    for client, own in result.personal.items():
        values = problem.personal.at(own).numbers(theta).tolist()
        found[client] = dict(zip(problem.unknowns, values, strict=True))
    return found


def henderson(
    x: NDArray[np.float64], y: NDArray[np.float64], z: NDArray[np.float64], ratio: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fixed and random effects by the mixed-model equations, densely."""
    both = np.hstack([x, z])
    left = both.T @ both
    left[x.shape[1] :, x.shape[1] :] += ratio * np.eye(z.shape[1])
    found = np.linalg.solve(left, both.T @ y)
    return found[: x.shape[1]], found[x.shape[1] :]


def design(firms: int) -> tuple[NDArray[np.float64], ...]:
    """Covariates and 1, investments, and the firms of the rows, one column each."""
    x, y = grunfeld.measured()
    rows = [len(part) for part in x[:firms]]
    covariates = torch.cat(x[:firms]).numpy()
    covariates = np.column_stack([covariates, np.ones(len(covariates))])
    return covariates, torch.cat(y[:firms]).numpy(), np.repeat(np.eye(firms), rows, 0)


def fitted(**options: object) -> tuple[Tensor, Tensor]:
    """Shared coefficients, and the numbers of each firm [firms, q]."""
    problem = problems.load("grunfeld", **options)
    # The lowest loss, as greedy has it, tells half as many digits.
    result = run(problem, methods.load("fipa", policy="natural"), rounds=8)
    return result.theta, torch.stack([*result.personal.values()])


@pytest.mark.parametrize("slope", [False, True])
def test_effects_are_those_of_the_mixed_model_equations(slope: bool) -> None:
    x, y, firm = design(11)
    z = np.hstack([firm, firm * x[:, 1:2]]) if slope else firm
    shared, own = henderson(x, y, z, 0.5)
    found, each = fitted(ratio=0.5, slope=slope)
    # Measured 2.4e-11 with the slopes, below which the loss tells nothing; else 4e-15.
    np.testing.assert_allclose(found.numpy(), shared, rtol=0, atol=1e-10)
    np.testing.assert_allclose(each.T.flatten().numpy(), own, rtol=0, atol=1e-10)


def test_ten_firms_have_the_published_coefficients() -> None:
    """B. H. Baltagi, Econometric Analysis of Panel Data, 3rd ed., 2005, chapter 2.

    Random effects of Swamy and Arora: deviations 52.77 of the error and 84.20 between
    the firms, in million dollars; 0.110 and 0.308, the intercept -57.83.
    """
    (market, capital, level), _ = fitted(clients=10, ratio=(52.77 / 84.20) ** 2)
    assert float(market) == pytest.approx(0.110, abs=5e-4)
    assert float(capital) == pytest.approx(0.308, abs=5e-4)
    assert 1000 * float(level) == pytest.approx(-57.83, abs=0.01)


@pytest.mark.slow
def test_effects_are_those_of_statsmodels() -> None:
    mixed = pytest.importorskip("statsmodels.api").MixedLM
    x, y, firm = design(11)
    model = mixed(10 * y, x, groups=firm.argmax(1)).fit(reml=True)
    ratio = float(model.scale / np.asarray(model.cov_re)[0, 0])
    assert ratio == pytest.approx(0.375, abs=1e-3)  # the default
    shared, own = fitted(ratio=ratio)
    effects = [float(np.asarray(model.random_effects[m])[0]) for m in range(11)]
    np.testing.assert_allclose(10 * shared.numpy(), model.fe_params, rtol=0, atol=1e-11)
    np.testing.assert_allclose(10 * own[:, 0].numpy(), effects, rtol=0, atol=1e-11)
