"""Several networks side by side, and unknown numbers trained with them.

An inverse problem looks for a solution u and, beside it, for an unknown function k, a
network of its own, or for an unknown number nu. All of them are one theta:

    theta = (theta_1, ..., theta_q, nu_1 / scale_1, ..., nu_s / scale_s).

Numbers of each client, as the offset of its sensor, are the last ones.

A scale is the size of a number's start, as a rule, so that the unit in which it is
written does not matter: in another unit theta and J are the same, to rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from fedsciml.network.base import Network, completed
from fedsciml.network.constraint import Constraint
from fedsciml.network.jet import Layout
from fedsciml.network.mapped import Mapped
from fedsciml.network.mlp import MLP
from fedsciml.network.tape import Taped


@dataclass(frozen=True, eq=False)
class Parallel:
    """Several networks of the same points, and unknown numbers trained with them.

    The outputs of the networks are those of the solution, one network after the other.
    Two such networks are equal only if they are the same object.

    Args:
        networks: One at least. Jets are carried if each of them carries jets.
        unknowns: Name and start value of each unknown number. A residual reads it as
            ``u.NAME``, shape [n]; ``Problem.truth`` may state the true value.
        transform: Output transform: maps points [n, d] and the outputs of the networks
            [n, c'] to the solution [n, c], by torch functions. None for none.
        personal: Name and start value of each unknown number that every client has of
            its own, as the offset of its sensor; read as the others.
        scales: Of some of the unknowns, the size of a change that matters; without one,
            the absolute value of the start, and 1 for a start at 0. ``Problem`` finds
            those of starts that are 0 or far too small.

    Raises:
        ValueError: If there is no network, something else is given as a network, a
            start value is not finite, or a scale is not positive or of no unknown.
    """

    networks: Sequence[Network]
    unknowns: Mapping[str, float] = field(default_factory=dict)
    transform: Callable[[Tensor, Tensor], Tensor] | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    personal: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given: object = self.networks
        if isinstance(given, torch.nn.Module) or not isinstance(given, Sequence):
            raise ValueError(
                f"Parallel needs a list of networks, also of one; got a "
                f"{type(given).__name__}. Write Parallel([MLP((1, 20, 1))])."
            )
        object.__setattr__(self, "networks", tuple(map(completed, self.networks)))
        unknowns: object = self.unknowns
        if not isinstance(unknowns, Mapping):
            raise ValueError(
                f"The unknowns of a Parallel are names and start values, "
                f"unknowns={{'nu': 0.05}}; got {unknowns!r}."
            )
        personal: object = self.personal
        if not isinstance(personal, Mapping):
            raise ValueError(
                f"Numbers of each client are names and start values, "
                f"personal={{'offset': 0.0}}; got {personal!r}."
            )
        shared = {k: x for k, x in self.unknowns.items() if k not in self.personal}
        starts = dict[str, float]()
        for name, value in {**shared, **self.personal}.items():
            where = "personal" if name in self.personal else "unknowns"
            try:
                starts[name] = float(value)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(
                    f"Unknown '{name}' starts at {value!r}; give it a number, "
                    f"{where}={{'{name}': 0.05}}."
                ) from error
            if name in self.unknowns and self.unknowns[name] != value:
                raise ValueError(
                    f"Unknown '{name}' is in unknowns=, which all clients have in "
                    "common, and in personal=, of which each has its own; give it in "
                    "one of them."
                )
        object.__setattr__(self, "unknowns", starts)
        own = {name: starts[name] for name in self.personal}
        object.__setattr__(self, "personal", own)
        if not self.networks:
            raise ValueError("Parallel needs at least one network, got none.")
        for name, value in starts.items():
            if not abs(value) < float("inf"):
                raise ValueError(
                    f"Unknown '{name}' starts at {value}; give it a finite start value."
                )
        for name, value in self.scales.items():
            if name not in starts or not 0 < value < float("inf"):
                raise ValueError(
                    f"The scale of '{name}' is {value}; give positive scales, of the "
                    f"unknowns {', '.join(starts) or '(there are none)'}."
                )

    @property
    def sizes(self) -> Mapping[str, float]:
        """What each unknown is divided by in theta: its scale, or what stands in."""
        return {
            name: float(self.scales.get(name, abs(start) or 1.0))
            for name, start in self.unknowns.items()
        }

    @property
    def size(self) -> int:
        """Number of parameters p, the unknowns among them."""
        return sum(network.size for network in self.networks) + len(self.unknowns)

    @property
    def own(self) -> Sequence[int]:
        """Entries of theta that are each client's own: of networks, and numbers."""
        found, start = list[int](), 0
        for network in self.networks:
            found += [start + k for k in network.own]
            start += network.size
        return [*found, *range(self.size - len(self.personal), self.size)]

    @property
    def widths(self) -> Sequence[int]:
        """Empty: theta is not one chain of layers."""
        return ()

    @property
    def jets(self) -> "Parallel | None":
        """The network itself if all networks carry jets of any order, else None."""
        return self if len(self._carrying()) == len(self.networks) else None

    def levels(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """None that are told."""
        return []

    @property
    def points(self) -> int | None:
        """Points to pass through at once: the least of the networks'."""
        limits = [net.points for net in self.networks if net.points is not None]
        return min(limits, default=None)

    @property
    def order(self) -> None:
        """Highest order of a derivative in its jets: none is too high."""
        return None

    def description(self) -> Sequence[object]:
        """The descriptions of the networks, and the unknowns."""
        parts = [part for network in self.networks for part in network.description()]
        # Parties compute some scales themselves, to rounding.
        sizes = {name: f"{size:.5e}" for name, size in self.sizes.items()}
        own = ["personal", *self.personal] if self.personal else []
        return [*parts, self.unknowns, *([sizes] if sizes else []), *own]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """Start parameters of the networks, then of the unknowns, shape [p]."""
        parts = [network.init(generator, dtype) for network in self.networks]
        starts = [value / self.sizes[name] for name, value in self.unknowns.items()]
        return torch.cat([*parts, parts[0].new_tensor(starts)])

    def numbers(self, theta: Tensor) -> Tensor:
        """Values of the unknowns [..., s] at theta [..., p]."""
        return self.scaled(self.split(theta)[-1])

    def scaled(self, numbers: Tensor) -> Tensor:
        """Entries [..., s] of theta times the scales: linear, its own transpose."""
        return numbers * numbers.new_tensor(list(self.sizes.values()))

    def split(self, theta: Tensor) -> list[Tensor]:
        """The part of theta [..., p] of each network, then the last s entries."""
        sizes = [network.size for network in self.networks]
        return list(theta.split([*sizes, len(self.unknowns)], dim=-1))

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        *parts, _ = self.split(theta)
        pairs = zip(self.networks, parts, strict=True)
        values = torch.cat([network(part, x) for network, part in pairs], -1)
        return values if self.transform is None else self.transform(x, values)

    @property
    def columns(self) -> int:
        """Number of outputs of all networks and of unknowns, c' + s."""
        return sum(net.columns for net in self._carrying()) + len(self.unknowns)

    def prepared(self, x: Tensor, layout: Layout) -> list[Tensor]:
        """Inputs of each network, see ``MLP.prepared``."""
        return [network.prepared(x, layout) for network in self._carrying()]

    def constrain(self, x: Tensor, layout: Layout) -> "ParallelConstraint":
        """Output transforms of the networks' jets at the points x [n, d]."""
        networks = self._carrying()
        widths = [network.columns for network in networks]
        parts = [network.constrain(x, layout) for network in networks]
        return ParallelConstraint([*widths, len(self.unknowns)], [*parts, None])

    def forward(
        self, theta: Tensor, inputs: list[Tensor], layout: Layout, keep: bool = True
    ) -> "ParallelTape":
        """Jets [K, n, c' + s] of all networks, then of the unknowns as constants.

        Arguments as for ``MLP.forward``.
        """
        *parts, numbers = self.split(theta)
        triples = zip(self._carrying(), parts, inputs, strict=True)
        tapes = [net.forward(part, x, layout, keep) for net, part, x in triples]
        like = tapes[0].output
        constant = like.new_zeros(*like.shape[:-1], numbers.shape[-1])
        constant[..., 0, :, :] = self.scaled(numbers).unsqueeze(-2)
        output = torch.cat([*(tape.output for tape in tapes), constant], -1)
        return ParallelTape(self, tapes, output)

    def _carrying(self) -> list[MLP | Mapped]:
        found = (network.jets for network in self.networks)
        return [
            net
            for net in found
            if isinstance(net, MLP | Mapped) and net.order is None and not net.transform
        ]


@dataclass(frozen=True, eq=False)
class ParallelConstraint:
    """The ``Constraint`` of each part of the columns, and the parts' widths."""

    widths: list[int]
    parts: list[Constraint | None]

    def apply(self, jets: Tensor) -> Tensor:
        """Jets of the solution and unknowns from those of the columns."""
        pairs = zip(self.parts, jets.split(self.widths, -1), strict=True)
        return torch.cat([part.apply(z) if part else z for part, z in pairs], -1)

    def pull(self, cotangent: Tensor) -> Tensor:
        """Transpose of the linear part of ``apply``."""
        pairs = zip(self.parts, cotangent.split(self.widths, -1), strict=True)
        return torch.cat([part.pull(z) if part else z for part, z in pairs], -1)


@dataclass(frozen=True, eq=False)
class ParallelTape(Taped):
    """The tapes of the networks; ``output`` [K, n, c' + s] has the unknowns last."""

    network: Parallel
    tapes: list[Taped]
    output: Tensor

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to theta into ``out`` [n, p]."""
        *bars, last = self._split(cotangent)
        *blocks, numbers = self.network.split(out)
        for tape, bar, block in zip(self.tapes, bars, blocks, strict=True):
            tape.rows(bar, block)
        numbers.copy_(self.network.scaled(last[0]))

    def pull(self, cotangent: Tensor) -> Tensor:
        """Sum of the gradients of all rows, shape [p]."""
        *bars, last = self._split(cotangent)
        pairs = zip(self.tapes, bars, strict=True)
        numbers = self.network.scaled(last[0].sum(0))
        return torch.cat([*(tape.pull(bar) for tape, bar in pairs), numbers])

    def push(self, tangent: Tensor) -> Tensor:
        """Derivative of the output along a tangent [p] of theta, as the output."""
        *parts, numbers = self.network.split(tangent)
        pairs = zip(self.tapes, parts, strict=True)
        result = [tape.push(part) for tape, part in pairs]
        constant = tangent.new_zeros(*result[0].shape[:-1], len(numbers))
        constant[0] = self.network.scaled(numbers)
        return torch.cat([*result, constant], -1)

    def _split(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        widths = [tape.output.shape[-1] for tape in self.tapes]
        return cotangent.split([*widths, len(self.network.unknowns)], -1)
