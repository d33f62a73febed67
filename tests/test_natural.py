"""The default policy: its rules on tables of losses and targets written by hand."""

from collections.abc import Mapping
from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import EPS, LOSS, SPECTRUM
from torch import Tensor

from fedsciml.policies.natural import Natural
from fedsciml.solve import Spectrum
from fedsciml.steps import Candidates, Choice, PolicyState, Probed

SMALL = Natural(up=1, down=1, lengths=(1.0, 0.5))
"""Three steps, damping falling, at two lengths: tables of 3 x 2."""

UP = 2 * LOSS  # worse than now
SLIGHT = LOSS - 0.05  # lower, but by less than a quarter of what is predicted
DOWN = LOSS - 2  # sufficient


def at(level: float, policy: Natural = SMALL, **more: float) -> PolicyState:
    return {**policy.start(EPS), "level": level, **more}


def choose(
    losses: list[list[float]],
    theta: list[list[float]] | None = None,
    state: Mapping[str, float] | None = None,
    policy: Natural = SMALL,
) -> tuple[Choice | None, PolicyState]:
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
        assert mu == pytest.approx((10 * 10 ** (-i / 2)) ** 2, rel=1e-12)
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
    assert state["level"] == 3 + expected[0]


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
        assert choose(losses, state=at(4, ceiling=before))[1]["ceiling"] == after
        up = [[UP, UP]] * 3
        assert choose(up, state=at(4, ceiling=before))[1]["ceiling"] == after


@pytest.mark.parametrize("worse", [LOSS, UP, nan, inf])
def test_without_a_lower_loss_there_is_no_step_and_more_damping(worse: float) -> None:
    choice, state = choose([[worse, worse]] * 3)
    assert choice is None
    assert state["level"] < 3  # less than all that were probed


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
        assert state["level"] >= 1
    assert state["level"] == 1
    down = [[DOWN] * 4]
    for _ in range(25):  # every step succeeds
        rows = len(policy.propose(SPECTRUM, state).dampings)
        choice, state = choose(down * rows, state=state, policy=policy)
        assert choice == Choice(rows - 1, 0)
    relative = [mu**0.5 / 10 for mu in policy.propose(SPECTRUM, state).dampings]
    assert relative[-1] == pytest.approx(policy.floor, rel=1e-9)
    assert len(relative) == policy.up + 1


def test_more_directions_than_wanted_raise_the_least_damping() -> None:
    k, p, policy = 100, 200, Natural(directions=80)
    s = torch.logspace(0, -9.9, k, dtype=torch.float64)
    many = Spectrum(s, s, torch.eye(k, p).double(), torch.eye(k).double())
    state = {**policy.start(EPS), "level": 21.0}
    candidates = policy.propose(many, state)
    shape = (len(candidates.dampings), len(candidates.lengths))
    probed = Probed(torch.zeros(shape), torch.zeros(*shape, k).double())
    _, after = policy.choose(many, 1.0, candidates, probed, state)
    assert 10 * s[80] <= policy.propose(many, after).dampings[-1] ** 0.5 < 40 * s[80]
    _, other = Natural(directions=100).choose(many, 1.0, candidates, probed, state)
    assert other["floor"] == state["floor"]


@pytest.mark.parametrize("level", [1, 4, 10, 22])
def test_a_sketch_reaches_a_tenth_below_the_least_damping(level: int) -> None:
    policy, state = Natural(), at(level)
    least = policy.propose(SPECTRUM, state).dampings[-1] ** 0.5
    assert policy.reach(state) == pytest.approx(0.1 * least / 10, rel=1e-12)


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
    assert set(after) == set(state)
    assert 1 <= after["level"] <= 22
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
    assert all(isinstance(value, float) for value in state.values())
    candidates: Candidates = SMALL.propose(SPECTRUM, state)
    assert isinstance(candidates.coordinates, Tensor)
