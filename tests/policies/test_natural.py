"""The default policy: its rules on tables of losses and targets written by hand."""

from dataclasses import astuple, replace
from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import EPS, LOSS, SPECTRUM, chosen, predicted
from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies import Candidates, Choice, Probed
from fedsciml.policies.natural import FARTHER, Natural, State, _level

SMALL = Natural(up=1, down=1, lengths=(1.0, 0.5))
"""Three steps, damping falling, at two lengths: tables of 3 x 2."""

UP = 2 * LOSS  # worse than now
SLIGHT = LOSS - 0.05  # lower, but by less than a quarter of what is predicted
DOWN = LOSS - 2  # sufficient


def at(level: float, policy: Natural = SMALL, **more: float) -> State:
    return replace(policy.start(EPS), level=level, **more)


def choose(
    losses: list[list[float]],
    theta: list[list[float]] | None = None,
    state: State | None = None,
    policy: Natural = SMALL,
) -> tuple[Choice | None, State]:
    """The choice from losses and Theta = |A c(theta + t D)| / |A c(theta)|, [T, S].

    Where no Theta is given, all of them are too large to be natural.
    """
    state = state or at(4, policy)
    table = torch.tensor(losses, dtype=torch.float64)
    # Targets of Theta times those at theta are corrections of Theta times the step.
    ratio = torch.full_like(table, 2.0) if theta is None else table.new_tensor(theta)
    probed = Probed(table, ratio.double().unsqueeze(-1) * SPECTRUM.c)
    candidates = policy.propose(SPECTRUM, state)
    return policy.choose(SPECTRUM, LOSS, candidates, probed, state)


def test_candidates_are_the_damped_steps_around_the_last_level() -> None:
    policy = Natural(up=2, down=3)
    candidates = policy.propose(SPECTRUM, at(7))
    assert len(candidates.dampings) == 6
    for i, mu, step in zip(
        range(5, 11), candidates.dampings, candidates.coordinates, strict=True
    ):
        assert mu == pytest.approx((10 * 10 ** (-i / 2)) ** 2, rel=1e-12, abs=0)
        expected = SPECTRUM.s / (SPECTRUM.s**2 + mu) * SPECTRUM.c
        torch.testing.assert_close(step, expected, rtol=1e-14, atol=0)
        torch.testing.assert_close(step, SPECTRUM.step(mu), rtol=1e-14, atol=0)
    assert candidates.cutoffs == [0.0] * 6
    assert candidates.lengths == list(policy.lengths)


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        # A natural step with hardly any decrease beats sufficient ones of less damping.
        ([[2, 2], [2, 0.8], [2, 2]], (1, 1)),
        # Of several, the one with the least damping ...
        ([[0.7, 0.8], [0.7, 0.8], [2, 0.8]], (2, 1)),
        # ... and of its lengths the greatest.
        ([[0.7, 0.8], [0.7, 0.8], [0.7, 0.8]], (2, 0)),
        # 1 - t / 4 is the border: 0.75 at full length, 0.875 at half.
        ([[0.74, 2], [0.76, 2], [2, 2]], (0, 0)),
        ([[2, 2], [2, 0.87], [2, 0.88]], (1, 1)),
        # Without a natural one, the least damped sufficient one.
        ([[2, 2], [2, 2], [2, 2]], (2, 0)),
    ],
)
def test_natural_steps_come_first_then_those_of_the_least_damping(
    theta: list[list[float]], expected: tuple[int, int]
) -> None:
    losses = [[DOWN, DOWN], [SLIGHT, SLIGHT], [DOWN, DOWN]]
    choice, state = choose(losses, theta)
    assert choice == Choice(*expected)
    assert state.level == 3 + expected[0]


def test_a_natural_step_that_does_not_lower_the_loss_is_not_taken() -> None:
    theta = [[0.6, 0.6], [0.6, 0.6], [0.6, 0.6]]
    losses = [[SLIGHT, UP], [UP, UP], [LOSS, LOSS]]
    assert choose(losses, theta)[0] == Choice(0, 0)


