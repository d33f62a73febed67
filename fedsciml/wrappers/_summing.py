"""The server's half of a sum: asked for, opened, and asked for again until it fits."""

from collections.abc import Generator, Mapping
from secrets import token_bytes
from typing import Any

import torch
from torch import Tensor

from fedsciml.methods import (
    LOSS,
    Addressed,
    Answers,
    Expected,
    Inconsistent,
    Method,
    Record,
)
from fedsciml.secure.opening import opened
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

TRIES = 5
"""Sums that are asked for until all numbers fit."""

WORD = 16
"""Bytes of the name of a sum."""

OWN: dict[type[Record], Expected] = {
    At: Expected(Loss, {"loss": LOSS}),
    Between: Expected(Losses, dict.fromkeys(("trained", "fresh", "disturbed"), LOSS)),
}
"""What is asked for besides the method's asks, and what the answers are."""


class Summing:
    """The sums of one round or of one question, as they come.

    Attributes:
        sizes: As in ``State``.
        asked: Sums that were opened.
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
        self.sizes, self.asked, self._known = dict(sizes or {}), 0, known

    def ask(
        self, ask: Record, like: Tensor
    ) -> Generator[Record, Answers, dict[int, Any]]:
        """The sum of each group, by its number; none at all if a client is gone.

        Raises:
            Inconsistent: If numbers do not fit into any unit.
        """
        layout = Layout.of(expected(self.method, ask, self.size))
        noise = self.method.noise(ask, self.size)
        groups = {g: members.numbers.tolist() for g, members in self.session.items()}
        fine, over = set[str](), set[str]()
        for attempt in range(TRIES):
            fractions, name = layout.fractions(self.sizes, noise), token_bytes(WORD)
            bits = torch.tensor(fractions, dtype=torch.int32, device="cpu")
            told, later = packed(name), int(self.asked > 0)
            parts = {
                str(m): Part(
                    ask,
                    packed(self.session[g].roster.name),
                    told,
                    bits,
                    later,
                    int(attempt > 0),
                    None if self._known else self.session[g],
                )
                for g, members in groups.items()
                for m in members
            }
            sent = yield Addressed(parts)
            if len(sent) < len(parts):
                return {}
            need = len(sent) - min(
                len(of) - members.roster.threshold
                for (of, members) in zip(
                    groups.values(), self.session.values(), strict=True
                )
            )
            masked = {m: upload.masked for m, upload in sent.items()}
            opens: dict[str, Record] = {
                str(m): Open(
                    told, stacked([masked[n].letters[i] for n in members]), need
                )
                for members in groups.values()
                for i, m in enumerate(members)
            }
            answers = yield Addressed(opens)
            shares = {m: rows(answer.shares) for m, answer in answers.items()}
            self._known, self.asked = True, self.asked + 1
            found, sizes, over = dict[int, Any](), dict[str, int](), set[str]()
            for g, members in groups.items():
                given = {m: shares[m] for m in members if m in shares}
                numbers = opened(self.session[g].roster, masked, given)
                total, wrong = layout.unpacked(numbers, fractions, like)
                found[int(g)] = self.method.summed(ask, total, len(members))
                over |= wrong
                for key, size in layout.sizes(total).items():
                    sizes[key] = max(size, sizes.get(key, size))
            self.sizes |= sizes
            again = dict[str, int]()
            for field, of in zip(layout.parts, fractions, strict=True):
                if field.coarse or field.name in noise:
                    continue
                known = sizes.get(field.key)
                wanted = wider(of) if field.key in over else finer(known, of)
                if wanted is not None:
                    again[field.key] = wanted
            if not over and again.keys() <= fine:
                return found
            self.sizes |= again
            fine |= again.keys()
        raise Inconsistent(
            f"numbers of {', '.join(sorted(over))} fit into no unit that was tried: "
            "a client's are far larger than those of the others, or it lies"
        )


def expected(method: Method, ask: Record, size: int) -> Expected:
    """What adds up in answer to this ask; theta is [size]."""
    return OWN[type(ask)] if type(ask) in OWN else method.expects(ask, size)
