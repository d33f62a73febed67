"""Likelihoods against autograd, dense curvature, finite differences and scipy."""

import math
from collections.abc import Callable

import pytest
import torch
from cases import theta
from torch import Generator, Tensor
from torch.autograd.functional import hessian
from torch.func import jacrev

from fedsciml import likelihoods, methods, run
from fedsciml.analysis import gradient_norm
from fedsciml.collocation import explicit, strips
from fedsciml.likelihoods import Likelihood
from fedsciml.network import MLP, ModuleNetwork
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import System

N = 7


def _drawn(q: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(
        q, N, generator=Generator().manual_seed(q), dtype=torch.float64
    )


SIDES = torch.tensor([0, 0, -1, 1, -1, 1, 0], dtype=torch.float64)
VALUES = torch.stack([_drawn(1)[0], SIDES], 1)
OLSEN = torch.stack([_drawn(1)[0], 0.5 + torch.arange(N) / N])

CASES: dict[str, tuple[Likelihood, Tensor, Tensor | None]] = {
    "gaussian": (likelihoods.Gaussian(), _drawn(2), None),
    "categorical": (
        likelihoods.Categorical(),
        _drawn(4),
        torch.tensor([0, 3, 2, 1, 1, 0, 2], dtype=torch.float64),
    ),
    "bernoulli": (
        likelihoods.Bernoulli(),
        _drawn(1),
        torch.tensor([0, 1, 1, 0, 1, 0, 0], dtype=torch.float64),
    ),
    "poisson": (
        likelihoods.Poisson(),
        _drawn(1, 1.0),
        torch.tensor([0, 3, 1, 0, 7, 2, 1], dtype=torch.float64),
    ),
    "rate": (
        likelihoods.Poisson(),
        _drawn(1, 1.0),
        torch.stack([torch.arange(N) % 4, 0.5 + torch.arange(N)], 1).double(),
    ),
    "huber": (likelihoods.Huber(0.7), _drawn(2), None),
    "student": (likelihoods.StudentT(0.7, 3.0), _drawn(2), None),
    "censored": (likelihoods.Censored(0.8), _drawn(1), VALUES),
    "censored_scale": (likelihoods.Censored(None), OLSEN, VALUES),
}


def matrix(told: Likelihood, z: Tensor, y: Tensor | None) -> Tensor:
    """S^T of each row, [q', q, n], by what it does to unit vectors."""
    units = torch.eye(len(z), dtype=z.dtype)[:, :, None].expand(-1, -1, N)
    return torch.stack([told.transposed_root(z, y, e) for e in units], 1)


@pytest.mark.parametrize("name", CASES)
def test_scores_are_the_derivatives_of_half_deviances(name: str) -> None:
    told, z, y = CASES[name]
    live = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad(told.half_deviance(live, y).sum(), live)
    torch.testing.assert_close(told.score(z, y), expected, rtol=1e-12, atol=1e-13)
    h = 1e-6
    for k in range(len(z)):
        step = torch.zeros_like(z)
        step[k] = h
        up, down = told.half_deviance(z + step, y), told.half_deviance(z - step, y)
        difference = (up - down) / (2 * h)  # h^2 of the third derivative
        torch.testing.assert_close(difference, expected[k], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_half_deviances_are_not_negative(name: str) -> None:
    told, z, y = CASES[name]
    assert told.wrong(z, y) is None
    assert bool((told.half_deviance(z, y) >= 0).all())


@pytest.mark.parametrize("name", CASES)
def test_root_times_pearson_residual_is_the_score(name: str) -> None:
    told, z, y = CASES[name]
    back = torch.einsum("ajn,an->jn", matrix(told, z, y), told.pearson(z, y))
    torch.testing.assert_close(back, told.score(z, y), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name][0].exact])
def test_root_squared_is_the_curvature(name: str) -> None:
    told, z, y = CASES[name]
    s = matrix(told, z, y)
    found = torch.einsum("ajn,akn->njk", s, s)
    for i in range(N):
        own = None if y is None else y[i : i + 1]

        def one(v: Tensor, own: Tensor | None = own) -> Tensor:
            return told.half_deviance(v[:, None], own).sum()

        expected = hessian(one, z[:, i])
        torch.testing.assert_close(found[i], expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["huber", "student"])
def test_weights_of_iterated_least_squares_majorise_the_loss(name: str) -> None:
    """l(z') <= l(z) + dl/dz (z' - z) + H (z' - z)^2 / 2 (Lange 2016)."""
    told, _, _ = CASES[name]
    z, other = _drawn(1, 3.0), _drawn(1, 3.0).flip(1)
    move = other - z
    bound = told.score(z, None) * move + told.information(z, None) * move**2 / 2
    bound = told.half_deviance(z, None) + bound.sum(0)
    assert bool((told.half_deviance(other, None) <= bound + 1e-12).all())


