"""Fully connected networks that carry jets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Generator, Tensor

from fedsciml.network.activation import ACTIVATIONS
from fedsciml.network.base import PointFunction
from fedsciml.network.constraint import Constraint, columns, constraint
from fedsciml.network.frequency import FREQUENCIES, First, centred, checked_first
from fedsciml.network.jet import Layout, derivatives
from fedsciml.network.tape import Step, Tape, applied, first, joint, layers
from fedsciml.network.units import (
    Corners,
    Units,
    affine,
    checked_box,
    checked_units,
    rescaled,
)
from fedsciml.registry import suggestion


@dataclass(frozen=True, eq=False)
class MLP:
    """Fully connected network d - w_1 - ... - w_L - c with a smooth activation.

    theta lists the layers in order, each as its weight [out, in] row by row and then
    its bias [out]; the output layer is affine.

    Hard constraints are an output transform u = lift(x) + distance(x) * N(x): with a
    ``distance`` that vanishes where u is given and a ``lift`` with the given values,
    every theta satisfies them. Both are ordinary torch functions of points [n, d] that
    return [n] or [n, c]; their derivatives are found automatically, once per shard.

    A network is made for coordinates and values of about 1. ``inputs`` and ``outputs``
    let it keep to them whatever the units of the problem; see ``fedsciml.network.
    units``. Derivatives are those by the problem's own coordinates, of the problem's
    own values.

    Two networks are equal only if they are the same object.

    Args:
        widths: (d, w_1, ..., w_L, c); (d, c) of a linear model.
        activation: ``tanh``, ``sin``, ``sigmoid`` or ``swish``; or ``relu``, for
            regression alone: its second derivatives vanish.
        initialisation: ``fan_in``: weights N(0, 1 / fan_in), biases 0, as in the FIPA
            paper; ``glorot``: weights N(0, 2 / (fan_in + fan_out)), biases 0.
        lift: Output where ``distance`` is zero; zero by default.
        distance: Factor of the network; one by default.
        features: Maps points [n, d] to what the first layer takes, [n, w_0], such as
            (cos x, sin x) for a periodic u or Fourier features; the points by default.
            Differentiated as ``distance``. Then ``widths`` starts with w_0.
        start: Parameters to start from, whatever the seed, shape [p]; random for None.
        inputs: Corners (lower, upper) of the box of the points, as ``Problem.domain``:
            the first layer takes it as [-1, 1]^d. None leaves points as they are.
        outputs: (shift, scale), numbers or one per output, of which the network's
            values are shift + scale * N; a ``distance`` and a ``lift`` come after.
        first: Frequency f of the first layer at the start, for solutions with steep or
            many waves: with what the layer takes scaled to [-1, 1]^d, weights w are
            N(0, f^2 / d), and biases -w c with c uniform there, so that each neuron is
            centred somewhere in the box. "auto" is for FIPA: it takes the smallest of
            ``FREQUENCIES`` that the residual can be seen with. None for the start that
            ``initialisation`` makes.
        box: Corners of what the first layer takes, for ``first``; a ``Problem`` with a
            domain gives them.

    Raises:
        ValueError: If a width is below 1 or there is no hidden layer, activation or
            initialisation are unknown, the start has another shape, ``inputs`` or
            ``outputs`` are no box and no units of these widths, or ``first`` is no
            frequency or beside a ``start``.
    """

    widths: tuple[int, ...]
    activation: str = "tanh"
    initialisation: str = "fan_in"
    lift: PointFunction | None = None
    distance: PointFunction | None = None
    features: PointFunction | None = None
    start: Tensor | None = field(default=None, repr=False)
    inputs: Corners | None = None
    outputs: Units | None = None
    first: First | None = None
    box: Corners | None = None

    def __post_init__(self) -> None:
        given = self.widths
        widths = tuple(given) if isinstance(given, Sequence) else ()
        object.__setattr__(self, "widths", widths)
        if len(widths) < 2 or not all(type(w) is int and w > 0 for w in widths):
            raise ValueError(
                f"An MLP needs widths (inputs, hidden, ..., outputs), whole numbers of "
                f"at least 1, or (inputs, outputs) of a linear model; got {given!r}. "
                "Example: MLP((2, 32, 32, 1))."
            )
        named = self.activation
        if not isinstance(named, str) or named not in ACTIVATIONS:
            name = getattr(named, "__name__", type(named).__name__)
            word = named if isinstance(named, str) else name
            raise ValueError(
                f"Unknown activation '{word}'; give the name of one of "
                f"{', '.join(sorted(ACTIVATIONS))}.{suggestion(word, ACTIVATIONS)} For "
                "others take ModuleNetwork(net) of a torch.nn.Module."
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
        if self.first is not None:
            object.__setattr__(self, "first", checked_first(self.first))
            if len(self.widths) < 3:
                raise ValueError(
                    f"A linear model has no neurons to begin with a frequency; leave "
                    f"first={self.first!r} out, or give hidden layers."
                )
            if self.start is not None:
                raise ValueError(
                    "An MLP with a start has its first layer in it: leave out first, "
                    "or the start."
                )
        if self.inputs is not None:
            if self.features is not None:
                raise ValueError(
                    "An MLP with features takes what these make of the points; scale "
                    "the points in them, and leave inputs out."
                )
            box = checked_box(self.inputs, self.widths[0])
            object.__setattr__(self, "inputs", box)
        if self.outputs is not None:
            units = checked_units(self.outputs, self.columns)
            object.__setattr__(self, "outputs", units)

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return sum((a + 1) * b for a, b in pairwise(self.widths))

    @property
    def columns(self) -> int:
        """Number of outputs c."""
        return self.widths[-1]

    @property
    def unknowns(self) -> Mapping[str, float]:
        """None; see ``Parallel``."""
        return {}

    def numbers(self, theta: Tensor) -> Tensor:
        """None of theta [..., p], shape [..., 0]."""
        return theta[..., :0]

    @property
    def own(self) -> Sequence[int]:
        """None; see ``Personal``."""
        return ()

    @property
    def jets(self) -> "MLP":
        """The network itself: it carries jets."""
        return self

    @property
    def points(self) -> None:
        """Points to pass through it at once: no limit."""
        return None

    @property
    def order(self) -> None:
        """Highest order of a derivative in its jets: none is too high."""
        return None

    @property
    def transform(self) -> None:
        """No output transform beyond ``constrain``."""
        return None

    def description(self) -> Sequence[object]:
        """Widths, activation and initialisation; its units if it has some."""
        units: list[object] = [u for u in (self.inputs, self.outputs) if u is not None]
        units += [] if self.first is None else [self.first, self.box]
        return [self.widths, self.activation, self.initialisation, *units]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """A random start theta, shape [p]; drawn in float64 whatever the dtype."""
        if self.start is not None:
            return self.start.to("cpu", dtype, copy=True)
        parts = list[Tensor]()
        for a, b in pairwise(self.widths):
            if not parts and self.first is not None:
                f = FREQUENCIES[0] if self.first == "auto" else self.first
                parts += centred((b, a), f, self.box, generator)
                continue
            variance = 1 / a if self.initialisation == "fan_in" else 2 / (a + b)
            weight = torch.randn(
                b, a, generator=generator, device=generator.device, dtype=torch.float64
            )
            parts += [variance**0.5 * weight.flatten(), weight.new_zeros(b)]
        return torch.cat(parts).to(dtype)

    def layers(self, theta: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of theta: weight [..., out, in] and bias [..., out] of each layer."""
        return layers(self.widths, theta)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        weight, bias = self.layers(theta)[-1]
        *_, h = self.taken(x), *self.levels(theta, x)
        values = torch.addmm(bias, h, weight.mT)
        if self.outputs is not None:
            shift, scale = (values.new_tensor(part) for part in self.outputs)
            values = shift + scale * values
        if self.distance is not None:
            values = columns(self.distance, self.columns)(x) * values
        if self.lift is not None:
            values = values + columns(self.lift, self.columns)(x)
        return values

    def levels(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """What each hidden layer gives at points [n, d], shapes [n, w]."""
        activation, h, found = ACTIVATIONS[self.activation], self.taken(x), []
        for weight, bias in self.layers(theta)[:-1]:
            (h,) = activation(torch.addmm(bias, h, weight.mT), 0)
            found.append(h)
        return found

    def tail(self, theta: Tensor, layers: int) -> "MLP":
        """The network of the last layers, behind the others at theta [p].

        Its parameters are the last ones of theta; it starts from those.
        """
        fixed = theta.detach().clone()

        def features(x: Tensor) -> Tensor:
            return self.levels(fixed.to(x), x)[-layers]

        widths = self.widths[-layers - 1 :]
        size = sum((a + 1) * b for a, b in pairwise(widths))
        start = fixed[self.size - size :].clone()
        how = replace(self, inputs=None, first=None)
        return replace(how, widths=widths, features=features, start=start)

    def constrain(self, x: Tensor, layout: Layout) -> Constraint | None:
        """Output transform of the jets at the points x [n, d]; None without one."""
        c = self.columns
        if self.outputs is None:
            return constraint(self.lift, self.distance, c, x, layout)
        lift, distance = rescaled(self.lift, self.distance, self.outputs)
        return constraint(lift, distance, c, x, layout)

    def prepared(self, x: Tensor, layout: Layout) -> Tensor:
        """What the first layer is applied to; does not depend on theta.

        The points x [n, d], or the jets [K, n, w_0] of their features or units.
        """
        features = self._features()
        if features is None:
            return x
        jets = derivatives(features, x, layout.channels)
        return torch.stack([jets[channel] for channel in layout.channels])

    def taken(self, x: Tensor) -> Tensor:
        """What the first layer takes at the points x [n, d], shape [n, w_0]."""
        features = self._features()
        return x if features is None else features(x)

    def _features(self) -> PointFunction | None:
        """Maps points to what the first layer takes; None for the points."""
        return self.features if self.inputs is None else affine(self.inputs)

    def forward(
        self, theta: Tensor, inputs: Tensor, layout: Layout, keep: bool = True
    ) -> Tape:
        """Jets [K, n, c] of the network without its output transform.

        Args:
            theta: Parameters, shape [p]; or several at once, [C, p], and then every
                shape that depends on theta begins with C; not if ``keep``.
            inputs: What ``prepared`` returned for n points.
            layout: The K channels.
            keep: Whether to keep what derivatives need; if not, only the ``output`` of
                the tape may be used.
        """
        activation, parameters = ACTIVATIONS[self.activation], self.layers(theta)
        value, slopes = first(parameters[0], inputs, layout)
        steps: list[Step] = []
        z: Tensor | None = None
        for weight, bias in parameters[1:]:
            out = None if keep else z
            step = Step(layout, value, slopes, activation, keep, out)
            if keep:
                steps.append(step)
            z = applied(weight, bias, step.output)
            value, slopes = z.select(-3, 0), z.narrow(-3, 1, z.shape[-3] - 1)
        output = joint(value, slopes) if z is None else z
        return Tape(self.widths, parameters, inputs, layout, steps, output)
