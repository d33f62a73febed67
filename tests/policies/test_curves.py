"""Bent steps of the default policy, on residuals whose second derivative is known."""

import math

import pytest
import torch
from tables import EPS, LOSS, SPECTRUM
from torch import Tensor

from fedsciml.policies import Candidates, Choice, Probed
from fedsciml.policies._base import Bent
from fedsciml.policies.natural import Natural, State

POLICY = Natural(up=1, down=1)


def proposed(policy: Natural = POLICY) -> tuple[Candidates, State]:
    state = policy.start(EPS)
    return policy.propose(SPECTRUM, state), state


def cubic(candidates: Candidates, second: Tensor, third: Tensor) -> Probed:
    """What clients find where -U^T r has these derivatives along each step D."""
    t = second.new_tensor(candidates.lengths)[:, None]
    straight = SPECTRUM.c - t * (SPECTRUM.s * candidates.coordinates)[:, None]
    targets = straight + t**2 / 2 * second[:, None] + t**3 / 6 * third[:, None]
    return Probed(torch.full(targets.shape[:2], 2 * LOSS, dtype=t.dtype), targets)


def test_the_bend_is_half_the_step_that_removes_the_second_derivative() -> None:
    candidates, state = proposed()
    torch.manual_seed(0)
    second = 0.2 * SPECTRUM.s * torch.randn_like(candidates.coordinates)
    probed = cubic(candidates, second, torch.randn_like(second))
    bent = POLICY.bend(SPECTRUM, candidates, probed, None, state)
    assert bent is not None
    assert bent.which == [0, 1, 2]
    for i, curve in zip(bent.which, bent.curves, strict=True):
        mu = candidates.dampings[i]
        expected = SPECTRUM.s / (SPECTRUM.s**2 + mu) * second[i] / 2
        torch.testing.assert_close(curve, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("size", [1e-9, 1e9])
def test_no_exchange_is_spent_on_ways_that_are_straight_or_turn_back(
    size: float,
) -> None:
    candidates, state = proposed()
    second = size * torch.ones_like(candidates.coordinates)
    probed = cubic(candidates, second, 0 * second)
    assert POLICY.bend(SPECTRUM, candidates, probed, None, state) is None


def test_a_step_that_converges_is_not_bent_and_less_damped_ones_alone_are() -> None:
    candidates, state = proposed()
    second = 1e-2 * torch.ones_like(candidates.coordinates)
    probed = cubic(candidates, second, 0 * second)
    probed.targets[1, 0] = 0  # after the full step, nothing is left to do
    assert POLICY.bend(SPECTRUM, candidates, probed, Choice(1, 0), state) is None
    bent = POLICY.bend(SPECTRUM, candidates, probed, Choice(1, 3), state)
    assert bent is not None
    assert bent.which == [1, 2]
    off = Natural(up=1, down=1, curves=False)
    assert off.bend(SPECTRUM, candidates, probed, Choice(1, 3), state) is None


def again(
    losses: list[list[float]], straight: Choice | None, part: float = 0.1
) -> tuple[Choice | None, State]:
    """The choice where all three steps are bent by this part of their length."""
    candidates, state = proposed()
    curves = part / 2 * candidates.coordinates
    table = torch.tensor(losses, dtype=torch.float64)
    probed = cubic(candidates, 0 * curves, 0 * curves)
    told = SPECTRUM, LOSS, candidates, probed, Bent([0, 1, 2], curves), table
    return POLICY.choose_bent(*told, (straight, state))


BAD, GOOD, BEST = 2 * LOSS, LOSS - 2, LOSS - 3


def test_of_curves_that_are_sufficient_that_with_the_least_damping_is_taken() -> None:
    losses = [[BEST] * 4, [BAD, GOOD, BEST, BAD], [BAD] * 4]
    choice, state = again(losses, Choice(0, 0))
    assert choice is not None
    assert (choice.step, choice.length, choice.loss) == (1, 1, GOOD)
    assert choice.curve is not None
    assert state.level == POLICY.start(EPS).level


def test_what_was_chosen_stays_where_no_curve_is_better() -> None:
    for losses in ([[BAD] * 4] * 3, [[GOOD] * 4, [BAD] * 4, [math.nan] * 4]):
        choice, _ = again(losses, Choice(1, 0))
        assert choice == Choice(1, 0)
    # At t |D_2| > |D| it is not asked for, whatever the loss there.
    choice, _ = again([[BAD] * 4, [BAD] * 4, [BEST, BAD, BAD, BAD]], None, part=1.1)
    assert choice is None


def test_where_no_step_was_taken_the_lowest_curve_is() -> None:
    slight = LOSS - 1e-9
    losses = [[BAD] * 4, [slight, BAD, LOSS - 1e-12, BAD], [BAD] * 4]
    choice, _ = again(losses, None)
    assert choice is not None
    assert (choice.step, choice.length, choice.loss) == (1, 0, slight)
