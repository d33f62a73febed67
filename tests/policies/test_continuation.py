"""A cut-off that falls while steps are long and rises when they become short."""

from dataclasses import replace
from math import nan

import pytest
import torch
from tables import EPS, SPECTRUM, chosen, proposed

from fedsciml.policies import Choice
from fedsciml.policies.continuation import Continuation, State

LENGTHS = (1.0, 1 / 2, 1 / 4, 1 / 16, 1 / 32, 1 / 64)
POLICY = Continuation(cutoff=5e-2, factor=0.3, lengths=LENGTHS)
"""Of s = 10, 1, 0.05 the first two are kept: 1.0 of the loss can be removed."""

MUCH, LITTLE = 9.0, 11.0
"""Losses of which 1.0 is more and less than a tenth."""


def after(length: float | None, loss: float, cutoff: float = 5e-2) -> float:
    """The next cut-off after a step of that length."""
    losses = [loss - 0.5 if x == length else loss + 1.0 for x in LENGTHS]
    before = replace(POLICY.start(EPS), cutoff=cutoff)
    choice, state = chosen(POLICY, [losses], before, loss=loss)
    assert choice == (None if length is None else Choice(0, LENGTHS.index(length)))
    assert state.floor == before.floor
    return state.cutoff


def test_the_step_is_undamped_at_the_cutoff() -> None:
    candidates = proposed(POLICY)
    expected = torch.tensor([[0.1, 1.0, 0.0]]).double()
    torch.testing.assert_close(candidates.coordinates, expected)
    assert (candidates.dampings, candidates.cutoffs) == ([0.0], [5e-2])
    assert candidates.lengths == list(LENGTHS)
    assert POLICY.reach(POLICY.start(EPS)) == 5e-2
    torch.testing.assert_close(
        proposed(POLICY, State(1e-3, 1e-12)).coordinates, 1 / SPECTRUM.s.unsqueeze(0)
    )


@pytest.mark.parametrize("loss", [MUCH, LITTLE])
@pytest.mark.parametrize("length", [1.0, 1 / 2])
def test_after_a_long_step_the_cutoff_falls(length: float, loss: float) -> None:
    assert after(length, loss) == pytest.approx(5e-2 * 0.3, rel=1e-14, abs=0)


@pytest.mark.parametrize("loss", [MUCH, LITTLE])
@pytest.mark.parametrize("length", [1 / 4, 1 / 16])
def test_after_a_step_between_the_cutoff_stays(length: float, loss: float) -> None:
    assert after(length, loss) == 5e-2


@pytest.mark.parametrize("length", [1 / 32, 1 / 64, None])
def test_after_a_short_step_the_cutoff_rises_unless_that_is_stagnation(
    length: float | None,
) -> None:
    assert after(length, MUCH) == pytest.approx(5e-2 / 0.3, rel=1e-14, abs=0)
    assert after(length, LITTLE) == pytest.approx(5e-2 * 0.3, rel=1e-14, abs=0)


def test_the_cutoff_stays_between_the_floor_and_a_half() -> None:
    assert after(None, 4.9, 0.3) == 0.5  # 0.5 of 4.9 can be removed
    assert after(1.0, MUCH, 2e-12) == 1e-12
    assert Continuation().start(2.0**-23).floor == 50 * 2.0**-23


def test_the_length_is_that_of_the_lowest_loss() -> None:
    losses = [[8.0, 7.0, nan, 7.5, 9.0, 10.0]]
    assert chosen(POLICY, losses)[0] == Choice(0, 1)
    assert chosen(POLICY, [[nan, 10.0, 11.0, 10.0, nan, nan]])[0] is None
