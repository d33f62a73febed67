"""Policies with one damping and cut-off: fixed, and a line search."""

from itertools import pairwise
from math import inf, nan

import pytest
import torch
from tables import EPS, LOSS, SPECTRUM

from fedsciml.policies.fixed import Fixed
from fedsciml.policies.line_search import LineSearch
from fedsciml.steps import Choice, Probed


@pytest.mark.parametrize("policy", [LineSearch(0.1, 0.05), Fixed(0.5, 0.1, 0.05)])
def test_one_damping_and_cutoff_give_one_step(policy: LineSearch | Fixed) -> None:
    candidates = policy.propose(SPECTRUM, policy.start(EPS))
    expected = torch.tensor([10 / 100.1, 1 / 1.1, 0.0]).double()
    torch.testing.assert_close(candidates.coordinates, expected.unsqueeze(0))
    assert (candidates.dampings, candidates.cutoffs) == ([0.1], [0.05])
    assert policy.reach(policy.start(EPS)) == 0.05


def searched(losses: list[float]) -> Choice | None:
    policy = LineSearch(lengths=tuple(0.5**j for j in range(len(losses))))
    candidates = policy.propose(SPECTRUM, {})
    targets = torch.zeros(1, len(losses), 3).double()
    probed = Probed(torch.tensor([losses]).double(), targets)
    choice, state = policy.choose(SPECTRUM, LOSS, candidates, probed, {})
    assert state == {}
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
    assert policy.choose(SPECTRUM, nan, candidates, None, {}) == (Choice(0, 0), {})


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
