"""Messages of secure sums, and their bytes as those of ``fedsciml.secure``."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fedsciml.methods import Record, flatten
from fedsciml.secure import keys
from fedsciml.secure.roster import Advert, Roster
from fedsciml.secure.seat import Masked
from fedsciml.wrappers._base import AskAround


class Members(Record):
    """Keys of all who add up, in the order of their numbers.

    Attributes:
        numbers: Of the clients, shape [n], int32.
        counts: ``made`` of each key, shape [n], int64.
        publics: Shape [n, KEY], bytes.
        signatures: Shape [n, SIGNATURE], bytes.
    """

    numbers: Tensor
    counts: Tensor
    publics: Tensor
    signatures: Tensor

    @classmethod
    def of(cls, adverts: Mapping[int, "Own"]) -> "Members":
        """From the keys that clients sent."""
        own = [adverts[m] for m in sorted(adverts)]
        return cls(
            torch.tensor(sorted(adverts), dtype=torch.int32, device="cpu"),
            torch.tensor([a.count for a in own], dtype=torch.int64, device="cpu"),
            torch.stack([a.public for a in own]),
            torch.stack([a.signature for a in own]),
        )

    @property
    def roster(self) -> Roster:
        """As sites read it."""
        columns = self.numbers.tolist(), self.counts.tolist()
        keys = rows(self.publics), rows(self.signatures)
        return Roster(tuple(map(Advert, *columns, *keys)))


class Keys(Record):
    """Asks for a new key of a session."""


class Own(Record):
    """A client's new key.

    Attributes:
        count: ``made`` of the key.
        public: [KEY] bytes.
        signature: By its identity, [SIGNATURE] bytes.
    """

    count: int
    public: Tensor
    signature: Tensor

    @classmethod
    def of(cls, advert: Advert) -> "Own":
        """As a site made it."""
        return cls(advert.made, packed(advert.public), packed(advert.signature))


class Part(AskAround):
    """Asks for a client's part of a sum.

    Attributes:
        session: Its name, [KEY] bytes.
        sum: Name of the sum, [WORD] bytes.
        fractions: Fraction bits of each field, int32.
        later: 1 if a sum was opened in this round before, else 0.
        again: 1 if the same is asked for in other units, else 0.
        members: Who adds up, in the first sum of a session.
    """

    session: Tensor
    sum: Tensor
    fractions: Tensor
    later: int
    again: int
    members: Members | None = None


class Memory(Record):
    """What a client remembers.

    Attributes:
        inner: For the method.
        before: The same before the last ask, which may come again.
        asked: Digest of what was asked in this round, [KEY] bytes; None for nothing.
        asked_before: The same before the last ask.
    """

    inner: Record | None = None
    before: Record | None = None
    asked: Tensor | None = None
    asked_before: Tensor | None = None


class Upload(Record):
    """A client's part of a sum.

    Attributes:
        numbers: Under masks, shape [N, 2], int64.
        letters: To each member, shape [n, LETTER], bytes.
        proof: Digest of what the self mask comes from, [KEY] bytes.
    """

    numbers: Tensor
    letters: Tensor
    proof: Tensor

    @classmethod
    def of(cls, part: Masked) -> "Upload":
        """As a site made it."""
        numbers = torch.from_numpy(part.numbers.view(np.int64))
        return cls(numbers, stacked(part.letters), packed(part.proof))

    @property
    def masked(self) -> Masked:
        """As the server adds it."""
        numbers = self.numbers.cpu().numpy().view(np.uint64)
        return Masked(numbers, rows(self.letters), unpacked(self.proof))


class Open(Record):
    """Asks a client for its shares of a sum.

    Attributes:
        sum: Name of the sum.
        letters: Of each member to the client, shape [n, LETTER], bytes.
        need: How many clients of the group must answer.
        group: Its number.
    """

    sum: Tensor
    letters: Tensor
    need: int
    group: int


class Shares(Record):
    """A client's share of each member's seed, shape [n, SHARE], bytes."""

    shares: Tensor


class At(Record):
    """Asks for the loss at theta [p]."""

    theta: Tensor


class Loss(Record):
    """A client's."""

    loss: float


class Between(Record):
    """Asks for losses at points that are not trained on, at theta [p].

    Attributes:
        terms: How many terms there are, to be told the loss of each; 0 for none.
    """

    theta: Tensor
    terms: int = 0


class Losses(Record):
    """A client's, see ``HeldOut``; and of its terms, shape [terms], float64."""

    trained: float
    fresh: float
    disturbed: float
    terms: Tensor | None = None


def digest(record: Record, *further: bytes) -> bytes:
    """Of all that a record holds, and of more."""
    parts = [*further]
    for path, leaf in sorted(flatten(record).items()):
        if isinstance(leaf, Tensor):
            parts.append(f"{path} {leaf.dtype} {list(leaf.shape)}".encode())
            flat = leaf.detach().cpu().contiguous().reshape(-1)
            parts.append(flat.view(torch.uint8).numpy().tobytes())
        else:
            parts += [path.encode(), repr(leaf).encode()]
    return keys.digest(*parts)


def packed(data: bytes) -> Tensor:
    """Bytes as a tensor."""
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())


def unpacked(tensor: Tensor) -> bytes:
    """The bytes that were ``packed``."""
    return tensor.cpu().numpy().tobytes()


def stacked(of: Sequence[bytes]) -> Tensor:
    """Bytes of the same length as rows."""
    return packed(b"".join(of)).view(len(of), -1)


def rows(tensor: Tensor) -> list[bytes]:
    """The rows' bytes."""
    return [row.tobytes() for row in tensor.cpu().numpy()]
