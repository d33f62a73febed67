"""What the server does: the sum of masked numbers, from the sites' shares."""

from collections.abc import Mapping, Sequence
from itertools import combinations, islice

from fedsciml.secure import keys, ring, shamir
from fedsciml.secure.ring import Numbers
from fedsciml.secure.roster import Roster
from fedsciml.secure.seat import Masked, self_key

TRIED = 50
"""Sets of sites whose shares are tried."""


class UnopenedError(ValueError):
    """A sum that cannot be opened: a site gave what does not fit."""


def opened(
    roster: Roster, masked: Mapping[int, Masked], shares: Mapping[int, Sequence[bytes]]
) -> Numbers:
    """The sum over all members, shape [N, 2].

    Args:
        roster: Who they are.
        masked: Of each member.
        shares: Of the seed of each member in turn, by the members that gave theirs: at
            least ``roster.threshold`` of them.

    Raises:
        UnopenedError: If a seed does not come out of the shares.
    """
    members, session, seeds = roster.members, roster.name, None
    # Where one of them gives wrong shares, others may open the sum without it.
    for givers in islice(combinations(sorted(shares), roster.threshold), TRIED):
        numbers = [members.index(m) + 1 for m in givers]
        weights = shamir.weights(numbers)
        of = [
            {x: shares[giver][i] for x, giver in zip(numbers, givers, strict=True)}
            for i in range(len(members))
        ]
        seeds = [shamir.secret(each, weights) for each in of]
        if all(
            seed is not None and keys.digest(b"seed", seed) == masked[m].proof
            for m, seed in zip(members, seeds, strict=True)
        ):
            break
        seeds = None
    if seeds is None:
        raise UnopenedError(
            "clients gave shares that do not open it: one of them lies of its share, "
            "or of what it shared"
        )
    terms = list[Numbers]()
    for m, seed in zip(members, seeds, strict=True):
        assert seed is not None
        mask = keys.stream(self_key(seed, session), len(masked[m].numbers))
        terms += [masked[m].numbers, ring.negative(mask)]
    return ring.added(*terms)
