r"""Fixed-point numbers in the ring of integers modulo 2^128.

A number x with f fraction bits is the integer round(x 2^f) modulo 2^128, kept as two
words of 64 bits, the lower one first: arrays [N, 2] of uint64. Sums of such numbers are
exact, whoever adds them in whatever order, and a uniform number added to one hides it
completely: that is what masks need and floating point does not give.

f is agreed for each quantity by all parties. With 128 bits there is room for 80 bits
below the size of a quantity and 40 above it, so it need not be known well.
"""

import math
from secrets import token_bytes

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
"""Elements of the ring, shape [N, 2]."""

Floats = NDArray[np.float64]

WIDTH = 128
"""Bits of an element."""

BYTES = WIDTH // 8

_MANTISSA, _LARGEST = 53, 1023


def encode(values: Floats, fraction: int) -> Numbers:
    """The elements round(x 2^f), halves rounded up.

    Args:
        values: x, finite and in ``bound``, shape [N].
        fraction: f.
    """
    mantissa, exponent = np.frexp(values)
    whole = np.ldexp(mantissa, _MANTISSA).astype(np.int64)
    shift = exponent.astype(np.int64) - _MANTISSA + fraction
    back = np.clip(-shift, 0, _MANTISSA + 1)
    half = np.left_shift(np.int64(1), np.maximum(back - 1, 0))
    small = np.where(back > 0, (whole + half) >> back, whole)
    size = np.abs(small).astype(np.uint64)
    up = np.maximum(shift, 0).astype(np.uint64)
    inner = np.minimum(up, 63)
    low = np.where(up < 64, size << inner, 0)
    spilt = np.where((up > 0) & (up < 64), size >> (63 - np.minimum(up - 1, 62)), 0)
    far = np.where(up >= 64, size << np.clip(up - 64, 0, 63), 0)
    high = np.where(up < 64, spilt, far)
    found = np.stack([low, high], axis=-1).astype(np.uint64)
    return np.where((small < 0)[:, None], negative(found), found)


def decode(numbers: Numbers, fraction: int) -> Floats:
    """The numbers that elements stand for, each as close as two roundings let it be."""
    below = numbers[:, 1] >> np.uint64(63) > 0
    size = np.where(below[:, None], negative(numbers), numbers)
    high = np.ldexp(size[:, 1].astype(np.float64), 64 - fraction)
    low = np.ldexp(size[:, 0].astype(np.float64), -fraction)
    return np.where(below, -(high + low), high + low)


def bound(fraction: int, parties: int) -> float:
    """The largest size of a number that so many parties may add."""
    spare = (parties - 1).bit_length() + 1
    return math.ldexp(1.0, min(WIDTH - 1 - spare - fraction, _LARGEST))


def added(*terms: Numbers) -> Numbers:
    """Their sum, shape [N, 2]."""
    low, high = terms[0][:, 0], terms[0][:, 1]
    for term in terms[1:]:
        low = low + term[:, 0]
        high = high + term[:, 1] + (low < term[:, 0])
    return np.stack([low, high], axis=-1)


def uniform(count: int) -> Numbers:
    """Elements that nobody can know, shape [count, 2]."""
    data = np.frombuffer(token_bytes(count * BYTES), "<u8")
    return data.astype(np.uint64).reshape(count, 2)


def negative(numbers: Numbers) -> Numbers:
    """What gives zero with them."""
    low = ~numbers[:, 0] + np.uint64(1)
    return np.stack([low, ~numbers[:, 1] + (low == 0)], axis=-1)