@pytest.mark.parametrize("name", CASES)
def test_bounded_residuals_are_no_longer_than_the_loss_allows(name: str) -> None:
    told, z, y = CASES[name]
    squares = told.pearson(z, y).square().sum(0)
    if told.bounded:
        assert bool((squares <= 2 * told.half_deviance(z, y) + 1e-12).all())


def test_a_confident_wrong_class_has_a_finite_residual_and_its_gradient() -> None:
    told, y = likelihoods.Categorical(), torch.zeros(1, dtype=torch.float64)
    z = torch.tensor([[-800.0], [0.0], [3.0]], dtype=torch.float64)
    r = told.pearson(z, y)
    assert bool(r.isfinite().all())
    units = torch.eye(3, dtype=z.dtype)[:, :, None]
    s = torch.stack([told.transposed_root(z, y, e) for e in units], 1)
    back = torch.einsum("ajn,an->jn", s, r)
    # To the root of a rounding unit, down to which q is followed.
    torch.testing.assert_close(back, told.score(z, y), rtol=0, atol=1.5e-8)


def test_counts_of_zero_and_huge_means_stay_numbers() -> None:
    told = likelihoods.Poisson()
    z = torch.tensor([[-800.0, 600.0]], dtype=torch.float64)
    y = torch.zeros(2, dtype=torch.float64)
    assert float(told.half_deviance(z, y)[0]) == 0
    assert bool(told.pearson(z, y).isfinite().all())


def test_an_exposure_is_an_offset_of_the_predictor() -> None:
    told, (_, z, y) = likelihoods.Poisson(), CASES["rate"]
    assert y is not None
    offset = z + y[:, 1].log()
    for function in (told.half_deviance, told.score, told.pearson):
        torch.testing.assert_close(function(z, y), function(offset, y[:, 0]))


