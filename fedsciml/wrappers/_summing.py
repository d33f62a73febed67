"""The server's half of a sum: asked for, opened, and asked for again until it fits."""

from collections.abc import Generator, Mapping
from secrets import token_bytes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsciml.methods import LOSS, Addressed, Answers, Expected, Field, Method, Record
from fedsciml.residual.held_out import HeldOut
from fedsciml.secure.opening import UnopenedError, opened
from fedsciml.secure.seat import Masked
from fedsciml.wrappers._layout import Layout, finer, wider
from fedsciml.wrappers._masked import (
    At,
    Between,
    Loss,
    Losses,
    Members,
    Open,
    Part,
    packed,
    rows,
    stacked,
)

TRIES = 4
"""Sums that are asked for until all numbers fit."""

LARGE = "its numbers fit into no unit that was tried"

WORD = 16
"""Bytes of the name of a sum."""

OWN = (At, Between)
"""What is asked for besides the method's asks."""


class Lost(NamedTuple):
    """A sum that is not known, though all clients answered.

    Attributes:
        why: What is wrong, for a sentence: one of its clients lies.
    """

    why: str


class Summing:
    """The sums of one round, or of one question, as they come.

    Args:
        method: Whose asks are summed.
        size: Of theta.
        session: Keys of each group, by its number.
        known: Whether clients know of the session.
        sizes: Exponents of earlier sums.

    Attributes:
        sizes: With those of the sums since.
        answered: Asks of which the sum is known.
    """

    def __init__(
        self,
        method: Method,
        size: int,
        session: Mapping[str, Members],
        known: bool,
        sizes: Mapping[str, int] | None,
    ) -> None:
        self.method, self.size, self.session = method, size, session
        self.rosters = {g: members.roster for g, members in session.items()}
        self.sizes, self.answered, self._known = dict(sizes or {}), 0, known

    def ask(
        self, ask: Record, like: Tensor
    ) -> Generator[Record, Answers, dict[int, Any]]:
        """The sum of each group, by its number; none at all if a client is gone.

        A sum may be ``Lost``.
        """
        layout = Layout.of(expected(self.method, ask, self.size))
        noise, before = self.method.noise(ask, self.size), self.sizes
        fine, found = set[str](), dict[int, Any]()
        for attempt in range(TRIES):
            fractions, name = layout.fractions(self.sizes, noise), token_bytes(WORD)
            sent = yield self._parts(ask, name, fractions, attempt)
            if len(sent) < sum(len(roster.members) for roster in self.rosters.values()):
                return {}
            masked = {m: upload.masked for m, upload in sent.items()}
            answers = yield self._opens(name, masked)
            shares = {m: rows(answer.shares) for m, answer in answers.items()}
            self._known = True
            sizes, over = dict[str, int](), list[set[str]]()
            for g, roster in self.rosters.items():
                given = {m: shares[m] for m in roster.members if m in shares}
                try:
                    numbers = opened(roster, masked, given)
                except UnopenedError as error:
                    found[int(g)] = Lost(str(error))
                    continue
                total, wrong = layout.unpacked(numbers, fractions, like)
                if not isinstance(ask, OWN):
                    total = self.method.summed(ask, total, len(roster.members))
                found[int(g)] = Lost(LARGE) if wrong else total
                over.append(wrong)
                for key, size in layout.sizes(total).items():
                    if key not in wrong:
                        sizes[key] = min(size, sizes.get(key, size))
            if noise or not over:  # asked for again, noise would be one more release
                break
            again = dict[str, int]()
            for part, bits in zip(layout.parts, fractions, strict=True):
                if part.coarse:
                    continue
                known = sizes.get(part.key)
                wide = all(part.key in wrong for wrong in over)
                wanted = wider(bits) if wide else finer(known, bits)
                if wanted is not None:
                    again[part.key] = wanted
            if again.keys() <= fine and not all(over):
                self.sizes = self.sizes | sizes
                break
            self.sizes = self.sizes | sizes | again
            fine |= {key for key in again if not all(key in wrong for wrong in over)}
        else:
            self.sizes = before
        self.answered += 1
        return found

    def _parts(
        self, ask: Record, name: bytes, fractions: list[int], attempt: int
    ) -> Addressed:
        """The ask of a sum, to each client."""
        bits = torch.tensor(fractions, dtype=torch.int32, device="cpu")
        later, again = int(self.answered > 0), int(attempt > 0)
        parts: dict[str, Record] = {}
        for g, roster in self.rosters.items():
            members = None if self._known else self.session[g]
            session = packed(roster.name)
            part = Part(ask, session, packed(name), bits, later, again, members)
            parts |= {str(m): part for m in roster.members}
        return Addressed(parts)

    def _opens(self, name: bytes, masked: Mapping[int, Masked]) -> Addressed:
        """To each client the letters of the others of its group."""
        opens: dict[str, Record] = {}
        for g, roster in self.rosters.items():
            for i, m in enumerate(roster.members):
                letters = stacked([masked[n].letters[i] for n in roster.members])
                opens[str(m)] = Open(packed(name), letters, roster.threshold, int(g))
        return Addressed(opens)


def expected(method: Method, ask: Record, size: int) -> Expected:
    """What adds up in answer to this ask; theta is [size]."""
    if isinstance(ask, At):
        return Expected(Loss, {"loss": LOSS})
    if not isinstance(ask, Between):
        return method.expects(ask, size)
    fields = dict.fromkeys(HeldOut._fields, LOSS)
    if ask.terms:
        fields["terms"] = Field((ask.terms,), dtype=torch.float64, least=0)
    return Expected(Losses, fields)
