"""The laws: what FIPA's step is when nothing is truncated."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from cases import CASES, draw, small, theta
from cases import given as data
from exchanges import answering, begin, opened, play, rounds, second
from reference import from_gramian, gauss_newton, relative
from torch import Tensor

from fedsciml import methods, problems
from fedsciml.collocation import strips
from fedsciml.linalg.ranks import Fixed as Rank
from fedsciml.methods import Local
from fedsciml.methods._fipa import Fipa, Sketched
from fedsciml.methods.fedavg import FedAvg
from fedsciml.network import MLP
from fedsciml.policies.fixed import Fixed
from fedsciml.policies.line_search import LineSearch
from fedsciml.problem import Problem, Term
from fedsciml.residual import Linearisation, System

ALL = [*CASES, *problems.names()]
"""Every small case and every problem of the suite."""


@cache
def load(name: str) -> Problem:
    """A problem with few points."""
    return CASES[name]() if name in CASES else small(name)


@cache
def whole(name: str) -> tuple[Linearisation, Tensor]:
    """The pooled rows of a problem linearised away from the start, and J."""
    problem = load(name)
    linear = System(problem, problem.pooled()).linearise(theta(problem))
    return linear, linear.jacobian()


def sketches(problem: Problem, method: Fipa) -> list[Sketched]:
    """The clients' at theta."""
    return list(opened(problem, method).answers.values())


def step(problem: Problem, method: Fipa, sent: list[Sketched] | None = None) -> Tensor:
    """The full step that a method with one candidate proposes at theta."""
    sent = sketches(problem, method) if sent is None else sent
    probe = second(method, begin(problem, method), dict(enumerate(sent)))
    (proposed,) = probe.steps
    return proposed


def exact(damping: float, cutoff: float = 0.0) -> Fipa:
    """Full sketches and exact local Gauss-Newton steps."""
    return Fipa(LineSearch(damping, cutoff), sketch="svd")


