"""Rows of networks of images: layer by layer as by plain autograd."""

from dataclasses import replace

import pytest
import torch
from cases import draw, theta
from reference import relative

from fedsciml import likelihoods
from fedsciml.collocation import strips
from fedsciml.linalg import subspace_iteration
from fedsciml.network import ConvNet, Convolution, Dense, GroupNorm, Pool, convolution
from fedsciml.problem import Problem, Term
from fedsciml.residual import AutogradBlock, JetBlock, System


def pictures() -> Problem:
    """Ten classes of 70 images of 8 x 8 pixels."""
    term = Term(
        "digits",
        lambda u, row: u.values,
        draw(70, 64),
        target=torch.arange(70).remainder(10).double(),
        likelihood=likelihoods.Categorical(),
    )
    layers = [Convolution(3), GroupNorm(), "relu", Pool(2), Dense(6), "tanh", Dense(10)]
    return Problem(
        "pictures",
        ConvNet((1, 8, 8), layers),
        [term],
        strips([0, 1]),
        [f"x{i}" for i in range(64)],
        [f"z{i}" for i in range(10)],
    )


def test_rows_of_a_conv_net_are_those_of_plain_autograd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolution, "COLUMNS", 32 * 9 * 64)
    problem = pictures()
    system, start = System(problem, problem.pooled()), theta(problem)
    assert [len(block.rows.points) for block in system.blocks] == [32, 32, 6]
    assert all(isinstance(block, JetBlock) for block in system.blocks)
    linear, p = system.linearise(start), problem.network.size
    jacobian, place = linear.jacobian(), 0
    for block in system.blocks:
        slow = AutogradBlock(problem, block.rows).linearise(start)
        n = len(slow.residual)
        expected = torch.empty(n, p, dtype=torch.float64)
        slow.jacobian(expected)
        assert relative(jacobian[place : place + n], expected) < 1e-12
        v = draw(p, 2)
        assert relative(slow.jvp(v), expected @ v) < 1e-12
        assert relative(slow.vjp(v[:n]), expected.mT @ v[:n]) < 1e-12
        place += n
    v, w = draw(p, 23), draw(9 * 70, 23)
    assert relative(linear.jvp(v), jacobian @ v) < 1e-13
    assert relative(linear.vjp(w), jacobian.mT @ w) < 1e-13
    assert relative(linear.jvp(v[:, 3]), jacobian @ v[:, 3]) < 1e-13
    assert relative(linear.vjp(w[:, 3]), jacobian.mT @ w[:, 3]) < 1e-13
    several = torch.stack([start, 1.1 * start])
    losses = torch.stack([system.losses(t[None])[0] for t in several])
    assert relative(system.losses(several), losses) < 1e-14


def test_single_precision_is_kept_and_agrees() -> None:
    problem = pictures()
    start, parts = theta(problem), []
    for dtype in (torch.float64, torch.float32):
        linear = System(problem, problem.pooled(), dtype=dtype).linearise(
            start.to(dtype)
        )
        found = subspace_iteration(
            linear.jvp,
            linear.vjp,
            linear.residual,
            problem.network.size,
            5,
            torch.Generator().manual_seed(0),
        )
        assert linear.residual.dtype == found.factor.dtype == dtype
        parts.append((linear.jacobian().double(), found.singular_values.double()))
    (exact, spectrum), (single, rough) = parts
    assert relative(single, exact) < 1e-5
    assert relative(rough, spectrum) < 1e-5
    assert relative(spectrum, torch.linalg.svdvals(exact)[:5]) < 1e-3


def test_slopes_by_pixels_take_the_general_path() -> None:
    problem = pictures()
    term = replace(
        problem.terms[0],
        residual=lambda u, row: u.z3.x7,
        likelihood=likelihoods.Gaussian(),
    )
    smooth = ConvNet((1, 8, 8), [Convolution(3), "tanh", Dense(10)])
    sloped = replace(problem, terms=[term], network=smooth)
    system, start = System(sloped, sloped.pooled()), theta(sloped)
    assert all(isinstance(block, AutogradBlock) for block in system.blocks)
    step = torch.zeros(64, dtype=torch.float64)
    step[7] = 1e-6
    x = problem.terms[0].points
    difference = smooth(start, x + step)[:, 3] - smooth(start, x - step)[:, 3]
    slopes = system.residual(start) * 70**0.5
    assert relative(slopes, difference / 2e-6) < 1e-8
