"""A prior and a gradient beside sketches, against dense normal equations."""

import pytest
import torch
from torch import Generator, Tensor

from fedsciml.linalg.beside import beside
from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import spectrum

P, K, PRIOR = 9, 4, 0.3


def drawn(*shape: int, seed: int = 0) -> Tensor:
    generator = Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


B, C, THETA = drawn(K, P), drawn(K, seed=1), drawn(P, seed=2)


@pytest.mark.parametrize("mu", [0.0, 1e-3, 2.0])
def test_the_step_with_a_prior_is_the_dense_one(mu: float) -> None:
    known = beside(spectrum(Sketch(B, C)), THETA, PRIOR)
    eye = torch.eye(P, dtype=B.dtype)
    right = B.mT @ C - PRIOR * THETA
    dense = torch.linalg.solve(B.mT @ B + (PRIOR + mu) * eye, right)
    torch.testing.assert_close(known.whole.step(mu), dense)


def test_a_gradient_corrects_the_sketch_in_its_span_and_moves_outside_of_it() -> None:
    gradient, mu, h = drawn(P, seed=3), 0.1, 0.5
    inner = spectrum(Sketch(B, C))
    known = beside(inner, THETA, PRIOR, gradient, h)
    slope, v = gradient + PRIOR * THETA, inner.basis
    within = v.mT @ ((v @ slope) / (inner.s.square() + PRIOR + mu))
    outside = (slope - v.mT @ (v @ slope)) / (PRIOR + h + mu)
    torch.testing.assert_close(known.whole.step(mu), -within - outside)


def test_targets_elsewhere_are_those_of_the_problem_there() -> None:
    """Where the sketch is linear, c' at theta + D is that of a problem at theta + D."""
    inner = spectrum(Sketch(B, C))
    known = beside(inner, THETA, PRIOR)
    z = drawn(3, len(known.whole.s), seed=4)
    moved = z @ known.whole.basis
    raw = (C - moved @ B.mT) @ inner.left
    found = known.targets(raw, z)
    for i, step in enumerate(moved):
        there = spectrum(Sketch(B, C - B @ step))
        expected = beside(there, THETA + step, PRIOR).whole
        gradient = -(expected.s * expected.c) @ expected.basis
        mine = -(known.whole.s * found[i]) @ known.whole.basis
        span = known.whole.basis
        torch.testing.assert_close(span @ mine, span @ gradient)


def test_the_predicted_decrease_is_that_of_loss_and_prior() -> None:
    known = beside(spectrum(Sketch(B, C)), THETA, PRIOR)
    z = drawn(len(known.whole.s), seed=5)
    step = z @ known.whole.basis

    def loss(d: Tensor) -> Tensor:
        return (B @ d - C).square().sum() / 2 + known.penalty(d)

    change = loss(torch.zeros_like(step)) - loss(step)
    torch.testing.assert_close(known.whole.decrease(z), change)


def test_without_prior_and_gradient_nothing_changes_but_rounding() -> None:
    inner = spectrum(Sketch(B, C))
    known = beside(inner, THETA, 0.0)
    assert not known.outward
    torch.testing.assert_close(known.whole.step(0.1), inner.step(0.1))
