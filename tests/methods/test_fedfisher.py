"""FedFisher: the quadratic that its server descends, and the points it may stop at."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, classes, draw, given, scalar, theta
from exchanges import begin, connect, opened, play, rounds, second
from torch import Tensor

from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.methods import Answers, Local, Record
from fedsciml.methods._prior import Losses, Path
from fedsciml.methods.fedfisher import FedFisher
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term
from fedsciml.residual import System, kronecker

KINDS = ["kfac", "diagonal"]
FISHERS = [*KINDS, "sketch"]


def quadratic(method: FedFisher, points: Tensor) -> Tensor:
    """sum share_m (w - theta_m)^T F_m (w - theta_m) at points [C, p], one by one."""
    problem, start = scalar(), theta(scalar())
    answers = opened(problem, method).answers.values()
    result = torch.zeros(len(points), dtype=points.dtype)
    for shard, answer in zip(problem.shards(), answers, strict=True):
        system = System(problem, shard)
        linear = system.linearise(start + answer.delta)
        for c, point in enumerate(points):
            away = point - start - answer.delta
            if method.fisher == "kfac":
                product = kronecker.factors(system, linear).product(
                    away, kronecker.shapes(problem.network)
                )
            else:
                product = linear.jacobian().square().sum(0) * away
            result[c] += away @ product
    return result


def probed(method: FedFisher) -> Tensor:
    """The points [C, p] of the server's path at which losses are asked for."""
    answers = opened(scalar(), method).answers
    points: Tensor = second(method, begin(scalar(), method), answers).points
    return points


