"""Jets through the layers of an MLP, and derivatives of the result by theta."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add, mul

import torch
from torch import Tensor

from fedsciml.network.jet import Layout, Product
from fedsciml.network.khatri_rao import KhatriRao

AT_ONCE = 128
"""Rows that are multiplied together, so that what comes out stays in a cache."""


def layers(widths: Sequence[int], theta: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views of theta [..., p]: weight [..., out, in] and bias [..., out] by layer."""
    result, start = [], 0
    for a, b in pairwise(widths):
        weight = theta[..., start : start + a * b].unflatten(-1, (b, a))
        start += a * b
        result.append((weight, theta[..., start : start + b]))
        start += b
    return result


class Taped:
    """A forward sweep, whose ``output`` has shape [K, n, c]; and its derivatives.

    A subclass gives those of one direction, and of several if it can do better.
    """

    output: Tensor

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to theta into ``out`` [n, p]."""
        raise NotImplementedError

    def pull(self, cotangent: Tensor) -> Tensor:
        """Sum of the gradients of all rows, shape [p]: J^T w without J."""
        raise NotImplementedError

    def mixed(self, cotangent: Tensor, omega: KhatriRao) -> Tensor:
        """``rows`` times Omega [p, k], shape [n, k]."""
        out = omega.outer[0].new_empty(self.output.shape[1], omega.shape[0])
        self.rows(cotangent, out)
        return out @ omega.matrix()

    def push(self, tangent: Tensor) -> Tensor:
        """Derivative of the output along a tangent [p] of theta, shape [K, n, c]."""
        raise NotImplementedError

    def jacobian(self, cotangents: Tensor, out: Tensor) -> None:
        """``rows`` of several cotangents [s, K, n, c], into ``out`` [s, n, p]."""
        for cotangent, rows in zip(cotangents, out, strict=True):
            self.rows(cotangent, rows)

    def pulls(self, cotangents: Tensor) -> Tensor:
        """``pull`` of several cotangents [s, K, n, c], shape [s, p]."""
        return torch.stack([self.pull(cotangent) for cotangent in cotangents])

    def pushes(self, tangents: Tensor) -> Tensor:
        """``push`` along several tangents [s, p], shape [s, K, n, c]."""
        return torch.stack([self.push(tangent) for tangent in tangents])


@dataclass(frozen=True, eq=False)
class Tape(Taped):
    """A forward sweep of jets through an MLP, and what its derivatives need.

    Attributes:
        widths: Those of the MLP.
        layers: Weight [out, in] and bias [out] of each layer.
        inputs: What the first layer is applied to, see ``MLP.prepared``.
        layout: The K channels.
        steps: The activations, one less than layers; none if they were not kept.
        output: Jets of the last layer, shape [K, n, c].
    """

    widths: Sequence[int]
    layers: list[tuple[Tensor, Tensor]]
    inputs: Tensor
    layout: Layout
    steps: list["Step"]
    output: Tensor

    def sweep(self, cotangent: Tensor) -> list[Tensor]:
        """Cotangents of the pre-activations, from the first layer to the last.

        Args:
            cotangent: Cotangent of the output, shape [K, n, c]. Row i of each result
                depends on row i alone, so one sweep serves the gradients of all rows.
        """
        result = [cotangent]
        for step, (weight, _) in zip(
            reversed(self.steps), reversed(self.layers), strict=False
        ):
            cotangent = step.pull(cotangent @ weight)
            result.append(cotangent)
        return result[::-1]

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to theta into ``out`` [n, p]."""
        n, start = self.output.shape[1], 0
        plain = self.inputs.ndim == 2
        firsts = {coordinate: k for k, coordinate in self.layout.firsts}
        for number, bar in enumerate(self.sweep(cotangent)):
            weight, bias = self.layers[number]
            block = out[:, start : start + weight.numel()].view(n, *weight.shape)
            start += weight.numel()
            if number == 0 and plain:
                for i, x in enumerate(self.inputs.split(1, dim=1)):
                    if i in firsts:
                        torch.addcmul(bar[firsts[i]], bar[0], x, out=block[:, :, i])
                    else:
                        torch.mul(bar[0], x, out=block[:, :, i])
            else:
                # Sum over the channels of outer products. As one batched matrix product
                # it takes twice as long: the matrices are small and J is large.
                left, right = bar.unsqueeze(-1), self._into(number)
                torch.mul(left[0], right[0].unsqueeze(-2), out=block)
                for k in range(1, len(bar)):
                    block.addcmul_(left[k], right[k].unsqueeze(-2))
            out[:, start : start + len(bias)] = bar[0]
            start += len(bias)

    def mixed(self, cotangent: Tensor, omega: KhatriRao) -> Tensor:
        """``rows`` times Omega [p, k], shape [n, k], without them."""
        n = self.output.shape[1]
        layers = zip(self.sweep(cotangent), omega.outer, omega.inner, strict=True)
        found = cotangent.new_zeros(n, omega.shape[1])
        for number, (bar, outer, inner) in enumerate(layers):
            into = self.applied(number)
            for start in range(0, n, AT_ONCE):
                rows = slice(start, start + AT_ONCE)
                left, right = bar[:, rows] @ outer, into[:, rows] @ inner[:-1]
                right[0] += inner[-1]
                for a, b in zip(left, right, strict=True):
                    found[rows].addcmul_(a, b)
        return found

    def pull(self, cotangent: Tensor) -> Tensor:
        """Sum of the gradients of all rows, shape [p]: J^T w without J."""
        parts = []
        for number, bar in enumerate(self.sweep(cotangent)):
            if number == 0 and self.inputs.ndim == 2:
                weight_bar = bar[0].mT @ self.inputs
                for k, coordinate in self.layout.firsts:
                    weight_bar[:, coordinate] += bar[k].sum(0)
            else:
                h = self._into(number)
                weight_bar = bar.flatten(0, 1).mT @ h.flatten(0, 1)
            parts += [weight_bar.flatten(), bar[0].sum(0)]
        return torch.cat(parts)

    def push(self, tangent: Tensor) -> Tensor:
        """Derivative of the output along a tangent [p] of theta, shape [K, n, c]."""
        tangents = layers(self.widths, tangent)
        value, slopes = first(tangents[0], self.inputs, self.layout)
        if len(tangents) == 1:
            return joint(value, slopes)
        for number, (d_weight, d_bias) in enumerate(tangents[1:]):
            step, (weight, _) = self.steps[number], self.layers[number + 1]
            dz = step.push(value, slopes) @ weight.mT + step.output @ d_weight.mT
            dz[0] += d_bias
            value, slopes = dz[0], dz[1:]
        return dz

    def applied(self, number: int) -> Tensor:
        """As ``_into``, also of a first layer that is applied to the points."""
        if number or self.inputs.ndim == 3:
            return self._into(number)
        jets = self.inputs.new_zeros(len(self.layout.channels), *self.inputs.shape)
        jets[0] = self.inputs
        for k, coordinate in self.layout.firsts:
            jets[k, :, coordinate] = 1
        return jets

    def _into(self, number: int) -> Tensor:
        """Jets [K, n, in] that a layer is applied to."""
        return self.steps[number - 1].output if number else self.inputs


