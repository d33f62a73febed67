"""What the library asks of a network."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from fedsciml.network.convolution import ConvNet
    from fedsciml.network.mapped import Mapped
    from fedsciml.network.mlp import MLP
    from fedsciml.network.parallel import Parallel

PointFunction = Callable[[Tensor], Tensor]
"""Maps points [n, d] to values [n] or [n, c], differentiable by torch."""


@runtime_checkable
class Network(Protocol):
    """A function u(theta, x) of one flat parameter vector theta, shape [p].

    A network of your own derives from this class, or does not, and defines ``size``,
    ``init`` and ``__call__``. The other members have defaults that suit any network: no
    unknown numbers, and all derivatives by torch.autograd.
    """

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of parameters p, the unknown numbers among them."""

    @abstractmethod
    def init(self, generator: Generator, dtype: torch.dtype) -> Tensor:
        """Start parameters theta, shape [p], on the CPU."""

    @abstractmethod
    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""

    @property
    def unknowns(self) -> Mapping[str, float]:
        """Name and start value of each unknown number: the last entries of theta."""
        return {}

    def numbers(self, theta: Tensor) -> Tensor:
        """Values of the unknown numbers [..., s] at theta [..., p], linear in theta."""
        return theta[..., self.size - len(self.unknowns) :]

    @property
    def own(self) -> Sequence[int]:
        """Numbers of the entries of theta that are each client's own: none."""
        return ()

    @property
    def widths(self) -> Sequence[int]:
        """Widths of the layers if theta lists them as that of ``MLP``, else empty."""
        return ()

    @property
    def jets(self) -> "MLP | Parallel | ConvNet | Mapped | None":
        """The network itself if it carries jets through its layers, else None."""
        return None

    def levels(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """What its hidden layers give at points [n, d], on the autograd graph.

        Shapes [n, w], from the first layer to the last before the output; none where a
        network does not tell.
        """
        return []

    @property
    def points(self) -> int | None:
        """Points to pass through it at once, for its memory; None for no limit."""
        return None

    def description(self) -> Sequence[object]:
        """What else tells it from networks of its class and size, for hashes."""
        return ()


class _Completed(Network):
    """An object with ``size``, ``init`` and ``__call__`` alone, with the defaults."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def size(self) -> int:
        return self._network.size

    def init(self, generator: Generator, dtype: torch.dtype) -> Tensor:
        return self._network.init(generator, dtype)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._network(theta, x)

    def description(self) -> Sequence[object]:
        return [type(self._network).__qualname__]


def completed(network: Network) -> Network:
    """The network, with the defaults of ``Network`` if it is not derived from it.

    Raises:
        ValueError: If it has no ``size``, ``init`` or ``__call__``.
    """
    kind = isinstance(network, type)
    if isinstance(network, Network) and not kind:
        return network
    if not kind and all(
        hasattr(network, name) for name in ("size", "init", "__call__")
    ):
        return _Completed(network)
    name = getattr(network, "__qualname__", type(network).__qualname__)
    advice = (
        "write MLP((d, 20, 20, c)) for d coordinates and c outputs; wrap a torch.nn."
        "Module in ModuleNetwork, and derive a class of your own from "
        "fedsciml.network.Network"
    )
    if isinstance(network, torch.nn.Module):
        advice = (
            f"write ModuleNetwork(net) for the {name} net, or derive a class of your "
            "own from fedsciml.network.Network"
        )
    elif kind:
        advice = f"write an object, {name}(...), instead of the class"
    elif isinstance(network, (tuple, list)) and all(type(n) is int for n in network):
        advice = f"write MLP({tuple(network)})"
    raise ValueError(f"{name} is not a network: {advice}.")
