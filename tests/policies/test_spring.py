"""SPRING: momentum in the directions that the data do not see."""

from math import inf, nan

import numpy as np
import pytest
import torch
from reference import relative
from tables import EPS
from torch import Tensor

from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.policies import Choice, Probed
from fedsciml.policies.spring import Spring, State

ROWS, SIZE = 5, 9


def sketch(seed: int = 0) -> Sketch:
    """A wide B, so that it does not see four directions, and its target."""
    random = torch.Generator().manual_seed(seed)
    scale = torch.logspace(1, -3, ROWS, dtype=torch.float64)[:, None]
    factor = scale * torch.randn(ROWS, SIZE, generator=random).double()
    return Sketch(factor, torch.randn(ROWS, generator=random).double())


def last(seed: int = 1) -> Tensor:
    """A step of the round before."""
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)).double()


def nearest(part: Sketch, mu: float, to: Tensor) -> Tensor:
    """argmin |B D - c|^2 + mu |D - to|^2 by dense least squares."""
    matrix = np.vstack([part.factor.numpy(), mu**0.5 * np.eye(SIZE)])
    right = np.concatenate([part.target.numpy(), mu**0.5 * to.numpy()])
    return torch.from_numpy(np.linalg.lstsq(matrix, right, rcond=None)[0])


def step(policy: Spring, problem: Spectrum, state: State) -> Tensor:
    """The one full step [p]."""
    (found,) = policy.propose(problem, state).steps(problem.basis)
    return found


def answered(
    policy: Spring, problem: Spectrum, state: State, losses: list[float]
) -> tuple[Choice | None, State]:
    """The choice where the first losses are these and all others 20; it was 10."""
    table = torch.full((1, len(policy.lengths)), 20.0, dtype=torch.float64)
    table[0, : len(losses)] = torch.tensor(losses)
    probed = Probed(table, torch.zeros(*table.shape, ROWS).double())
    candidates = policy.propose(problem, state)
    return policy.choose(problem, 10.0, candidates, probed, state)


@pytest.mark.parametrize("momentum", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("damping", [1e-8, 1e-4, 1e-1])
def test_the_step_is_the_damped_one_nearest_to_a_part_of_the_last(
    damping: float, momentum: float
) -> None:
    part, phi = sketch(), last()
    problem = spectrum(part)
    policy = Spring(damping=damping, momentum=momentum)
    found = step(policy, problem, State(phi))
    mu = damping * float(torch.linalg.matrix_norm(part.factor, 2)) ** 2
    # 1e-16 over sqrt(1e-8). Measured at most 3e-13.
    assert relative(found, nearest(part, mu, momentum * phi)) < 1e-10


def test_directions_that_the_sketch_does_not_see_keep_their_part_of_the_last() -> None:
    part, phi = sketch(), last()
    found = step(Spring(momentum=0.9), spectrum(part), State(phi))
    unseen = torch.linalg.svd(part.factor).Vh[ROWS:]
    assert unseen.shape == (SIZE - ROWS, SIZE)
    torch.testing.assert_close(
        unseen @ found, 0.9 * (unseen @ phi), rtol=1e-12, atol=1e-13
    )


@pytest.mark.parametrize("state", ["first", "without"])
def test_without_momentum_or_a_last_step_it_is_the_damped_step(state: str) -> None:
    problem = spectrum(sketch())
    policy = Spring(damping=1e-4, momentum=0.9 if state == "first" else 0.0)
    kept = policy.start(EPS) if state == "first" else State(last())
    expected = problem.step(1e-4 * float(problem.s[0]) ** 2)
    assert relative(step(policy, problem, kept), expected) < 1e-13


def test_the_full_step_is_remembered_whatever_the_length_taken() -> None:
    problem, policy, state = spectrum(sketch()), Spring(momentum=0.9), State(last())
    for losses, taken in [([9.0, 9.5], 0), ([11.0, 9.0, 9.5], 1), ([nan, inf, 9], 2)]:
        choice, after = answered(policy, problem, state, losses)
        assert choice == Choice(0, taken)
        assert torch.equal(after.phi, step(policy, problem, state))
        # The next round starts from it.
        part = sketch(7)
        mu = policy.damping * float(torch.linalg.matrix_norm(part.factor, 2)) ** 2
        found = step(policy, spectrum(part), after)
        assert relative(found, nearest(part, mu, 0.9 * after.phi)) < 1e-9


@pytest.mark.parametrize("loss", [10.0, 11.0, nan])
def test_without_a_lower_loss_the_momentum_is_dropped(loss: float) -> None:
    problem, policy = spectrum(sketch()), Spring(momentum=0.9)
    choice, after = answered(policy, problem, State(last()), [loss])
    assert choice is None
    assert after.phi is policy.start(EPS).phi is None


def test_a_sketch_reaches_a_tenth_below_the_damping() -> None:
    assert Spring(damping=1e-6).reach(State(None)) == pytest.approx(
        1e-4, rel=1e-14, abs=0
    )


def test_where_nothing_is_seen_the_last_step_goes_on() -> None:
    nothing = Spectrum(*(torch.zeros(s).double() for s in (0, 0, (0, SIZE), (0, 0))))
    phi = last()
    assert torch.equal(step(Spring(momentum=0.9), nothing, State(phi)), 0.9 * phi)