def test_a_sufficient_decrease_is_a_quarter_of_the_predicted() -> None:
    candidates = SMALL.propose(SPECTRUM, at(4))
    steps, lengths = candidates.coordinates, torch.tensor([1.0, 0.5]).double()
    model = SPECTRUM.c - SPECTRUM.s * lengths.view(1, 2, 1) * steps.view(3, 1, 3)
    predicted = 1.5 - model.square().sum(-1) / 2
    just = LOSS - 0.25 * predicted * (1 + 1e-6)
    not_quite = LOSS - 0.25 * predicted * (1 - 1e-6)
    for i in range(3):
        for j in range(2):
            losses = not_quite.clone()
            losses[i, j] = just[i, j]
            assert choose(losses.tolist())[0] == Choice(i, j)


def test_without_natural_or_sufficient_steps_the_lowest_loss_is_taken() -> None:
    losses = [[SLIGHT, SLIGHT], [SLIGHT, SLIGHT - 0.01], [SLIGHT, UP]]
    assert choose(losses)[0] == Choice(1, 1)


def test_a_step_with_a_hundred_times_the_lowest_loss_is_out() -> None:
    theta = [[2, 2], [2, 2], [0.7, 2]]
    lowest = [DOWN / 99, DOWN / 101]
    found = [choose([[x, UP], [UP, UP], [DOWN, UP]], theta)[0] for x in lowest]
    assert found == [Choice(2, 0), Choice(0, 0)]
    bold = Natural(up=1, down=1, lengths=(1.0, 0.5), greed=1000.0)
    losses = [[lowest[1], UP], [UP, UP], [DOWN, UP]]
    assert choose(losses, theta, policy=bold)[0] == Choice(2, 0)


@pytest.mark.parametrize(
    ("loss", "theta", "ceiling", "taken"),
    [
        (2 * LOSS, 0.49, 4.1 * LOSS, True),
        (2 * LOSS, 0.49, 3.9 * LOSS, False),  # above half of the earlier ceiling
        (2 * LOSS, 0.51, 4.1 * LOSS, False),  # no converging Newton method
        (2 * LOSS, 0.49, 0.0, False),
        (nan, 0.0, inf, False),
    ],
)
def test_a_converging_full_step_may_raise_the_loss_up_to_the_ceiling(
    loss: float, theta: float, ceiling: float, taken: bool
) -> None:
    ratios = [[2, 2], [2, 2], [theta, 0.0]]  # the half step raises it in vain
    losses = [[DOWN, UP], [UP, UP], [loss, loss]]
    choice, _ = choose(losses, ratios, at(4, ceiling=ceiling))
    assert choice == (Choice(2, 0) if taken else Choice(0, 0))


def test_the_ceiling_is_the_greatest_loss_halved_each_round() -> None:
    losses = [[DOWN, DOWN]] * 3
    for before, after in [(0.0, LOSS), (1.5 * LOSS, LOSS), (8 * LOSS, 4 * LOSS)]:
        assert choose(losses, state=at(4, ceiling=before))[1].ceiling == after
        up = [[UP, UP]] * 3
        assert choose(up, state=at(4, ceiling=before))[1].ceiling == after


@pytest.mark.parametrize("worse", [LOSS, UP, nan, inf])
def test_without_a_lower_loss_there_is_no_step_and_more_damping(worse: float) -> None:
    choice, state = choose([[worse, worse]] * 3)
    assert choice is None
    assert state.level < 3  # less than all that were probed


@pytest.mark.parametrize("bad", [nan, inf])
def test_losses_that_are_not_finite_are_never_taken(bad: float) -> None:
    natural = [[0.0, 0.0]] * 3
    assert choose([[bad, bad], [bad, SLIGHT], [bad, bad]], natural)[0] == Choice(1, 1)
    assert choose([[bad, bad], [bad, SLIGHT], [bad, bad]])[0] == Choice(1, 1)
    assert choose([[bad, bad]] * 3, natural)[0] is None


def test_a_step_whose_targets_are_not_finite_is_not_natural() -> None:
    theta = [[0.7, 2], [nan, 2], [inf, 2]]
    assert choose([[SLIGHT, SLIGHT]] * 3, theta)[0] == Choice(0, 0)


