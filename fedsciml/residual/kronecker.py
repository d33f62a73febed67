r"""Kronecker factors of the Gauss-Newton gramian, layer by layer (K-FAC).

The gradient of residual i with respect to a layer's weight and bias, as one matrix
[out, in + 1], is a sum over pairs (i, k) of g_ik a_ik^T: g the cotangent of the pre-
activation, a the input, with a 1 for the bias. In an ``MLP`` k are the channels of the
layer's jets, and the bias has a 0 in the channels of derivatives; in a ``ConvNet`` they
are the pixels of the output, and a is the patch of the input around one. Every pair is
treated as a row of its own: the "expand" treatment of shared weights by Dangel,
Mueller, Zeinhofer (Kronecker-Factored Approximate Curvature for Physics-Informed Neural
Networks, NeurIPS 2024, arXiv 2405.15603), which for convolutions is that of Grosse and
Martens (ICML 2016, arXiv 1602.01407). Term by term the layer's block of J^T J becomes

    A_t (x) G_t,    A_t = sum of a a^T,    G_t = mean of g g^T    over all pairs.

For a single pair that is exact. The cotangents carry the rows' weights, so the factors
of all terms together stand for J^T J of the loss, not for a mean over points. A matrix
V of a layer's parameters is multiplied as G_t V A_t.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.network import ConvNet, Network, Tape
from fedsciml.network.convolution import ConvTape
from fedsciml.network.layers import AffineStep
from fedsciml.residual.jet_rows import JetLinear
from fedsciml.residual.system import Linearisation, System

Shape = Sequence[int]
"""Of a layer: inputs of its weight, outputs, and 1 if it has a bias, else 0."""


class Factors(NamedTuple):
    """J^T J ~ sum over the T terms of A_t (x) G_t, by layer; equal to itself alone.

    Attributes:
        inputs: A of each layer, shape [T, in + bias, in + bias].
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

    def product(self, vector: Tensor, shapes: Sequence[Shape]) -> Tensor:
        """J^T J v, shape [p], for a vector v [p] and the layers' shapes."""
        parts = matrices(shapes, vector)
        triples = zip(self.outputs, parts, self.inputs, strict=True)
        return joined(shapes, [(g @ v @ a).sum(0) for g, v, a in triples])


def shapes(network: Network) -> list[Shape]:
    """Shapes of the layers that theta lists; none where these are not all there is.

    Of an ``MLP``, and of a ``ConvNet`` without normalisation.
    """
    if network.widths:
        return [(a, b, 1) for a, b in pairwise(network.widths)]
    images = network.jets  # of a network whose last layers are trained, these
    if not isinstance(images, ConvNet):
        return []
    found = list[Shape]()
    for weight, *bias in filter(None, images.shapes):
        if len(weight) == 1:  # a gain
            return []
        found.append((math.prod(weight[1:]), weight[0], len(bias)))
    return found


def sizes(shapes: Sequence[Shape]) -> tuple[list[int], list[int]]:
    """Sizes of the matrices A and G of each layer."""
    return [a + bias for a, _, bias in shapes], [b for _, b, _ in shapes]


def matrices(shapes: Sequence[Shape], vector: Tensor) -> list[Tensor]:
    """A vector [p] as each layer's weight and bias in one matrix [out, in + bias]."""
    sizes = [size for a, b, bias in shapes for size in (a * b, bias * b)]
    parts = vector.split(sizes)
    triples = zip(shapes, parts[::2], parts[1::2], strict=True)
    return [
        torch.cat([weight.view(b, a), own.view(b, bias)], 1)
        for (a, b, bias), weight, own in triples
    ]


def joined(shapes: Sequence[Shape], matrices: Sequence[Tensor]) -> Tensor:
    """One vector [p] from matrices [out, in + bias]: the inverse of ``matrices``."""
    return torch.cat(
        [
            part.flatten()
            for (a, _, bias), m in zip(shapes, matrices, strict=True)
            for part in m.split([a, bias], dim=1)
        ]
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
    """A_t of each layer, shape [T, in + bias, in + bias]; zero for terms without rows.

    Args:
        system: The rows.
        linear: Their linearisation.

    Raises:
        ValueError: If the network is no MLP and no ConvNet without normalisation, or a
            residual calls torch.autograd and does not fit the jets.
    """
    layers, blocks = _jets(system, linear)
    terms, (widths, _) = len(system.problem.terms), sizes(layers)
    result = [linear.residual.new_zeros(terms, width, width) for width in widths]
    for term, tape, _ in blocks:
        for total, a in zip(result, _inputs(tape), strict=True):
            total[term] += a.mT @ a
    return result


def factors(system: System, linear: Linearisation) -> Factors:
    """Both factors of each layer; arguments and errors as for ``inputs``."""
    layers, blocks = _jets(system, linear)
    terms, (_, widths) = len(system.problem.terms), sizes(layers)
    outputs = [linear.residual.new_zeros(terms, width, width) for width in widths]
    pairs = [[0] * terms for _ in layers]
    for term, tape, cotangents in blocks:
        for q, cotangent in enumerate(cotangents):
            for number, g in enumerate(_outputs(tape, cotangent)):
                outputs[number][term] += g.mT @ g
                # Residuals of the same point are no pairs of their own.
                pairs[number][term] += 0 if q else len(g)
    for total, count in zip(outputs, pairs, strict=True):
        total /= total.new_tensor(count).clamp(min=1)[:, None, None]
    return Factors(inputs(system, linear), outputs)


def _jets(
    system: System, linear: Linearisation
) -> tuple[list[Shape], list[tuple[int, Tape | ConvTape, list[Tensor]]]]:
    """The layers; term, tape and cotangents of each linearised block."""
    network, found = system.problem.network, []
    layers = shapes(network)
    for block, part in zip(system.blocks, linear.blocks, strict=True):
        tape = part.tape if isinstance(part, JetLinear) else None
        if not (layers and isinstance(tape, Tape | ConvTape)):
            raise ValueError(
                f"Kronecker factors need an MLP, or a ConvNet without GroupNorm, and "
                f"residuals that read its jets; not so term "
                f"'{system.problem.terms[block.rows.term].name}' of problem "
                f"'{system.problem.name}' with its {type(network).__name__}. Use a "
                "diagonal or a full matrix, or a sketch."
            )
        assert isinstance(part, JetLinear)
        found.append((block.rows.term, tape, part.cotangents))
    return layers, found


def _inputs(tape: Tape | ConvTape) -> Iterator[Tensor]:
    """Inputs a of all layers, one pair a row, with a column for the bias."""
    if isinstance(tape, ConvTape):
        for step in tape.steps:
            if isinstance(step, AffineStep):
                a = step.layer.columns(step.x).flatten(1).mT
                one = a.new_ones(len(a), int(step.layer.bias))
                yield torch.cat([a, one], 1)
        return
    for jets in (tape.applied(0), *(step.output for step in tape.steps)):
        bias = jets.new_zeros(*jets.shape[:2], 1)
        bias[0] = 1
        yield torch.cat([jets, bias], -1).flatten(0, 1)


def _outputs(tape: Tape | ConvTape, cotangent: Tensor) -> Iterator[Tensor]:
    """Cotangents g of all layers, one pair a row."""
    if isinstance(tape, ConvTape):
        for step, bar in zip(tape.steps, tape.sweep(cotangent[0]), strict=True):
            if isinstance(step, AffineStep):
                assert bar is not None  # it has parameters
                yield bar.flatten(1).mT
    else:
        for bar in tape.sweep(cotangent):
            yield bar.flatten(0, 1)
