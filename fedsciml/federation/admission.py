"""Which uploads are merged: what is checked before a server reads one.

An upload comes from elsewhere and may be anything. It must hold just what the method
``expects``, be finite, and be of about the size of the others': a client that scales
its sketch by 1000 and flips it would turn the step of ten around.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsciml.methods import Field, Fields, Message


def refusal(
    upload: Message, expected: Fields, sizes: dict[str, int], theta: Tensor
) -> Exception | None:
    """Why an upload cannot be merged; None if it can.

    Args:
        upload: As it came.
        expected: What the method expects.
        sizes: What the words in shapes stand for at this client in this round; new
            ones are added.
        theta: The server's, for its length and dtype.

    Returns:
        A ``FloatingPointError`` for what is not finite, else a ``ValueError``.
    """
    if missing := sorted(set(expected) - set(upload)):
        found = ", ".join(upload) or "nothing"
        return ValueError(f"it has no '{missing[0]}'; it holds {found}")
    if strange := sorted(set(upload) - set(expected)):
        return ValueError(f"it holds '{strange[0]}', which nobody asked for")
    for key, field in expected.items():
        value = upload[key]
        if wrong := _wrong(value, field, sizes, theta):
            return ValueError(f"its {key} {wrong}")
        if not isinstance(value, Tensor):
            value = torch.tensor(float(value), dtype=torch.float64, device="cpu")
        finite = value.isfinite()
        if not (finite.all() if field.finite else finite.any() or finite.numel() < 2):
            return FloatingPointError(f"its {key} is not finite")
        if field.least is not None and (value < field.least).any():
            return ValueError(f"its {key} is below {field.least:g}")
    return None


def usual(
    uploads: Mapping[int, Message],
    expected: Fields,
    before: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """What norms are measured by: the largest lower median of the clients' so far.

    Of two clients, the smaller one is believed. Medians of earlier rounds count: a
    client that is back where the others have solved their part has a target that is far
    larger than theirs are, but not than theirs were.

    Args:
        uploads: By client; of the right shape and finite.
        expected: What the method expects; fields with ``scale`` are measured.
        before: What was returned before.
    """
    found = dict(before or {})
    for key in (key for key, field in expected.items() if field.scale and uploads):
        norms = sorted(_norm(upload[key]) for upload in uploads.values())
        found[key] = max(norms[(len(norms) - 1) // 2], found.get(key, 0.0))
    return found


def outliers(
    uploads: Mapping[int, Message], norms: Mapping[str, float], ratio: float
) -> dict[int, ValueError]:
    """Clients whose tensors are far larger than is usual, and in what.

    Args:
        uploads: By client; of the right shape and finite.
        norms: The usual ones, by field; nothing is too large where they are zero.
        ratio: Largest norm over the usual one that is let pass.
    """
    found: dict[int, ValueError] = {}
    for m, upload in uploads.items():
        for key in norms.keys() & upload.keys():
            norm = _norm(upload[key])
            if norm > ratio * norms[key] > 0:
                found[m] = ValueError(
                    f"its {key} has norm {norm:.1e}, the clients' median at most "
                    f"{norms[key]:.1e}; more than {ratio:g} times that is not merged"
                )
    return found


def _norm(value: Tensor) -> float:
    return float(value.double().norm())


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
