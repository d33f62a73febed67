"""Row scaling: the factors, the step that they give, and what stays as it was."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import CASES, theta
from exchanges import Played, answering, connect, play
from reference import gauss_newton, relative
from torch import Tensor

from fedsciml import methods, run, wrappers
from fedsciml.federation.history import Round
from fedsciml.methods import Method, conclude, flatten, payload
from fedsciml.methods._fipa import Fipa
from fedsciml.policies.fixed import Fixed
from fedsciml.problem import Problem, Rows, Shard
from fedsciml.residual import System
from fedsciml.wrappers.balance import Balanced, balanced, factors, traces
from fedsciml.wrappers.warmup import Warmup

SEVERAL = ("scalar", "mixed", "system", "beam", "module", "plain")
"""The cases of several terms."""


@cache
def load(name: str) -> Problem:
    return CASES[name]()


def linear(problem: Problem, *rows: Rows) -> tuple[Tensor, Tensor]:
    """J and r of some rows at theta."""
    found = System(problem, Shard(0, rows, 1.0)).linearise(theta(problem))
    return found.jacobian(), found.residual


def one_round(method: Method, systems: list[System], start: Tensor) -> Played:
    """The first round."""
    parties = answering(method, dict(enumerate(systems)))
    return play(method, method.start(start, 0), parties)


def clients(problem: Problem) -> list[System]:
    return [System(problem, shard) for shard in problem.shards()]


def pooled(problem: Problem) -> list[System]:
    return [System(problem, problem.pooled())]


def exact(mu: float) -> Method:
    """Balanced terms, full sketches, and one full step without a look."""
    return Balanced(Fipa(Fixed(1.0, mu, 0.0), sketch="svd"), "terms")


@pytest.mark.parametrize("relative_mu", [1e-6, 1e-3])
@pytest.mark.parametrize("name", SEVERAL)
def test_balanced_fipa_is_the_central_levenberg_marquardt_step_on_scaled_rows(
    name: str, relative_mu: float
) -> None:
    problem = load(name)
    parts = [linear(problem, rows) for rows in problem.pooled().rows]
    weights = [float(j.square().sum()) for j, _ in parts]
    mean = sum(weights) / len(weights)
    jacobian, residual = (
        torch.cat(
            [(mean / w) ** 0.5 * p[k] for p, w in zip(parts, weights, strict=True)]
        )
        for k in (0, 1)
    )
    mu = relative_mu * float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    central = gauss_newton(jacobian, residual, mu)
    start = theta(problem)
    for systems in (clients(problem), pooled(problem)):
        state = one_round(exact(mu), systems, start).state
        # Rounding of J, 1e-16, over sqrt(1e-6), as without scaling.
        assert relative(state.theta - start, central) < 1e-10


@pytest.mark.parametrize("name", SEVERAL)
def test_traces_are_the_squared_norms_of_the_terms_and_add_up(name: str) -> None:
    problem, at = load(name), theta(load(name))
    whole = traces(pooled(problem)[0], at)
    parts = [linear(problem, rows)[0] for rows in problem.pooled().rows]
    dense = torch.stack([(j * j).sum() for j in parts])
    torch.testing.assert_close(whole, dense, rtol=1e-14, atol=0)
    added = torch.stack([traces(s, at) for s in clients(problem)]).sum(0)
    torch.testing.assert_close(added, whole, rtol=1e-14, atol=0)


def test_scaled_terms_or_clients_have_the_same_trace_and_the_sum_stays() -> None:
    found = torch.tensor([[1.0, 40.0], [2.0, 0.0], [3.0, 2.0]], dtype=torch.float64)
    for by, rest in (("terms", 0), ("clients", 1)):
        scaled = (factors(found, by) * found).sum(rest)
        torch.testing.assert_close(scaled, scaled.mean().expand_as(scaled))
        torch.testing.assert_close(scaled.sum(), found.sum())
    # One party's factors are the other's, and one term's too.
    assert len(factors(found, "terms").unique(dim=0)) == 1
    assert len(factors(found, "clients").unique(dim=1)[0]) == 1


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_what_has_no_trace_keeps_its_weight(by: str) -> None:
    found = torch.tensor([[8.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert torch.equal(factors(found, by), torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("name", ["system", "module", "plain"])
def test_a_scaled_system_has_scaled_losses_and_leaves_the_first_as_it_was(
    name: str,
) -> None:
    problem, at = load(name), theta(load(name))
    system = pooled(problem)[0]
    before = system.loss(at)
    scaled = system.scaled([4.0, 0.25])
    parts = [
        System(problem, Shard(0, (rows,), 1.0)).loss(at)
        for rows in problem.pooled().rows
    ]
    assert scaled.loss(at) == pytest.approx(4 * parts[0] + parts[1] / 4, rel=1e-14)
    assert scaled.linearise(at).loss == pytest.approx(scaled.loss(at), rel=1e-14)
    again = System(problem, scaled.shard)
    assert torch.equal(again.residual(at), scaled.residual(at))
    assert system.loss(at) == before


def test_steps_do_not_depend_on_the_weights_of_the_terms() -> None:
    heavy = [
        replace(t, weight=w)
        for t, w in zip(load("scalar").terms, (1e3, 1e-3), strict=True)
    ]
    ends = []
    for problem in (load("scalar"), replace(load("scalar"), terms=heavy)):
        method = wrappers.load("fipa", sketch="svd", balance="terms")
        history = run(problem, method, rounds=5).history
        ends.append(history[-1].relative_l2)
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_the_loss_reported_is_the_problem_s_own(by: str) -> None:
    problem = load("scalar")
    thetas = [problem.network.init(torch.Generator().manual_seed(0), torch.float64)]
    method = wrappers.load("fipa", balance=by)
    parties, state = connect(problem, method), method.start(thetas[0], 0)
    losses = []
    for _ in range(6):
        state, info = conclude(method.round(state), parties.exchange)
        thetas.append(state.point)
        losses.append(info.loss)
    own = pooled(problem)[0]
    for at, loss in zip(thetas[:-1], losses, strict=True):
        assert loss == pytest.approx(own.loss(at), rel=1e-13)
    result = run(problem, method, rounds=6)
    assert result.loss == pytest.approx(own.loss(result.theta), rel=1e-13)
    assert [line.loss for line in result.history] == losses


def test_the_first_round_has_one_exchange_of_a_few_numbers_more() -> None:
    problem, start = load("scalar"), theta(load("scalar"))
    method = wrappers.load("fipa", balance="terms", policy="natural:curves=false")
    exchanges = one_round(method, clients(problem), start).exchanges
    sent = [flatten(exchange.answers[0]) for exchange in exchanges]
    assert [{path for path in each if not path.endswith("kind")} for each in sent] == [
        {"traces"},
        {"answer/factor", "answer/target", "answer/loss", "own_loss"},
        {"losses", "targets"},
    ]
    assert payload(exchanges[0].answers[0]) == 8 * len(problem.terms)
    lines = run(
        problem,
        wrappers.load("fipa", balance="terms", policy="natural:curves=false"),
        rounds=2,
    ).history
    # 3 clients; three exchanges, then two.
    assert [line.messages for line in lines] == [18, 30]


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_a_client_without_rows_changes_nothing(by: str) -> None:
    problem, start = load("scalar"), theta(load("scalar"))
    rows = tuple(
        replace(r, points=r.points[:0], target=r.target[:0])
        for r in problem.shards()[0].rows
    )
    nothing = System(problem, Shard(3, rows, 0.0))
    method = wrappers.load("fipa", balance=by)
    three = one_round(method, clients(problem), start)
    four = one_round(method, [*clients(problem), nothing], start)
    assert four.info.ranks[3] == 0
    assert torch.equal(three.state.theta, four.state.theta)


@pytest.mark.parametrize("by", ["terms", "clients"])
def test_float32_works(by: str) -> None:
    method = wrappers.load("fipa", balance=by)
    result = run(load("scalar"), method, rounds=8, dtype=torch.float32)
    assert result.theta.dtype == torch.float32
    assert result.loss < 1e-2 * result.history[0].loss


@pytest.mark.parametrize("name", ["fipa", "gauss_newton"])
def test_a_resumed_run_equals_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(line: Round) -> None:
        if line.round == 2:
            raise Stopped

    method = wrappers.load(name, balance="terms")
    whole = run(load("scalar"), method, 5)
    with pytest.raises(Stopped):
        run(load("scalar"), method, 5, out=tmp_path / "run", progress=stop)
    resumed = run(load("scalar"), method, 5, out=tmp_path / "run", resume=True)
    assert torch.equal(resumed.theta, whole.theta)
    assert [line.loss for line in resumed.history] == [
        line.loss for line in whole.history
    ]


def test_a_warm_up_comes_before_the_balance() -> None:
    then = wrappers.load("fipa", balance="terms")
    both = Warmup(methods.load("fedavg", tau=2), 2, then)
    warm = run(load("scalar"), methods.load("fedavg", tau=2), 2).theta
    alone = one_round(then, clients(load("scalar")), warm)
    result = run(load("scalar"), both, 3)
    assert torch.equal(result.theta, alone.state.theta)
    assert result.history[-1].loss == alone.info.loss


def test_balance_is_off_by_default_and_checked() -> None:
    fipa = methods.load("fipa")
    assert isinstance(fipa, Fipa)
    assert balanced(fipa, "none") is fipa
    assert wrappers.load("fipa", balance="clients") == Balanced(fipa, "clients")
    with pytest.raises(ValueError, match="must be one of none, terms; got 'clients'"):
        wrappers.load("gauss_newton", balance="clients")
    with pytest.raises(ValueError, match="one of none, terms, clients; got 'rows'"):
        Balanced(fipa, "rows")
