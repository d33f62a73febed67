"""Policies with one damping and cut-off: fixed, and a line search."""

from itertools import pairwise
from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import EPS, LOSS, SPECTRUM, chosen, proposed

from fedsciml.policies import Choice, Probed
from fedsciml.policies.fixed import Fixed
from fedsciml.policies.line_search import LineSearch, State


@pytest.mark.parametrize("policy", [LineSearch(0.1, 0.05), Fixed(0.5, 0.1, 0.05)])
def test_one_damping_and_cutoff_give_one_step(policy: LineSearch | Fixed) -> None:
    candidates = policy.propose(SPECTRUM, policy.start(EPS))
    expected = torch.tensor([10 / 100.1, 1 / 1.1, 0.0]).double()
    torch.testing.assert_close(candidates.coordinates, expected.unsqueeze(0))
    assert (candidates.dampings, candidates.cutoffs) == ([0.1], [0.05])
    assert policy.reach(policy.start(EPS)) == 0.05


def searched(losses: list[float]) -> Choice | None:
    policy = LineSearch(lengths=tuple(0.5**j for j in range(len(losses))))
    choice, state = chosen(policy, [losses])
    assert state.losses.shape == (0,)
    return choice


@pytest.mark.parametrize(
    ("losses", "length"),
    [
        ([9, 5, 7], 1),
        ([nan, 12, 7], 2),
        ([inf, nan, 9], 2),
        ([10, 10, 12], None),
        ([nan, nan, inf], None),
    ],
)
def test_a_line_search_takes_the_length_of_the_lowest_loss(
    losses: list[float], length: int | None
) -> None:
    assert searched(losses) == (None if length is None else Choice(0, length))


def test_lengths_of_a_line_search_halve() -> None:
    lengths = LineSearch().lengths
    assert lengths[0] == 1
    assert all(b == a / 2 for a, b in pairwise(lengths))


def test_a_fixed_step_is_taken_without_a_look() -> None:
    policy = Fixed(length=0.3)
    candidates = policy.propose(SPECTRUM, policy.start(EPS))
    assert candidates.lengths == [0.3]
    assert policy.choose(SPECTRUM, nan, candidates, None, None) == (Choice(0, 0), None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"damping": -1.0}, "damping must be at least 0, got -1.0"),
        ({"damping": nan}, "damping must be at least 0, got nan"),
        ({"damping": inf}, "damping must be at least 0"),
        ({"cutoff": 1.0}, r"cut-off must be in \[0, 1\), got 1.0"),
        ({"cutoff": -1e-3}, "cut-off must be in"),
        ({"cutoff": nan}, "cut-off must be in"),
    ],
)
@pytest.mark.parametrize("policy", [LineSearch, Fixed])
def test_dampings_and_cutoffs_out_of_range_are_refused(
    policy: type[LineSearch | Fixed], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        policy(**options)


@pytest.mark.parametrize("length", [0.0, -1.0, nan])
def test_a_fixed_step_must_have_a_length(length: float) -> None:
    with pytest.raises(ValueError, match="length of a step must be positive"):
        Fixed(length)


def remembered(
    policy: LineSearch, losses: list[float], loss: float, seen: list[float]
) -> tuple[Choice | None, list[float]]:
    """The choice and the memory after a round, from the losses at the lengths."""
    state = State(torch.tensor(seen, dtype=torch.float64))
    choice, after = chosen(policy, [losses], state, loss=loss)
    return choice, after.losses.tolist()


def test_with_memory_the_longest_step_below_the_greatest_recent_loss_is_taken() -> None:
    policy = LineSearch(lengths=(1.0, 0.5, 0.25), memory=3)
    table = [
        # The loss now, those before, at the lengths; which is taken.
        (10.0, [], [9.0, 5.0, 1.0], 0),  # not the lowest
        (10.0, [], [11.0, 9.0, 1.0], 1),
        (10.0, [20.0], [19.0, 5.0, 1.0], 0),
        (10.0, [20.0, 30.0, 12.0], [29.0, 1.0, 1.0], 0),
        (10.0, [30.0, 20.0, 12.0], [29.0, 19.0, 1.0], 1),  # 30 is forgotten
        (10.0, [20.0], [nan, inf, 19.0], 2),
        (10.0, [20.0], [21.0, 20.0, nan], None),
    ]
    for loss, seen, losses, length in table:
        choice, after = remembered(policy, losses, loss, seen)
        assert choice == (None if length is None else Choice(0, length))
        assert after == [*seen, loss][-3:]


def test_the_least_decrease_is_that_of_grippo_lampariello_and_lucidi() -> None:
    # f(x + t D) <= max f - 1e-4 t |slope|, slope = g . D, here with a dense gradient.
    policy = LineSearch(damping=2.0, cutoff=0.0, lengths=(1.0, 0.5), memory=2)
    (step,) = proposed(policy).steps(SPECTRUM.basis)
    matrix = torch.diag(SPECTRUM.s)
    gradient = -matrix.mT @ SPECTRUM.c
    slope = float(gradient @ step)
    assert slope < 0
    for j, length in enumerate(policy.lengths):
        border = 20 + 1e-4 * length * slope
        for loss, taken in [(border - 1e-9, True), (border + 1e-9, False)]:
            losses = [21.0, 21.0]
            losses[j] = loss
            choice, _ = remembered(policy, losses, 10.0, [20.0])
            assert (choice == Choice(0, j)) == taken


def test_a_memory_of_one_round_is_monotone() -> None:
    policy = LineSearch(lengths=(1.0, 0.5), memory=1)
    assert remembered(policy, [9.0, 1.0], 10.0, [99.0])[0] == Choice(0, 0)
    assert remembered(policy, [11.0, 9.0], 10.0, [99.0])[0] == Choice(0, 1)
    assert remembered(policy, [10.0, 10.0], 10.0, [99.0])[0] is None


@given(st.lists(st.floats(1, 100), min_size=1, max_size=12), st.integers(1, 6))
def test_the_memory_is_that_of_the_last_rounds(
    losses: list[float], memory: int
) -> None:
    policy = LineSearch(lengths=(1.0,), memory=memory)
    state = policy.start(EPS)
    for k, loss in enumerate(losses):
        highest = max(losses[max(0, k + 1 - memory) : k + 1])
        found, _ = chosen(policy, [[highest]], state, loss=loss)
        assert found is None
        below = highest - 1.01e-4 * 3  # the slope is -|c|^2 = -3
        found, state = chosen(policy, [[below]], state, loss=loss)
        assert found == Choice(0, 0)


def test_a_step_that_leads_uphill_is_asked_for_a_decrease_too() -> None:
    # Local training may give any step: here one against the target.
    policy = LineSearch(lengths=(1.0,), memory=2)
    aimed = SPECTRUM._replace(c=-SPECTRUM.c)
    state = policy.start(EPS)
    candidates = policy.propose(aimed, state)
    for loss, taken in [(LOSS + 1e-6, False), (LOSS, True), (LOSS - 1.0, True)]:
        probed = Probed(torch.tensor([[loss]]).double(), torch.zeros(1, 1, 3).double())
        choice, _ = policy.choose(SPECTRUM, LOSS, candidates, probed, state)
        assert (choice is not None) == taken


def test_the_memory_is_not_negative() -> None:
    with pytest.raises(ValueError, match="memory must be at least 0, got -1"):
        LineSearch(memory=-1)
