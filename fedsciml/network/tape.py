"""Jets through the layers of an MLP, and derivatives of the result by theta."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import pairwise
from operator import mul

import torch
from torch import Tensor

from fedsciml.network.activation import Activation, Autonomous
from fedsciml.network.jet import Layout, Product
from fedsciml.network.khatri_rao import KhatriRao

AT_ONCE = 128
"""Rows that are multiplied together, so that what comes out stays in a cache."""

LARGE = 4096
"""Products for one row's gradient by a weight from which on a matrix product is faster
than a pass for each channel: 0.9 times at 4096, half at four times as many."""


def layers(widths: Sequence[int], theta: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Views of theta [..., p]: weight [..., out, in] and bias [..., out] by layer."""
    shapes = list(pairwise(widths))
    parts = theta.split([size for a, b in shapes for size in (a * b, b)], -1)
    return [
        (weight.view(*weight.shape[:-1], b, a), bias)
        for (a, b), weight, bias in zip(shapes, parts[::2], parts[1::2], strict=True)
    ]


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
        """``rows`` times Omega [p, k], shape [n, k]; of an MLP alone."""
        raise NotImplementedError

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
                _outer(bar, self._into(number), block)
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
            dz[0].add_(d_bias)
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

    The jets z are given as ``value``, shape [..., n, w], and the other channels
    ``slopes``, [..., K - 1, n, w] or [..., K - 1, 1, w]; ``output`` is h,
    [..., K, n, w].

    Args:
        layout: The K channels.
        value: Of z.
        slopes: Of z.
        activation: f.
        keep: Whether to keep what derivatives need; then there is one theta.
        out: Where to write h; over z unless ``keep``. None for new memory.
    """

    def __init__(
        self,
        layout: Layout,
        value: Tensor,
        slopes: Tensor,
        activation: Activation,
        keep: bool = True,
        out: Tensor | None = None,
    ) -> None:
        self.layout, self.slopes, self._activation = layout, slopes, activation
        each = slopes.unbind(-3)
        self.sums = [_polynomial(m.products, each) for m in layout.mixings]
        if out is None:
            shape = (*value.shape[:-2], len(each) + 1, *value.shape[-2:])
            out = value.new_empty(shape)
        self.output = out
        h, after = out.unbind(-3), out.narrow(-3, 1, len(each))
        if isinstance(activation, Autonomous):
            f = activation.function(value, out=h[0])
            if each:
                self._bend(activation, f.unsqueeze(-3), each, h, after)
            return
        self.f = activation(value, layout.order + keep)
        h[0].copy_(self.f[0])
        if each:
            torch.mul(slopes, self.f[1].unsqueeze(-3), out=after)
        for mixing, total in zip(layout.mixings, self.sums, strict=True):
            h[mixing.channel].addcmul_(self.f[mixing.order], total)

    def _bend(
        self,
        activation: Autonomous,
        f: Tensor,
        z: Sequence[Tensor],
        h: Sequence[Tensor],
        after: Tensor,
    ) -> None:
        """Slopes of the output: f' times those of z and Q_k(f) times the sums."""
        mixings = self.layout.mixings
        straight = mixings[0].channel - 1 if mixings else len(z)  # the others are bent
        activation.times(
            self.slopes.narrow(-3, 0, straight), f, after.narrow(-3, 0, straight)
        )
        known = 0
        for mixing, total in zip(mixings, self.sums, strict=True):
            k = mixing.channel
            base = h[k] if k == known else z[k - 1]
            activation.bend(h[k], base, h[0], total, mixing.order)
            known = k
        if mixings:
            bent = after.narrow(-3, straight, len(z) - straight)
            activation.times(bent, f, bent)

    @cached_property
    def f(self) -> list[Tensor]:
        """f and its derivatives at the value, up to one order more than the jets'."""
        assert isinstance(self._activation, Autonomous)  # others know them
        return self._activation.derivatives(self.output[0], self.layout.order + 1)

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
            along: Tensor | None = None
            for b, slope, times in _slopes(mixing.products, slopes):
                if along is None:
                    along = slope * d_slopes[b - 1]
                    along = along if times == 1 else along.mul_(times)
                else:
                    along.addcmul_(slope, d_slopes[b - 1], value=times)
            assert along is not None  # there is a product
            out.addcmul_(f[mixing.order], along)
        return dh

    def pull(self, h_bar: Tensor) -> Tensor:
        """Cotangent of the input from that of the output, h_bar, both [K, n, w]."""
        slopes, f = self.slopes, self.f
        z_bar = f[1] * h_bar
        if len(slopes):
            along = slopes[0] * h_bar[1]
            for slope, bar in zip(slopes[1:], h_bar[2:], strict=True):
                along.addcmul_(slope, bar)
            z_bar[0].addcmul_(f[2], along)
        for mixing, total in zip(self.layout.mixings, self.sums, strict=True):
            bar = h_bar[mixing.channel]
            z_bar[0].addcmul_(f[mixing.order + 1], total * bar)
            bar = f[mixing.order] * bar
            for b, slope, times in _slopes(mixing.products, slopes):
                z_bar[b].addcmul_(slope, bar, value=times)
        return z_bar


