"""Networks of images: convolution, pooling, normalisation and dense layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice, pairwise
from math import prod

import torch
from torch import Generator, Tensor

from fedsciml.network.activation import ACTIVATIONS
from fedsciml.network.base import Network, PointFunction
from fedsciml.network.jet import Layout
from fedsciml.network.layers import (
    Activation,
    Affine,
    Convolution,
    Dense,
    GroupNorm,
    Layer,
    Padding,
    Pool,
    Shape,
    Step,
)
from fedsciml.network.tape import Taped
from fedsciml.registry import suggestion

COLUMNS = 2**19
"""Numbers in the largest columns of a sweep, 4 MB: few enough for memory that is given
again instead of fetched from the system. One sweep of 400 images took four times as
long per image."""

DIRECTIONS = 10
"""Tangents or cotangents that are taken through the layers at once."""


@dataclass(frozen=True, eq=False)
class ConvNet(Network):
    """Layers one after the other, from images to c numbers.

    Points are images as flat vectors [n, c h w], channel by channel and row by row.
    theta lists the layers in order, each as its weight, as torch orders it, and then
    its bias; of ``GroupNorm`` gain and shift. Residuals read values, not derivatives by
    the pixels; those are taken by torch.autograd, slowly.

    Two networks are equal only if they are the same object.

    Args:
        shape: Channels, height and width of the images.
        layers: ``Convolution``, ``Pool``, ``GroupNorm``, ``Dense``, and activations by
            their names; the last one is ``Dense``.
        features: Maps points [n, d] to images [n, c h w]; the points by default.
        start: Parameters to start from, whatever the seed, shape [p]; random for None.

    Raises:
        ValueError: If there is no such layer or activation, it does not fit the images
            that it is given, or the start has another shape.
    """

    shape: Shape
    layers: Sequence[Layer | str]
    features: PointFunction | None = None
    start: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        layers = tuple(map(_layer, self.layers))
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "layers", layers)
        if not layers or not isinstance(layers[-1], Dense):
            raise ValueError(
                "A ConvNet ends with a dense layer of its outputs. Example: "
                'ConvNet((1, 28, 28), [Convolution(8), "relu", Pool(2), Dense(10)]).'
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(
                f"A ConvNet takes images of (channels, height, width); got {self.shape}"
            )
        shape = self.shape
        for layer in layers:
            _check(layer, shape)
            shape = layer.output(shape)
        if self.start is not None and list(self.start.shape) != [self.size]:
            raise ValueError(
                f"This ConvNet starts from [{self.size}] parameters; got shape "
                f"{list(self.start.shape)}."
            )

    @property
    def _built(self) -> list[tuple[Layer, Shape]]:
        """The layers, and the shape of what each is given."""
        result, shape = [], self.shape
        for layer in self.layers:
            assert not isinstance(layer, str)  # made so at the beginning
            result.append((layer, shape))
            shape = layer.output(shape)
        return result

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return sum(self.sizes)

    @property
    def shapes(self) -> list[list[tuple[int, ...]]]:
        """Shapes of the parameters of each layer."""
        return [layer.parameters(shape) for layer, shape in self._built]

    @property
    def sizes(self) -> list[int]:
        """Number of parameters of each layer."""
        return [sum(map(prod, shapes)) for shapes in self.shapes]

    @property
    def columns(self) -> int:
        """Number of outputs c."""
        return self._built[-1][0].output(self.shape)[0]

    @property
    def jets(self) -> "ConvNet":
        """The network itself: its jets are values alone."""
        return self

    @property
    def order(self) -> int:
        """Highest order of a derivative in its jets: 0."""
        return 0

    @property
    def transform(self) -> None:
        """No output transform."""
        return None

    @property
    def largest(self) -> int:
        """Numbers in the largest columns of an image."""
        return max(
            prod(layer.output(shape)[1:]) * prod(layer.parameters(shape)[0][1:])
            for layer, shape in self._built
            if isinstance(layer, Affine)
        )

    @property
    def points(self) -> int:
        """Points per sweep, see ``COLUMNS``."""
        return max(1, COLUMNS // self.largest)

    @property
    def weights(self) -> list[int]:
        """Numbers of the layers that are convolutions or dense."""
        return [k for k, layer in enumerate(self.layers) if isinstance(layer, Affine)]

    def tail(self, theta: Tensor, layers: int) -> "ConvNet":
        """The network of the last layers with weights, behind the others at theta [p].

        Its parameters are the last ones of theta; it starts from those.
        """
        first, fixed = self.weights[-layers], theta.detach().clone()

        def features(x: Tensor) -> Tensor:
            parts = islice(self.steps(fixed.to(x), self.images(x)), first)
            return _flat([images for images, _ in parts][-1])

        (_, shape), size = self._built[first], sum(self.sizes[first:])
        start = fixed[self.size - size :].clone()
        return ConvNet(shape, self.layers[first:], features, start)

    def description(self) -> Sequence[object]:
        """Shape of the images and the layers."""
        return [self.shape, *map(repr, self.layers)]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """A random start theta, shape [p]; drawn in float64 whatever the dtype.

        Weights N(0, g / fan_in), g = 2 before a relu, else 1; biases 0; gains 1.
        """
        if self.start is not None:
            return self.start.to("cpu", dtype, copy=True)
        parts: list[Tensor] = []
        following = [*self.layers[1:], None]
        for (layer, shape), after in zip(self._built, following, strict=True):
            shapes = layer.parameters(shape)
            if isinstance(layer, Affine):
                draw = torch.randn(
                    shapes[0],
                    generator=generator,
                    device=generator.device,
                    dtype=torch.float64,
                )
                gain = 2 if after == Activation("relu") else 1
                parts.append(draw.flatten() * (gain / prod(shapes[0][1:])) ** 0.5)
            elif shapes:
                parts.append(torch.ones(shapes[0], dtype=torch.float64, device="cpu"))
            parts += [
                torch.zeros(s, dtype=torch.float64, device="cpu") for s in shapes[1:]
            ]
        return torch.cat(parts).to(dtype)

    def split(self, theta: Tensor) -> list[list[Tensor]]:
        """Parameters of each layer, views [..., *shape] of theta [..., p]."""
        result, start = [], 0
        for layer, shape in self._built:
            parts = []
            for wanted in layer.parameters(shape):
                stop = start + prod(wanted)
                parts.append(theta[..., start:stop].unflatten(-1, wanted))
                start = stop
            result.append(parts)
        return result

    def images(self, x: Tensor) -> Tensor:
        """What the first layer takes at points [n, d], shape [c, h, w, n]."""
        x = x if self.features is None else self.features(x)
        return x.mT.contiguous().unflatten(0, self.shape)

    def steps(self, theta: Tensor, images: Tensor) -> Iterator[tuple[Tensor, Step]]:
        """Each layer at theta [p] applied to what the one before made of images."""
        for (layer, _), parameters in zip(self._built, self.split(theta), strict=True):
            images, step = layer.apply(parameters, images)
            yield images, step

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, c h w], on the autograd graph."""
        *_, (images, _) = self.steps(theta, self.images(x))
        return _flat(images)

    def levels(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """What each weight but the first is applied to, shape [n, w], of all points."""
        images = [x, *(image for image, _ in self.steps(theta, self.images(x)))]
        pairs = list(zip(images, self._built, strict=False))
        return [_flat(a) for a, (layer, _) in pairs[1:] if isinstance(layer, Affine)]

    def prepared(self, x: Tensor, layout: Layout) -> Tensor:
        """The images; see ``MLP.prepared``."""
        return self.images(x)

    def constrain(self, x: Tensor, layout: Layout) -> None:
        """No output transform."""
        return None

    def forward(
        self, theta: Tensor, inputs: Tensor, layout: Layout, keep: bool = True
    ) -> "ConvTape":
        """Values [1, n, c], or [C, 1, n, c] at several thetas [C, p].

        Args:
            theta: Shape [p], or [C, p] unless ``keep``.
            inputs: What ``prepared`` returned.
            layout: Of the value alone.
            keep: Whether to keep what derivatives need.
        """
        if theta.ndim > 1:
            several = [self.forward(t, inputs, layout, keep).output for t in theta]
            return ConvTape(self, [], torch.stack(several))
        steps: list[Step] = []
        for images, step in self.steps(theta, inputs):  # noqa: B007
            if keep:
                steps.append(step)
        return ConvTape(self, steps, _flat(images)[None])


@dataclass(frozen=True, eq=False)
class ConvTape(Taped):
    """A forward sweep through a ``ConvNet``, and what its derivatives need.

    Attributes:
        network: Which one.
        steps: Its layers, applied; none if they were not kept.
        output: Values, shape [1, n, c].
    """

    network: ConvNet
    steps: list[Step]
    output: Tensor

    def sweep(self, cotangent: Tensor) -> list[Tensor | None]:
        """Cotangents [s, c, h, w, n] of the layers' outputs; None where none is due.

        Args:
            cotangent: Of the output, [s, n, c]; or [n, c], then also the others.
        """
        bar = cotangent.mT[..., None, None, :]
        sizes, result = self.network.sizes, list[Tensor | None]()
        for k in reversed(range(len(self.steps))):
            result.append(bar)
            if not any(sizes[:k]):  # nothing below has parameters
                break
            bar = self.steps[k].pull(bar)
        return [*[None] * (len(self.steps) - len(result)), *reversed(result)]

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to theta into ``out`` [n, p]."""
        self.jacobian(cotangent.unsqueeze(0), out.unsqueeze(0))

    def jacobian(self, cotangents: Tensor, out: Tensor) -> None:
        """``rows`` of several cotangents [s, 1, n, c], into ``out`` [s, n, p]."""
        for group, into in zip(
            *(a.split(DIRECTIONS) for a in (cotangents, out)), strict=True
        ):
            start, bars = 0, self.sweep(group[:, 0])
            for step, bar, shapes in zip(
                self.steps, bars, self.network.shapes, strict=True
            ):
                ends = list(accumulate(map(prod, shapes), initial=start))
                start = ends[-1]
                if bar is not None:
                    step.rows(bar, [into[..., a:b] for a, b in pairwise(ends)])

    def pull(self, cotangent: Tensor) -> Tensor:
        """Sum of the gradients of all rows, shape [p]: J^T w without J."""
        return self.pulls(cotangent.unsqueeze(0))[0]

    def pulls(self, cotangents: Tensor) -> Tensor:
        """``pull`` of several cotangents [s, 1, n, c], shape [s, p]."""
        result = []
        for group in cotangents.split(DIRECTIONS):
            parts = []
            for step, bar in zip(self.steps, self.sweep(group[:, 0]), strict=True):
                if bar is not None:
                    parts += step.weigh(bar)
            result.append(torch.cat(parts, dim=1))
        return torch.cat(result)

    def push(self, tangent: Tensor) -> Tensor:
        """Derivative of the output along a tangent [p] of theta, shape [1, n, c]."""
        return self.pushes(tangent.unsqueeze(0))[0]

    def pushes(self, tangents: Tensor) -> Tensor:
        """``push`` along several tangents [s, p], shape [s, 1, n, c]."""
        result = []
        for group in tangents.split(DIRECTIONS):
            d: Tensor | None = None
            for step, parts in zip(self.steps, self.network.split(group), strict=True):
                if d is not None or parts:
                    d = step.push(d, parts)
            assert d is not None  # the last layer has parameters
            result.append(d[..., 0, 0, :].mT.unsqueeze(1))
        return torch.cat(result)


def fednet(
    shape: Shape = (3, 32, 32), classes: int = 10, padding: Padding = "same"
) -> ConvNet:
    """The network ``MediumFedNet20k`` of the FIPA paper's program.

    25,706 parameters for images of 32 x 32 pixels in three colours; 14,954 with
    ``padding`` ``valid``.
    """
    layers: list[Layer | str] = []
    for width in (6, 12):
        layers += [Convolution(width, 3, padding, bias=False), "relu", Pool(2)]
    return ConvNet(
        shape, [*layers, Dense(32, bias=False), "relu", Dense(classes, bias=False)]
    )


def lenet(shape: Shape = (1, 28, 28), classes: int = 10) -> ConvNet:
    """LeNet as in the program of FedFisher (AISTATS 2024); 44,190 parameters."""
    layers: list[Layer | str] = []
    for width in (6, 16):
        layers += [Convolution(width, 5, "valid", bias=False), "relu", Pool(2)]
    for width in (120, 84):
        layers += [Dense(width, bias=False), "relu"]
    return ConvNet(shape, [*layers, Dense(classes, bias=False)])


def _flat(images: Tensor) -> Tensor:
    """[c, h, w, n] as [n, c h w]."""
    return images.flatten(0, 2).mT


def _layer(given: Layer | str) -> Layer:
    if not isinstance(given, str):
        if isinstance(given, (Affine, Pool, GroupNorm, Activation)):
            return given
        raise ValueError(
            f"{given!r} is no layer of a ConvNet; take Convolution, Pool, GroupNorm, "
            f"Dense, or the name of an activation: {', '.join(sorted(ACTIVATIONS))}."
        )
    if given not in ACTIVATIONS:
        raise ValueError(
            f"Unknown activation '{given}'; choose one of "
            f"{', '.join(sorted(ACTIVATIONS))}.{suggestion(given, ACTIVATIONS)}"
        )
    return Activation(given)


def _check(layer: Layer, shape: Shape) -> None:
    """Refuse what does not fit images of a shape."""
    if isinstance(layer, Convolution) and layer.size % 2 == 0:
        raise ValueError(f"{layer} needs an odd size, such as 3 or 5.")
    if isinstance(layer, GroupNorm) and shape[0] % layer.groups:
        raise ValueError(
            f"{layer} cannot divide {shape[0]} channels; take a number of groups that "
            "does."
        )
    if min(layer.output(shape)) < 1:
        raise ValueError(
            f"{layer} leaves nothing of images of {shape[1]} x {shape[2]} pixels; take "
            "fewer or smaller layers before it."
        )
