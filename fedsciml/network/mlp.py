r"""Networks as functions of one flat parameter vector theta, shape [p].

``MLP`` carries jets (see ``jet``) forward and cotangents back layer by layer; its tape
gives Jacobians, J v and J^T w of anything computed from its jets. ``ModuleNetwork``
wraps any ``torch.nn.Module`` for the general autograd path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from fedsciml.network.activation import ACTIVATIONS
from fedsciml.network.jet import Layout, Product, derivatives

PointFunction = Callable[[Tensor], Tensor]
"""Maps points [n, d] to values [n] or [n, c], differentiable by torch."""


class Network(Protocol):
    """What the library asks of a network."""

    @property
    def size(self) -> int:
        """Number of parameters p."""

    def init(self, generator: Generator, dtype: torch.dtype) -> Tensor:
        """A start theta, shape [p]."""

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""


@dataclass(frozen=True)
class MLP:
    """Fully connected network d - w_1 - ... - w_L - c with a smooth activation.

    theta lists the layers in order, each as its weight [out, in] row by row and then
    its bias [out]; the output layer is affine.

    Hard constraints are an output transform u = lift(x) + distance(x) * N(x): with a
    ``distance`` that vanishes where u is given and a ``lift`` with the given values,
    every theta satisfies them. Both are ordinary torch functions of points [n, d] that
    return [n] or [n, c]; their derivatives are found automatically, once per shard.

    Args:
        widths: (d, w_1, ..., w_L, c), at least one hidden layer.
        activation: ``tanh``, ``sin``, ``sigmoid`` or ``swish``; or ``relu``, for
            regression alone: its second derivatives vanish.
        initialisation: ``fan_in``: weights N(0, 1 / fan_in), biases 0, as in the FIPA
            paper; ``glorot``: weights N(0, 2 / (fan_in + fan_out)), biases 0.
        lift: Output where ``distance`` is zero; zero by default.
        distance: Factor of the network; one by default.
        features: What the first layer sees of points [n, d], shape [n, w_0], as
            (cos x, sin x) for a periodic u or Fourier features; the points by default.
            Differentiated as ``distance``. Then ``widths`` starts with w_0.
        start: Parameters to start from, whatever the seed, shape [p]; random for None.

    Raises:
        ValueError: If the widths, the activation, the initialisation or the start make
            no sense.
    """

    widths: tuple[int, ...]
    activation: str = "tanh"
    initialisation: str = "fan_in"
    lift: PointFunction | None = None
    distance: PointFunction | None = None
    features: PointFunction | None = None
    start: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        if len(self.widths) < 3 or min(self.widths) < 1:
            raise ValueError(
                f"An MLP needs widths (inputs, hidden, ..., outputs), all at least 1; "
                f"got {self.widths}. Example: MLP((2, 32, 32, 1))."
            )
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"Unknown activation '{self.activation}'; choose one of "
                f"{', '.join(sorted(ACTIVATIONS))}."
            )
        if self.initialisation not in ("fan_in", "glorot"):
            raise ValueError(
                f"Unknown initialisation '{self.initialisation}'; choose fan_in or "
                "glorot."
            )
        if self.start is not None and list(self.start.shape) != [self.size]:
            raise ValueError(
                f"An MLP of widths {self.widths} starts from [{self.size}] parameters; "
                f"got shape {list(self.start.shape)}."
            )

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return sum(
            (a + 1) * b for a, b in zip(self.widths, self.widths[1:], strict=False)
        )

    @property
    def columns(self) -> int:
        """Of the jets: the outputs."""
        return self.widths[-1]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """A random start theta, shape [p]; drawn in float64 whatever the dtype."""
        if self.start is not None:
            return self.start.to("cpu", dtype, copy=True)
        parts = []
        for a, b in zip(self.widths, self.widths[1:], strict=False):
            variance = 1 / a if self.initialisation == "fan_in" else 2 / (a + b)
            weight = torch.randn(
                b, a, generator=generator, device=generator.device, dtype=torch.float64
            )
            parts += [variance**0.5 * weight.flatten(), weight.new_zeros(b)]
        return torch.cat(parts).to(dtype)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of theta: weight [..., out, in] and bias [..., out] of each layer."""
        result, start = [], 0
        for a, b in zip(self.widths, self.widths[1:], strict=False):
            weight = theta[..., start : start + a * b].unflatten(-1, (b, a))
            start += a * b
            result.append((weight, theta[..., start : start + b]))
            start += b
        return result

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        activation = ACTIVATIONS[self.activation]
        *hidden, (weight, bias) = self.layers(theta)
        h = x if self.features is None else self.features(x)
        for w, b in hidden:
            (h,) = activation(torch.addmm(b, h, w.mT), 0)
        return self.transform(x, torch.addmm(bias, h, weight.mT))

    def transform(self, x: Tensor, values: Tensor) -> Tensor:
        """The output transform lift + distance * values, all [n, c]."""
        if self.distance is not None:
            values = _columns(self.distance, values.shape[-1])(x) * values
        if self.lift is not None:
            values = values + _columns(self.lift, values.shape[-1])(x)
        return values

    def constrain(self, x: Tensor, layout: Layout) -> "Constraint | None":
        """The output transform of jets at the points x [n, d]; None without one."""
        if self.lift is None and self.distance is None:
            return None
        outputs = self.widths[-1]
        lift = None
        if self.lift is not None:
            parts = derivatives(_columns(self.lift, outputs), x, layout.channels)
            lift = torch.stack([parts[c] for c in layout.channels])
        if self.distance is None:
            return Constraint(lift, ())
        # Leibniz: (dN)_i = sum over the subsets S of the positions of i: d_{i - S} N_S.
        number = {channel: k for k, channel in enumerate(layout.channels)}
        wanted: dict[tuple[int, int], list[tuple[int, ...]]] = {}
        for k, channel in enumerate(layout.channels):
            wanted[k, k] = [()]
            for index in channel:
                for mask in range(2 ** len(index) - 1):
                    inner = tuple(i for b, i in enumerate(index) if mask >> b & 1)
                    outer = tuple(i for b, i in enumerate(index) if not mask >> b & 1)
                    wanted.setdefault((k, number[(inner,)]), []).append(outer)
        needed = {(index,) for indices in wanted.values() for index in indices}
        parts = derivatives(_columns(self.distance, outputs), x, needed)
        factors = tuple(
            (k, inner, sum((parts[(i,)] for i in rest), parts[(first,)]))
            for (k, inner), (first, *rest) in wanted.items()
        )
        return Constraint(lift, factors)

    def inputs(self, x: Tensor, layout: Layout) -> Tensor:
        """What ``forward`` takes: the points [n, d], or their features' jets [K, n, w].

        They do not depend on theta.
        """
        if self.features is None:
            return x
        jets = derivatives(self.features, x, layout.channels)
        return torch.stack([jets[channel] for channel in layout.channels])

    def forward(
        self, theta: Tensor, inputs: Tensor, layout: Layout, keep: bool = True
    ) -> "Tape":
        """The jets of the network without its output transform, and how they came.

        Args:
            theta: Parameters, shape [p]; or several at once, [..., p], and then every
                shape that depends on theta has these dimensions before n.
            inputs: Of this network at n points, see ``inputs``.
            layout: Which channels; K of them.
            keep: Whether the tape will be swept; without, only its output is good.
        """
        activation = ACTIVATIONS[self.activation]
        layers = self.layers(theta)
        value, slopes = _first(layers[0], inputs, layout)
        steps: list[Step] = []
        for weight, bias in layers[1:]:
            step = Step(layout, value, slopes, activation(value, layout.order + keep))
            if keep:
                steps.append(step)
            z = step.output @ weight.mT
            z[0] += bias.unsqueeze(-2)
            value, slopes = z[0], z[1:]
        return Tape(self, layers, inputs, layout, steps, z)


