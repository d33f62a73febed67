"""Which sums a site takes part in: no difference of two is of one site."""

from itertools import combinations

import pytest
import torch
from parties import Party

from fedsciml.secure import ring
from fedsciml.secure.ledger import NEAR, Ledger
from fedsciml.secure.roster import threshold
from fedsciml.secure.seat import ServerError

P = 40


def points(seed: int, count: int = 1) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, P, generator=random, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
def test_near_is_near_and_far_is_far(seed: int) -> None:
    ledger, x = Ledger({}), points(seed)
    size, away = float(x.norm()), points(seed + 100)
    away = away / away.norm() * size
    ledger.opened([0, 1, 2], ledger.products(x))
    for factor, found in ((0, 1), (1e-9, 1), (0.2, 1), (5, 0), (100, 0)):
        near = ledger.products(x + factor * NEAR * away)
        other = ledger.beside([0, 1, 2, 3], near)
        # 48 products tell a distance to a fifth or so.
        assert other == ([0, 1, 2] if found else None), factor
        assert ledger.beside([0, 1, 2], near) is None


def test_points_near_zero_are_near_each_other() -> None:
    ledger, x = Ledger({}), points(0)
    ledger.opened([0, 1, 2, 3], ledger.products(1e-6 * x))
    for factor in (0, 1e-9, 3e-6, -1e-5):
        asked = ledger.products(factor * x)
        assert ledger.beside([0, 1, 2], asked) == [0, 1, 2, 3]


def test_one_of_many_points_near_one_of_many_is_enough() -> None:
    ledger, x = Ledger({}), points(0, 7)
    for i in range(7):
        ledger.opened([0, 1, 2], ledger.products(x[i : i + 1]))
    asked = torch.cat([points(1, 5), x[4:5], points(2, 3)])
    assert ledger.beside([1, 2, 3], ledger.products(asked)) == [0, 1, 2]
    assert ledger.beside([1, 2, 3], ledger.products(asked[:5])) is None


def test_what_was_opened_in_another_process_counts() -> None:
    vault: dict[str, str] = {}
    Ledger(vault).opened([0, 1, 2], Ledger(vault).products(points(0)))
    again = Ledger(vault)
    assert again.beside([0, 1, 3], again.products(points(0))) == [0, 1, 2]


def test_sets_are_not_mixed_up_by_their_names() -> None:
    ledger = Ledger({})
    ledger.opened([1, 2, 3], ledger.products(points(0)))
    ledger.opened([1, 2, 34], ledger.products(points(1)))
    ledger.opened([1, 23, 4], ledger.products(points(2)))
    for asked, seed, found in (
        ([1, 2, 34], 0, [1, 2, 3]),
        ([1, 2, 3], 1, [1, 2, 34]),
        ([1, 2, 34], 2, [1, 23, 4]),
        ([1, 2, 3], 0, None),
    ):
        assert ledger.beside(asked, ledger.products(points(seed))) == found


def test_vectors_are_each_site_s_own() -> None:
    a, b = Ledger({}).products(points(0)), Ledger({}).products(points(0))
    assert not (a[:, :-1] == b[:, :-1]).any()  # but for the size


def test_two_sites_at_least_are_in_one_opened_sum_and_in_no_other() -> None:
    """So no combination of sums near one point is of a single site.

    Whoever opened a sum is in no other one there, and those who did are in it with the
    same factor.
    """
    for parties in range(3, 200):
        assert threshold(parties) >= 2
        assert 2 * threshold(parties) > parties


def test_a_step_that_leads_back_near_another_sum_is_refused() -> None:
    """Among the candidates of a later round, over other sites."""
    party, x = Party(4), points(3)
    party.sum(range(4), points=x)
    candidates = torch.cat([points(4, 3), x + 1e-3 * points(5)])
    party.session(range(3))
    with pytest.raises(ServerError, match="their difference would give sites away"):
        party.masked([1], points=candidates)


def test_a_sum_that_was_not_opened_stands_in_nobody_s_way() -> None:
    """A site was gone before it masked: the others go on without it, at the same point.

    The sum that was given up stays closed, as its session has ended.
    """
    party, x = Party(4), points(6)
    roster = party.session(range(4))
    masked = party.masked(range(3), b"whole", x)
    found = party.sum(range(3), points=x)
    assert (found == party.plain(range(3))).all()
    late = {**masked, **party.masked([3], b"whole", x)}
    for m in range(3):
        with pytest.raises(ServerError, match="of which it has masked none"):
            party.shares(roster, late, [m], b"whole")


@pytest.mark.parametrize("sites", [5, 7])
def test_a_server_that_tells_sites_apart_gets_no_difference_of_one(sites: int) -> None:
    """It opens a sum by as few sites as it can, and tells the others it was given up.

    These may be in a sum of their own; what is left are the sites that opened.
    """
    party, x = Party(sites), points(7)
    roster = party.session(range(sites))
    masked = party.masked(range(sites), points=x)
    givers = range(threshold(sites))
    party.shares(roster, masked, givers)
    for count in (3, sites - 1):
        for some in combinations(range(sites), count):
            if set(some) & set(givers):
                party.session(some)
                asked = min(set(some) & set(givers))
                with pytest.raises(ServerError, match="would give sites away"):
                    party.masked([asked], points=x)
    left = range(threshold(sites), sites)
    if len(left) >= 3:
        own = party.sum(left, points=x)
        rest = ring.added(party.plain(range(sites)), ring.negative(own))
        assert (rest == party.plain(givers)).all()
