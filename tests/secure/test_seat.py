"""Sites against a server that lies: it gets the sum of all, or numbers of no use."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from parties import POINTS, Party, drawn, unmasked

from fedsciml.secure import keys, ring
from fedsciml.secure.opening import UnopenedError, opened
from fedsciml.secure.ring import Numbers
from fedsciml.secure.roster import Advert, Roster
from fedsciml.secure.seat import Masked, Seat, ServerError, seats


def equal(a: Numbers, b: Numbers) -> bool:
    return bool((a == b).all())


def small(numbers: Numbers) -> bool:
    """Whether some number is like those that sites add: the upper word is nearly 0.

    Of a uniform element that is so with a chance of 2^-59.
    """
    return bool(((numbers[:, 1] + np.uint64(16)) < 32).any())


def ones(numbers: Numbers) -> float:
    """How far bits are from half ones, in standard deviations."""
    bits = np.unpackbits(np.ascontiguousarray(numbers).view(np.uint8))
    return float(abs(bits.mean() - 0.5) * 2 * len(bits) ** 0.5)


@pytest.mark.parametrize("sites", [3, 4, 5, 9])
def test_the_sum_is_that_of_the_integers(sites: int) -> None:
    party = Party(sites)
    assert equal(party.sum(range(sites)), party.plain(range(sites)))


def test_more_than_half_of_the_sites_open_a_sum_and_no_fewer() -> None:
    party = Party(5)
    roster = party.session(range(5))
    masked = party.masked(range(5))
    shares = party.shares(roster, masked)
    for givers in combinations(range(5), 3):
        found = opened(roster, masked, {m: shares[m] for m in givers})
        assert equal(found, party.plain(range(5)))
    for givers in combinations(range(5), 2):
        with pytest.raises((UnopenedError, ValueError)):
            opened(roster, masked, {m: shares[m] for m in givers})


def test_one_upload_looks_like_noise_whatever_is_in_it() -> None:
    party = Party(3)
    party.truth[0] = np.zeros((100, 2), np.uint64)
    party.truth |= {m: drawn(m, 100) for m in (1, 2)}
    uploads = []
    for _ in range(20):
        party.session(range(3))
        uploads.append(party.masked(range(3))[0].numbers)
    # 256 000 bits, 4 numbers a byte value, 20 uploads: five standard deviations.
    assert ones(np.stack(uploads)) < 5
    words = np.ascontiguousarray(np.stack(uploads)).view(np.uint8).ravel()
    counts = np.bincount(words, minlength=256)
    chi = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert abs(chi - 255) < 5 * (2 * 255) ** 0.5
    # Nor has one to do with another, or with the next sum of the same session.
    for a, b in combinations(uploads, 2):
        assert not (a == b).any()
    assert ones(uploads[0] ^ uploads[1]) < 5
    again = party.masked([0], b"another")[0].numbers
    assert not small(ring.added(again, ring.negative(uploads[-1])))


def test_without_one_upload_the_others_tell_nothing() -> None:
    """A server that says a site is gone: the masks shared with it stay in the sum."""
    party = Party(5)
    roster = party.session(range(5))
    masked = party.masked(range(5))
    shares = party.shares(roster, masked)
    assert equal(unmasked(roster, masked, shares), party.plain(range(5)))
    for count in range(1, 5):
        for some in combinations(range(5), count):
            found = unmasked(roster, {m: masked[m] for m in some}, shares)
            assert not small(found)
            assert not small(ring.added(found, ring.negative(party.plain(some))))


def test_nothing_is_opened_of_a_sum_of_which_a_part_is_missing() -> None:
    party = Party(4)
    roster = party.session(range(4))
    masked = party.masked(range(3))
    invented = replace(masked[0], letters=[bytes(len(x)) for x in masked[0].letters])
    for m in range(3):
        with pytest.raises(ServerError, match="site 3 did not write .*masked nothing"):
            party.shares(roster, {**masked, 3: invented}, [m])
        with pytest.raises(ServerError, match="without the shares of all sites"):
            party.seats[m].opened(b"sum", [masked[n].letters[m] for n in range(3)])


def test_letters_in_each_other_s_place_open_nothing() -> None:
    party = Party(3)
    roster = party.session(range(3))
    masked = party.masked(range(3))
    swapped = {**masked, 1: masked[2], 2: masked[1]}
    with pytest.raises(ServerError, match="a share that site 1 did not write"):
        party.shares(roster, swapped, [0])
    mine = party.letters(1, roster, masked)
    with pytest.raises(ServerError, match="Site 0 refuses: .*site 1 did not write"):
        party.seats[0].opened(b"sum", mine)


def test_letters_of_another_sum_or_session_open_nothing() -> None:
    party = Party(3)
    roster = party.session(range(3))
    first, second = party.masked(range(3), b"1"), party.masked(range(3), b"2")
    with pytest.raises(ServerError, match="site 1 did not write"):
        party.shares(roster, {**second, 1: first[1]}, [0], name=b"2")
    roster = party.session(range(3))
    third = party.masked(range(3), b"2")
    with pytest.raises(ServerError, match="site 1 did not write"):
        party.shares(roster, {**third, 1: second[1]}, [0], name=b"2")


def test_a_site_that_was_asked_for_something_else_is_not_told_apart() -> None:
    """Ask one site for twice its number and the sums differ by what it has."""
    party = Party(4)
    roster = party.session(range(4))
    shares = party.shares(roster, party.masked(range(4)))
    assert len(shares) == 4
    masked = party.masked(range(4), b"next", about={2: b"another unit"})
    for m in (0, 1, 3):
        with pytest.raises(
            ServerError, match="site 2 did not write .* was asked for something else"
        ):
            party.shares(roster, masked, [m], name=b"next")
    with pytest.raises(ServerError, match="Site 2 refuses: .* site 0"):
        party.shares(roster, masked, [2], name=b"next")


Lie = Callable[[Party, dict[int, Advert]], list[Advert]]


def forged(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    """The server signs a key of site 1 itself."""
    private, _ = keys.identity()
    _, public = keys.session()
    fake = Advert(1, adverts[1].made, public, b"")
    signed = fake._replace(signature=keys.signed(private, fake.text))
    return [adverts[0], signed, *map(adverts.__getitem__, (2, 3))]


def swapped(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    """Its own key, with the signature of another one."""
    _, public = keys.session()
    return [adverts[0], adverts[1]._replace(public=public), adverts[2], adverts[3]]


def recounted(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    """A count that the site did not sign."""
    made = adverts[1].made
    return [adverts[0], adverts[1]._replace(made=made + 1), adverts[2], adverts[3]]


def renamed(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    """The key of site 2 as that of site 1."""
    return [adverts[0], adverts[2]._replace(number=1), adverts[3]]


def invented(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    """A site that does not exist."""
    stranger = seats(8)[7]
    return [*adverts.values(), stranger.advert()]


def two(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    return [adverts[0], adverts[1]]


def alone(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    return [adverts[0]]


def nobody(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    return []


def twice(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    """Site 1 stands for three."""
    return [adverts[0], adverts[1], adverts[1], adverts[1]]


def others(party: Party, adverts: dict[int, Advert]) -> list[Advert]:
    return [adverts[1], adverts[2], adverts[3]]


LIES: dict[str, tuple[Lie, str]] = {
    "forged": (forged, "a key of site 1 that it did not sign"),
    "swapped": (swapped, "a key of site 1 that it did not sign"),
    "recounted": (recounted, "a key of site 1 that it did not sign"),
    "renamed": (renamed, "a key of site 1 that it did not sign"),
    "invented": (invented, "a sum with site 7, of which nobody knows"),
    "two": (two, "a sum over 2 sites; it takes at least 3"),
    "alone": (alone, "a sum over 1 sites; it takes at least 3"),
    "nobody": (nobody, "a sum over 0 sites; it takes at least 3"),
    "twice": (twice, "a sum that has a site in it twice"),
    "others": (others, "its part of a sum that it is not in"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_roster_that_no_honest_server_sends_is_refused(name: str) -> None:
    lie, match = LIES[name]
    party = Party(4)
    roster = Roster(tuple(lie(party, party.adverts(range(4)))))
    with pytest.raises(
        ServerError, match=f"Site 0 refuses: the server asked .*{match}"
    ):
        party.seats[0].join(roster)
    with pytest.raises(ServerError, match="before it told who is in it"):
        party.masked([0])


def test_a_signature_is_of_this_purpose_and_of_nothing_else() -> None:
    party = Party(3)
    adverts = party.adverts(range(3))
    proof = keys.signed(party.seats[1]._identity, adverts[1].public)
    wrong = adverts[1]._replace(signature=proof)
    with pytest.raises(ServerError, match="did not sign"):
        party.seats[0].join(Roster((adverts[0], wrong, adverts[2])))


def test_old_keys_of_others_and_of_its_own_are_refused() -> None:
    party = Party(4)
    first = party.adverts(range(4))
    party.seats[0].join(Roster.of(first.values()))
    second = party.adverts(range(4))
    for old in (1, 2, 3):
        mixed = Roster.of({**second, old: first[old]}.values())
        with pytest.raises(ServerError, match=f"an old key of site {old}"):
            party.seats[0].join(mixed)
    with pytest.raises(ServerError, match="an old key of this site"):
        party.seats[0].join(Roster.of({**second, 0: first[0]}.values()))
    with pytest.raises(ServerError, match="an old key"):
        party.seats[0].join(Roster.of(first.values()))
    party.seats[0].join(Roster.of(second.values()))
    # The same again: masks of two sums would come from the same keys.
    with pytest.raises(ServerError, match="an old key"):
        party.seats[0].join(Roster.of(second.values()))


def test_sites_that_were_told_different_sets_hide_each_other() -> None:
    party = Party(4)
    adverts = party.adverts(range(4))
    whole = Roster.of(adverts.values())
    party.seats[3].join(whole)
    fewer = Roster.of(adverts[m] for m in range(3))
    for m in range(3):
        party.seats[m].join(fewer)
    masked = party.masked(range(4))
    cut = {m: masked[m] for m in range(3)}
    longer = {
        m: replace(masked[m], letters=[*masked[m].letters, bytes(33)]) for m in range(3)
    }
    with pytest.raises(ServerError, match="Site 3 refuses: .* did not write"):
        party.shares(whole, {**longer, 3: masked[3]}, [3])
    assert equal(opened(fewer, cut, party.shares(fewer, cut)), party.plain(range(3)))


def test_the_same_sum_is_given_once() -> None:
    party = Party(3)
    roster = party.session(range(3))
    masked = party.masked(range(3))
    with pytest.raises(ServerError, match="twice for its part of the same sum"):
        party.masked([0])
    party.shares(roster, masked)
    with pytest.raises(ServerError, match="twice for its part of the same sum"):
        party.masked([1])
    # Opened again it is what it was.
    assert equal(
        opened(roster, masked, party.shares(roster, masked)), party.plain(range(3))
    )


def test_a_session_that_ended_is_over() -> None:
    party = Party(3)
    roster = party.session(range(3))
    masked = party.masked(range(3))
    party.seats[0].advert()
    with pytest.raises(ServerError, match="before it told who is in it"):
        party.shares(roster, masked, [0])
    with pytest.raises(ServerError, match="before it told who is in it"):
        party.seats[0].begin(roster.name)
    after = party.session(range(3))
    assert party.seats[0].begin(after.name) == 3
    with pytest.raises(ServerError, match="a session that has ended"):
        party.seats[0].begin(roster.name)
    with pytest.raises(ServerError, match="a sum of which it has masked none"):
        party.shares(roster, masked, [0])


def test_what_a_seat_keeps_lives_in_its_vault() -> None:
    """A process that begins again goes on, and refuses what it refused before."""
    made = {m: keys.identity() for m in range(3)}
    public = {m: key for m, (_, key) in made.items()}
    vaults: list[dict[str, str]] = [{}, {}, {}]

    def fresh() -> list[Seat]:
        return [Seat(m, made[m][0], public, vaults[m]) for m in range(3)]

    party = Party(3)
    party.seats = fresh()
    roster = party.session(range(3))
    party.seats = fresh()
    masked = party.masked(range(3))
    party.seats = fresh()
    with pytest.raises(ServerError, match="twice"):
        party.masked([0])
    found = opened(roster, masked, party.shares(roster, masked))
    assert equal(found, party.plain(range(3)))


@pytest.mark.parametrize("spoilt", ["seed", "share"])
def test_a_site_that_gives_wrong_shares_is_noticed(spoilt: str) -> None:
    party = Party(3)
    roster = party.session(range(3))
    masked: dict[int, Masked] = party.masked(range(3))
    shares = party.shares(roster, masked, [0, 1])
    if spoilt == "seed":
        masked[2] = replace(masked[2], proof=bytes(32))
    else:
        wrong = bytearray(shares[1][2])
        wrong[-1] ^= 1
        shares[1][2] = bytes(wrong)
    with pytest.raises(UnopenedError, match="one of them lies of its share"):
        opened(roster, masked, shares)


def test_one_wrong_share_of_more_than_are_needed_is_done_without() -> None:
    party = Party(5)
    roster = party.session(range(5))
    masked = party.masked(range(5))
    shares = party.shares(roster, masked)
    shares[0] = [bytes(len(share)) for share in shares[0]]
    assert equal(opened(roster, masked, shares), party.plain(range(5)))


@pytest.mark.parametrize("bad", [0.0, float("nan"), float("inf")])
def test_no_further_point_makes_a_near_one_far(bad: float) -> None:
    """As if the size of theta were none."""
    party = Party(5)
    party.sum(range(5))
    party.session(range(4))
    points = torch.cat([POINTS * (1 + 1e-9), torch.full_like(POINTS, bad)])
    with pytest.raises(ServerError, match="close to a point|not finite"):
        party.masked([0], points=points)


@pytest.mark.parametrize("made", [-1, 2**63, 2**80])
def test_a_key_without_a_number_is_refused(made: int) -> None:
    party = Party(3)
    adverts = party.adverts(range(3))
    wrong = Roster.of([adverts[0]._replace(made=made), adverts[1], adverts[2]])
    with pytest.raises(ServerError, match="a key that has no number"):
        party.seats[1].join(wrong)


def test_a_site_may_ask_for_more_sites_than_three() -> None:
    made = [keys.identity() for _ in range(5)]
    public = {m: key for m, (_, key) in enumerate(made)}
    party = Party(5)
    party.seats = [Seat(m, made[m][0], public, fewest=4) for m in range(5)]
    party.session(range(4))
    with pytest.raises(ServerError, match="a sum over 3 sites; it takes at least 4"):
        party.session([0, 1, 2])


def test_an_identity_that_the_list_does_not_have_is_refused() -> None:
    (private, public), (other, _) = keys.identity(), keys.identity()
    with pytest.raises(ValueError, match="The identity of site 0 is not the one"):
        Seat(0, other, {0: public})
    with pytest.raises(ValueError, match="Put its public key there"):
        Seat(1, private, {0: public})


def test_noise_that_nobody_knows_is_normal() -> None:
    seat = seats(3)[0]
    x = seat.normal(40_000)
    # Mean, variance and fourth moment to five standard deviations of each.
    assert abs(x.mean()) < 5 / 200
    assert abs((x**2).mean() - 1) < 5 * 2**0.5 / 200
    assert abs((x**4).mean() - 3) < 5 * 96**0.5 / 200
    assert np.isfinite(x).all()
    assert not (x == seat.normal(40_000)).any()


def test_sums_near_one_point_are_over_the_same_sites() -> None:
    party = Party(5)
    party.sum(range(5))
    party.sum(range(5), points=POINTS * (1 + 1e-9))
    for scale in (1, 1 + 1e-9, 1 + 2e-3):
        party.session(range(4))
        with pytest.raises(
            ServerError,
            match=r"over the sites \[0, 1, 2, 3\] close to a point where it was given "
            r"one over \[0, 1, 2, 3, 4\]",
        ):
            party.masked([0], points=POINTS * scale)
    assert equal(party.sum(range(4), points=1.1 * POINTS), party.plain(range(4)))


def test_a_faithful_site_is_in_sums_over_one_set_for_ever() -> None:
    party = Party(5)
    private, public = zip(*(keys.identity() for _ in range(5)), strict=True)
    identities = dict(enumerate(public))
    party.seats = [Seat(m, private[m], identities, faithful=True) for m in range(5)]
    party.sum(range(5))
    party.sum(range(5), points=1.1 * POINTS)
    party.session(range(4))
    with pytest.raises(ServerError, match="given one over"):
        party.masked([0], points=-3 * POINTS)


def test_no_site_is_in_more_sums_with_noise_than_are_paid_for() -> None:
    """A server opens each sum by other sites: more than half of them are enough."""
    party, sums = Party(4), 0
    for i in range(4):
        roster, name = party.session(range(4)), bytes([i])
        try:
            masked = {
                m: seat.masked(name, b"", party.truth[m], POINTS, 3)
                for m, seat in enumerate(party.seats)
            }
            givers = [m for m in range(4) if m != i]
            opened(roster, masked, party.shares(roster, masked, givers, name))
        except ServerError:
            break
        sums += 1
    assert sums == 3
