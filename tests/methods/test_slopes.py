"""The gradient beside the sketch, lazy sketches, curvature pairs; priors in FIPA."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import classes, theta

from fedsciml import methods, problems, run
from fedsciml.analysis import gradient_norm
from fedsciml.federation import InProcess
from fedsciml.federation.inprocess import LocalClients
from fedsciml.linalg.ranks import Fixed
from fedsciml.linalg.sketch import from_jacobian
from fedsciml.linalg.solve import spectrum
from fedsciml.methods import Method, Record
from fedsciml.methods._base import conclude
from fedsciml.methods._slopes import Glance, Pairs, Slope, Slopes
from fedsciml.problem import Problem
from fedsciml.residual import System

STRAIGHT = "natural:curves=false"
"""One probe a round."""


def stepped(problem: Problem, **options: object) -> tuple[Any, Any, torch.Tensor]:
    """The state after one round from theta, its info, and theta."""
    method = methods.load("fipa", **options).bound(problem)
    at = theta(problem)
    clients = LocalClients(problem, method)
    state, info = conclude(method.round(method.start(at, 0)), clients.exchange)
    return state, info, at


@pytest.mark.parametrize("gradient", [False, True])
def test_a_full_sketch_with_a_prior_gives_the_dense_damped_step(gradient: bool) -> None:
    problem = classes(1e-2)
    policy = "line_search:damping=1e-2,cutoff=0"
    given = {"rank": "cutoff", "sketch": "svd", "basis": "own", "policy": policy}
    state, info, at = stepped(problem, **given, gradient=gradient)
    linear = System(problem, problem.pooled()).linearise(at)
    j = linear.jacobian()
    eye = torch.eye(len(at), dtype=at.dtype)
    slope = linear.gradient + 1e-2 * at
    dense = -torch.linalg.solve(j.mT @ j + (1e-2 + 1e-2) * eye, slope)
    assert info.step > 0
    # With the gradient beside it, the least directions count as what was left out.
    close = 1e-3 if gradient else 1e-9
    miss = float((state.at - at - info.step * dense).norm() / dense.norm())
    assert miss <= close * info.step


def test_a_federation_with_a_prior_finds_the_minimum_of_loss_and_prior() -> None:
    problem = classes(1e-2)
    result = run(problem, methods.load("fipa", basis="own", policy="greedy"), 25)
    found = gradient_norm(problem, result.theta)
    assert found is not None
    assert found < 1e-2  # of 0.6 at the start; rows are Gauss-Newton's alone
    loss = System(problem, problem.pooled()).loss(result.theta)
    penalty = problem.prior / 2 * float(result.theta @ result.theta)
    assert result.loss == pytest.approx(loss + penalty, rel=1e-12)


def test_a_prior_costs_no_bytes() -> None:
    for basis in ("own", "shared"):
        sizes = []
        for prior in (0.0, 1e-3):
            problem = problems.load("heat", points=0.2, prior=prior)
            method = methods.load("fipa", basis=basis, rank="6", policy=STRAIGHT)
            history = run(problem, method, 2).history
            sizes.append(history[0].bytes_up)
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "options",
    [{"basis": "own"}, pytest.param({}, marks=pytest.mark.slow), {"upload": "sums"}],
)
def test_counts_with_a_prior_have_the_minimum_of_the_pooled_rows(
    options: dict[str, object],
) -> None:
    if "upload" in options:
        options = {**options, "basis": "shared"}
    problem = problems.load("randhie", prior=1e-2)
    result = run(problem, methods.load("fipa", **options), 9)
    found = gradient_norm(problem, result.theta)
    assert found is not None
    assert found < 1e-11


@pytest.mark.slow
@pytest.mark.parametrize("basis", ["own", "shared"])
def test_an_equation_with_a_prior_ends_where_centralised_gauss_newton_does(
    basis: str,
) -> None:
    problem = problems.load("heat", points=0.2, prior=1e-4)
    result = run(problem, methods.load("fipa", basis=basis), 40)
    central = run(problem, methods.load("gauss_newton"), 40)
    # Slowly, as with a prior the least residual is not zero: 3 % were measured.
    assert result.loss == pytest.approx(central.loss, rel=0.1)


def test_lazy_sketches_send_gradients_alone_in_between() -> None:
    problem, sizes = classes(1e-3), []
    result = run(problem, methods.load("fipa", rank="2", every=3), 7)
    before = 0
    for line in result.history:
        sizes.append((line.bytes_up - before) / 8 / problem.clients)
        before = line.bytes_up
    p = problem.network.size
    assert [size > 2 * p for size in sizes] == [k % 3 == 0 for k in range(7)]
    assert [line.ranks != () for line in result.history] == [
        k % 3 == 0 for k in range(7)
    ]
    assert all(p < size for size in sizes)
    assert result.loss < 0.6 * result.history[0].loss


def test_a_lazy_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    problem = classes(1e-3)
    method = methods.load("fipa", rank="2", every=4)
    whole = run(problem, method, 6)
    run(problem, method, 3, out=tmp_path / "run")
    resumed = run(problem, method, 6, out=tmp_path / "run", resume=True)
    assert resumed.theta_sha256() == whole.theta_sha256()


def test_lazy_losses_are_those_of_the_model() -> None:
    problem = classes(1e-3)
    result = run(problem, methods.load("fipa", rank="2", every=2), 5)
    system = System(problem, problem.pooled())
    penalty = problem.penalty(result.theta)
    assert result.loss == pytest.approx(system.loss(result.theta) + penalty)


class Lying(LocalClients):
    """Client 1 tells of another gradient."""

    def ask(self, ask: Record, *others: Any, **more: Any) -> Any:  # noqa: ANN401
        answers = super().ask(ask, *others, **more)
        if isinstance(ask, Glance):
            answer = answers[1].answer
            assert isinstance(answer, Slope)
            changed = replace(answer, gradient=-3 * answer.gradient)
            answers[1] = answers[1]._replace(answer=changed)
        return answers


class LyingBackend(InProcess):
    """The same, as a way to clients."""

    def connect(self, problem: Problem, method: Method, *how: Any) -> LocalClients:  # noqa: ANN401
        return Lying(problem, method, *how)


def test_a_gradient_that_contradicts_the_losses_is_refused() -> None:
    problem = classes(1e-3)
    method = methods.load("fipa", rank="2", every=3)
    with pytest.raises(ValueError, match="its gradient predicts a change"):
        run(problem, method, 3, backend=LyingBackend())


def test_a_client_without_memory_gets_everybody_to_sketch_again() -> None:
    problem = classes(1e-3)
    method = methods.load("fipa", rank="2", every=5).bound(problem)
    clients = LocalClients(problem, method)
    state, _ = conclude(method.round(method.start(theta(problem), 0)), clients.exchange)
    clients.memories[0] = None
    asked: list[str] = []

    def answer(ask: Record) -> dict[int, Record]:
        asked.append(type(ask).__name__)
        return clients.exchange(ask)

    conclude(method.round(state), answer)
    assert asked == ["Glance", "Opening", "Probe"]


def test_pairs_of_a_quadratic_make_its_newton_step() -> None:
    """BFGS with p pairs of a quadratic of p parameters is Newton (Nocedal 1980)."""
    p = 4
    a = torch.diag(torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=torch.float64))
    none = torch.zeros(0, p, dtype=a.dtype)
    x = torch.ones(p, dtype=a.dtype)
    pairs = Pairs(none, none, x, a @ x)
    for k in range(p):
        x = x.clone()
        x[k] -= 0.5
        pairs = pairs.joined(x, a @ x, 10)
    found = methods.gradient_only.two_loop(a @ x, pairs.s, pairs.y)  # type: ignore[attr-defined]
    torch.testing.assert_close(found, x)


def test_a_step_that_was_not_made_forgets_the_pairs() -> None:
    x, g = torch.ones(3), torch.ones(3)
    pairs = Pairs(torch.ones(2, 3), torch.ones(2, 3), x, g)
    assert len(pairs.joined(x, g, 10).s) == 0
    assert len(pairs.joined(x + 1, g + 1, 10).s) == 3
    assert len(pairs.joined(x + 1, g + 1, 2).s) == 2
    assert len(pairs.joined(x + 1, g + 1, 0).s) == 0


def test_a_slow_run_is_not_called_converged() -> None:
    """To the sketches' model its steps may look like ones that raise the loss."""
    result = run(classes(1e-3), methods.load("fipa", rank="1", gradient=True), 40)
    told = [line.promised for line in result.history]
    assert all(part is not None and part > 0 for part in told)
    slope = gradient_norm(classes(1e-3), result.theta)
    assert slope is not None
    assert (result.outcome.state == "converged") <= (slope < 1e-6)


