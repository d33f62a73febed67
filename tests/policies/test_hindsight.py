"""Hindsight: the next round's loss judges a step, and takes it back if it must."""

from dataclasses import replace

import pytest
import torch
from matrices import seeded
from torch import Tensor

from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.policies.hindsight import FACTOR, HIGHEST, ROSE, Hindsight, State

EPS = torch.finfo(torch.float64).eps


def problem() -> Spectrum:
    random = seeded(0)
    factor = torch.randn(6, 4, generator=random, dtype=torch.float64)
    target = torch.randn(6, generator=random, dtype=torch.float64)
    return spectrum(Sketch(factor, target))


def taken(policy: Hindsight, loss: float, state: State) -> tuple[Tensor, State]:
    """The step that is taken at this loss, shape [4], and the next state."""
    candidates = policy.propose(problem(), state)
    choice, after = policy.choose(problem(), loss, candidates, None, state)
    assert choice is not None
    assert choice.length == 0
    step = candidates.steps(problem().basis)[choice.step]
    return candidates.lengths[0] * step, after


@pytest.mark.parametrize(
    ("part", "factor"), [(1.0, 1 / FACTOR), (0.4, 1.0), (0.1, FACTOR), (-1.0, FACTOR)]
)
def test_damping_follows_what_a_step_did_of_what_it_promised(
    part: float, factor: float
) -> None:
    policy = Hindsight()
    _, first = taken(policy, 10.0, policy.start(EPS))
    assert first.mu == policy.damping * problem().top ** 2
    step, second = taken(policy, 10.0 - part * first.predicted, first)
    assert second.mu == pytest.approx(factor * first.mu, rel=1e-12)
    assert torch.allclose(step, problem().step(second.mu))
    _, high = taken(policy, 10.0, replace(first, mu=HIGHEST * problem().top ** 2))
    assert high.mu == HIGHEST * problem().top ** 2
    least = policy.floor**2 * problem().top ** 2
    _, low = taken(policy, 0.0, replace(first, mu=least, predicted=0.0))
    assert low.mu == least


@pytest.mark.parametrize("length", [1.0, 0.5])
def test_after_a_step_that_is_taken_back_stands_the_shorter_one(length: float) -> None:
    policy = Hindsight(damping=1e-3, length=length)
    step, first = taken(policy, 1.0, policy.start(EPS))
    back, second = taken(policy, 1.1 * ROSE, first)
    shorter = length * problem().step(FACTOR**2 * first.mu)
    assert torch.allclose(step + back, shorter, rtol=1e-12)
    assert second.mu == FACTOR**2 * first.mu
    # It is judged from where both began, and not taken back again.
    assert second.loss == 1.0
    decrease = problem().decrease(problem().basis @ shorter)
    assert second.predicted == pytest.approx(float(decrease), rel=1e-10)
    again, _ = taken(policy, 2 * ROSE, second)
    assert torch.allclose(again, length * problem().step(FACTOR * second.mu))


def test_it_solves_a_linear_problem_without_a_look() -> None:
    policy, whole = Hindsight(damping=1e-1), problem()
    state, at = policy.start(EPS), torch.zeros(4, dtype=torch.float64)
    lowest = float(whole.c.square().sum()) / 2
    for _ in range(12):
        here = whole._replace(c=whole.c - whole.s * (whole.basis @ at))
        loss = float(here.c.square().sum()) / 2
        candidates = policy.propose(here, state)
        choice, state = policy.choose(here, loss, candidates, None, state)
        assert choice is not None
        at = at + candidates.steps(here.basis)[choice.step]
    assert loss < 1e-20 * lowest
    assert torch.allclose(at, whole.step(), rtol=1e-10)


def test_losses_of_other_clients_are_not_compared() -> None:
    policy = Hindsight()
    _, first = taken(policy, 1.0, policy.start(EPS))
    renewed = policy.renewed(first, EPS)
    step, after = taken(policy, 1e9, renewed)
    assert after.mu == first.mu
    assert torch.allclose(step, problem().step(first.mu))


@pytest.mark.parametrize("given", [{"damping": 0.0}, {"length": 1.5}, {"floor": 1.0}])
def test_options_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"[Hh]indsight"):
        Hindsight(**given)
