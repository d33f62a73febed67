"""Answers as numbers of a ring, and their sum as the answer of all.

Beside what adds up stand marks: of each field, or of each candidate step that it is
about, zero where the numbers of all clients fit their unit. A client whose number does
not fit adds uniform ones, to the mark and in place of the field: its size shows that it
is too large, and neither whose it is nor what the others told.
Losses of candidates are there in a fine unit and in a coarse one: in one round some are
1e-27 and some 1e2, and a step may be taken across the second to reach the first.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fedsciml.methods import Expected, Field, Record, kind
from fedsciml.secure import ring
from fedsciml.secure.ring import Floats, Numbers

BELOW = 70
"""Bits of a number below the size of its last sum."""

FIRST = 64
"""Fraction bits where no sum is known yet."""

COARSE = 60
"""Bits by which the coarse unit of losses is larger."""

WIDER = 40
"""Bits by which a unit grows where a number does not fit."""

DEEPER = 120
"""Bits by which a unit shrinks where the sum is zero."""

ENOUGH = 30
"""Bits of a sum that need not be asked for again in a finer unit."""

MOST = 900
"""Fraction bits, at most, and at least with the other sign: what doubles can have."""

NOISE = 40
"""Bits of a number below the size of noise that is added to it."""


class Part(NamedTuple):
    """A field that adds up, in a unit.

    Attributes:
        name: Of the field.
        key: Its name among the fields of all messages.
        shape: Of its tensor; () of a number.
        field: What is expected.
        coarse: Whether it is in the coarse unit.
    """

    name: str
    key: str
    shape: tuple[int, ...]
    field: Field
    coarse: bool = False

    @property
    def rows(self) -> int:
        """Candidates that it is about; 1 if about none."""
        return 1 if self.field.finite else self.shape[0]

    @property
    def length(self) -> int:
        """How many numbers it is, without counters."""
        return math.prod(self.shape)


class Layout(NamedTuple):
    """How the answers to an ask are written as numbers.

    Attributes:
        kind: Type of the answers.
        parts: Their fields, in order.
    """

    kind: type[Any]
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, expected: Expected) -> "Layout":
        """As the method expects them.

        Raises:
            ValueError: If a client chooses a size: such answers do not add up.
        """
        found = []
        for name, field in expected.fields.items():
            shape = (field.shape or ()) if isinstance(field, Field) else ("?",)
            if not isinstance(field, Field) or any(isinstance(n, str) for n in shape):
                raise ValueError(
                    f"The field '{name}' of {kind(expected.kind)} has another size at "
                    "every client, so that it cannot be added up."
                )
            sizes = tuple(n for n in shape if isinstance(n, int))
            part = Part(name, f"{kind(expected.kind)}.{name}", sizes, field)
            if not field.finite and field.least is not None:
                found.append(part._replace(coarse=True))
            found.append(part)
        return cls(expected.kind, tuple(found))

    @property
    def length(self) -> int:
        """How many numbers an answer is."""
        return sum(part.rows + part.length for part in self.parts)

    def fractions(
        self, sizes: Mapping[str, int], noise: Mapping[str, Tensor]
    ) -> list[int]:
        """Fraction bits of each part.

        Args:
            sizes: Exponents of what is known of the fields' sums.
            noise: Standard deviations that are added, by field.
        """
        found = []
        for part in self.parts:
            bits = BELOW - sizes[part.key] if part.key in sizes else FIRST
            if part.name in noise:
                bits = NOISE - _exponent(float(noise[part.name].max()))
            found.append(min(max(bits - COARSE * part.coarse, -MOST), MOST))
        return found

    def packed(
        self,
        answer: Record,
        fractions: list[int],
        parties: int,
        noise: Mapping[str, Floats],
    ) -> Numbers:
        """An answer as numbers, shape [length, 2].

        Args:
            answer: A client's, in the form that adds up.
            fractions: Of each part.
            parties: How many clients add up.
            noise: What the client adds to fields.

        Raises:
            FloatingPointError: If a number that must be finite is not.
        """
        found = list[Numbers]()
        for part, bits in zip(self.parts, fractions, strict=True):
            values = _floats(getattr(answer, part.name)).reshape(part.rows, -1)
            if part.field.finite and not np.isfinite(values).all():
                raise FloatingPointError(f"its {part.name} is not finite")
            most = ring.bound(bits, parties)
            fits = np.all(np.abs(values) <= most, axis=1)  # false of what is not finite
            kept: Floats = np.where(fits[:, None], values, np.float64(0))
            numbers = ring.encode(kept.reshape(-1), bits)
            if part.name in noise:
                numbers = ring.added(numbers, ring.encode(noise[part.name], bits))
            marks = ring.encode(np.zeros(part.rows), 0)
            if not fits.all():
                # Zeros would leave the sum of the others, and so tell of this client.
                marks[~fits] = ring.uniform(int((~fits).sum()))
                lost = np.repeat(~fits, part.length // part.rows)
                numbers[lost] = ring.uniform(int(lost.sum()))
            found += [marks, numbers]
        return np.concatenate(found)

    def unpacked(
        self, numbers: Numbers, fractions: list[int], like: Tensor
    ) -> tuple[Any, set[str]]:
        """The sum of answers, and the keys of fields in which a number did not fit.

        Args:
            numbers: Shape [length, 2].
            fractions: Of each part.
            like: Of the dtype and device of the answer.
        """
        found, over, start = dict[str, Any](), set[str](), 0
        for part, bits in zip(self.parts, fractions, strict=True):
            middle, end = start + part.rows, start + part.rows + part.length
            wrong = np.asarray(numbers[start:middle].any(axis=1))
            values = ring.decode(numbers[middle:end], bits).reshape(part.rows, -1)
            start = end
            if part.field.finite:
                over |= {part.key} if wrong.any() else set()
            else:
                lost = found.get(part.name, _unknown(part))
                values = np.where(wrong[:, None], lost, values)
            found[part.name] = values
        # A candidate of which one field did not fit is as one with an infinite loss.
        steps = [part for part in self.parts if not part.field.finite]
        known = [np.isfinite(found[part.name]).all(axis=1) for part in steps]
        for part in steps:
            found[part.name][~np.all(known, axis=0)] = _unknown(part)
        read = {p.name: _read(found[p.name], p, like) for p in self.parts}
        return self.kind(**read), over

    def noise(
        self, noise: Mapping[str, Tensor], parties: int, normal: Callable[[int], Floats]
    ) -> dict[str, Floats]:
        """A client's share of the noise, by field.

        Args:
            noise: Standard deviations of that of all.
            parties: How many clients share it.
            normal: Draws so many standard normal numbers.
        """
        return {
            name: _floats(std) * normal(std.numel()) / parties**0.5
            for name, std in noise.items()
        }

    def sizes(self, answer: Any) -> dict[str, int]:  # noqa: ANN401
        """Exponents of the fields of a sum; of candidates, of the smallest one."""
        found: dict[str, int] = {}
        for part in self.parts:
            table = np.abs(_floats(getattr(answer, part.name))).reshape(part.rows, -1)
            values = table.max(axis=1) if table.size else table[:0]
            values = values[np.isfinite(values) & (values > 0)]
            if len(values):
                found[part.key] = _exponent(float(values.min()))
        return found


def finer(size: int | None, fraction: int) -> int | None:
    """The exponent to ask again with, where a sum has too few bits; None if enough.

    Args:
        size: Exponent of the sum; None if it is zero.
        fraction: Its fraction bits.
    """
    if size is None:  # a sum that is zero is asked for again once in a run
        return BELOW - fraction - DEEPER if fraction < DEEPER else None
    return size if size + fraction < ENOUGH else None


def wider(fraction: int) -> int:
    """The exponent to ask again with, where a number did not fit."""
    return BELOW - fraction + WIDER


def _unknown(part: Part) -> float:
    """Of a candidate: what stands for a number that is too large."""
    return math.nan if part.field.least is None else math.inf


def _read(values: Floats, part: Part, like: Tensor) -> Tensor | float:
    """The values of a field, shape [rows, .], as the field has them."""
    if part.field.shape is None:
        return float(values.item())
    tensor = torch.from_numpy(values.reshape(part.shape))
    return tensor.to(like.device, part.field.dtype or like.dtype)


def _floats(value: object) -> Floats:
    if isinstance(value, Tensor):
        return value.detach().double().cpu().numpy().reshape(-1)
    return np.array([value], dtype=np.float64)


def _exponent(value: float) -> int:
    return math.frexp(value)[1]
