"""Which answers are merged: what is checked before a server reads one.

An answer comes from elsewhere and may be anything. It must be just what the method
``expects``, be finite, and not move theta out of sight; what else must be true of it is
the method's to say (``Method.objection``). Sizes are held against the other clients'
only if asked for: they have units, and honest clients' differ by any factor.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields

import torch
from torch import Tensor

from fedsciml.methods import Expected, Field, Record, kind

FARTHEST = 1000.0
"""Norms of theta by which a client's training may move it."""


def refusal(
    answer: object,
    expected: Expected,
    sizes: dict[str, int],
    theta: Tensor,
    share: float = 1.0,
) -> Exception | None:
    """Why an answer cannot be merged; None if it can.

    Args:
        answer: As it came.
        expected: What the method expects.
        sizes: What the words in shapes stand for at this client in this round; new
            ones are added, and those of before forgotten where they may be others.
        theta: The server's, for its length and dtype.
        share: The client's part of all rows, as agreed.

    Returns:
        A ``FloatingPointError`` for what is not finite or ran away, else a
        ``ValueError``.
    """
    if expected.again:
        sizes.clear()
    try:
        for name, value, field in _leaves(answer, expected):
            if wrong := _wrong(value, field, sizes, theta):
                return ValueError(f"its {name} {wrong}")
            found = (
                value
                if isinstance(value, Tensor)
                else torch.tensor(value, dtype=torch.float64, device="cpu")
            )
            if not found.sum().isfinite():  # a tenth of the time of looking at each
                finite = found.isfinite()
                some = field.overflows or finite.any() or finite.numel() < 2
                if not (finite.all() if field.finite else some):
                    return FloatingPointError(f"its {name} is not finite")
            if field.scale and not found.double().norm().isfinite():
                return FloatingPointError(f"its {name} is too large to be merged")
            if field.least is not None and (found < field.least).any():
                return ValueError(f"its {name} is below {field.least:g}")
            if field.moves and found.norm() > FARTHEST * max(float(theta.norm()), 1.0):
                return FloatingPointError(
                    f"its {name} moves theta, of norm {float(theta.norm()):.1e}, by "
                    f"{float(found.norm()):.1e}; at most {FARTHEST:g} times its norm "
                    "is merged"
                )
            if field.agreed and value != share:
                return ValueError(
                    f"it says that it holds {value} of all rows, not {share:.4g}"
                )
    except (ValueError, OverflowError) as error:
        return ValueError(str(error))
    return None


def usual(
    answers: Mapping[int, Record],
    expected: Expected,
    before: Mapping[str, float] | None = None,
    least: int = 1,
) -> dict[str, float]:
    """The reference norm of each field: the clients' lower median, the largest so far.

    Medians of earlier rounds count: a client that is back where the others have solved
    their part has a target that is far larger than theirs are, but not than theirs
    were.

    Args:
        answers: By client; as expected.
        expected: What the method expects; fields with ``scale`` are measured.
        before: What was returned before.
        least: Answers from which something is learnt; few may all be lies.
    """
    found, norms = dict(before or {}), dict[str, list[float]]()
    if len(answers) < least:
        return found
    for answer in answers.values():
        for name, norm in _norms(answer, expected).items():
            norms.setdefault(name, []).append(norm)
    for name, of in norms.items():
        found[name] = max(sorted(of)[(len(of) - 1) // 2], found.get(name, 0.0))
    return found


def outliers(
    answers: Mapping[int, Record],
    expected: Expected,
    norms: Mapping[str, float],
    ratio: float,
) -> dict[int, ValueError]:
    """Clients whose tensors are far larger than is usual, and in what.

    Args:
        answers: By client; as expected.
        expected: What the method expects; fields with ``scale`` are measured.
        norms: The usual ones, by field; nothing is too large where they are zero.
        ratio: Largest norm over the usual one that is let pass.
    """
    found: dict[int, ValueError] = {}
    for m, answer in answers.items():
        for name, norm in _norms(answer, expected).items():
            if m not in found and norm > ratio * norms.get(name, 0.0) > 0:
                found[m] = ValueError(
                    f"its {name} has norm {norm:.1e}, the clients' median at most "
                    f"{norms[name]:.1e}; more than {ratio:g} times that is not merged"
                )
    return found


def _norms(answer: Record, expected: Expected) -> dict[str, float]:
    """By field; of those that are measured."""
    return {
        name: float(value.double().norm())
        for name, value, field in _leaves(answer, expected)
        if field.scale and isinstance(value, Tensor)
    }


def _leaves(answer: object, expected: Expected) -> Iterator[tuple[str, object, Field]]:
    """Name, value and what is expected of each field, also of the parts.

    Raises:
        ValueError: If the answer is of another type or holds other fields.
    """
    names = [field.name for field in fields(expected.kind)]
    if type(answer) is not expected.kind:
        found = kind(type(answer)).removeprefix("builtins.")
        raise ValueError(f"it is a {found}, not a {kind(expected.kind)}")
    for name in names:
        value, field = getattr(answer, name), expected.fields.get(name)
        if field is None:
            if value is not None:
                raise ValueError(f"it holds '{name}', which nobody asked for")
        elif value is None:
            raise ValueError(f"it has no '{name}'")
        elif isinstance(field, Field):
            yield name, value, field
        elif isinstance(field, Expected):
            yield from _leaves(value, field)
        elif not isinstance(value, Mapping) or value.keys() != field.keys():
            raise ValueError(f"its {name} must be of {', '.join(field)}")
        else:
            yield from ((f"{name}.{key}", value[key], field[key]) for key in field)


def _wrong(
    value: object, field: Field, sizes: dict[str, int], theta: Tensor
) -> str | None:
    """What is wrong with a value but for its numbers, if anything."""
    dtype = field.dtype or theta.dtype
    most = len(theta) if field.most is None else field.most
    if field.shape is None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"is a {type(value).__name__}, not a number"
    elif not isinstance(value, Tensor):
        return f"is a {type(value).__name__}, not a tensor"
    elif value.layout != torch.strided:
        return f"is {value.layout}, not dense"
    elif value.dtype != dtype:
        return f"is of {value.dtype}, not {dtype}"
    elif not _fits(value, field.shape, sizes):
        wanted = [sizes.get(n, n) if isinstance(n, str) else n for n in field.shape]
        return (
            f"has shape {list(value.shape)}, not [{', '.join(map(str, wanted))}]; did "
            "the client build the same network?"
        )
    elif any(sizes[n] > most for n in field.shape if isinstance(n, str)):
        return (
            f"has shape {list(value.shape)}; a size that the client chooses is at most "
            f"{most}"
        )
    return None


def _fits(value: Tensor, shape: tuple[int | str, ...], sizes: dict[str, int]) -> bool:
    """Whether the shape agrees; words that are new are learnt."""
    if value.ndim != len(shape):
        return False
    return all(
        n == (sizes.setdefault(size, n) if isinstance(size, str) else size)
        for n, size in zip(value.shape, shape, strict=True)
    )
