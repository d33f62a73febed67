"""Local training in batches, with a prior, and on classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import CASES, classes, theta
from exchanges import rounds
from torch import Generator, Tensor
from torch.nn import functional

from fedsciml import methods, run
from fedsciml.methods import Local, minimise
from fedsciml.methods._local import Draw, batches
from fedsciml.problem import Problem, Rows
from fedsciml.residual import System

FIRST = Draw(0, 1)
BATCHED: dict[str, dict[str, object]] = {
    "fedavg": {"decay": 0.9},
    "scaffold": {},
    "fedadam": {"server_rate": 0.1},
    "feddyn": {},
    "fedfisher": {},
    "fipa_paper": {"rank": "3", "outside": "mean", "ridge": 0.1},
}
"""Methods that train in batches, with some of their options."""


def load(name: str) -> methods.Method:
    """One that trains two epochs in batches of 4 points."""
    common = {"tau": 2, "batch": 4, "local": "sgd", "learning_rate": 0.1}
    return methods.load(name, **{**common, **BATCHED[name]})


def client(problem: Problem, number: int = 0) -> System:
    return System(problem, problem.shards()[number])


def gradient(problem: Problem, at: Tensor, rows: Rows | None = None) -> Tensor:
    """Of the mean cross-entropy of rows and the prior, by autograd."""
    x, rows = at.clone().requires_grad_(), rows or problem.pooled().rows[0]
    assert rows.target is not None
    loss = functional.cross_entropy(problem.network(x, rows.points), rows.target.long())
    (found,) = torch.autograd.grad(loss + problem.prior / 2 * x @ x, x)
    return found


def test_an_epoch_sees_every_point_once() -> None:
    rows = CASES["scalar"]().pooled().rows
    drawn = list(batches(rows, 4, Generator().manual_seed(0)))
    (first, *_), *_ = drawn
    assert not torch.equal(first.points, rows[first.term].points[: len(first.points)])
    assert [sum(len(p.points) for p in batch) for batch in drawn] == [4] * 6 + [2]
    for own in rows:
        parts = [p for batch in drawn for p in batch if p.term == own.term]
        points = torch.cat([part.points for part in parts])
        assert torch.equal(points.sort(0).values, own.points.sort(0).values)
        assert {part.weight for part in parts} == {own.weight}


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_batch_of_all_points_is_training_without_batches(solver: str) -> None:
    system, start = client(CASES["scalar"]()), theta(CASES["scalar"]())
    whole = Local(solver, 3, 1e-3)  # type: ignore[arg-type]
    one = replace(whole, batch=system.shard.points)
    found = minimise(system, start, one, None, draw=FIRST)
    assert torch.equal(found.theta, minimise(system, start, whole, None).theta)


def test_the_mean_of_an_epoch_s_gradients_is_that_of_all_points() -> None:
    problem = classes(prior=0.3)
    system, start = System(problem, problem.pooled()), theta(problem)
    still = Local("sgd", 1, 1e-300, batch=9)  # of 45; theta stays where it is
    found = minimise(system, start, still, None, draw=FIRST)
    whole = minimise(system, start, Local("sgd", 1, 1e-300), None)
    torch.testing.assert_close(found.gradient, whole.gradient, rtol=1e-12, atol=1e-14)
    assert found.loss == pytest.approx(whole.loss, rel=1e-14)


def test_steps_are_gradient_descent_on_the_mean_cross_entropy_of_batches() -> None:
    problem = classes(prior=1e-2)
    system, start = client(problem), theta(problem)
    local = Local("sgd", 2, 0.2, momentum=0.5, batch=5, decay=0.5)
    draw = Draw(7, 3)
    found = minimise(system, start, local, None, draw=draw).theta
    x, momentum = start.clone(), torch.zeros_like(start)
    random = methods.generator(7, 3, 0)
    for _ in range(2):
        for (part,) in batches(system.shard.rows, 5, random):
            momentum = 0.5 * momentum + gradient(problem, x, part)
            x = x - 0.2 / 4 * momentum  # decayed twice
    torch.testing.assert_close(found, x, rtol=1e-10, atol=1e-12)


def test_seeds_rounds_and_clients_draw_their_own() -> None:
    system, start = client(classes()), theta(classes())
    other = System(system.problem, replace(system.shard, client=1))
    local = Local("sgd", 1, 0.1, batch=3)
    ends = [
        minimise(party, start, local, None, draw=draw).theta
        for party, draw in (
            (system, FIRST),
            (system, Draw(1, 1)),
            (system, Draw(0, 2)),
            (other, FIRST),
        )
    ]
    assert len({tuple(end.tolist()) for end in ends}) == 4
    with pytest.raises(ValueError, match=r"need to know the round; give a draw"):
        minimise(system, start, local, None)


@pytest.mark.parametrize("name", BATCHED)
def test_a_resumed_run_in_batches_ends_at_the_same_bytes(
    name: str, tmp_path: Path
) -> None:
    problem, method = classes(prior=1e-3), load(name)
    whole = run(problem, method, 2, seed=2)
    run(problem, method, 1, seed=2, out=tmp_path / "run", report=False)
    again = run(
        problem, method, 2, seed=2, out=tmp_path / "run", resume=True, report=False
    )
    assert torch.equal(again.theta, whole.theta)
    assert whole.loss < whole.history[0].loss


def test_only_training_that_depends_on_the_round_is_told_of_it() -> None:
    problem = classes()
    bytes_down = [
        run(problem, method, 1).history[-1].bytes_down
        for method in (methods.load("fedavg", tau=1, local="sgd"), load("fedavg"))
    ]
    assert bytes_down[1] - bytes_down[0] == problem.clients * 2 * 8


def test_the_shares_mean_of_the_local_gradients_is_the_whole_loss_s() -> None:
    problem, start = classes(prior=0.7), theta(classes())
    once = Local("sgd", 1)
    parts = [
        shard.share * minimise(System(problem, shard), start, once, None).gradient
        for shard in problem.shards()
    ]
    torch.testing.assert_close(sum(parts), gradient(problem, start))


def test_the_local_gauss_newton_step_knows_the_prior() -> None:
    problem, start = classes(prior=0.7), theta(classes())
    system = client(problem)
    linear, share = system.linearise(start), system.shard.share
    local = Local("gauss_newton", 1, damping=1e-2, proximal=0.3)
    j = linear.jacobian()
    hessian = j.mT @ j + (1e-2 + share) * torch.eye(len(start)).double()
    slope = linear.gradient + share * 0.7 * start
    expected = -torch.linalg.solve(hessian, slope)
    found = minimise(system, start, local, None).theta - start
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("scaffold", {"tau": 5, "local": "sgd", "learning_rate": 0.3}),
        ("gradient_only", {}),
        ("lbfgs", {"tau": 5}),
    ],
)
def test_methods_that_come_to_rest_do_so_at_the_minimum_with_the_prior(
    name: str, options: dict[str, object]
) -> None:
    problem = classes(prior=0.3)
    end = run(problem, methods.load(name, **options), 20).theta
    # Of the start 1.7; measured 1e-4 with SCAFFOLD, 1e-8 and 1e-12 with L-BFGS.
    assert float(gradient(problem, end).norm()) < 1e-3


def test_fedpm_takes_the_regularised_gauss_newton_step() -> None:
    problem, start = classes(prior=0.3), theta(classes())
    options = {"tau": 1, "learning_rate": 1.0, "damping": 0.1}
    method = methods.load("fedpm", preconditioner="gramian", **options)
    end = rounds(problem, method, 1)[0].theta
    j = System(problem, problem.pooled()).linearise(start).jacobian()
    hessian = j.mT @ j + 0.4 * torch.eye(len(start)).double()
    expected = -torch.linalg.solve(hessian, gradient(problem, start))
    torch.testing.assert_close(end - start, expected, rtol=1e-9, atol=1e-10)