def _first(
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


class Constraint(NamedTuple):
    """u_k = lift_k + sum of factor * N_j over ``factors`` (k, j, factor [n, c])."""

    lift: Tensor | None
    factors: tuple[tuple[int, int, Tensor], ...]

    def apply(self, jets: Tensor) -> Tensor:
        """Jets [K, n, c] of the network to jets of the solution."""
        result = self.apply_linear(jets)
        return result if self.lift is None else result + self.lift

    def apply_linear(self, jets: Tensor) -> Tensor:
        """The part linear in the jets: what a tangent goes through."""
        if not self.factors:
            return jets
        result = torch.zeros_like(jets)
        for k, j, factor in self.factors:
            result[k].addcmul_(factor, jets[j])
        return result

    def pull(self, cotangent: Tensor) -> Tensor:
        """The transpose of ``apply_linear``."""
        if not self.factors:
            return cotangent
        result = torch.zeros_like(cotangent)
        for k, j, factor in self.factors:
            result[j].addcmul_(factor, cotangent[k])
        return result


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
        """Tangent of the output, [K, n, w], for one of the input, shaped alike."""
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
        """Cotangent of the input for the cotangent h_bar of the output, [K, n, w]."""
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


def _polynomial(products: Sequence[Product], slopes: Tensor) -> Tensor:
    """Sum of times * prod z[b]^power, where z[b] is slopes[b - 1]."""
    total: Tensor | None = None
    for factors, times in products:
        term: Tensor | None = None
        for b, power in factors:
            for _ in range(power):
                z = slopes[b - 1]
                term = z if term is None else term * z
        assert term is not None
        if times != 1:
            term = times * term
        total = term if total is None else total + term
    assert total is not None
    return total


def _slopes(products: Sequence[Product], slopes: Tensor) -> list[tuple[int, Tensor]]:
    """Partial derivatives of the polynomial: pairs (channel b, slope)."""
    result = []
    for factors, times in products:
        for b, power in factors:
            slope: Tensor | None = None
            for other, exponent in factors:
                for _ in range(exponent - (other == b)):
                    z = slopes[other - 1]
                    slope = z if slope is None else slope * z
            assert slope is not None
            scale = times * power
            result.append((b, slope if scale == 1 else scale * slope))
    return result


class Tape(NamedTuple):
    """A forward sweep of jets: ``output`` [K, n, c] is the jet of the last layer."""

    network: MLP
    layers: list[tuple[Tensor, Tensor]]
    inputs: Tensor
    layout: Layout
    steps: list[Step]
    output: Tensor

    def sweep(self, cotangent: Tensor) -> list[Tensor]:
        """Cotangents of all layers' pre-activations, first layer first.

        Args:
            cotangent: Of the output jets, shape [K, n, c]. Row i of each result depends
                on row i alone, so one sweep serves all rows' gradients at once.
        """
        result = [cotangent]
        for step, (weight, _) in zip(
            reversed(self.steps), reversed(self.layers), strict=False
        ):
            cotangent = step.pull(cotangent @ weight)
            result.append(cotangent)
        return result[::-1]

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write each row's gradient with respect to theta into ``out`` [n, p]."""
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

    def pull(self, cotangent: Tensor) -> Tensor:
        """The sum of all rows' gradients, shape [p]: J^T w without J."""
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
        """Tangent of the output jets, [K, n, c], for one of theta, [p]."""
        tangents = self.network.layers(tangent)
        value, slopes = _first(tangents[0], self.inputs, self.layout)
        for number, (d_weight, d_bias) in enumerate(tangents[1:]):
            step, (weight, _) = self.steps[number], self.layers[number + 1]
            dz = step.push(value, slopes) @ weight.mT + step.output @ d_weight.mT
            dz[0] += d_bias
            value, slopes = dz[0], dz[1:]
        return dz

    def _into(self, number: int) -> Tensor:
        """The jets [K, n, in] that a layer is applied to: at first the features'."""
        return self.steps[number - 1].output if number else self.inputs


class ModuleNetwork:
    """Any ``torch.nn.Module`` from [n, d] to [n, c], for the general autograd path.

    theta lists ``module.parameters()`` in order. The start is the module's own
    parameters, whatever the seed. Floating buffers are used in theta's precision.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self._shapes = {name: p.shape for name, p in module.named_parameters()}

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return sum(shape.numel() for shape in self._shapes.values())

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """The module's present parameters, shape [p]."""
        del generator
        parts = [p.detach().flatten() for p in self.module.parameters()]
        return torch.cat(parts).to(dtype)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        tensors = {
            name: buffer.to(theta.device, theta.dtype)
            for name, buffer in self.module.named_buffers()
            if buffer.is_floating_point()
        }
        start = 0
        for name, shape in self._shapes.items():
            tensors[name] = theta[start : start + shape.numel()].view(shape)
            start += shape.numel()
        values: Tensor = torch.func.functional_call(self.module, tensors, (x,))
        return values


def _columns(function: PointFunction, outputs: int) -> PointFunction:
    """Let a point function return [n] or [n, c]."""

    def column(x: Tensor) -> Tensor:
        values = function(x)
        if values.ndim == 1:
            values = values.unsqueeze(-1)
        return values.expand(len(x), outputs)

    return column