def test_levels_stay_between_the_most_damping_and_the_floor() -> None:
    policy = Natural()
    up = [[UP] * 4]
    state = policy.start(EPS)
    for _ in range(5):  # no step ever succeeds
        rows = len(policy.propose(SPECTRUM, state).dampings)
        choice, state = choose(up * rows, state=state, policy=policy)
        assert choice is None
        assert state.level >= 1
    assert state.level == 1
    down = [[DOWN] * 4]
    for _ in range(25):  # every step succeeds
        rows = len(policy.propose(SPECTRUM, state).dampings)
        choice, state = choose(down * rows, state=state, policy=policy)
        assert choice == Choice(rows - 1, 0)
    relative = [mu**0.5 / 10 for mu in policy.propose(SPECTRUM, state).dampings]
    assert relative[-1] == pytest.approx(policy.floor, rel=1e-9, abs=0)
    assert len(relative) == policy.up + 1


def test_more_directions_than_wanted_raise_the_least_damping() -> None:
    k, p, policy = 100, 200, Natural(directions=80)
    s = torch.logspace(0, -9.9, k, dtype=torch.float64)
    many = Spectrum(s, s, torch.eye(k, p).double(), torch.eye(k).double())
    state = at(21, policy)
    candidates = policy.propose(many, state)
    shape = (len(candidates.dampings), len(candidates.lengths))
    probed = Probed(torch.zeros(shape), torch.zeros(*shape, k).double())
    _, after = policy.choose(many, 1.0, candidates, probed, state)
    assert 10 * s[80] <= policy.propose(many, after).dampings[-1] ** 0.5 < 40 * s[80]
    _, other = Natural(directions=100).choose(many, 1.0, candidates, probed, state)
    assert other.floor == state.floor


def bounded(losses: list[float], level: float = 99.0) -> list[State]:
    """States where two directions are too many, and a step of that level comes first.

    Losses are those where the steps start. ``SPECTRUM`` has three directions.
    """
    policy = Natural(up=1, down=1, lengths=(1.0, 0.5), directions=2)
    state, found = policy.start(EPS), []
    for loss in losses:
        state = replace(state, level=min(level, _level(state.floor)))
        rows = len(policy.propose(SPECTRUM, state).dampings)
        table = torch.full((rows, 2), 0.99 * loss).double()
        targets = 2 * SPECTRUM.c.expand(rows, 2, 3)
        _, state = chosen(policy, table, state, targets, loss)
        found.append(state)
    return found


def test_a_stall_at_the_least_damping_that_the_directions_allow_takes_more() -> None:
    grown = [state.budget for state in bounded([1.0] * 12)]
    # Slow in rounds 1 to 3, as many on trial, and once is enough.
    assert grown == [1.0] * 2 + [1.5] * 3 + [1.0] * 7
    floors = [state.floor for state in bounded([1.0] * 4)]
    least = SMALL.start(EPS).floor
    assert floors[1] > least == floors[2] == floors[3]
    # Where more damping is taken than must be, it is not the directions.
    assert {state.budget for state in bounded([1.0] * 12, level=1.0)} == {1.0}


def test_directions_that_halve_the_loss_are_kept() -> None:
    states = bounded([1.0] * 4 + [0.4] * 9)
    assert [state.budget for state in states] == [1.0] * 2 + [1.5] * 11
    assert [state.kept for state in states] == [1.0] * 4 + [1.5] * 9


@pytest.mark.parametrize("level", [1, 4, 10, 22])
def test_a_sketch_reaches_a_tenth_below_the_least_damping(level: int) -> None:
    policy, state = Natural(), at(level)
    least = policy.propose(SPECTRUM, state).dampings[-1] ** 0.5
    assert policy.reach(state) == pytest.approx(0.1 * least / 10, rel=1e-12, abs=0)


tables = st.lists(
    st.one_of(st.floats(0, 20), st.sampled_from([nan, inf])), min_size=6, max_size=6
).map(lambda v: [v[:2], v[2:4], v[4:]])


