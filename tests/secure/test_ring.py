"""Numbers of the ring against Python's integers and fractions."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsciml.secure import ring
from fedsciml.secure.ring import Numbers

MODULUS = 2**128

ODD = [0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 5e-324, -5e-324, 1 - 2**-53]
"""Numbers of which a rounding that is slightly wrong makes others."""

fractions = st.integers(-300, 300)


def element(value: int) -> Numbers:
    value %= MODULUS
    return np.array([[value % 2**64, value >> 64]], dtype=np.uint64)


def integer(numbers: Numbers, i: int = 0) -> int:
    return int(numbers[i, 0]) + (int(numbers[i, 1]) << 64)


def signed(numbers: Numbers, i: int = 0) -> int:
    value = integer(numbers, i)
    return value - MODULUS if value >= MODULUS // 2 else value


def rounded(value: float, fraction: int) -> int:
    """Halves up, by rational arithmetic."""
    return math.floor(Fraction(value) * Fraction(2) ** fraction + Fraction(1, 2))


@st.composite
def fitting(draw: st.DrawFn) -> tuple[float, int, int]:
    """A number, fraction bits that it fits, and for how many parties."""
    fraction, parties = draw(fractions), draw(st.integers(1, 1000))
    most = ring.bound(fraction, parties)
    part = draw(st.floats(-1, 1) | st.sampled_from([-1.0, 1.0]))
    value = part * most * 2.0 ** -draw(st.integers(0, 200))
    return value, fraction, parties


@given(fitting())
def test_a_number_becomes_the_integer_next_to_it(made: tuple[float, int, int]) -> None:
    value, fraction, _ = made
    found = ring.encode(np.array([value]), fraction)
    assert integer(found) == rounded(value, fraction) % MODULUS


@given(st.lists(st.sampled_from(ODD) | st.floats(-(2.0**60), 2.0**60), min_size=1))
@pytest.mark.parametrize("fraction", [-3, 0, 1, 53, 60])
def test_halves_zeros_and_subnormal_numbers_are_rounded_like_others(
    fraction: int, values: list[float]
) -> None:
    found = ring.encode(np.array(values), fraction)
    expected = [rounded(value, fraction) for value in values]
    assert [signed(found, i) for i in range(len(values))] == expected


@given(fitting())
def test_a_number_is_read_to_two_roundings(made: tuple[float, int, int]) -> None:
    value, fraction, _ = made
    numbers = ring.encode(np.array([value]), fraction)
    exact = Fraction(signed(numbers)) / Fraction(2) ** fraction
    (found,) = ring.decode(numbers, fraction)
    assert abs(Fraction(float(found)) - exact) <= abs(exact) * Fraction(2) ** -52


@given(st.integers(-(2**52), 2**52), st.integers(-60, 60))
def test_what_has_few_bits_comes_back_as_it_was(whole: int, fraction: int) -> None:
    value = math.ldexp(whole, -fraction)
    (found,) = ring.decode(ring.encode(np.array([value]), fraction), fraction)
    assert found == value


@given(st.lists(st.integers(0, MODULUS - 1), min_size=1, max_size=9))
def test_a_sum_is_that_of_integers_modulo_2_to_the_128(values: list[int]) -> None:
    found = ring.added(*(element(value) for value in values))
    assert integer(found) == sum(values) % MODULUS


@given(st.integers(0, MODULUS - 1))
@pytest.mark.parametrize("edge", [0, 1, 2**64, 2**127, MODULUS - 2**64])
def test_a_number_and_its_negative_are_zero(edge: int, value: int) -> None:
    for each in (edge, value):
        found = ring.negative(element(each))
        assert integer(found) == -each % MODULUS
        assert integer(ring.added(element(each), found)) == 0


@given(st.integers(1, 10**6), fractions)
def test_so_many_numbers_at_the_bound_do_not_wrap(parties: int, fraction: int) -> None:
    most = Fraction(ring.bound(fraction, parties)) * Fraction(2) ** fraction
    assert parties * (most + 1) < MODULUS // 2
    # And room is not wasted: three bits at most.
    assert parties * most * 8 >= MODULUS // 2


@given(st.lists(fitting(), min_size=2, max_size=2), st.integers(2, 20))
def test_the_sum_of_what_fits_is_read_as_it_is(
    made: list[tuple[float, int, int]], parties: int
) -> None:
    fraction, most = made[0][1], ring.bound(made[0][1], parties)
    values = [math.copysign(min(abs(x), most), x) for x, _, _ in made] * parties
    values = values[:parties]
    found = ring.added(*(ring.encode(np.array([x]), fraction) for x in values))
    assert signed(found) == sum(rounded(x, fraction) for x in values)


@pytest.mark.parametrize("fraction", [-(10**6), -950, 10**6])
def test_whatever_unit_a_server_asks_for_has_a_bound(fraction: int) -> None:
    assert 0 <= ring.bound(fraction, 5) < math.inf