class Step:
    """One activation applied to jets: h = f(z), with its derivative in both directions.

    The jets z are given as ``value``, shape [n, w], and the other channels ``slopes``,
    [K - 1, n, w] or [K - 1, 1, w]; ``output`` is h, [K, n, w]. ``f[k]`` is the k-th
    derivative of the activation at the value, up to one order more than the jets'.
    """

    def __init__(
        self, layout: Layout, value: Tensor, slopes: Tensor, f: list[Tensor]
    ) -> None:
        self.layout, self.slopes, self.f = layout, slopes, f
        self.output = value.new_empty(len(slopes) + 1, *value.shape)
        self.output[0] = f[0]
        self.sums: list[Tensor] = []
        if len(slopes):
            torch.mul(slopes, f[1], out=self.output[1:])
        for mixing in layout.mixings:
            total = _polynomial(mixing.products, slopes)
            self.sums.append(total)
            self.output[mixing.channel].addcmul_(f[mixing.order], total)

    def push(self, d_value: Tensor, d_slopes: Tensor) -> Tensor:
        """Tangent of the output, [K, n, w], from the tangent of the input."""
        slopes, f = self.slopes, self.f
        dh = torch.empty_like(self.output)
        torch.mul(f[1], d_value, out=dh[0])
        if len(slopes):
            torch.mul(f[1], d_slopes, out=dh[1:])
            dh[1:].addcmul_(slopes, f[2] * d_value)
        for mixing, total in zip(self.layout.mixings, self.sums, strict=True):
            out = dh[mixing.channel]
            out.addcmul_(f[mixing.order + 1] * total, d_value)
            for b, slope in _slopes(mixing.products, slopes):
                out.addcmul_(f[mixing.order] * slope, d_slopes[b - 1])
        return dh

    def pull(self, h_bar: Tensor) -> Tensor:
        """Cotangent of the input from that of the output, h_bar, both [K, n, w]."""
        slopes, f = self.slopes, self.f
        z_bar = f[1] * h_bar
        for slope, bar in zip(slopes, h_bar[1:], strict=True):
            z_bar[0].addcmul_(f[2] * slope, bar)
        for mixing, total in zip(self.layout.mixings, self.sums, strict=True):
            bar = h_bar[mixing.channel]
            z_bar[0].addcmul_(f[mixing.order + 1] * total, bar)
            bar = f[mixing.order] * bar
            for b, slope in _slopes(mixing.products, slopes):
                z_bar[b].addcmul_(slope, bar)
        return z_bar