@given(tables, tables, st.integers(1, 22), st.floats(0, 50))
def test_what_is_taken_is_finite_and_below_the_ceiling(
    losses: list[list[float]], theta: list[list[float]], level: int, ceiling: float
) -> None:
    state = at(level, ceiling=ceiling)
    rows = len(SMALL.propose(SPECTRUM, state).dampings)
    choice, after = choose(losses[:rows], theta[:rows], state)
    assert 1 <= after.level <= 22
    lowest = min((x for row in losses[:rows] for x in row if x < LOSS), default=None)
    assert (choice is None) == (lowest is None)
    if choice is not None:
        assert losses[choice.step][choice.length] <= max(LOSS, ceiling / 2)


def test_where_nothing_is_known_no_step_is_taken() -> None:
    nothing = Spectrum(*(torch.zeros(s).double() for s in (0, 0, (0, 3), (0, 0))))
    state = SMALL.start(EPS)
    candidates = SMALL.propose(nothing, state)
    assert candidates.coordinates.shape == (3, 0)
    probed = Probed(torch.full((3, 2), LOSS), torch.zeros(3, 2, 0).double())
    choice, _ = SMALL.choose(nothing, LOSS, candidates, probed, state)
    assert choice is None


def test_policies_keep_plain_numbers() -> None:
    state = choose([[DOWN, DOWN]] * 3)[1]
    assert all(isinstance(value, float) for value in astuple(state))
    candidates: Candidates = SMALL.propose(SPECTRUM, state)
    assert isinstance(candidates.coordinates, Tensor)


DEEP, STALLED = 2.0, {"slow": 3.0, "best": 2.0, "peak": 1e7}
"""A loss of which the model can remove 1.5, and what was seen before in a stall."""

LOOK = 1 + 1 + 1 + FARTHER
"""Levels in a stall, of ``SMALL``."""


def looked(
    losses: dict[tuple[int, int], float],
    theta: dict[tuple[int, int], float],
    state: State,
    loss: float = DEEP,
) -> tuple[Choice | None, State]:
    """The choice in a table where all other losses are 1000 and Thetas 2."""
    rows = len(SMALL.propose(SPECTRUM, state).dampings)
    table, ratio = torch.full((rows, 2), 1000.0).double(), torch.full((rows, 2), 2.0)
    for entries, values in ((losses, table), (theta, ratio)):
        for place, value in entries.items():
            values[place] = value
    targets = ratio.double()[..., None] * SPECTRUM.c
    return chosen(SMALL, table, state, targets, loss)


@pytest.mark.parametrize(
    ("slow", "best", "stalled"),
    [
        (3.0, 0.9e-6, True),
        (4.0, 1e-9, True),
        (2.0, 1e-9, False),  # not slow for long
        (-1.0, 1e-9, False),
        (99.0, 1.1e-6, False),  # not deep
    ],
)
def test_only_deep_and_slow_is_a_stall_where_less_damping_is_looked_at(
    slow: float, best: float, stalled: bool
) -> None:
    state = at(4, slow=slow, best=best, peak=1.0)
    levels = range(3, 6 + FARTHER if stalled else 6)
    expected = [(10 * 10 ** (-i / 2)) ** 2 for i in levels]
    assert SMALL.propose(SPECTRUM, state).dampings == pytest.approx(
        expected, rel=1e-9, abs=0
    )


def test_three_slow_rounds_make_a_stall_and_after_a_look_nine() -> None:
    state, loss, found = at(10), 1e8, []
    for k in range(40):
        rows = len(SMALL.propose(SPECTRUM, state).dampings)
        found.append(rows > 3)
        table = torch.full((rows, 2), 0.99 * loss).double()
        targets = 2 * SPECTRUM.c.expand(rows, 2, 3)
        _, state = chosen(SMALL, table, state, targets, loss)
        state = replace(state, level=10.0)
        loss = 1.0 if k == 0 else (0.4 if k == 22 else 0.99) * loss
    looks = [k for k, wide in enumerate(found) if wide]
    # Round 1 sees the loss 1, rounds 2 to 4 hardly less; round 23 sees less than half.
    assert looks == [5, 15, 27, 37]


