"""What the server does: the sum of masked numbers, from the sites' shares."""

from collections.abc import Mapping, Sequence

from fedsciml.secure import keys, ring, shamir
from fedsciml.secure.ring import Numbers
from fedsciml.secure.roster import Roster
from fedsciml.secure.seat import Masked, self_key


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
    members, session = roster.members, roster.name
    givers = sorted(shares)[: roster.threshold]
    numbers = [members.index(m) + 1 for m in givers]
    weights, terms = shamir.weights(numbers), list[Numbers]()
    for i, m in enumerate(members):
        of = {x: shares[giver][i] for x, giver in zip(numbers, givers, strict=True)}
        seed = shamir.secret(of, weights)
        if seed is None or keys.digest(b"seed", seed) != masked[m].proof:
            raise UnopenedError(
                f"the shares of {', '.join(map(str, givers))} are none of what hides "
                f"the numbers of client {m}: one of them, or client {m}, lies"
            )
        mask = keys.stream(self_key(seed, session), len(masked[m].numbers))
        terms += [masked[m].numbers, ring.negative(mask)]
    return ring.added(*terms)
