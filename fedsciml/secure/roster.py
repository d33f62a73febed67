"""Who adds up together: the sites of a session and their signed keys."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fedsciml.secure import keys

FEWEST = 3
"""Fewest sites of a sum: of two, each knows what the other one added."""


class Advert(NamedTuple):
    """A site's key for a session.

    Attributes:
        number: Of the site.
        made: Larger than that of its keys before: an old key has a smaller one.
        public: X25519.
        signature: Of all that by the site's identity.
    """

    number: int
    made: int
    public: bytes
    signature: bytes

    @property
    def text(self) -> bytes:
        """What is signed."""
        made = self.made.to_bytes(8, "big")
        number = self.number.to_bytes(8, "big", signed=True)
        return keys.digest(b"fedsciml session key", number, made, self.public)


class Roster(NamedTuple):
    """The sites of a session, in the order of their numbers."""

    adverts: tuple[Advert, ...]

    @classmethod
    def of(cls, adverts: Iterable[Advert]) -> "Roster":
        """In their order."""
        return cls(tuple(sorted(adverts)))

    @property
    def members(self) -> list[int]:
        """Their numbers."""
        return [advert.number for advert in self.adverts]

    @property
    def name(self) -> bytes:
        """Another one for every session, as each site's key is new."""
        return keys.digest(b"fedsciml session", *(a.text for a in self.adverts))

    @property
    def threshold(self) -> int:
        """Sites that open a sum: more than half.

        So no two sets of sites can each open a sum while the other one believes that
        it was given up.
        """
        return threshold(len(self.adverts))


def threshold(parties: int) -> int:
    """More than half."""
    return parties // 2 + 1


def dealt(members: Sequence[int], count: int) -> list[list[int]]:
    """The members dealt to so many groups, one after the other; each in order."""
    return [sorted(members[g::count]) for g in range(count)]