def test_few_leading_rows_are_those_of_the_full_decomposition() -> None:
    problem = classes(1e-3)
    linear = System(problem, problem.pooled()).linearise(theta(problem))
    whole = spectrum(from_jacobian(linear.jacobian(), linear.residual))
    method = methods.load("fipa", rank="3", gradient=True).bound(problem)
    one = replace(problem, terms=problem.terms)
    clients = LocalClients(one, replace(method, pooled=True))
    state, info = conclude(
        method.round(method.start(theta(problem), 0)), clients.exchange
    )
    assert info.ranks == (3,)
    with_prior = (whole.top**2 + problem.prior) ** 0.5
    assert state.top == pytest.approx(with_prior, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every=0"),
        ({"gradient": True, "history": -1}, "history=-1"),
        ({"gradient": True, "local": "adam"}, "local step"),
        ({"gradient": True, "basis": "shared"}, "basis shared cannot be given"),
        ({"gradient": False, "history": 5}, "history cannot be given"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        methods.load("fipa", **options)


def test_local_training_and_a_prior_are_refused_in_words() -> None:
    problem = classes(1e-3)
    with pytest.raises(ValueError, match="has a prior"):
        run(problem, methods.load("fipa", local="adam", basis="own"), 1)


def test_classes_of_a_network_that_is_not_small_get_lazy_sketches_by_default() -> None:
    large, small = problems.load("digits", size=60), problems.load("digits", width=0)
    assert isinstance(methods.load("fipa").bound(large), Slopes)
    assert not isinstance(methods.load("fipa").bound(small), Slopes)
    for options in ({"rank": "cutoff"}, {"basis": "own"}, {"gradient": False}):
        assert not isinstance(methods.load("fipa", **options).bound(large), Slopes)
    often = {"gradient": True}, {"history": 3}, {"every": 5}, {"every": 1}
    found = [methods.load("fipa", **options) for options in often]
    assert all(isinstance(made, Slopes) for made in found)
    assert [made.every for made in found] == [1, 8, 5, 1]  # type: ignore[attr-defined]
    assert all(made.rank == Fixed(10) for made in found)
