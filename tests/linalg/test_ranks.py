"""Rank schedules that look at singular values alone; words for all."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedsciml.linalg.ranks import (
    AboveCutoff,
    Budget,
    Context,
    Energy,
    Fixed,
    Predictive,
    Published,
    Schedule,
    parse,
)

S = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)
EMPTY = torch.zeros(0, dtype=torch.float64)

WORDS = ["3", "energy:0.9", "cutoff", "published:1.0", "bytes:9", "predictive:0.1"]

values = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12).map(
    lambda v: torch.tensor(sorted(v, reverse=True), dtype=torch.float64)
)


def rank(schedule: Schedule, s: Tensor, context: Context) -> int:
    """With targets that count for nothing."""
    return schedule(s, torch.ones_like(s), context)


def test_a_fixed_rank_is_clipped_to_what_there_is() -> None:
    assert rank(Fixed(3), S, Context()) == 3
    assert rank(Fixed(9), S, Context()) == 4


@given(values, st.floats(0.01, 1.0))
def test_energy_is_the_least_rank_that_reaches_the_fraction(
    s: Tensor, fraction: float
) -> None:
    r = rank(Energy(fraction), s, Context())
    energy = s.square().cumsum(0)
    assert energy[r - 1] >= fraction * energy[-1]
    assert r == 1 or energy[r - 2] < fraction * energy[-1]


def test_all_energy_is_every_vector_that_is_not_zero() -> None:
    s = torch.tensor([4.0, 2.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    assert rank(Energy(1.0), s, Context()) == 3


def test_the_default_keeps_what_is_above_the_cutoff_of_the_round() -> None:
    counts = [rank(AboveCutoff(), S, Context(cutoff=c)) for c in (0.0, 0.9, 2.0, 4.0)]
    assert counts == [4, 3, 1, 0]


def test_the_published_threshold_follows_its_formula() -> None:
    # delta = 1 / (2 (2 + 2)) = 1/8 of s_1^2 = 16: s^2 > 2 keeps 16 and 4.
    context = Context(round=2, gradient_norm=2.0, total_gradient_norm=2.0)
    assert rank(Published(), S, context) == 2
    assert rank(Published(100.0), S, context) == 1  # delta is at most 0.99
    assert rank(Published(1e-9), S, context) == 4


@given(values, st.integers(1, 100), st.floats(0, 1e6))
def test_the_published_rank_grows_with_the_round(
    s: Tensor, round_: int, norm: float
) -> None:
    now, later = Context(round_, 0, norm, norm), Context(2 * round_, 0, norm, norm)
    assert 1 <= rank(Published(), s, now) <= rank(Published(), s, later) <= len(s)


def test_published_keeps_the_leading_vector_where_the_gradient_vanishes() -> None:
    assert rank(Published(), S, Context()) == 1


@pytest.mark.parametrize("text", WORDS)
def test_nothing_to_choose_from_gives_rank_zero(text: str) -> None:
    schedule = parse(text)
    assert rank(schedule, EMPTY, Context(gradient_norm=1.0)) == 0


@pytest.mark.parametrize("text", WORDS[1:])
def test_a_client_without_information_sends_nothing(text: str) -> None:
    assert rank(parse(text), torch.zeros(4), Context(gradient_norm=1.0)) == 0


def test_words_name_the_schedules() -> None:
    assert parse("20") == Fixed(20)
    assert parse("energy:0.999") == Energy(0.999)
    assert parse(" cutoff ") == AboveCutoff()
    assert parse("published") == parse("published:1.0") == Published(1.0)
    assert parse("bytes:400000") == Budget(400_000)
    assert parse("predictive:0.1") == Predictive(0.1)


@pytest.mark.parametrize(
    "text",
    [
        *("", "many", "20.5", "energy", "energy:", "energy:x", "cutoff:1", "20:3"),
        *("rank:4", ":3", "bytes", "bytes:1e5", "predictive", "predictive:0.1:2"),
    ],
)
def test_a_word_that_is_no_schedule_is_refused_with_the_forms_there_are(
    text: str,
) -> None:
    with pytest.raises(ValueError, match=r"no rank schedule; give .*energy:0\.999"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0", "at least 1"),
        ("-3", "at least 1"),
        ("energy:0", r"in \(0, 1\]"),
        ("energy:1.5", r"in \(0, 1\]"),
        ("energy:nan", r"in \(0, 1\]"),
        ("published:0", "positive"),
        ("bytes:0", "at least 1 byte"),
        ("predictive:0", "positive and finite"),
        ("predictive:inf", "positive and finite"),
    ],
)
def test_a_number_out_of_range_says_what_the_range_is(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)
