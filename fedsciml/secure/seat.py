"""What a site does and refuses in sums with other sites.

A sum has two steps (Bonawitz et al., CCS 2017, with one set of sites throughout):

    masked   y_m = x_m + self mask of m + masks that m shares with each other site, of
             which one adds what the other subtracts; the seed of the self mask goes
             to the sites in Shamir's shares, each sealed for its reader
    opened   each site gives its shares of all seeds; from more than half of the sites
             the server has the self masks, and the sum: of all sites, or nothing

A site that is gone after its masked upload is in the sum; one that is gone before ends
the sum unopened. No key of a site is ever given away, so a server that lies about who
is gone gets nothing. What a site has masked and opened it keeps itself: a server that
turns its other memories back does not turn back this.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from secrets import token_bytes
from time import time_ns
from typing import NamedTuple, NoReturn

import numpy as np
from scipy.special import ndtri
from torch import Tensor

from fedsciml.problem import SiteError
from fedsciml.secure import keys, ring, shamir
from fedsciml.secure.ledger import Ledger, Vault, read, written
from fedsciml.secure.ring import Floats, Numbers
from fedsciml.secure.roster import FEWEST, Advert, Roster, threshold

LETTER = shamir.SHARE + keys.TAG
"""Bytes of a sealed share."""

_MADE, _KEY, _SEEN, _ROSTER = "made", "key", "seen", "roster"
_SUM, _RELEASES, _SPENT = "sum.", "releases.", "spent"


class ServerError(SiteError):
    """The server asks for what no honest server does, or what would give a site away.

    It tells what, and that this site refused.
    """


@dataclass(frozen=True, eq=False)
class Masked:
    """A site's part of a sum.

    Attributes:
        numbers: Shape [N, 2].
        letters: For each member its share of the seed, ``LETTER`` bytes, in order.
        proof: Digest of the seed.
    """

    numbers: Numbers
    letters: list[bytes]
    proof: bytes


class _Session(NamedTuple):
    """What a site knows of a session.

    Attributes:
        word: The roster as it is kept.
        members: Who add up.
        name: Of the session.
        pairs: The secret that the site shares with each other member.
    """

    word: str
    members: list[int]
    name: bytes
    pairs: dict[int, bytes]


class Seat:
    """A site's place at the table.

    Args:
        number: The site's.
        identity: Its private key, see ``keys.identity``.
        identities: Public keys of all sites of the federation, by their numbers.
        vault: Where it keeps what must not be turned back; nobody else writes there.
        common: What all sites were told alike of the run. Where it is not the same, the
            masks do not cancel, and the sites do not open: of one that the server told
            something else, such as that its rows do not count, it would learn the rest.
        faithful: Whether the site takes part in sums over one set of sites for ever,
            and not only near the points of earlier ones, see ``ledger``.
        fewest: Fewest sites of a sum, at least ``FEWEST``. The server says who they
            are, and may choose those that tell it all.
        run: Of what run sums with noise are counted.
        budget: Sum of 1 / z^2 over those of all runs, at most; None for no limit.

    Raises:
        ValueError: If the site is not among the identities.
    """

    def __init__(
        self,
        number: int,
        identity: bytes,
        identities: Mapping[int, bytes],
        vault: Vault | None = None,
        common: bytes = b"",
        faithful: bool = False,
        fewest: int = FEWEST,
        run: bytes = b"",
        budget: float | None = None,
    ) -> None:
        self._common, self._faithful = common, faithful
        self._fewest = max(fewest, FEWEST)
        self._run, self._budget = run, budget
        self.number, self._identity = number, identity
        self._identities = dict(identities)
        self._vault: Vault = {} if vault is None else vault
        self._ledger = Ledger(self._vault)
        self._last: _Session | None = None
        proof = keys.signed(identity, b"")
        if not keys.verified(self._identities.get(number, b""), b"", proof):
            raise ValueError(
                f"The identity of site {number} is not the one that the federation's "
                "list has of it. Put its public key there, at every site."
            )

    def advert(self) -> Advert:
        """A new key; the last session ends, and what was not opened in it never is."""
        # Later than all before, also for a site that has lost what it kept.
        made = max(self._made + 1, time_ns() // 1000)
        private, public = keys.session()
        for key in [k for k in self._vault if k.startswith(_SUM)]:
            del self._vault[key]
        self._vault.pop(_ROSTER, None)
        self._vault[_MADE], self._vault[_KEY] = str(made), private.hex()
        advert = Advert(self.number, made, public, b"")
        signature = keys.signed(self._identity, advert.text)
        return advert._replace(signature=signature)

    def join(self, roster: Roster) -> None:
        """Begin a session.

        Raises:
            ServerError: If the roster is not what an honest server sends.
        """
        members = roster.members
        if len(set(members)) < len(members):
            raise self._refusal("for a sum that has a site in it twice")
        if len(members) < self._fewest:
            raise self._refusal(
                f"for a sum over {len(members)} sites; it takes at least {self._fewest}"
            )
        if members != sorted(members):
            raise self._refusal("for a sum over sites that are not in their order")
        seen = {int(m): n for m, n in json.loads(self._vault.get(_SEEN, "{}")).items()}
        for advert in roster.adverts:
            if not 0 <= advert.made < 2**63:
                raise self._refusal("for a sum with a key that has no number")
            known = self._identities.get(advert.number)
            if known is None:
                raise self._refusal(
                    f"for a sum with site {advert.number}, of which nobody knows"
                )
            if not keys.verified(known, advert.text, advert.signature):
                raise self._refusal(
                    f"for a sum with a key of site {advert.number} that it did not sign"
                )
            if advert.number == self.number:
                mine = advert.public == self._public and advert.made == self._made
                if not mine:
                    raise self._refusal("for a sum with an old key of this site")
            elif advert.made <= seen.get(advert.number, 0):
                raise self._refusal(
                    f"for a sum with an old key of site {advert.number}"
                )
            seen[advert.number] = advert.made
        if self.number not in members:
            raise self._refusal("for its part of a sum that it is not in")
        self._vault[_SEEN] = json.dumps(seen)
        self._vault[_ROSTER] = json.dumps(
            [[a.number, a.made, a.public.hex(), a.signature.hex()] for a in roster[0]]
        )

    def begin(self, session: bytes) -> int:
        """How many sites are in a session, which must be the last one.

        Raises:
            ServerError: If it is another one.
        """
        found = self._session()
        if found.name != session:
            raise self._refusal("for a sum of a session that has ended")
        return len(found.members)

    def masked(
        self,
        name: bytes,
        about: bytes,
        numbers: Numbers,
        points: Tensor,
        releases: int | None = None,
        cost: float = 0.0,
    ) -> Masked:
        """This site's part of a sum.

        Args:
            name: Of the sum; no two of a session have the same.
            about: Digest of what the numbers are. Where it is not the same at all
                sites, their masks do not cancel and none of them opens: a site that
                is asked for something else than the others would be told apart.
            numbers: What the site adds, shape [N, 2].
            points: At which it was computed, shape [n, p].
            releases: Sums with noise, of which this is one, that the site masks in a
                run; None for a sum without noise.
            cost: 1 / z^2 of it, with the noise multiplier z.

        Raises:
            ServerError: If it was masked before, its difference to an earlier sum would
                tell what some of the sites told, or the budget of privacy is spent.
        """
        _, members, session, pairs = self._session()
        key = _SUM + name.hex()
        if key in self._vault:
            raise self._refusal("twice for its part of the same sum")
        products = self._ledger.products(points)
        if not bool(points.isfinite().all()):
            raise self._refusal("for a sum at a point that is not finite")
        other = self._ledger.beside(members, products, self._faithful)
        if other is not None:
            raise self._refusal(
                f"for a sum over the sites {members} close to a point where it was "
                f"given one over {other}: their difference would give sites away. "
                "Wait for the same sites, or begin another run from another seed"
            )
        if releases is not None:
            self._release(releases, cost)
        seed, count = token_bytes(shamir.SECRET), len(numbers)
        shares = shamir.shared(seed, len(members), threshold(len(members)))
        mine = shares[members.index(self.number)]
        self._vault[key] = json.dumps([mine.hex(), written(products), about.hex()])
        purpose = session, name, about
        total = ring.added(numbers, keys.stream(self_key(seed, session), count))
        letters = []
        for m, share in zip(members, shares, strict=True):
            if m == self.number:
                letters.append(bytes(LETTER))
                continue
            mask = keys.stream(keys.derived(pairs[m], b"pair", *purpose), count)
            if m < self.number:  # the other one adds it
                mask = ring.negative(mask)
            total = ring.added(total, mask)
            seal = self._seal(pairs[m], self.number, *purpose)
            letters.append(keys.sealed(seal, share))
        return Masked(total, letters, keys.digest(b"seed", seed))

    def opened(self, name: bytes, letters: Sequence[bytes]) -> list[bytes]:
        """This site's shares of all seeds, in the order of the members.

        Args:
            name: Of a sum that the site masked.
            letters: Of each member to this one; of itself, anything.

        Raises:
            ServerError: If the site did not mask such a sum in this session, or
                a letter is no member's.
        """
        _, members, session, pairs = self._session()
        key = _SUM + name.hex()
        if key not in self._vault:
            raise self._refusal("to open a sum of which it has masked none")
        own, points, about = json.loads(self._vault[key])
        if len(letters) != len(members):
            raise self._refusal("to open a sum without the shares of all sites in it")
        purpose, found = (session, name, bytes.fromhex(about)), list[bytes]()
        for m, letter in zip(members, letters, strict=True):
            if m == self.number:
                found.append(bytes.fromhex(own))
                continue
            share = keys.unsealed(self._seal(pairs[m], m, *purpose), letter)
            if share is None:
                raise self._refusal(
                    f"to open a sum with a share that site {m} did not write for it: "
                    f"site {m} masked nothing, or was asked for something else"
                )
            found.append(share)
        if points:
            self._ledger.opened(members, read(points))
            self._vault[key] = json.dumps([own, "", about])
        return found

    def _release(self, most: int, cost: float) -> None:
        """Count a sum with noise, in the run and in all runs.

        Masked is spent: others may open a sum without asking this site.
        """
        key = _RELEASES + keys.digest(self._run).hex()
        before = int(self._vault.get(key, "0"))
        if before >= most:
            raise self._refusal(
                f"for more than the {most} sums with noise that the budget of privacy "
                "pays for"
            )
        spent = float(self._vault.get(_SPENT, "0")) + cost
        if self._budget is not None and spent > self._budget * (1 + 1e-9):
            raise self._refusal(
                "for a sum with noise that the site's budget of privacy for all runs "
                "does not pay for"
            )
        self._vault[_SPENT], self._vault[key] = repr(spent), str(before + 1)

    def refuse(self, what: str) -> NoReturn:
        """Say what the server asked for.

        Raises:
            ServerError: Always.
        """
        raise self._refusal(what)

    def normal(self, count: int) -> Floats:
        """Numbers of a standard normal distribution that nobody else can know."""
        words = keys.stream(token_bytes(keys.KEY), count)[:, 0] >> np.uint64(11)
        uniform = (words.astype(np.float64) + 0.5) * 2.0**-53
        return np.asarray(ndtri(uniform))

    @property
    def _made(self) -> int:
        return int(self._vault.get(_MADE, "0"))

    @property
    def _public(self) -> bytes:
        return keys.public(bytes.fromhex(self._vault.get(_KEY, "")))

    def _session(self) -> "_Session":
        """The session that the site has joined."""
        word = self._vault.get(_ROSTER)
        if word is None:
            raise self._refusal("for a sum before it told who is in it")
        if self._last is None or self._last.word != word:
            roster = Roster(
                tuple(
                    Advert(m, made, bytes.fromhex(public), bytes.fromhex(signature))
                    for m, made, public, signature in json.loads(word)
                )
            )
            others = {a.number: a.public for a in roster.adverts}
            del others[self.number]
            try:
                agreed = keys.agreed(bytes.fromhex(self._vault[_KEY]), others)
            except ValueError as error:
                raise self._refusal("for a sum with a key that is none") from error
            secrets = {
                m: keys.derived(secret, b"common", self._common)
                for m, secret in agreed.items()
            }
            self._last = _Session(word, roster.members, roster.name, secrets)
        return self._last

    @staticmethod
    def _seal(secret: bytes, writer: int, *purpose: bytes) -> bytes:
        """The key of the letter that one of two sites writes to the other."""
        number = writer.to_bytes(8, "big", signed=True)
        return keys.derived(secret, b"letter", number, *purpose)

    def _refusal(self, what: str) -> ServerError:
        return ServerError(f"Site {self.number} refuses: the server asked {what}.")


def self_key(seed: bytes, session: bytes) -> bytes:
    """The key of a self mask."""
    return keys.derived(seed, b"self", session)


def seats(clients: int) -> tuple[Seat, ...]:
    """Seats of so many sites, with new identities, that keep things in this process."""
    made = {m: keys.identity() for m in range(clients)}
    public = {m: key for m, (_, key) in made.items()}
    return tuple(Seat(m, private, public) for m, (private, _) in made.items())