def test_a_scale_below_zero_has_an_infinite_loss() -> None:
    told = likelihoods.Censored(None)
    z = torch.tensor([[0.0], [-1.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert float(told.half_deviance(z, y)) == math.inf


def test_deviances_of_large_counts_keep_their_digits() -> None:
    """y (e^d - 1 - d) for d = log(m / y): its series, of terms without rounding."""
    y, d = torch.tensor([1e12], dtype=torch.float64), 1e-6
    found = likelihoods.Poisson().half_deviance((y.log() + d)[None], y)
    expected = y * (d**2 / 2 + d**3 / 6)
    # d = z - log y is known to 28 rounding units of 1 in 1e-6.
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("mean", [4.0, 10.0, 20.0])
def test_counts_of_any_size_are_fitted_from_zero(mean: float) -> None:
    """The first Newton step is exp(mean) too long."""
    x = torch.linspace(0, 1, 90, dtype=torch.float64)[:, None]
    y = torch.poisson(torch.exp(mean + x[:, 0]), Generator().manual_seed(0))

    def log_mean(u: Jet, row: Row) -> Tensor:
        return u.value

    term = Term("counts", log_mean, x, target=y, likelihood=likelihoods.Poisson())
    problem = Problem("counts", MLP((1, 1)), [term], strips([0, 0.3, 0.6, 1]))
    result = run(problem, methods.load("fipa"), 30)
    slope = gradient_norm(problem, result.theta)
    assert slope is not None
    assert slope < 1e-13 * float(y.mean())  # measured at most 9e-16
    assert result.outcome.state == "converged"


@pytest.mark.parametrize("z", [-700.0, -25.0, -20.001, 0.0, 20.001, 25.0, 700.0])
def test_yes_or_no_is_exact_however_sure(z: float) -> None:
    exact = math.log1p(math.exp(-abs(z)))  # of the sign that is likelier
    found = likelihoods.Bernoulli().half_deviance(
        torch.tensor([[z, z]], dtype=torch.float64),
        torch.tensor([0, 1], dtype=torch.float64),
    )
    expected = torch.tensor([max(z, 0), max(-z, 0)], dtype=torch.float64) + exact
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_curvature_far_beyond_a_limit_is_that_of_squares(dtype: torch.dtype) -> None:
    """h(a) = 1 - 1 / a^2 + O(a^-4): a measurement at the limit, almost."""
    a = torch.tensor([50.0, 100.0], dtype=dtype)
    y = torch.stack([torch.zeros_like(a), -torch.ones_like(a)], 1)
    root = likelihoods.Censored().transposed_root(a[None], y, torch.ones_like(a)[None])
    expected = (1 - 1 / a**2)[None]
    # h = g (g + a) cancels: a^2 rounding units.
    eps = 2e4 * torch.finfo(dtype).eps
    torch.testing.assert_close(root**2, expected, rtol=max(eps, 1e-6), atol=0)


def test_a_measurement_beyond_all_numbers_has_an_infinite_loss() -> None:
    """Its score is infinite, too: a finite loss would contradict it."""
    z = torch.tensor([[1e200, math.inf]], dtype=torch.float64)
    found = likelihoods.Censored().half_deviance(z, torch.zeros_like(z).mT.repeat(1, 2))
    assert found.tolist() == [math.inf, math.inf]


def test_a_perfect_and_a_lucky_classifier_are_told_apart_by_calibration() -> None:
    told, y = likelihoods.Categorical(), torch.tensor([0.0, 1.0])
    sure = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    vague = torch.tensor([[0.1, 0.0], [0.0, 0.1]])
    assert told.metrics(sure, y) == pytest.approx(
        {"deviance": 0, "accuracy": 1, "calibration": 0}, abs=1e-6
    )
    off = 1 - math.exp(0.1) / (1 + math.exp(0.1))
    assert told.metrics(vague, y)["calibration"] == pytest.approx(off)
    assert told.confusion(sure, y).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("told", "z", "y", "message"),
    [
        (likelihoods.Poisson(), 1, None, r"target, which is missing"),
        (likelihoods.Poisson(), 1, [-1.0], "a target is negative"),
        (likelihoods.Poisson(), 1, [[1.0, 0.0]], "positive exposures"),
        (likelihoods.Poisson(), 2, [1.0], "one predictor a row, but .* returns 2"),
        (likelihoods.Bernoulli(), 1, [2.0], "targets 0 and 1"),
        (likelihoods.Categorical(), 3, [3.0], "targets 0 to 2"),
        (likelihoods.Categorical(), 1, [0.0], "at least two predictors"),
        (likelihoods.Censored(1.0), 1, [1.0], r"targets \[n, 2\]"),
        (likelihoods.Censored(None), 1, [[1.0, 0.0]], r"takes 2 predictor\(s\)"),
        (likelihoods.Censored(1.0), 1, [[1.0, 2.0]], "sides -1, 0 and 1"),
    ],
)
def test_observations_that_cannot_be_are_named(
    told: Likelihood, z: int, y: list[float] | None, message: str
) -> None:
    def predictors(u: Jet, row: Row) -> tuple[Tensor, ...]:
        return (u.value,) * z

    with pytest.raises(ValueError, match=message):
        Problem(
            "wrong",
            MLP((1, 4, 1)),
            [
                Term(
                    "rows",
                    predictors,
                    [torch.zeros(1, 1)],
                    target=None if y is None else torch.tensor([*y]),
                    likelihood=told,
                )
            ],
            explicit(1),
        )


@pytest.mark.parametrize("make", [likelihoods.Huber, likelihoods.StudentT])
def test_scales_are_positive(make: Callable[..., Likelihood]) -> None:
    with pytest.raises(ValueError, match="positive scale"):
        make(scale=0.0)


def several(module: bool) -> Problem:
    """Classes, counts and squares of one network, by jets or by autograd."""
    x = _drawn(2, 1.0).mT.contiguous()

    def logits(u: Jet, row: Row) -> Tensor:
        return u.values[:, :3]

    def log_mean(u: Jet, row: Row) -> Tensor:
        return u.values[:, 0] + row.x / 3

    def given(u: Jet, row: Row) -> Tensor:
        return u.values[:, 1] - row.target

    network: MLP | ModuleNetwork = MLP((2, 5, 3))
    if module:
        torch.manual_seed(0)
        net = torch.nn.Sequential(
            torch.nn.Linear(2, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3)
        )
        network = ModuleNetwork(net)
    classes = CASES["categorical"][2]
    assert classes is not None
    counted = likelihoods.Poisson()
    terms = [
        Term("classes", logits, x, classes % 3, likelihood=likelihoods.Categorical()),
        Term("counts", log_mean, x, CASES["poisson"][2], 2.0, likelihood=counted),
        Term("values", given, x, 0.5),
    ]
    return Problem("several", network, terms, STRIPS, "xy", ("a", "b", "c"))


STRIPS = strips([-9, 0, 9])


@pytest.mark.parametrize("module", [False, True])
def test_rows_are_the_dense_gauss_newton_matrix_and_the_gradient(module: bool) -> None:
    problem = several(module)
    system, at = System(problem, problem.pooled()), theta(problem)
    linear = system.linearise(at)

    def predictors(t: Tensor) -> list[Tensor]:
        values = problem.network(t, system.blocks[0].rows.points)
        x = system.blocks[0].rows.points[:, 0]
        return [values.mT, (values[:, 0] + x / 3)[None], (values[:, 1] - 0.5)[None]]

    def loss(t: Tensor) -> Tensor:
        parts = zip(problem.terms, predictors(t), linear.blocks, strict=True)
        total = torch.zeros((), dtype=t.dtype)
        for number, (term, z, _) in enumerate(parts):
            y = problem.target_of(number)
            total = total + term.weight / N * term.likelihood.half_deviance(z, y).sum()
        return total

    gradient = jacrev(loss)(at)
    assert linear.loss == pytest.approx(float(loss(at)), rel=1e-13)
    assert float(system.losses(at[None])[0]) == pytest.approx(linear.loss, rel=1e-13)
    torch.testing.assert_close(linear.gradient, gradient, rtol=1e-11, atol=1e-13)
    jacobians = jacrev(lambda t: tuple(predictors(t)))(at)
    dense = torch.zeros(len(at), len(at), dtype=at.dtype)
    for number, (z, dz) in enumerate(zip(predictors(at), jacobians, strict=True)):
        term = problem.terms[number]
        for i in range(N):
            y = problem.target_of(number)
            own = None if y is None else y[i : i + 1]

            def one(v: Tensor, own: Tensor | None = own, term: Term = term) -> Tensor:
                return term.likelihood.half_deviance(v[:, None], own).sum()

            curvature = hessian(one, z[:, i])
            dense += term.weight / N * dz[:, i].mT @ curvature @ dz[:, i]
    j = linear.jacobian()
    torch.testing.assert_close(j.mT @ j, dense, rtol=1e-10, atol=1e-13)
    v = torch.linspace(-1, 1, len(at), dtype=at.dtype)
    torch.testing.assert_close(linear.jvp(v), j @ v, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("module", [False, True])
def test_residuals_with_a_frozen_root_change_as_the_rows_say(module: bool) -> None:
    problem = several(module)
    system, at = System(problem, problem.pooled()), theta(problem)
    linear, step = system.linearise(at), 1e-6 * theta(problem, 1)
    losses, residuals = system.judged(torch.stack([at, at + step]), at)
    torch.testing.assert_close(residuals[0], linear.residual)
    change = residuals[1] - residuals[0]
    expected = linear.jvp(step)
    assert float((change - expected).norm()) < 1e-4 * float(expected.norm())
    slope = float(linear.gradient @ step)
    assert float(losses[1] - losses[0]) == pytest.approx(slope, rel=1e-3)


def test_clients_losses_gradients_and_gramians_add_up() -> None:
    problem = several(False)
    at = theta(problem)
    whole = System(problem, problem.pooled()).linearise(at)
    parts = [System(problem, shard).linearise(at) for shard in problem.shards()]
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-14)
    gradient = sum(part.gradient for part in parts)
    torch.testing.assert_close(gradient, whole.gradient, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("upload", ["rows", "own"])
def test_a_federation_finds_the_centralised_minimum(upload: str) -> None:
    problem = several(False)
    options = {"basis": "own"} if upload == "own" else {}
    found = run(problem, methods.load("fipa", **options), 12)
    central = run(problem, methods.load("gauss_newton"), 12)
    assert not any(line.dropped for line in found.history)
    assert found.loss == pytest.approx(central.loss, rel=1e-3)


def test_choices_are_counted_by_class_and_by_probability() -> None:
    for name in ("categorical", "bernoulli"):
        told, z, y = CASES[name]
        assert y is not None
        choice = z.argmax(0) if len(z) > 1 else (z[0] > 0).long()
        pairs = list(zip(y.long().tolist(), choice.tolist(), strict=True))
        counts, bins = told.confusion(z, y), told.reliability(z, y)
        assert counts is not None
        assert bins is not None
        c = max(len(z), 2)
        expected = [[pairs.count((i, j)) for j in range(c)] for i in range(c)]
        assert counts.tolist() == expected
        assert told.classes(y).tolist() == counts.sum(1).tolist()
        right = sum(i == j for i, j in pairs)
        assert float(bins.right @ bins.rows.double()) == pytest.approx(right)
        assert int(bins.rows.sum()) == N
        assert (bins.told >= 1 / c).all()
    told, z, y = CASES["poisson"]
    assert y is not None
    assert (told.classes(y), told.confusion(z, y), told.reliability(z, y)) == (
        None,
    ) * 3
