r"""How far clients' low-rank factors lie apart, in direction and in magnitude.

The vectors of A are its rows, those of B its columns, with their magnitudes: the change
of a weight is the sum of their outer products. Of a vector v of a client and the same
one v_0 of a reference

    direction  1 - v . v_0 / (|v| |v_0|),    magnitude  ||v| - |v_0||,

the mean over clients, layers and vectors, as DoRA (ICML 2024, arXiv 2402.09353) has it
for columns of weights, and FedLoRA-Optimizer (arXiv 2510.11274) for factors.

A vector of A times c and the one of B over c are the same network: magnitudes of A and
B are comparable after the same training from the same start, and in no other case.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.network import Lora


class Variation(NamedTuple):
    """Means over clients, layers and vectors; see ``variation``.

    Attributes:
        direction_A: In [0, 2]; nan if all vectors are zero, which have no direction.
        direction_B: Likewise.
        magnitude_A: Of lengths, in their unit.
        magnitude_B: Likewise.
        length_A: Mean length of the reference's vectors.
        length_B: Likewise.
    """

    direction_A: float
    direction_B: float
    magnitude_A: float
    magnitude_B: float
    length_A: float
    length_B: float


def variation(
    network: Lora, thetas: Tensor | Sequence[Tensor], reference: Tensor | None = None
) -> Variation:
    """How far the factors of several clients lie from those of a reference.

    Args:
        network: Of which thetas are the parameters.
        thetas: One for each client, shape [M, q]; or a list of them.
        reference: Where all of them began, shape [q], for how far training moved them;
            None for the mean of their factors, for how far they differ.

    Raises:
        ValueError: If a shape is another one.
    """
    if not isinstance(network, Lora):
        raise ValueError(
            f"Factors are those of a network that lora(...) made; got a "
            f"{type(network).__name__}."
        )
    q = network.size
    if not isinstance(thetas, Tensor):
        thetas = torch.stack(list(thetas))
    if thetas.ndim != 2 or thetas.shape[1] != q or not len(thetas):
        raise ValueError(
            f"Give a theta of {q} parameters for each client, shape [M, {q}]; got "
            f"{list(thetas.shape)}."
        )
    if reference is not None and list(reference.shape) != [q]:
        raise ValueError(
            f"The reference is one theta [{q}]; got shape {list(reference.shape)}."
        )
    own = network.factors(thetas)
    begin = own if reference is None else network.factors(reference.expand(1, -1))
    found = dict[str, float]()
    for number, name in enumerate("AB"):
        moved = [_vectors(pair[number], number) for pair in own]
        at = [_vectors(pair[number], number).mean(0) for pair in begin]
        directions, magnitudes, lengths = list[Tensor](), list[Tensor](), list[Tensor]()
        for v, v_0 in zip(moved, at, strict=True):
            size, size_0 = v.norm(dim=-1), v_0.norm(dim=-1)
            cosine = (v * v_0).sum(-1) / (size * size_0)
            directions.append((1 - cosine)[size * size_0 > 0])
            magnitudes.append((size - size_0).abs().flatten())
            lengths.append(size_0)
        for what, parts in (
            ("direction", directions),
            ("magnitude", magnitudes),
            ("length", lengths),
        ):
            found[f"{what}_{name}"] = float(torch.cat(parts).mean())
    return Variation(**found)


def _vectors(factor: Tensor, of_b: int) -> Tensor:
    """The r vectors [M, r, w] of A [M, r, in] or B [M, out, r]."""
    return factor.mT if of_b else factor
