r"""Kronecker factors of the Gauss-Newton gramian of an MLP, layer by layer (K-FAC).

The gradient of residual i with respect to a layer's weight and bias, as one matrix
[out, in + 1], is the sum over the channels k of the layer's jets of g_ik a_ik^T: g the
cotangent of the pre-activation, a the input, with a 1 for the bias in the value's
channel and a 0 in the derivatives'. Every pair (i, k) is treated as a row of its own,
the "expand" treatment of shared weights by Dangel, Mueller, Zeinhofer (Kronecker-
Factored Approximate Curvature for Physics-Informed Neural Networks, NeurIPS 2024,
arXiv 2405.15603), and term by term the layer's block of J^T J becomes

    A_t (x) G_t,    A_t = sum of a a^T,    G_t = mean of g g^T    over all pairs.

For a single pair that is exact. The cotangents carry the rows' weights, so the factors
of all terms together stand for J^T J of the loss, not for a mean over points. A matrix
V of a layer's parameters is multiplied as G_t V A_t.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.network import Tape
from fedsciml.residual.jet_rows import JetLinear
from fedsciml.residual.system import Linearisation, System


class Factors(NamedTuple):
    """J^T J ~ sum over the T terms of A_t (x) G_t, by layer; equal to itself alone.

    Attributes:
        inputs: A of each layer, shape [T, in + 1, in + 1].
        outputs: G of each layer, shape [T, out, out].
    """

    inputs: list[Tensor]
    outputs: list[Tensor]

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    @property
    def widths(self) -> list[int]:
        """Widths of the network: inputs, hidden layers, outputs."""
        return [len(a[0]) - 1 for a in self.inputs] + [len(self.outputs[-1][0])]

    def product(self, vector: Tensor) -> Tensor:
        """J^T J v, shape [p], for a vector v [p]."""
        parts = matrices(self.widths, vector)
        triples = zip(self.outputs, parts, self.inputs, strict=True)
        return joined([(g @ v @ a).sum(0) for g, v, a in triples])


def sizes(widths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Sizes of the matrices A and G of each layer."""
    return [width + 1 for width in widths[:-1]], list(widths[1:])


def matrices(widths: Sequence[int], vector: Tensor) -> list[Tensor]:
    """A vector [p] as each layer's weight and bias in one matrix [out, in + 1]."""
    sizes = [size for a, b in pairwise(widths) for size in (a * b, b)]
    parts = vector.split(sizes)
    return [
        torch.cat([weight.view(len(bias), -1), bias.unsqueeze(1)], 1)
        for weight, bias in zip(parts[::2], parts[1::2], strict=True)
    ]


def joined(matrices: Sequence[Tensor]) -> Tensor:
    """One vector [p] from matrices [out, in + 1]: the inverse of ``matrices``."""
    return torch.cat(
        [part for m in matrices for part in (m[:, :-1].flatten(), m[:, -1])]
    )


def packed(squares: Sequence[Tensor]) -> Tensor:
    """Stacks of square matrices [T, k, k], the k may differ, as one flat tensor."""
    return torch.cat([square.flatten() for square in squares])


def unpacked(flat: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The inverse of ``packed``, for stacks of matrices of these sizes k."""
    squares = [k * k for k in sizes]
    stacked = flat.split([square * (len(flat) // sum(squares)) for square in squares])
    return [part.view(-1, k, k) for part, k in zip(stacked, sizes, strict=True)]


def merge(parts: Sequence[Factors]) -> Factors:
    """The sum of the matrices: all their terms together."""
    inputs = zip(*(part.inputs for part in parts), strict=True)
    outputs = zip(*(part.outputs for part in parts), strict=True)
    return Factors([torch.cat(a) for a in inputs], [torch.cat(g) for g in outputs])


def inputs(system: System, linear: Linearisation) -> list[Tensor]:
    """A_t of each layer, shape [T, in + 1, in + 1]; zero for terms without rows.

    Args:
        system: The rows.
        linear: Their linearisation.

    Raises:
        ValueError: If the network is not an MLP, or a residual calls torch.autograd and
            does not fit the jets.
    """
    widths, blocks = _jets(system, linear)
    terms = len(system.problem.terms)
    result = [
        linear.residual.new_zeros(terms, width + 1, width + 1) for width in widths[:-1]
    ]
    for term, tape, _ in blocks:
        for total, a in zip(result, _inputs(tape), strict=True):
            total[term] += a.flatten(0, 1).mT @ a.flatten(0, 1)
    return result


def factors(system: System, linear: Linearisation) -> Factors:
    """Both factors of each layer; arguments and errors as for ``inputs``."""
    widths, blocks = _jets(system, linear)
    terms = len(system.problem.terms)
    outputs = [linear.residual.new_zeros(terms, width, width) for width in widths[1:]]
    pairs = [0] * terms
    for term, tape, cotangents in blocks:
        pairs[term] += tape.output[..., 0].numel()
        for cotangent in cotangents:
            for total, g in zip(outputs, tape.sweep(cotangent), strict=True):
                total[term] += g.flatten(0, 1).mT @ g.flatten(0, 1)
    for total in outputs:
        total /= total.new_tensor(pairs).clamp(min=1)[:, None, None]
    return Factors(inputs(system, linear), outputs)


def _jets(
    system: System, linear: Linearisation
) -> tuple[Sequence[int], list[tuple[int, Tape, list[Tensor]]]]:
    """Widths of the network; term, tape and cotangents of each linearised block."""
    network, found = system.problem.network, []
    for block, part in zip(system.blocks, linear.blocks, strict=True):
        if not (isinstance(part, JetLinear) and isinstance(part.tape, Tape)):
            raise ValueError(
                f"Kronecker factors need an MLP and residuals that read its jets; not "
                f"so term '{system.problem.terms[block.rows.term].name}' of problem "
                f"'{system.problem.name}' with its {type(network).__name__}. Use a "
                "diagonal or a full matrix."
            )
        found.append((block.rows.term, part.tape, part.cotangents))
    return network.widths, found


def _inputs(tape: Tape) -> list[Tensor]:
    """Inputs of all layers with a column for the bias, each [K, n, in + 1]."""
    first = tape.inputs
    if first.ndim == 2:  # the points themselves
        first = first.new_zeros(len(tape.layout.channels), *tape.inputs.shape)
        first[0] = tape.inputs
        for k, coordinate in tape.layout.firsts:
            first[k, :, coordinate] = 1
    result = []
    for jets in (first, *(step.output for step in tape.steps)):
        bias = jets.new_zeros(*jets.shape[:2], 1)
        bias[0] = 1
        result.append(torch.cat([jets, bias], -1))
    return result