def first(
    layer: tuple[Tensor, Tensor], x: Tensor, layout: Layout
) -> tuple[Tensor, Tensor]:
    """Jet of the first layer: value [n, w] and slopes [K - 1, n, w].

    Of the points themselves, [n, d], the slopes are [K - 1, 1, w]: the derivatives of
    an affine map are the same at all points, and zero from the second order on.
    """
    weight, bias = layer
    if x.ndim == 3:
        z = x.view(len(x), *[1] * (bias.ndim - 1), *x.shape[1:]) @ weight.mT
        z[0] += bias.unsqueeze(-2)
        return z[0], z[1:]
    value = (x @ weight.mT).add_(bias.unsqueeze(-2))
    slopes = weight.new_zeros(len(layout.channels) - 1, *bias.shape).unsqueeze(-2)
    for k, coordinate in layout.firsts:
        slopes[k - 1] = weight[..., coordinate].unsqueeze(-2)
    return value, slopes


def joint(value: Tensor, slopes: Tensor) -> Tensor:
    """Jets [K, ..., n, w] of a value [..., n, w] and its slopes, as ``first`` gives."""
    return torch.cat([value[None], slopes.expand(-1, *value.shape)])


def _polynomial(products: Sequence[Product], slopes: Tensor) -> Tensor:
    """Sum of times * prod z[b]^power, where z[b] is slopes[b - 1]."""
    terms = []
    for factors, times in products:
        term = reduce(
            mul, (slopes[b - 1] for b, power in factors for _ in range(power))
        )
        terms.append(term if times == 1 else times * term)
    return reduce(add, terms)


def _slopes(products: Sequence[Product], slopes: Tensor) -> list[tuple[int, Tensor]]:
    """Partial derivatives of the polynomial: pairs (channel b, slope)."""
    result = []
    for factors, times in products:
        for b, power in factors:
            powers = [(other, e - (other == b)) for other, e in factors]
            slope = reduce(
                mul, (slopes[other - 1] for other, e in powers for _ in range(e))
            )
            scale = times * power
            result.append((b, slope if scale == 1 else scale * slope))
    return result
