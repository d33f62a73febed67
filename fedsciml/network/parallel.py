"""Several networks side by side, and unknown numbers trained with them.

An inverse problem looks for a solution u and, beside it, for an unknown function k, a
network of its own, or for an unknown number nu. All of them are one theta:

    theta = (theta_1, ..., theta_q, nu_1, ..., nu_s).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from fedsciml.network.jet import Layout
from fedsciml.network.mlp import MLP, Constraint, Network, Tape


@dataclass(frozen=True)
class Parallel:
    """Networks of the same points, their outputs one after the other; and unknowns.

    Args:
        networks: One at least. If all are ``MLP``, jets are carried through them.
        unknowns: Name and start value of each unknown number. A residual reads it as
            ``u.NAME``, shape [n]; ``Problem.truth`` may tell the value to be found.
        transform: Any output transform, by torch: points [n, d] and the networks'
            values [n, c'] to the solution's [n, c]. The networks themselves for None.

    Raises:
        ValueError: If there is no network, or a start value is not finite.
    """

    networks: Sequence[Network]
    unknowns: Mapping[str, float] = field(default_factory=dict)
    transform: Callable[[Tensor, Tensor], Tensor] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", tuple(self.networks))
        starts = {name: float(value) for name, value in self.unknowns.items()}
        object.__setattr__(self, "unknowns", starts)
        if not self.networks:
            raise ValueError("Parallel needs at least one network, got none.")
        for name, value in starts.items():
            if not abs(value) < float("inf"):
                raise ValueError(
                    f"Unknown '{name}' starts at {value}; give it a finite start value."
                )

    @property
    def size(self) -> int:
        """Number of parameters p, the unknowns among them."""
        return sum(network.size for network in self.networks) + len(self.unknowns)

    @property
    def carries_jets(self) -> bool:
        """Whether all networks do."""
        return all(isinstance(network, MLP) for network in self.networks)

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """A random start theta, shape [p]; the unknowns at their start values."""
        parts = [network.init(generator, dtype) for network in self.networks]
        return torch.cat([*parts, parts[0].new_tensor(list(self.unknowns.values()))])

    def split(self, theta: Tensor) -> list[Tensor]:
        """theta [..., p] of each network, and at last the unknowns [..., s]."""
        sizes = [network.size for network in self.networks]
        return list(theta.split([*sizes, len(self.unknowns)], dim=-1))

    def numbers(self, theta: Tensor) -> dict[str, float]:
        """The unknowns in theta, by name."""
        values = self.split(theta)[-1].tolist()
        return dict(zip(self.unknowns, values, strict=True))

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] of all networks at points [n, d], on the autograd graph."""
        *parts, _ = self.split(theta)
        pairs = zip(self.networks, parts, strict=True)
        values = torch.cat([network(part, x) for network, part in pairs], -1)
        return values if self.transform is None else self.transform(x, values)

    @property
    def columns(self) -> int:
        """Of the jets: all networks' outputs and the unknowns."""
        return sum(net.widths[-1] for net in self._mlps()) + len(self.unknowns)

    def finish(self, x: Tensor, columns: Tensor) -> Tensor:
        """The networks' values and the unknowns [n, c' + s] to the solution's."""
        if self.transform is None:
            return columns
        values, numbers = columns.tensor_split(
            [columns.shape[1] - len(self.unknowns)], 1
        )
        return torch.cat([self.transform(x, values), numbers], -1)

    def inputs(self, x: Tensor, layout: Layout) -> list[Tensor]:
        """What ``forward`` takes; see ``MLP.inputs``."""
        return [network.inputs(x, layout) for network in self._mlps()]

    def constrain(self, x: Tensor, layout: Layout) -> "ParallelConstraint":
        """The output transforms at the points x [n, d]."""
        mlps = self._mlps()
        widths = [network.widths[-1] for network in mlps]
        parts = [network.constrain(x, layout) for network in mlps]
        return ParallelConstraint([*widths, len(self.unknowns)], [*parts, None])

    def forward(
        self, theta: Tensor, inputs: list[Tensor], layout: Layout, keep: bool = True
    ) -> "ParallelTape":
        """The jets [K, n, c + s] of all networks and, constant, of the unknowns.

        Arguments as for ``MLP.forward``.
        """
        *parts, numbers = self.split(theta)
        triples = zip(self._mlps(), parts, inputs, strict=True)
        tapes = [net.forward(part, x, layout, keep) for net, part, x in triples]
        like = tapes[0].output
        constant = like.new_zeros(*like.shape[:-1], numbers.shape[-1])
        constant[0] = numbers.unsqueeze(-2)
        output = torch.cat([*(tape.output for tape in tapes), constant], -1)
        return ParallelTape(self, tapes, output)

    def _mlps(self) -> list[MLP]:
        return [network for network in self.networks if isinstance(network, MLP)]


class ParallelConstraint(NamedTuple):
    """The output transforms of networks of some ``widths``; see ``Constraint``."""

    widths: list[int]
    parts: list[Constraint | None]

    def apply(self, jets: Tensor) -> Tensor:
        """Jets [K, n, c + s] of the networks to jets of the solution."""
        pairs = zip(self.parts, jets.split(self.widths, -1), strict=True)
        return torch.cat([part.apply(z) if part else z for part, z in pairs], -1)

    def pull(self, cotangent: Tensor) -> Tensor:
        """The transpose of the linear part of ``apply``."""
        pairs = zip(self.parts, cotangent.split(self.widths, -1), strict=True)
        return torch.cat([part.pull(z) if part else z for part, z in pairs], -1)


class ParallelTape(NamedTuple):
    """The tapes of the networks; ``output`` [K, n, c + s] has the unknowns last."""

    network: Parallel
    tapes: list[Tape]
    output: Tensor

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write each row's gradient with respect to theta into ``out`` [n, p]."""
        *bars, last = self._split(cotangent)
        *blocks, numbers = self.network.split(out)
        for tape, bar, block in zip(self.tapes, bars, blocks, strict=True):
            tape.rows(bar, block)
        numbers.copy_(last[0])

    def pull(self, cotangent: Tensor) -> Tensor:
        """The sum of all rows' gradients, shape [p]."""
        *bars, last = self._split(cotangent)
        pairs = zip(self.tapes, bars, strict=True)
        return torch.cat([*(tape.pull(bar) for tape, bar in pairs), last[0].sum(0)])

    def push(self, tangent: Tensor) -> Tensor:
        """Tangent of the output jets, [K, n, c + s], for one of theta, [p]."""
        *parts, numbers = self.network.split(tangent)
        pairs = zip(self.tapes, parts, strict=True)
        result = [tape.push(part) for tape, part in pairs]
        constant = tangent.new_zeros(*result[0].shape[:-1], len(numbers))
        constant[0] = numbers
        return torch.cat([*result, constant], -1)

    def _split(self, cotangent: Tensor) -> tuple[Tensor, ...]:
        widths = [tape.output.shape[-1] for tape in self.tapes]
        return cotangent.split([*widths, len(self.network.unknowns)], -1)