def test_a_hop_that_does_not_halve_the_loss_makes_the_next_one_wait_longer() -> None:
    state = at(4, **STALLED)
    for losses, patience in [([DEEP] * 9, 6.0), ([9.0] * 5 + [DEEP / 3], 3.0)]:
        choice, after = looked({}, {(6, 1): 0.6}, state)
        assert choice == Choice(6, 1)
        assert after.patience == 6
        for loss in losses:
            _, after = looked({(0, 0): loss / 2}, {}, replace(after, level=4.0), loss)
        assert after.patience == patience
    # The same count is no stall yet.
    for patience, rows in [(3.0, LOOK), (6.0, 3)]:
        state = at(4, patience=patience, **STALLED)
        assert len(SMALL.propose(SPECTRUM, state).dampings) == rows


def test_full_steps_of_the_least_damping_lower_it_to_the_floor() -> None:
    policy = Natural(up=1, down=1, lengths=(1.0, 0.5), begin=1e-2, floor=1e-4)
    found = []
    for length in (1, 0, 0, 0, 0):  # a half step, then full ones
        state = found[-1] if found else policy.start(EPS)
        state = replace(state, level=99.0, best=LOSS, peak=LOSS)
        rows = len(policy.propose(SPECTRUM, state).dampings)
        losses = torch.full((rows, 2), UP).double()
        losses[-1, length] = DOWN
        targets = 2 * SPECTRUM.c.expand(rows, 2, 3)
        _, state = chosen(policy, losses, state, targets, LOSS)
        found.append(state)
    least = [state.least for state in found]
    assert least == pytest.approx([1e-2, 1e-3, 1e-4, 1e-4, 1e-4], rel=1e-9, abs=0)
    single = Natural(begin=0.1).start(2.0**-23)
    assert single.least == 0.1
    with pytest.raises(ValueError, match="begin must be in"):
        Natural(begin=1.0)


def test_no_hop_is_looked_for_while_more_directions_are_on_trial() -> None:
    state = at(4, budget=1.5, **STALLED)
    assert len(SMALL.propose(SPECTRUM, state).dampings) == 3
    kept = replace(state, kept=1.5)
    assert len(SMALL.propose(SPECTRUM, kept).dampings) == LOOK
    assert SMALL.renewed(state, EPS).budget == 1.0
    assert SMALL.renewed(kept, EPS).budget == 1.5


def test_the_rounds_that_count_as_slow_do_not_halve_the_loss() -> None:
    for factor, slow in [(0.51, 3.0), (0.49, 0.0)]:
        state = at(4, slow=2.0, best=DEEP / factor, peak=1e7)
        assert looked({(0, 0): 1.0}, {}, state)[1].slow == slow


def test_a_hop_is_the_candidate_of_the_smallest_theta_whatever_its_loss() -> None:
    theta = {(2, 0): 0.74, (5, 0): 0.7, (6, 1): 0.6, (7, 0): 0.76}
    lower = {(0, 0): 1.0}
    choice, state = looked(lower, theta, at(4, **STALLED))
    assert choice == Choice(6, 1)
    assert state.level == 3 + 6
    assert state.slow == -6
    # Without a stall it is an ordinary round.
    assert looked(lower, {(1, 0): 0.6}, at(4))[0] == Choice(0, 0)


def test_a_hop_passes_the_natural_test_and_stays_below_the_greatest_loss() -> None:
    state, lower = at(4, **STALLED), {(0, 0): 1.0}
    # Above 1 - t / 4 there is none, at either length.
    assert looked(lower, {(5, 0): 0.76, (6, 1): 0.88}, state)[0] == Choice(0, 0)
    assert looked(lower, {(6, 1): 0.87}, state)[0] == Choice(6, 1)
    theta = {(5, 0): 0.1, (6, 0): 0.2, (7, 0): 0.3, (8, 0): 0.4}
    losses = {**lower, (5, 0): 1.1e7, (6, 0): nan, (7, 0): inf, (8, 0): 0.9e7}
    assert looked(losses, theta, state)[0] == Choice(8, 0)


def test_a_hop_is_promised_half_of_the_loss() -> None:
    theta = {(i, j): 0.01 * (1 + 2 * i + j) for i in range(LOOK) for j in range(2)}
    candidates = SMALL.propose(SPECTRUM, at(4, **STALLED))
    promise = predicted(candidates)
    for loss in (1.0, 1.9, 2.1, 2.4, 2.9):
        choice, state = looked({}, theta, at(4, **STALLED), loss)
        assert choice is not None
        able = (promise >= loss / 2).nonzero().tolist()
        assert choice == Choice(*able[0])  # Theta grows from there
        assert state.level == 3 + choice.step


