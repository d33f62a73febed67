"""FedPM: Gauss-Newton as its limit, and the paper's formula with dense matrices."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, draw, given, scalar, theta
from exchanges import first_round, rounds
from reference import gauss_newton, relative
from torch import Tensor

from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.methods.fedpm import FedPM
from fedsciml.network import MLP
from fedsciml.problem import Problem, Term
from fedsciml.residual import System

GRAMIAN = {"preconditioner": "gramian"}


def regression() -> Problem:
    """Data for three clients of unequal size, and a network of two hidden layers."""
    points = draw(19, 1)
    data = Term("data", given, points, target=lambda x: x[:, 0].cos())
    return Problem("data", MLP((1, 4, 3, 1)), [data], strips([0, 0.3, 0.8, 1]))


@pytest.mark.parametrize("name", CASES)
def test_one_step_by_the_gramian_is_the_central_levenberg_marquardt_step(
    name: str,
) -> None:
    problem = CASES[name]()
    start = theta(problem)
    linear = System(problem, problem.pooled()).linearise(start)
    jacobian = linear.jacobian()
    mu = 1e-3 * float(torch.linalg.matrix_norm(jacobian, 2)) ** 2
    method = methods.load("fedpm", tau=1, learning_rate=1.0, damping=mu, **GRAMIAN)
    step = rounds(problem, method, 1)[0].theta - start
    # The gramian is formed: 1e-16 / 1e-3. Measured at most 2e-13.
    assert relative(step, gauss_newton(jacobian, linear.residual, mu)) < 1e-11


def test_one_step_by_the_gramian_is_fipa_s_at_full_rank() -> None:
    problem, mu = scalar(), 1e-2
    policy = f"fixed:length=1,damping={mu},cutoff=0"
    fipa = methods.load("fipa", rank="99", sketch="svd", policy=policy)
    fedpm = methods.load("fedpm", tau=1, learning_rate=1.0, damping=mu, **GRAMIAN)
    ends = [rounds(problem, method, 1)[0].theta for method in (fedpm, fipa)]
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


def second_moments(problem: Problem, x: Tensor, points: Tensor) -> Tensor:
    """FOOF's dense matrix [p, p] by a naive pass of the tanh network."""
    blocks = []
    h = points
    for weight, bias in problem.network.layers(x):
        a = torch.cat([h, torch.ones_like(h[:, :1])], 1)
        moment = a.mT @ a / len(points)
        # theta lists a layer's weight [out, in] first, then its bias.
        out, width = weight.shape
        block = torch.zeros(out * (width + 1), out * (width + 1), dtype=x.dtype)
        place = [[o * width + i for i in range(width)] for o in range(out)]
        for o, row in enumerate(place):
            index = torch.tensor([*row, out * width + o])
            block[index.unsqueeze(1), index] = moment
        blocks.append(block)
        h = torch.tanh(h @ weight.mT + bias)
    return torch.block_diag(*blocks)


@pytest.mark.parametrize("preconditioner", ["foof", "gramian"])
def test_a_round_is_the_paper_s_with_dense_matrices(preconditioner: str) -> None:
    problem, eta, rho = regression(), 0.05, 0.3
    start = theta(problem)
    eye = torch.eye(len(start), dtype=start.dtype)
    whole, mixed = torch.zeros_like(eye), torch.zeros_like(start)
    for shard in problem.shards():
        system, x = System(problem, shard), start
        for _ in range(3):
            linear = system.linearise(x)
            jacobian = linear.jacobian()
            if preconditioner == "foof":
                p = second_moments(problem, x, shard.rows[0].points)
            else:
                p = jacobian.mT @ jacobian / shard.share
            p = p + rho * eye
            gradient = jacobian.mT @ linear.residual / shard.share
            x = x - eta * torch.linalg.solve(p, gradient)
        whole, mixed = whole + shard.share * p, mixed + shard.share * p @ x
    method = FedPM(preconditioner, 3, eta, rho)
    found = rounds(problem, method, 1)[0].theta
    expected = torch.linalg.solve(whole, mixed)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("preconditioner", ["foof", "gramian"])
def test_one_client_keeps_what_it_trained(preconditioner: str) -> None:
    problem = replace(scalar(), partition=strips([0, 1]))
    method = FedPM(preconditioner, 4, 1e-2, 1.0)
    after, _, ((ask, answers),) = first_round(problem, method)
    expected = ask.theta + answers[0].delta
    torch.testing.assert_close(after.theta, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("preconditioner", ["foof", "gramian"])
def test_a_run_counts_what_the_preconditioners_weigh(preconditioner: str) -> None:
    problem = regression()
    method = methods.load("fedpm", tau=2, preconditioner=preconditioner)
    line = run(problem, method, 2).history[-1]
    p, m = problem.network.size, problem.clients
    # Matrices; the shapes of three layers by which they fall apart.
    squares = p**2 if preconditioner == "gramian" else 2**2 + 5**2 + 4**2 + 3 * 3
    assert line.bytes_up == 2 * m * (p + squares + 2) * 8
    assert line.bytes_down == 2 * m * p * 8
    assert line.damping == (1.0 if preconditioner == "gramian" else 0.0)
    assert (line.step, line.epochs) == (1.0, 2)


def test_the_step_of_one_local_step_by_the_gramian_has_no_gap_to_gauss_newton() -> None:
    options = {"tau": 1, "learning_rate": 0.3, "damping": 1e-2, **GRAMIAN}
    result = run(scalar(), methods.load("fedpm", **options), 2, gn_gap=True)
    # Measured 5e-15.
    assert all(line.gn_gap < 1e-12 for line in result.history)


def test_foof_refuses_networks_without_layers() -> None:
    with pytest.raises(ValueError, match="Kronecker factors need an MLP"):
        run(CASES["module"](), methods.load("fedpm"), 1)


def test_a_preconditioner_that_rounding_makes_indefinite_is_a_divergence() -> None:
    # Twenty rows of size 1e12 and a damping that rounding swallows.
    term = Term("data", given, draw(20, 1), target=0.0, weight=1e24)
    problem = Problem("steep", MLP((1, 9, 9, 1)), [term], strips([0, 0.5, 1]))
    method = methods.load("fedpm", tau=1, damping=1e-9, **GRAMIAN)
    with pytest.raises(FloatingPointError, match="not positive definite"):
        run(problem, method, 1)


@pytest.mark.parametrize("preconditioner", ["foof", "gramian"])
def test_local_steps_that_run_away_are_a_divergence(preconditioner: str) -> None:
    method = FedPM(preconditioner, 50, 1e9, 1e-6)
    with pytest.raises(FloatingPointError, match="Try a smaller learning rate"):
        run(scalar(), method, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0}, "tau >= 1"),
        ({"damping": 0.0}, "damping must be positive"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"preconditioner": "kfac"}, "one of foof, gramian"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        methods.load("fedpm", **options)
