"""What crossed between server and clients."""

from collections.abc import Collection
from typing import NamedTuple

from fedsciml.methods import Record, addressed, payload


class Traffic(NamedTuple):
    """Payload bytes and message counts.

    A broadcast counts once per client. Payload is tensors and numbers (8 bytes each);
    the words that name them and a transport's framing are not counted. A centralised
    run has no traffic.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    messages: int = 0

    @property
    def sent(self) -> int:
        """Bytes both ways."""
        return self.bytes_up + self.bytes_down

    def plus(
        self, ask: Record, asked: Collection[int], answers: Collection[Record]
    ) -> "Traffic":
        """With an exchange more: of the clients that were asked some answered."""
        return Traffic(
            self.bytes_up + sum(payload(answer) for answer in answers),
            self.bytes_down + sum(payload(addressed(ask, m)) for m in asked),
            self.messages + len(asked) + len(answers),
        )


def size(number: float) -> str:
    """Bytes for people: ``1.4 MB``."""
    value = float(number)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:  # 1000 of three digits is 1e+03
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"