@pytest.mark.parametrize("loss", [3.1, 1e6])
def test_at_the_rounding_level_there_is_no_hop(loss: float) -> None:
    # No step helps, and the model promises less than half of the loss.
    theta = {(i, j): 0.0 for i in range(LOOK) for j in range(2)}
    ups = {(i, j): 1.5 * loss for i in range(LOOK) for j in range(2)}
    state = at(4, slow=3.0, best=loss, peak=1e13)
    choice, after = looked(ups, theta, state, loss)
    assert choice is None
    assert after.least == state.least


def test_a_look_goes_down_to_the_rounding_unit_and_a_hop_lowers_the_floor() -> None:
    state = at(22, **STALLED)
    before = SMALL.propose(SPECTRUM, at(22)).dampings
    assert (before[-1] / 100) ** 0.5 == pytest.approx(SMALL.floor, rel=1e-9, abs=0)
    dampings = SMALL.propose(SPECTRUM, state).dampings
    least = (dampings[-1] / 100) ** 0.5
    assert 50 * EPS <= least < 10**0.5 * 50 * EPS
    assert SMALL.reach(state) == pytest.approx(0.1 * least, rel=1e-9, abs=0)
    hop = 4
    choice, after = looked({}, {(hop, 0): 0.3}, state)
    assert choice == Choice(hop, 0)
    # Ordinary rounds may go down to there, and no farther, from the next one on.
    for _ in range(3):
        ordinary = SMALL.propose(SPECTRUM, after).dampings
        assert ordinary[-1] == pytest.approx(dampings[hop], rel=1e-9, abs=0)
        last = len(ordinary) - 1
        _, after = looked({(last, 0): 1.0}, {(last, 0): 0.3}, after)
        after = replace(after, slow=0.0)


def test_hops_can_be_switched_off() -> None:
    policy = Natural(up=1, down=1, lengths=(1.0, 0.5), hops=False)
    state = at(4, policy, **STALLED)
    assert len(policy.propose(SPECTRUM, state).dampings) == 3


def test_too_many_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="At most 64 candidates .* make it 68"):
        Natural(up=4, down=4)
    with pytest.raises(ValueError, match="greed, up, down"):
        Natural(greed=nan)


def test_without_a_hop_the_floor_stays() -> None:
    state = at(22, **STALLED)
    _, after = looked({(0, 0): 1.0}, {}, state)
    assert after.least == state.least == SMALL.floor


def test_a_floor_raised_for_the_number_of_directions_is_no_bound_of_a_look() -> None:
    policy = Natural(up=1, down=1, lengths=(1.0, 0.5), directions=1)
    state = policy.start(EPS)
    targets = 2 * SPECTRUM.c.expand(3, 2, 3)
    _, state = chosen(policy, [[DOWN, DOWN]] * 3, state, targets)
    # The second direction, at a tenth of the first, is one too many.
    assert state.floor == 0.1
    for more, level in [({}, 2), (STALLED, 1 + 1 + FARTHER)]:
        dampings = policy.propose(SPECTRUM, replace(state, level=1.0, **more)).dampings
        least = (dampings[-1] / 100) ** 0.5
        assert least == pytest.approx(10 ** (-level / 2), rel=1e-9, abs=0)


def test_in_single_precision_a_look_goes_no_farther_than_its_rounding_unit() -> None:
    eps = 2.0**-23
    state = replace(SMALL.start(eps), level=99.0)
    for more in ({}, STALLED):
        least = SMALL.propose(SPECTRUM, replace(state, **more)).dampings[-1]
        assert (least / 100) ** 0.5 >= 50 * eps
    assert SMALL.start(eps).least == SMALL.start(eps).last == 50 * eps


def test_the_best_and_the_greatest_loss_are_remembered() -> None:
    state = at(4)
    for loss in (5.0, 9.0, 3.0, 4.0):
        _, state = looked({(0, 0): loss - 0.1}, {}, state, loss)
    assert (state.best, state.peak) == (3.0, 9.0)
