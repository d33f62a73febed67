"""The least damping whose actual decrease is a fraction of the predicted one."""

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import EPS, LOSS, SPECTRUM, chosen, predicted, proposed

from fedsciml.policies import Choice
from fedsciml.policies.gain import Gain

SHORT = Gain(floor=1e-2)
"""Five dampings, sqrt(mu) / s_1 = 1, 10^-1/2, ..., 1e-2."""

PREDICTED = predicted(proposed(SHORT))[:, 0].tolist()


def taken(policy: Gain, losses: list[float]) -> int | None:
    choice, state = chosen(policy, [[loss] for loss in losses])
    assert state == policy.start(EPS)
    assert choice is None or choice == Choice(choice.step, 0)
    return None if choice is None else choice.step


def test_the_ladder_goes_by_half_decades_from_the_largest_singular_value() -> None:
    candidates = proposed(SHORT)
    expected = [(10 * 10 ** (-i / 2)) ** 2 for i in range(5)]
    assert candidates.dampings == pytest.approx(expected, rel=1e-12, abs=0)
    assert (candidates.cutoffs, candidates.lengths) == ([0.0] * 5, [1.0])
    for mu, step in zip(candidates.dampings, candidates.coordinates, strict=True):
        torch.testing.assert_close(step, SPECTRUM.step(mu), rtol=1e-14, atol=0)
    assert SHORT.reach(SHORT.start(EPS)) == pytest.approx(1e-3, rel=1e-9, abs=0)
    whole = proposed(Gain()).dampings
    assert whole[-1] ** 0.5 == pytest.approx(10 * 1e-11, rel=1e-9, abs=0)
    assert len(whole) == 23


def test_less_damping_goes_before_a_lower_loss() -> None:
    assert taken(SHORT, [1.0, 2.0, 3.0, 4.0, 5.0]) == 4
    assert taken(SHORT, [1.0, 2.0, 3.0, 4.0, 9.99]) == 3  # less than 0.075 of 1.5
    assert taken(SHORT, [9.0, 9.0, nan, 9.0, inf]) == 3
    assert taken(SHORT, [9.0, 11.0, 11.0, 11.0, 11.0]) == 0


@pytest.mark.parametrize("fraction", [0.075, 0.25, 0.9])
def test_the_fraction_is_the_border(fraction: float) -> None:
    policy = Gain(fraction=fraction, floor=1e-2)
    for i in range(5):
        losses = [LOSS - fraction * x * (1 - 1e-9) for x in PREDICTED]
        losses[i] = LOSS - fraction * PREDICTED[i] * (1 + 1e-9)
        assert taken(policy, losses) == i


def test_where_no_promise_is_kept_the_lowest_loss_is_taken() -> None:
    just = [LOSS - 0.01 * x for x in PREDICTED]
    assert taken(SHORT, just) == just.index(min(just))
    assert taken(SHORT, [LOSS, LOSS - 1e-6, LOSS + 1, nan, inf]) == 1
    assert taken(SHORT, [LOSS, LOSS, LOSS + 1, nan, inf]) is None


@given(st.lists(st.floats(8.4, 10.5) | st.just(nan), min_size=5, max_size=5))
def test_of_the_steps_that_keep_the_promise_the_least_damped_is_taken(
    losses: list[float],
) -> None:
    pairs = list(zip(losses, PREDICTED, strict=True))
    kept = [i for i, (x, p) in enumerate(pairs) if LOSS - x >= 0.075 * p > 0]
    lower = [i for i, x in enumerate(losses) if x < LOSS]
    lowest = min(lower, key=lambda i: losses[i], default=None)
    assert taken(SHORT, losses) == (kept[-1] if kept else lowest)
