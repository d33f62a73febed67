"""Shares of a secret: enough of them tell it, fewer nothing."""

from collections.abc import Iterable, Mapping
from itertools import combinations, pairwise
from random import Random

import pytest

from fedsciml.secure import shamir
from fedsciml.secure.shamir import FIELD, SECRET, SHARE

SIZES = [(1, 1), (3, 1), (3, 2), (3, 3), (5, 3), (6, 4)]


def read(shares: Mapping[int, bytes]) -> bytes | None:
    return shamir.secret(shares, shamir.weights(list(shares)))


def through(points: Iterable[tuple[int, int]], x: int) -> int:
    """The value at x of the polynomial through points, by Newton's differences."""
    known = list(points)
    table = [y for _, y in known]
    found, factor = 0, 1
    for i, (at, _) in enumerate(known):
        found = (found + table[0] * factor) % FIELD
        factor = factor * (x - at) % FIELD
        table = [
            (b - a) * pow(known[j + i + 1][0] - known[j][0], -1, FIELD) % FIELD
            for j, (a, b) in enumerate(pairwise(table))
        ]
    return found


@pytest.mark.parametrize(("parties", "threshold"), SIZES)
@pytest.mark.parametrize(
    "secret", [bytes(SECRET), b"\xff" * SECRET, b"0123456789abcdef"]
)
def test_any_so_many_shares_tell_the_secret(
    secret: bytes, parties: int, threshold: int
) -> None:
    shares = shamir.shared(secret, parties, threshold)
    assert [len(share) for share in shares] == [SHARE] * parties
    for some in combinations(range(parties), threshold):
        assert read({i + 1: shares[i] for i in some}) == secret
        assert read({i + 1: shares[i] for i in reversed(some)}) == secret


@pytest.mark.parametrize(("parties", "threshold"), [s for s in SIZES if s[1] > 1])
def test_with_fewer_shares_every_secret_is_possible(
    parties: int, threshold: int
) -> None:
    """Each secret has exactly one polynomial through the T - 1 shares that are known.

    Its coefficients are uniform, so that all secrets are equally likely.
    """
    random, true = Random(0), b"0123456789abcdef"
    shares = shamir.shared(true, parties, threshold)
    for some in combinations(range(1, parties + 1), threshold - 1):
        known = [(x, int.from_bytes(shares[x - 1], "big")) for x in some]
        for other in (bytes(SECRET), b"\xff" * SECRET, random.randbytes(SECRET)):
            points = [(0, int.from_bytes(other, "big")), *known]
            forged = {
                x: through(points, x).to_bytes(SHARE, "big")
                for x in range(1, parties + 1)
            }
            assert all(forged[x] == shares[x - 1] for x in some)
            for enough in combinations(forged, threshold):
                assert read({x: forged[x] for x in enough}) == other


def test_shares_of_one_secret_are_others_each_time_and_spread_over_the_field() -> None:
    made = [shamir.shared(bytes(SECRET), 3, 2)[0] for _ in range(400)]
    assert len(set(made)) == len(made)
    # Of 400 uniform numbers 200 are below the middle, to a standard deviation of 10.
    below = sum(int.from_bytes(share, "big") < FIELD // 2 for share in made)
    assert abs(below - 200) < 50
    assert all(int.from_bytes(share, "big") < FIELD for share in made)


@pytest.mark.parametrize(("parties", "threshold"), [s for s in SIZES if s[1] > 1])
def test_a_wrong_share_gives_another_secret_or_none(
    parties: int, threshold: int
) -> None:
    secret = b"0123456789abcdef"
    shares = shamir.shared(secret, parties, threshold)
    given = {x: shares[x - 1] for x in range(1, threshold + 1)}
    for x in given:
        for bit in (0, 7, 130):
            wrong = int.from_bytes(given[x], "big") ^ 1 << bit
            assert read({**given, x: wrong.to_bytes(SHARE, "big")}) != secret
    # Those of two parties in each other's place are wrong, too.
    assert read({**given, 1: given[2], 2: given[1]}) != secret


def test_most_wrong_shares_give_no_secret_at_all() -> None:
    """Three quarters of the field are longer than a secret."""
    random, shares = Random(1), shamir.shared(bytes(SECRET), 3, 2)
    found = [
        read({1: shares[0], 2: random.randrange(FIELD).to_bytes(SHARE, "big")})
        for _ in range(400)
    ]
    assert abs(found.count(None) - 300) < 45  # five standard deviations


@pytest.mark.parametrize(("parties", "threshold"), [(3, 0), (3, 4), (0, 1)])
def test_a_threshold_out_of_range_is_refused(parties: int, threshold: int) -> None:
    with pytest.raises(ValueError, match=f"got {threshold}"):
        shamir.shared(bytes(SECRET), parties, threshold)


def test_a_secret_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="has 16 bytes, got 15"):
        shamir.shared(bytes(15), 3, 2)
