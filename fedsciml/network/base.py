"""What the library asks of a network, and of one that carries jets."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from fedsciml.network.jet import Layout

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

    @property
    def widths(self) -> Sequence[int]:
        """(inputs, w_1, ..., w_L, c) if theta is one chain of layers, else empty.

        The parameters of such a network are listed layer by layer, as in ``MLP``, so
        that the Gauss-Newton matrix has a Kronecker factorisation.
        """
        return ()

    @property
    def jets(self) -> "JetNetwork | None":
        """The network itself if it carries jets, else None."""
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
    if isinstance(network, Network):
        return network
    if all(hasattr(network, name) for name in ("size", "init", "__call__")):
        return _Completed(network)
    raise ValueError(
        f"{type(network).__qualname__} is not a network: wrap a torch.nn.Module in "
        "ModuleNetwork, and derive a class of your own from fedsciml.network.Network."
    )


class JetTape(Protocol):
    """A forward sweep of jets that can be differentiated with respect to theta."""

    @property
    def output(self) -> Tensor:
        """Jets of the columns, shape [K, n, c]."""

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to theta into ``out`` [n, p]."""

    def pull(self, cotangent: Tensor) -> Tensor:
        """Sum of the gradients of all rows, shape [p]."""

    def push(self, tangent: Tensor) -> Tensor:
        """Derivative of the output along a tangent [p] of theta, shape [K, n, c]."""


class JetConstraint(Protocol):
    """An affine map from the jets of the columns to the jets of the solution."""

    def apply(self, jets: Tensor) -> Tensor:
        """Jets of the solution, shape [K, n, c]."""

    def pull(self, cotangent: Tensor) -> Tensor:
        """Transpose of the linear part of ``apply``."""


class JetNetwork(Protocol):
    """A network that carries jets: values and derivatives in one forward sweep.

    The *columns* of the jets are the outputs, before ``transform``, and then the
    unknown numbers as constants.
    """

    @property
    def columns(self) -> int:
        """Number of columns."""

    @property
    def transform(self) -> Callable[[Tensor, Tensor], Tensor] | None:
        """Output transform that only torch.autograd can differentiate; None for none.

        Maps points [n, d] and outputs [n, c'] to the solution [n, c].
        """

    # Whatever ``inputs`` returns is handed to ``forward``, by the same network.
    def inputs(self, x: Tensor, layout: Layout) -> Any:  # noqa: ANN401
        """What ``forward`` needs of the points x [n, d]; does not depend on theta."""

    def constrain(self, x: Tensor, layout: Layout) -> JetConstraint | None:
        """Output transform of the jets at the points x [n, d]; None for none."""

    def forward(
        self,
        theta: Tensor,
        inputs: Any,  # noqa: ANN401
        layout: Layout,
        keep: bool = True,
    ) -> JetTape:
        """Jets of the columns at theta [p], or at several thetas [..., p]."""
