"""Gradient sums: the pooled iteration, BFGS's matrix, and what a round costs."""

from dataclasses import replace

import pytest
import torch
from cases import CASES, scalar, theta
from exchanges import play, rounds
from torch import Generator, Tensor

from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.methods import Answers, Opening, Record
from fedsciml.methods.gradient_only import (
    Gradient,
    GradientOnly,
    Losses,
    Search,
    two_loop,
)
from fedsciml.residual import System

DIRECTIONS = ["lbfgs", "steepest"]


def dense(s: Tensor, y: Tensor) -> Tensor:
    """The inverse BFGS matrix after its updates, from (s . y / y . y) I."""
    eye = torch.eye(s.shape[1], dtype=s.dtype)
    h = float(s[-1] @ y[-1]) / float(y[-1] @ y[-1]) * eye
    for a, b in zip(s, y, strict=True):
        rho = 1 / float(a @ b)
        left = eye - rho * torch.outer(a, b)
        h = left @ h @ left.mT + rho * torch.outer(a, a)
    return h


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_two_loops_apply_the_bfgs_matrix(pairs: int) -> None:
    random = Generator().manual_seed(pairs)
    draws = torch.randn(2 * pairs + 1, 6, generator=random, dtype=torch.float64)
    s, gradient = draws[:pairs], draws[-1]
    hessian = torch.diag(torch.arange(1.0, 7.0, dtype=torch.float64))
    y = s @ hessian  # positive curvature
    found = two_loop(gradient, s, y)
    torch.testing.assert_close(found, dense(s, y) @ gradient, rtol=1e-12, atol=1e-12)


def test_without_pairs_the_direction_is_the_gradient() -> None:
    none = torch.zeros(0, 3)
    assert torch.equal(two_loop(torch.ones(3), none, none), torch.ones(3))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("case", ["scalar", "system", "module"])
def test_a_federation_takes_the_steps_of_one_client_with_all_rows(
    case: str, direction: str
) -> None:
    problem = CASES[case]()
    whole = replace(problem, partition=strips([-1.0, 2.0]))
    method = methods.load("gradient_only", direction=direction)
    ends = [rounds(p, method, 8)[0].theta for p in (problem, whole)]
    # Sums of the same rows in another order; measured at most 2e-15 after 8 rounds.
    torch.testing.assert_close(*ends, rtol=1e-12, atol=1e-12)


def test_steepest_descent_takes_the_best_of_its_lengths() -> None:
    problem, start = scalar(), theta(scalar())
    pooled = System(problem, problem.pooled())
    gradient = pooled.linearise(start).gradient
    lengths = [4 * 2.0**-j / float(gradient.norm()) for j in range(14)]
    losses = [pooled.loss(start - t * gradient) for t in lengths]
    best = lengths[losses.index(min(losses))]
    method = methods.load("gradient_only", direction="steepest")
    found = rounds(problem, method, 1)[0].theta
    torch.testing.assert_close(found, start - best * gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_loss_never_rises(direction: str) -> None:
    method = methods.load("gradient_only", direction=direction, history=3)
    result = run(scalar(), method, 40)
    losses = [line.loss for line in result.history] + [result.loss]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 4


def test_a_direction_without_a_lower_loss_drops_the_pairs() -> None:
    method = GradientOnly()
    state, _ = rounds(scalar(), method, 4)
    assert len(state.s) == 3
    answers = {
        Opening: Gradient(torch.ones_like(state.theta), 1.0),
        Search: Losses(torch.full((14,), 2.0)),
    }

    def higher(ask: Record) -> Answers:
        """By one client, to whom no length is good."""
        return {0: answers[type(ask)]}

    after, info, _ = play(method, state, higher)
    assert (info.step, len(after.s), len(after.y)) == (0, 0, 0)
    shorter, _, ((opening, _), (search, _)) = play(method, after, higher)
    assert torch.equal(opening.theta, state.theta)
    assert torch.equal(search.direction, -torch.ones_like(state.theta))
    assert shorter.length == float(search.lengths[-1])


def test_only_gradients_and_losses_go_up() -> None:
    result = run(scalar(), methods.load("gradient_only", lengths=7), 2)
    p, m, line = scalar().network.size, scalar().clients, result.history[-1]
    assert line.bytes_up == 2 * m * (p + 1 + 7) * 8
    assert line.bytes_down == 2 * m * (p + p + 7) * 8
    assert (line.messages, line.probes) == (2 * 4 * m, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"history": 0}, "history of 1 or more"),
        ({"lengths": 0}, "From 1 to 64 lengths"),
        ({"lengths": 65}, "got 65"),
        ({"direction": "newton"}, "one of lbfgs, steepest"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        methods.load("gradient_only", **options)
