"""Layers of images, and the derivatives of each in both directions.

What layers pass on has shape [c, h, w, n]: channels, height, width, points; behind a
dense layer h = w = 1. So a convolution of all points is one matrix product, weight
[out, in] times columns [in, h w n], and so are its derivatives; and what is copied lies
together in memory. Tangents and cotangents have a dimension in front: several at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fedsciml.network.activation import ACTIVATIONS

Padding = Literal["same", "valid"]
"""Zeros around, so that height and width stay; or none."""

Shape = tuple[int, int, int]
"""Channels, height and width."""

EPS = 1e-5
"""Added to the variance by ``GroupNorm``, as torch does."""


class Step(Protocol):
    """A layer where it was applied to points x [c, h, w, n]: its derivatives there."""

    def push(self, tangent: Tensor | None, parameters: Sequence[Tensor]) -> Tensor:
        """Tangents of the output [s, c', h', w', n].

        Args:
            tangent: Of the input, shape [s, c, h, w, n]; None for zero.
            parameters: Of the layer's parameters, each [s, *shape].
        """
        ...

    def pull(self, bar: Tensor) -> Tensor:
        """Cotangents of the input from those of the output, [s, c', h', w', n]."""
        ...

    def weigh(self, bar: Tensor) -> list[Tensor]:
        """Cotangents of the parameters, [s, size] each."""
        ...

    def rows(self, bar: Tensor, out: Sequence[Tensor]) -> None:
        """Write the gradient of each point into [s, n, size] for each parameter."""
        ...


class Layer(Protocol):
    """A layer as it is written in a network."""

    def output(self, shape: Shape) -> Shape:
        """Shape of what it passes on of images of a shape."""
        ...

    def parameters(self, shape: Shape) -> list[tuple[int, ...]]:
        """Shapes of its parameters for images of a shape; the first has the weights."""
        ...

    def apply(self, parameters: Sequence[Tensor], x: Tensor) -> tuple[Tensor, Step]:
        """What it makes of points x [c, h, w, n], and the step that it was."""
        ...


@dataclass(frozen=True)
class Affine:
    """What a convolution and a dense layer share.

    Args:
        width: Number of output channels.
        bias: Whether there is one for each of them.
    """

    width: int
    bias: bool = field(default=True, kw_only=True)

    def columns(self, x: Tensor) -> Tensor:
        """What the weight is applied to, [..., in, h', w', n], of [..., c, h, w, n]."""
        return x.flatten(-4, -2)[..., None, None, :]

    def fold(self, columns: Tensor, shape: Sequence[int]) -> Tensor:
        """Transpose of ``columns``, for x of a shape [c, h, w, n]."""
        return columns[..., 0, 0, :].unflatten(-2, shape[:3])

    def output(self, shape: Shape) -> Shape:
        """One pixel of all channels."""
        return self.width, 1, 1

    def parameters(self, shape: Shape) -> list[tuple[int, ...]]:
        """Weight [width, c h w] and bias [width]."""
        return [(self.width, prod(shape)), *([(self.width,)] if self.bias else [])]

    def apply(
        self, parameters: Sequence[Tensor], x: Tensor
    ) -> tuple[Tensor, "AffineStep"]:
        """W columns + b."""
        weight, columns = parameters[0].flatten(1), self.columns(x)
        z = weight @ columns.flatten(1)
        if self.bias:
            z = z + parameters[1].unsqueeze(1)
        return z.unflatten(1, columns.shape[1:]), AffineStep(self, weight, x)


class Dense(Affine):
    """Affine in all channels and pixels: one pixel of ``width`` channels."""


@dataclass(frozen=True)
class Convolution(Affine):
    """Convolution with squares of ``size`` pixels.

    Args:
        width: Number of output channels.
        size: Of the kernel, an odd number.
        padding: ``same`` or ``valid``, see ``Padding``.
        bias: Whether there is one for each output channel.
    """

    size: int = 3
    padding: Padding = "same"

    @property
    def edge(self) -> int:
        """Pixels of zeros around."""
        return self.size // 2 if self.padding == "same" else 0

    def columns(self, x: Tensor) -> Tensor:
        """The squares around each pixel, [..., c size^2, h', w', n]."""
        x = functional.pad(x, (0, 0, *(self.edge,) * 4)) if self.edge else x
        h, w = (pixels - self.size + 1 for pixels in x.shape[-3:-1])
        squares = [
            x[..., i : i + h, j : j + w, :]
            for i in range(self.size)
            for j in range(self.size)
        ]
        return torch.stack(squares, -4).flatten(-5, -4)

    def fold(self, columns: Tensor, shape: Sequence[int]) -> Tensor:
        """Transpose of ``columns``, for x of a shape [c, h, w, n]."""
        c, h, w, n = shape
        e, k, (high, wide) = self.edge, self.size, columns.shape[-3:-1]
        parts = columns.unflatten(-4, (c, k, k))
        padded = columns.new_zeros(*columns.shape[:-4], c, h + 2 * e, w + 2 * e, n)
        for i in range(k):
            for j in range(k):
                padded[..., i : i + high, j : j + wide, :] += parts[..., i, j, :, :, :]
        return padded[..., e : e + h, e : e + w, :]

    def output(self, shape: Shape) -> Shape:
        """``width`` channels of the same or of fewer pixels."""
        less = self.size - 1 - 2 * self.edge
        return self.width, shape[1] - less, shape[2] - less

    def parameters(self, shape: Shape) -> list[tuple[int, ...]]:
        """Weight [width, c, size, size] and bias [width]."""
        weight = (self.width, shape[0], self.size, self.size)
        return [weight, *([(self.width,)] if self.bias else [])]


@dataclass(frozen=True, eq=False)
class AffineStep:
    """z = W a + b for the columns a of x; they are larger than x, and made again.

    Attributes:
        layer: Which one.
        weight: W, shape [out, in].
        x: Shape [c, h, w, n].
    """

    layer: Affine
    weight: Tensor
    x: Tensor

    def push(self, tangent: Tensor | None, parameters: Sequence[Tensor]) -> Tensor:
        """dW a + W da + db."""
        columns, d_weight = self.layer.columns(self.x), parameters[0].flatten(2)
        dz = d_weight.flatten(0, 1) @ columns.flatten(1)
        dz = dz.unflatten(0, d_weight.shape[:2])
        if tangent is not None:
            dz += self.weight @ self.layer.columns(tangent).flatten(2)
        if self.layer.bias:
            dz += parameters[1].unsqueeze(2)
        return dz.unflatten(2, columns.shape[1:])

    def pull(self, bar: Tensor) -> Tensor:
        """W^T bar, summed over the columns that a number is in."""
        columns = self.weight.mT @ bar.flatten(-3)
        return self.layer.fold(columns.unflatten(-1, bar.shape[-3:]), self.x.shape)

    def weigh(self, bar: Tensor) -> list[Tensor]:
        """bar a^T; the sum of bar."""
        columns = self.layer.columns(self.x).flatten(1)
        weight = bar.flatten(0, 1).flatten(1) @ columns.mT
        bias = [bar.sum((2, 3, 4))] if self.layer.bias else []
        return [weight.view(len(bar), -1), *bias]

    def rows(self, bar: Tensor, out: Sequence[Tensor]) -> None:
        """bar a^T point by point."""
        (s, width), n = bar.shape[:2], bar.shape[-1]
        left = _by_points(bar).view(n, s, width, -1)
        right = _by_points(self.layer.columns(self.x))  # [n, in, h w]
        block = out[0].view(s, n, width, -1)
        if right.shape[2] == 1:
            torch.mul(left.movedim(1, 0), right.mT, out=block)
        else:  # with out= it is slower
            found = left.flatten(1, 2) @ right.mT
            block.copy_(found.unflatten(1, (s, width)).movedim(1, 0))
        if self.layer.bias:
            torch.sum(left.movedim(1, 0), 3, out=out[1])


@dataclass(frozen=True)
class Activation:
    """A function of every number, one of ``ACTIVATIONS``."""

    name: str

    def output(self, shape: Shape) -> Shape:
        """As the input."""
        return shape

    def parameters(self, shape: Shape) -> list[tuple[int, ...]]:
        """None."""
        return []

    def apply(self, parameters: Sequence[Tensor], x: Tensor) -> tuple[Tensor, "Linear"]:
        """f(x)."""
        value, slope = ACTIVATIONS[self.name](x, 1)
        return value, Slope(slope)


@dataclass(frozen=True)
class Pool:
    """The largest or the mean of each square of pixels; a rest at the edge is dropped.

    Args:
        size: Of the squares.
        kind: ``max`` or ``mean``.
    """

    size: int = 2
    kind: Literal["max", "mean"] = "max"

    def output(self, shape: Shape) -> Shape:
        """As many channels of fewer pixels."""
        return shape[0], shape[1] // self.size, shape[2] // self.size

    def parameters(self, shape: Shape) -> list[tuple[int, ...]]:
        """None."""
        return []

    def apply(self, parameters: Sequence[Tensor], x: Tensor) -> tuple[Tensor, "Linear"]:
        """One pixel of each square."""
        if self.kind == "mean":
            step = Mean(self.size, x.shape)
            return step.forth(x.unsqueeze(0))[0], step
        c, h, w, n = x.shape
        if not n:  # of which torch knows no largest
            chosen = x.new_zeros(*self.output((c, h, w)), 0, dtype=torch.int64)
            return chosen.to(x), Largest(chosen, x.shape)
        value, chosen = functional.max_pool2d(
            x.movedim(-1, 1), self.size, return_indices=True
        )
        return value.movedim(1, -1), Largest(chosen.movedim(1, -1), x.shape)


@dataclass(frozen=True, eq=False)
class Linear:
    """A step without parameters."""

    def push(self, tangent: Tensor | None, parameters: Sequence[Tensor]) -> Tensor:
        """The tangent of the input, passed on."""
        assert tangent is not None  # a layer with parameters came before
        return self.forth(tangent)

    def forth(self, tangent: Tensor) -> Tensor:
        """Tangent of the output."""
        raise NotImplementedError

    def pull(self, bar: Tensor) -> Tensor:
        """Transpose of ``forth``."""
        raise NotImplementedError

    def weigh(self, bar: Tensor) -> list[Tensor]:
        """Nothing."""
        return []

    def rows(self, bar: Tensor, out: Sequence[Tensor]) -> None:
        """Nothing."""


@dataclass(frozen=True, eq=False)
class Slope(Linear):
    """A function of every number, with its slope."""

    slope: Tensor

    def forth(self, tangent: Tensor) -> Tensor:
        """Times the slope."""
        return tangent * self.slope

    def pull(self, bar: Tensor) -> Tensor:
        """Times the slope."""
        return bar * self.slope


@dataclass(frozen=True, eq=False)
class Largest(Linear):
    """The largest of squares; ``chosen`` [c, h', w', n] counts pixels of the plane."""

    chosen: Tensor
    shape: Sequence[int]

    def forth(self, tangent: Tensor) -> Tensor:
        """That of the chosen pixels."""
        chosen = self.chosen.flatten(1, 2).expand(*tangent.shape[:-4], -1, -1, -1)
        found = tangent.flatten(-3, -2).gather(-2, chosen)
        return found.unflatten(-2, self.chosen.shape[1:3])

    def pull(self, bar: Tensor) -> Tensor:
        """To the chosen pixels, 0 to others."""
        c, h, w, n = self.shape
        chosen = self.chosen.flatten(1, 2).expand(*bar.shape[:-4], -1, -1, -1)
        result = bar.new_zeros(*bar.shape[:-4], c, h * w, n)
        return result.scatter_(-2, chosen, bar.flatten(-3, -2)).unflatten(-2, (h, w))


@dataclass(frozen=True, eq=False)
class Mean(Linear):
    """The mean of squares of ``size``^2 pixels."""

    size: int
    shape: Sequence[int]

    def forth(self, tangent: Tensor) -> Tensor:
        """The same of the tangent."""
        k = self.size
        h, w = (pixels // k for pixels in self.shape[1:3])
        whole = tangent[..., : h * k, : w * k, :]
        return whole.unflatten(-2, (w, k)).unflatten(-4, (h, k)).mean((-2, -4))

    def pull(self, bar: Tensor) -> Tensor:
        """An equal share to each pixel."""
        k, (h, w) = self.size, self.shape[1:3]
        shares = (bar / k**2).repeat_interleave(k, -3).repeat_interleave(k, -2)
        rest = (0, 0, 0, w - shares.shape[-2], 0, h - shares.shape[-3])
        return functional.pad(shares, rest)


@dataclass(frozen=True)
class GroupNorm:
    """Mean 0 and variance 1 for groups of a point's channels, then gain and shift.

    It replaces batch normalisation, which couples the points. One group behind a dense
    layer is layer normalisation.

    Args:
        groups: How many; they divide the channels.
    """

    groups: int = 1

    def output(self, shape: Shape) -> Shape:
        """As the input."""
        return shape

    def parameters(self, shape: Shape) -> list[tuple[int, ...]]:
        """Gain and shift of each channel."""
        return [(shape[0],), (shape[0],)]

    def apply(
        self, parameters: Sequence[Tensor], x: Tensor
    ) -> tuple[Tensor, "NormStep"]:
        """gain (x - mean) / sqrt(variance + EPS) + shift."""
        grouped = x.unflatten(0, (self.groups, -1))
        away = grouped - grouped.mean((-4, -3, -2), keepdim=True)
        variance = away.square().mean((-4, -3, -2), keepdim=True)
        scale = (variance + EPS).rsqrt()
        normal = (away * scale).flatten(0, 1)
        gain, shift = (part[:, None, None, None] for part in parameters)
        step = NormStep(self.groups, normal, scale, gain)
        return normal * gain + shift, step


@dataclass(frozen=True, eq=False)
class NormStep:
    """A normalisation at points.

    Attributes:
        groups: How many.
        normal: Before gain and shift, [c, h, w, n].
        scale: 1 / sqrt(variance + EPS), shape [groups, 1, 1, 1, n].
        gain: Shape [c, 1, 1, 1].
    """

    groups: int
    normal: Tensor
    scale: Tensor
    gain: Tensor

    def _projected(self, d: Tensor) -> Tensor:
        """Derivative of the normalisation; symmetric."""
        split = (self.groups, -1)
        grouped, normal = d.unflatten(-4, split), self.normal.unflatten(0, split)
        mean = grouped.mean((-4, -3, -2), keepdim=True)
        along = (grouped * normal).mean((-4, -3, -2), keepdim=True)
        return (self.scale * (grouped - mean - normal * along)).flatten(-5, -4)

    def push(self, tangent: Tensor | None, parameters: Sequence[Tensor]) -> Tensor:
        """Of the input, the gain and the shift."""
        gain, shift = (part[:, :, None, None, None] for part in parameters)
        result = self.normal * gain + shift
        return (
            result if tangent is None else result + self.gain * self._projected(tangent)
        )

    def pull(self, bar: Tensor) -> Tensor:
        """Transpose with respect to the input."""
        return self._projected(self.gain * bar)

    def weigh(self, bar: Tensor) -> list[Tensor]:
        """Of gain and shift, [s, c] each."""
        return [(bar * self.normal).sum((2, 3, 4)), bar.sum((2, 3, 4))]

    def rows(self, bar: Tensor, out: Sequence[Tensor]) -> None:
        """Of gain and shift, point by point."""
        out[0].copy_((bar * self.normal).sum((2, 3)).mT)
        out[1].copy_(bar.sum((2, 3)).mT)


def _by_points(x: Tensor) -> Tensor:
    """[..., c, h, w, n] as [n, ... c, h w], copied as a matrix: that is fast."""
    flat = x.flatten(0, -2).mT.contiguous()
    return flat.view(len(flat), -1, x.shape[-3] * x.shape[-2])
