"""Sites that add up under masks, and a server that has all that they send."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fedsciml.secure import keys, ring, shamir
from fedsciml.secure.opening import opened
from fedsciml.secure.ring import Numbers
from fedsciml.secure.roster import Advert, Roster
from fedsciml.secure.seat import Masked, Seat, seats, self_key

ABOUT = b"the same of all"

POINTS = torch.ones(1, 4, dtype=torch.float64)
"""Where the numbers are computed, if nothing else is said."""


def drawn(seed: int, count: int = 5) -> Numbers:
    """Elements of the ring that are small, as what sites add."""
    words = np.random.default_rng(seed).integers(1, 2**62, (count, 2), dtype=np.uint64)
    words[:, 1] = 0
    return words


class Party:
    """Sites at one table, in process.

    Args:
        sites: How many there are in the federation.

    Attributes:
        seats: All of them.
        truth: What each adds.
    """

    def __init__(self, sites: int) -> None:
        self.seats: Sequence[Seat] = seats(sites)
        self.truth = {m: drawn(m) for m in range(sites)}

    def adverts(self, members: Iterable[int]) -> dict[int, Advert]:
        """A new key of each."""
        return {m: self.seats[m].advert() for m in members}

    def session(self, members: Iterable[int]) -> Roster:
        """All with new keys, and joined."""
        roster = Roster.of(self.adverts(members).values())
        for m in roster.members:
            self.seats[m].join(roster)
        return roster

    def masked(
        self,
        members: Iterable[int],
        name: bytes = b"sum",
        points: Tensor = POINTS,
        about: Mapping[int, bytes] | None = None,
    ) -> dict[int, Masked]:
        """The parts of these sites."""
        return {
            m: self.seats[m].masked(
                name, (about or {}).get(m, ABOUT), self.truth[m], points
            )
            for m in members
        }

    def letters(
        self, m: int, roster: Roster, masked: Mapping[int, Masked]
    ) -> list[bytes]:
        """What the others wrote to one site."""
        i = roster.members.index(m)
        return [masked[n].letters[i] for n in roster.members]

    def shares(
        self,
        roster: Roster,
        masked: Mapping[int, Masked],
        givers: Iterable[int] | None = None,
        name: bytes = b"sum",
    ) -> dict[int, list[bytes]]:
        """What these sites open, by default all."""
        return {
            m: self.seats[m].opened(name, self.letters(m, roster, masked))
            for m in (roster.members if givers is None else givers)
        }

    def sum(
        self, members: Iterable[int], name: bytes = b"sum", points: Tensor = POINTS
    ) -> Numbers:
        """The sum over these sites, in a session of its own."""
        roster = self.session(members)
        masked = self.masked(roster.members, name, points)
        return opened(roster, masked, self.shares(roster, masked, name=name))

    def plain(self, members: Iterable[int]) -> Numbers:
        """The same without masks."""
        return ring.added(*(self.truth[m] for m in members))


def unmasked(
    roster: Roster, masked: Mapping[int, Masked], shares: Mapping[int, Sequence[bytes]]
) -> Numbers:
    """The sum of some parts without their self masks: the best that a server can do.

    Args:
        roster: Of the session.
        masked: Parts of some members.
        shares: What members opened, all that the server could get.
    """
    givers = sorted(shares)[: roster.threshold]
    numbers = [roster.members.index(m) + 1 for m in givers]
    weights, terms = shamir.weights(numbers), list[Numbers]()
    for m, part in masked.items():
        i = roster.members.index(m)
        seed = shamir.secret(
            {x: shares[g][i] for x, g in zip(numbers, givers, strict=True)}, weights
        )
        assert seed is not None
        mask = keys.stream(self_key(seed, roster.name), len(part.numbers))
        terms += [part.numbers, ring.negative(mask)]
    return ring.added(*terms)