@pytest.mark.parametrize(
    "relative_mu", [1e-6, pytest.param(1e-3, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ALL)
def test_full_rank_fipa_is_the_central_levenberg_marquardt_step(
    name: str, relative_mu: float
) -> None:
    linear, jacobian = whole(name)
    mu = relative_mu * float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    found = step(load(name), exact(mu))
    # Rounding of J, 1e-16, over sqrt(1e-6). Measured at most 1e-12.
    assert relative(found, gauss_newton(jacobian, linear.residual, mu)) < 1e-10


@pytest.mark.parametrize("name", ALL)
def test_undamped_full_rank_fipa_solves_the_central_normal_equations(name: str) -> None:
    linear, jacobian = whole(name)
    r, top = linear.residual, float(torch.linalg.matrix_norm(jacobian, 2))
    found = step(load(name), exact(0.0, 1e-10))
    # What is kept is known to 1e-16 / 1e-10. Measured at most 2e-8.
    moved, central = jacobian @ found, gauss_newton(jacobian, r, 0.0, 1e-10)
    assert relative(moved, jacobian @ central) < 1e-6
    # Rounding in J D, and what the cut-off leaves out.
    bound = top * (1e-14 * top * float(found.norm()) + 1e-10 * float(r.norm()))
    assert float((jacobian.mT @ (moved + r)).norm()) < bound


@pytest.mark.parametrize("name", ALL)
def test_sketches_have_the_normal_equations_of_the_whole(name: str) -> None:
    linear, jacobian = whole(name)
    sent = sketches(load(name), exact(0.0))
    factors = torch.cat([sketch.factor for sketch in sent])
    targets = torch.cat([sketch.target for sketch in sent])
    assert sum(sketch.loss for sketch in sent) == pytest.approx(linear.loss, rel=1e-14)
    assert relative(-factors.mT @ targets, linear.gradient) < 1e-13
    # J^T J is compared by what it does: it is large.
    v = torch.linspace(-1, 1, len(linear.gradient), dtype=torch.float64)
    assert relative(factors.mT @ (factors @ v), jacobian.mT @ (jacobian @ v)) < 1e-13


@pytest.mark.parametrize("name", CASES)
def test_fipa_is_the_sum_of_the_published_formula(name: str) -> None:
    """H^+ sum H_m delta_m with dense p x p gramians and exact damped local steps."""
    problem, start = load(name), theta(load(name))
    mu, local = 1.0, Local("gauss_newton", 1, damping=0.1)
    gramian, right = 0.0, 0.0
    for shard in problem.shards():
        linear = System(problem, shard).linearise(start)
        j = linear.jacobian()
        h = j.mT @ j
        gramian = gramian + h
        right = right + h @ from_gramian(j, linear.residual, 0.1)
    ridge = mu * torch.eye(len(start)).double()
    expected = torch.linalg.solve(gramian + ridge, right)
    method = Fipa(LineSearch(mu, 0.0), sketch="svd", local=local)
    assert relative(step(problem, method), expected) < 1e-10


@pytest.mark.parametrize("sketch", ["svd", "range"])
@pytest.mark.parametrize("name", ["scalar", "system", "module", "allen_cahn"])
def test_one_client_takes_its_own_gauss_newton_step(name: str, sketch: str) -> None:
    alone = replace(load(name), partition=strips([0, 1]))
    options = {"sketch": sketch, "policy": "line_search:damping=1e-4"}
    fipa = methods.load("fipa", **options)
    central = methods.load("gauss_newton", **options)
    assert torch.equal(step(alone, fipa), step(alone, central))
    linear, jacobian = whole(name)
    expected = gauss_newton(jacobian, linear.residual, 1e-4, 1e-10)
    assert relative(step(alone, fipa), expected) < 1e-9


@pytest.mark.parametrize("sketch", ["range", "svd", "subspace"])
def test_the_order_in_which_clients_answer_does_not_matter(sketch: str) -> None:
    problem, start = load("scalar"), theta(load("scalar"))
    method = methods.load("fipa", sketch=sketch)
    systems = [System(problem, shard) for shard in problem.shards()]
    ends = []
    for order in ([0, 1, 2], [2, 0, 1]):
        answer = answering(method, {m: systems[m] for m in order})
        state = method.start(start, 0)
        for _ in range(3):
            state, *_ = play(method, state, answer)
        assert state.round == 4
        ends.append(state.theta)
    assert torch.equal(*ends)


@pytest.mark.parametrize("name", ["scalar", "system", "sine8", "gaussians2d"])
def test_the_numbers_of_the_clients_do_not_matter_beyond_rounding(name: str) -> None:
    _, jacobian = whole(name)
    mu = 1e-6 * float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    sent = sketches(load(name), exact(mu))
    there = step(load(name), exact(mu), sent)
    back = step(load(name), exact(mu), sent[::-1])
    assert relative(back, there) < 1e-10


def halves(same_targets: bool) -> Problem:
    """Two clients with the same points, and the same or different targets."""
    x = draw(12, 1)
    targets = [torch.sin(3 * x[:, 0]), torch.cos(2 * x[:, 0])]
    return Problem(
        "halves",
        MLP((1, 6, 5, 1)),
        [Term("data", data, [x, x], [targets[0], targets[not same_targets]])],
        strips([0, 0.5, 1]),
    )


@pytest.mark.parametrize("same_targets", [True, False])
@pytest.mark.parametrize("solver", ["gauss_newton", "sgd", "adam"])
def test_fipa_is_fedavg_where_all_clients_have_the_same_jacobian(
    same_targets: bool, solver: str
) -> None:
    # H_m = H / 2, so H^+ sum H_m delta_m is the mean of the deltas, as far as the
    # singular vectors that are kept see it.
    problem, cutoff = halves(same_targets), 1e-5
    local = Local(solver, 1, learning_rate=1e-2, damping=1e-3)
    fipa = Fipa(Fixed(1.0, 0.0, cutoff), Rank(99), "svd", local)
    start = theta(problem)
    found, mean = (
        rounds(problem, m, 1)[0].theta - start for m in (fipa, FedAvg(local))
    )
    jacobian = System(problem, problem.pooled()).linearise(start).jacobian()
    _, s, vt = torch.linalg.svd(jacobian, full_matrices=False)
    kept = vt[s > cutoff * s[0]]
    # The clients' targets contradict each other, so the condition enters squared:
    # 1e-16 / cutoff^2. Measured at most 6e-7.
    assert relative(found, kept.mT @ (kept @ mean)) < 1e-5
    assert relative(jacobian @ found, jacobian @ mean) < 1e-5
    if solver != "adam":  # J^T r and (J^T J + mu)^-1 J^T r are in the span of those
        assert relative(found, mean) < 1e-5


@pytest.mark.parametrize(
    "name", ["allen_cahn", "sine4", pytest.param("poisson2d", marks=pytest.mark.slow)]
)
def test_a_randomised_sketch_gives_the_step_of_the_full_one(name: str) -> None:
    _, jacobian = whole(name)
    mu = 1e-6 * float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    full = step(load(name), exact(mu))
    ranged = Fipa(LineSearch(mu, 1e-10), sketch="range")
    products = Fipa(LineSearch(mu, 1e-8), sketch="subspace")
    for method in (ranged, products):
        found = step(load(name), method)
        # Measured 3e-8 and 1e-12, both by products alone.
        assert relative(found, full) < 1e-6
        assert relative(jacobian @ found, jacobian @ full) < 1e-10
