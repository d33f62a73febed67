"""Of several cut-offs, the one with the largest predicted progress that is kept."""

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import EPS, LOSS, SPECTRUM, chosen, predicted, proposed
from torch import Tensor

from fedsciml.policies import Choice
from fedsciml.policies.progress import Progress

SHORT = Progress(cutoff=1e-3, lengths=(1.0, 0.5))
"""Cut-offs 1e-1, 1e-2 and 1e-3; of s = 10, 1, 0.05 they keep 1, 2 and 3."""

PREDICTED = predicted(proposed(SHORT))


def taken(losses: Tensor | list[list[float]]) -> tuple[int, int] | None:
    choice, state = chosen(SHORT, losses)
    assert state == SHORT.start(EPS)
    return None if choice is None else (choice.step, choice.length)


def test_the_steps_are_undamped_with_a_cutoff_a_decade() -> None:
    candidates = proposed(SHORT)
    assert candidates.cutoffs == pytest.approx([1e-1, 1e-2, 1e-3], rel=1e-12, abs=0)
    assert (candidates.dampings, candidates.lengths) == ([0.0] * 3, [1.0, 0.5])
    inverse = 1 / SPECTRUM.s
    kept = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).double()
    torch.testing.assert_close(candidates.coordinates, kept * inverse)
    # |c|^2 / 2 of what is kept; three quarters of it at half the length.
    expected = torch.tensor([[0.5, 0.375], [1.0, 0.75], [1.5, 1.125]]).double()
    torch.testing.assert_close(PREDICTED, expected)
    assert SHORT.reach(SHORT.start(EPS)) == 1e-3
    assert len(proposed(Progress()).cutoffs) == 11


def test_the_largest_promise_kept_goes_before_the_lowest_loss() -> None:
    low, kept, up = 1.0, LOSS - 0.5, LOSS + 1
    assert taken([[low, low], [low, low], [kept, low]]) == (2, 0)
    assert taken([[low, low], [low, low], [up, kept]]) == (2, 1)
    assert taken([[low, low], [kept, low], [up, up]]) == (1, 0)
    # 1.125 of the half step promises more than 1.0 of the full one.
    assert taken([[low, low], [low, low], [nan, kept]]) == (2, 1)
    assert taken([[low, up], [inf, nan], [up, up]]) == (0, 0)


def test_a_quarter_of_the_promise_is_the_border() -> None:
    just = LOSS - 0.25 * PREDICTED * (1 + 1e-9)
    not_quite = LOSS - 0.25 * PREDICTED * (1 - 1e-9)
    for i in range(3):
        for j in range(2):
            losses = not_quite.clone()
            losses[i, j] = just[i, j]
            assert taken(losses) == (i, j)


def test_where_no_promise_is_kept_the_lowest_loss_is_taken() -> None:
    up = [LOSS, nan]
    assert taken([up, [LOSS - 0.01, LOSS - 0.02], [inf, LOSS - 0.005]]) == (1, 1)
    assert taken([up, up, up]) is None


table = st.lists(st.floats(8.4, 10.5) | st.just(nan), min_size=6, max_size=6)


@given(table.map(lambda v: [v[:2], v[2:4], v[4:]]))
def test_the_choice_is_that_of_its_definition(losses: list[list[float]]) -> None:
    all_ = [(i, j) for i in range(3) for j in range(2)]
    gain = {(i, j): LOSS - losses[i][j] for i, j in all_}
    kept = [k for k in all_ if gain[k] > 0 and gain[k] >= 0.25 * float(PREDICTED[k])]
    found = taken(losses)
    if kept:
        assert found == max(kept, key=lambda k: float(PREDICTED[k]))
    else:
        lower = [k for k in all_ if gain[k] > 0]
        assert found == max(lower, key=lambda k: gain[k], default=None)
    assert chosen(SHORT, losses)[0] == (found and Choice(*found))