def first(
    layer: tuple[Tensor, Tensor], x: Tensor, layout: Layout
) -> tuple[Tensor, Tensor]:
    """Jet of the first layer: value [..., n, w] and slopes [..., K - 1, n, w].

    Of the points themselves, [n, d], the slopes are [..., K - 1, 1, w]: the derivatives
    of an affine map are the same at all points, and zero from the second order on.
    """
    weight, bias = layer
    if x.ndim == 3:
        z = applied(weight, bias, x)
        return z.select(-3, 0), z.narrow(-3, 1, len(x) - 1)
    value = (x @ weight.mT).add_(bias.unsqueeze(-2))
    shape = (*bias.shape[:-1], len(layout.channels) - 1, 1, bias.shape[-1])
    slopes = weight.new_zeros(shape)
    for k, coordinate in layout.firsts:
        slopes[..., k - 1, 0, :] = weight[..., coordinate]
    return value, slopes


def applied(weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
    """Jets [..., K, n, out] of an affine layer applied to jets h [..., K, n, in]."""
    flat = h.flatten(-3, -2)
    # A row times a matrix is faster than a matrix times a column.
    z = (weight @ flat.mT).mT if bias.shape[-1] == 1 else flat @ weight.mT
    z = z.view(*z.shape[:-2], *h.shape[-3:-1], z.shape[-1])
    z.select(-3, 0).add_(bias.unsqueeze(-2))
    return z


def joint(value: Tensor, slopes: Tensor) -> Tensor:
    """Jets [..., K, n, w] of a value [..., n, w] and its slopes, as ``first`` gives."""
    slopes = slopes.expand(*slopes.shape[:-2], *value.shape[-2:])
    return torch.cat([value.unsqueeze(-3), slopes], -3)


def _outer(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Sum over channels of outer products, [K, n, a] and [K, n, b] into [n, a, b]."""
    if len(left) * out[0].numel() >= LARGE:
        torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1), out=out)
        return
    right = right.unsqueeze(-2)
    torch.mul(left[0].unsqueeze(-1), right[0], out=out)
    for k in range(1, len(left)):
        out.addcmul_(left[k].unsqueeze(-1), right[k])


def _polynomial(products: Sequence[Product], slopes: Sequence[Tensor]) -> Tensor:
    """Sum of times * prod z[b]^power, where z[b] is slopes[b - 1]."""
    total: Tensor | None = None
    for factors, times in products:
        each = [slopes[b - 1] for b, power in factors for _ in range(power)]
        last, term = each.pop(), reduce(mul, each)
        if total is None:
            total = term * last if times == 1 else (term * last).mul_(times)
        else:
            total.addcmul_(term, last, value=times)
    assert total is not None  # there is a product
    return total


def _slopes(
    products: Sequence[Product], slopes: Tensor
) -> list[tuple[int, Tensor, int]]:
    """Partial derivatives of the polynomial: channel b, and a slope so many times."""
    result = []
    for factors, times in products:
        for b, power in factors:
            powers = [(other, e - (other == b)) for other, e in factors]
            slope = reduce(
                mul, (slopes[other - 1] for other, e in powers for _ in range(e))
            )
            result.append((b, slope, times * power))
    return result
