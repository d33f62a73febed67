"""Networks of which the last layers are trained, and the others stay."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from fedsciml.network.base import Network
from fedsciml.network.convolution import ConvNet
from fedsciml.network.layers import Dense
from fedsciml.network.mlp import MLP

Trained = int | Literal["classifier", "dense"]
"""How many of the last layers with weights; one of them; all behind convolutions."""


class Partial(Network):
    """The last layers of a network, the others held fixed.

    What the fixed layers make of the points is computed once for each party, and a
    round costs and sends as much as the trained layers alone.

        found = run(problem, methods.load("fedavg"), rounds=50)
        network = Partial(problem.network, found.theta)
        tuned = run(replace(problem, network=network), methods.load("fipa"))
        theta = network.whole(tuned.theta)

    Args:
        network: A ``ConvNet`` or an ``MLP``.
        theta: Its parameters, shape [p]; training starts there, whatever the seed.
        trained: How many of the last layers, of those with weights; ``classifier``: the
            last one; ``dense``: all dense ones behind the convolutions.

    Attributes:
        tail: The trained layers, as a network of the same points.

    Raises:
        ValueError: If it is another network, theta has another shape, or not some of
            its layers are trained.
    """

    def __init__(
        self, network: Network, theta: Tensor, trained: Trained = "classifier"
    ) -> None:
        if not isinstance(network, (MLP, ConvNet)):
            raise ValueError(
                f"Layers are held fixed of an MLP or a ConvNet; got a "
                f"{type(network).__name__}. Of a torch.nn.Module set requires_grad to "
                "False, and wrap it in ModuleNetwork."
            )
        if list(theta.shape) != [network.size]:
            raise ValueError(
                f"The network has {network.size} parameters, but theta has shape "
                f"{list(theta.shape)}. Give the theta of a run of this network."
            )
        known = {"classifier": 1, "dense": _dense(network)}
        wanted = trained if isinstance(trained, int) else known.get(trained, 0)
        every = weighted(network)
        if not 1 <= wanted < every:
            raise ValueError(
                f"Of the {every} layers with weights 1 to {every - 1} are trained, "
                f"'classifier', the last one, or 'dense'; got {trained!r}."
            )
        self.network, self.theta = network, theta.detach().clone()
        self.tail = network.tail(theta, wanted)

    @property
    def size(self) -> int:
        """Number of trained parameters."""
        return self.tail.size

    @property
    def jets(self) -> MLP | ConvNet:
        """The trained layers."""
        return self.tail

    @property
    def widths(self) -> Sequence[int]:
        """Those of the trained layers."""
        return self.tail.widths

    @property
    def points(self) -> int | None:
        """As the whole network."""
        return self.network.points

    def levels(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """Of the trained layers."""
        return self.tail.levels(theta, x)

    def description(self) -> Sequence[object]:
        """That of the whole network, and the fixed parameters."""
        return [*self.network.description(), self.size, self.fixed]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """The trained parameters to begin with."""
        return self.tail.init(generator, dtype)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        return self.tail(theta, x)

    def whole(self, theta: Tensor) -> Tensor:
        """The parameters of the whole network from the trained ones."""
        return torch.cat([self.fixed.to(theta), theta])

    @property
    def fixed(self) -> Tensor:
        """The parameters that stay."""
        return self.theta[: self.network.size - self.size]

    def same(self, other: "Partial") -> bool:
        """Whether the other one holds the same layers of the same network fixed."""
        of = self.network is other.network and self.size == other.size
        return of and torch.equal(self.fixed, other.fixed)


def weighted(network: MLP | ConvNet) -> int:
    """Number of layers with weights."""
    if isinstance(network, ConvNet):
        return len(network.weights)
    return len(network.widths) - 1


def _dense(network: MLP | ConvNet) -> int:
    """How many dense layers there are behind the last convolution."""
    if isinstance(network, MLP):
        return len(network.widths) - 1
    dense = [isinstance(network.layers[k], Dense) for k in network.weights]
    return len(dense) - max(
        (k + 1 for k, own in enumerate(dense) if not own), default=0
    )