@pytest.mark.parametrize("fisher", KINDS)
def test_the_server_follows_adam_down_the_weighted_distances(fisher: str) -> None:
    method = FedFisher(Local("adam", 5, 1e-2), 1e-2, fisher=fisher, steps=3)
    path = probed(method)
    assert len(path) == 3  # the mean, and after 1 and 3 steps

    x = path[0].clone()
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    eye = 1e-4 * torch.eye(len(x), dtype=x.dtype)
    for _ in range(3):
        # Central differences of a quadratic are exact up to rounding.
        ahead, behind = quadratic(method, x + eye), quadratic(method, x - eye)
        g = (ahead - behind) / 2e-4 / 2  # the method leaves out the factor 2
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        x = x - 1e-2 * m / (v.sqrt() + 1e-3)
    torch.testing.assert_close(path[-1], x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fisher", KINDS)
def test_the_end_of_a_long_path_is_below_the_mean(fisher: str) -> None:
    method = FedFisher(Local("adam", 20, 1e-2), fisher=fisher, steps=64)
    path = probed(method)
    values = quadratic(method, path[[0, -1]])
    assert float(values[1]) < float(values[0])
    assert len(path) == 8


@pytest.mark.parametrize("fisher", KINDS)
def test_a_round_ends_no_higher_than_fedavg_s(fisher: str) -> None:
    problem = scalar()
    pooled = System(problem, problem.pooled())
    fedavg = rounds(problem, methods.load("fedavg", tau=20), 1)[0].theta
    merged = methods.load("fedfisher", tau=20, fisher=fisher)
    assert pooled.loss(rounds(problem, merged, 1)[0].theta) < pooled.loss(fedavg)


def test_without_server_steps_it_is_fedavg() -> None:
    merged = methods.load("fedfisher", tau=7, server_steps=0)
    ends = [
        rounds(scalar(), m, 2)[0].theta for m in (merged, methods.load("fedavg", tau=7))
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("fisher", KINDS)
def test_clients_who_agree_stay_where_they_are(fisher: str) -> None:
    x = draw(12, 1)
    data = Term("data", given, [x, x], [x[:, 0], x[:, 0]])
    problem = Problem("twins", MLP((1, 6, 5, 1)), [data], strips([0, 0.5, 1]))
    options = {"tau": 7, "learning_rate": 1e-2}
    merged = rounds(problem, methods.load("fedfisher", fisher=fisher, **options), 1)
    fedavg = rounds(problem, methods.load("fedavg", **options), 1)
    # The quadratic is at its minimum; rounding of its gradient moves Adam a little.
    torch.testing.assert_close(merged[0].theta, fedavg[0].theta, rtol=0, atol=1e-9)


def test_a_path_that_leaves_the_finite_losses_falls_back_to_its_mean() -> None:
    method = FedFisher(Local(epochs=2), fisher="diagonal", steps=1)
    clients = connect(scalar(), method)

    def lost(ask: Record) -> Answers:
        if isinstance(ask, Path):
            return {0: Losses(torch.tensor([torch.nan, torch.inf]))}
        return clients.exchange(ask)

    state = begin(scalar(), method)
    after, info, (_, (path, _)) = play(method, state, lost)
    assert torch.equal(after.theta, path.points[0])
    assert torch.equal(next(method.round(after)).theta, path.points[0])
    assert info.probes == 2


def test_full_sketches_lead_to_the_dense_minimum() -> None:
    problem, local = classes(prior=1e-2), Local("sgd", 5, 0.1, batch=7)
    bound = FedFisher(local, fisher="sketch", rank=99).bound(problem)
    _, answers = opened(problem, bound)
    path = second(bound, begin(problem, bound), answers).points - theta(problem)
    assert len(path) == 10  # the mean, and dampings of nine decades
    eye = torch.eye(path.shape[1], dtype=path.dtype)
    right, hessian = torch.zeros_like(path[0]), torch.zeros_like(eye)
    mean_ = sum(answer.share * answer.delta for answer in answers.values())
    for shard, answer in zip(problem.shards(), answers.values(), strict=True):
        at = theta(problem) + answer.delta
        j = System(problem, shard).linearise(at).jacobian()
        hessian += j.mT @ j
        right += j.mT @ (j @ answer.delta)
    top = float(torch.linalg.eigvalsh(hessian)[-1])
    torch.testing.assert_close(path[0], mean_)
    for k in (0, 3, 8):
        damping = top * 10.0**-k + 1e-2
        expected = torch.linalg.solve(hessian + damping * eye, right + damping * mean_)
        # Subspace iteration with all columns; measured 1e-11.
        torch.testing.assert_close(path[k + 1], expected, rtol=1e-7, atol=1e-8)


def test_one_shot_ends_below_the_mean_of_what_clients_learnt() -> None:
    problem = classes(prior=1e-2)
    options = {"tau": 10, "learning_rate": 0.3, "local": "sgd", "batch": 15}
    pooled = System(problem, problem.pooled())

    def loss(name: str, **more: str) -> float:
        theta = run(problem, methods.load(name, **options, **more), 1).theta
        return pooled.loss(theta) + problem.penalty(theta)

    mean = loss("fedavg")
    assert all(loss("fedfisher", fisher=fisher) < mean for fisher in FISHERS)


@pytest.mark.parametrize("fisher", KINDS)
def test_a_run_counts_matrices_and_path(fisher: str) -> None:
    problem = CASES["scalar"]()
    p, m = problem.network.size, problem.clients
    method = methods.load("fedfisher", tau=2, fisher=fisher, server_steps=4)
    line = run(problem, method, 1).history[-1]
    squares = 2 * (2**2 + 7**2 + 6**2 + 6**2 + 5**2 + 1**2)  # of two terms
    shapes = 3 * 3
    matrices = p if fisher == "diagonal" else squares + shapes
    assert line.bytes_up == m * (p + matrices + 2 + 4) * 8
    assert line.bytes_down == m * (p + 4 * p) * 8
    assert (line.messages, line.probes, line.epochs) == (4 * m, 4, 2)


def test_what_fedfisher_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or more steps, got -1"):
        FedFisher(steps=-1)
    with pytest.raises(ValueError, match="rank of 1 or more, got 0"):
        methods.load("fedfisher", rank=0)
    with pytest.raises(ValueError, match="one of kfac, diagonal, sketch"):
        methods.load("fedfisher", fisher="full")
    with pytest.raises(ValueError, match="Kronecker factors need an MLP"):
        run(CASES["module"](), methods.load("fedfisher", tau=1), 1)
    alone = replace(CASES["module"](), partition=strips([0, 1]))
    run(alone, methods.load("fedfisher", tau=1, fisher="diagonal"), 1)
