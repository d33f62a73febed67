"""Parameters that belong to each client, beside those that all share.

Of theta [p] of a network some entries f [p_f] are each client's own: numbers of its own
(``Parallel(personal=...)``), last layers or a whole network (``Personal``), factors of
a weight matrix (``Lora``). The others, theta_s [p_s], are shared:

    Joint     the network of all parameters, theta [p]
    AtSite    the network as one client has it: of theta_s, at some f

A ``Problem`` has the second, at the values that all clients begin with.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from fedsciml.network.base import Network, completed
from fedsciml.network.convolution import ConvNet
from fedsciml.network.jet import Layout
from fedsciml.network.mapped import Mapped
from fedsciml.network.mlp import MLP
from fedsciml.network.parallel import Parallel
from fedsciml.network.partial import weighted
from fedsciml.network.tape import Taped

Part = int | Literal["all", "classifier"]
"""How many of the last layers with weights; the last one; or the whole network."""


class _Same(Mapped):
    """A network of the same parameters as another one."""

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return self.network.size

    @property
    def widths(self) -> Sequence[int]:
        """Of the network."""
        return self.network.widths

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """Start parameters theta, shape [p]."""
        return self.network.init(generator, dtype)

    def whole(self, phi: Tensor) -> Tensor:
        """The same."""
        return phi

    def tangent(self, phi: Tensor, v: Tensor) -> Tensor:
        """The same."""
        return v

    def cotangent(self, phi: Tensor, rows: Tensor) -> Tensor:
        """The same."""
        return rows

    def forward(
        self,
        theta: Tensor,
        inputs: Any,  # noqa: ANN401
        layout: Layout,
        keep: bool = True,
    ) -> Taped:
        """The tape of the network itself."""
        tape: Taped = self._jets.forward(theta, inputs, layout, keep)
        return tape


class Personal(_Same):
    """A network of which all parameters, or the last layers, are each client's own.

    It is given to a problem as it is, or put into a ``Parallel`` beside shared ones.

    Args:
        network: Any for ``all``; an ``MLP`` or a ``ConvNet`` for its last layers.
        part: ``all``, ``classifier`` (the last layer), or how many of the last layers
            with weights.

    Raises:
        ValueError: If it is no network, has not so many layers, or none that are known.
    """

    def __init__(self, network: Network, part: Part = "all") -> None:
        super().__init__(completed(network))
        self.part = part
        self._first = 0 if part == "all" else network.size - _tail(network, part)

    @property
    def own(self) -> Sequence[int]:
        """Numbers of the entries of theta that are each client's own."""
        return range(self._first, self.size)

    def description(self) -> Sequence[object]:
        """That of the network, and the part."""
        return [*self.network.description(), f"personal {self.part}"]


class Joint(_Same):
    """A network of all parameters, those of one client with the shared ones."""

    def description(self) -> Sequence[object]:
        """That of the network itself."""
        return self.network.description()


class AtSite(Mapped):
    """A network as one client has it: of the shared parameters theta_s, shape [p_s].

    Args:
        network: Of which some parameters are personal. The client's own are those that
            all begin with; ``at`` gives it others.

    Attributes:
        joint: The network of all parameters.
        shared: Numbers of the shared entries of theta, shape [p_s].
        mine: Numbers of the personal ones, shape [p_f].
        arranged: Puts (theta_s, f) into the order of theta, shape [p].

    Raises:
        ValueError: If no parameter is personal, or all are.
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        own = sorted(network.own)
        if not own:
            raise ValueError("No parameter of this network is a client's own.")
        chosen = torch.zeros(network.size, dtype=torch.bool, device="cpu")
        chosen[own] = True
        self.mine, self.shared = chosen.nonzero()[:, 0], (~chosen).nonzero()[:, 0]
        if not len(self.shared):
            raise ValueError(
                "All parameters of this network are personal, so that clients share "
                "nothing: train each alone, problem.alone(client)."
            )
        self.arranged = torch.cat([self.shared, self.mine]).argsort()
        self.joint = Joint(network)
        self._values: Tensor | None = None

    @property
    def names(self) -> Sequence[str]:
        """Names of the unknown numbers that are the client's own."""
        network = self.network
        return tuple(network.personal) if isinstance(network, Parallel) else ()

    @property
    def size(self) -> int:
        """Number of shared parameters p_s."""
        return len(self.shared)

    @property
    def values(self) -> Tensor:
        """The personal parameters f, shape [p_f], float64."""
        if self._values is None:
            begin = self.network.init(Generator().manual_seed(0), torch.float64)
            self._values = begin[self.mine]
        return self._values

    def at(self, values: Tensor) -> "AtSite":
        """The network of a client whose own parameters are these, shape [p_f]."""
        found = copy(self)
        found._values = values
        return found

    def described(self) -> str:
        """How many parameters are whose, in words."""
        return f"{self.size} shared and {len(self.mine)} personal parameters"

    def description(self) -> Sequence[object]:
        """That of the network, and what is personal."""
        return [*self.network.description(), "personal", *self.mine.tolist()]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """Start of the shared parameters, shape [p_s]."""
        return self.network.init(generator, dtype)[self.shared]

    def joined(self, theta: Tensor, values: Tensor) -> Tensor:
        """All parameters [..., p] from shared [..., p_s] and personal [..., p_f]."""
        values = values.to(theta).expand(*theta.shape[:-1], -1)
        return torch.cat([theta, values], -1)[..., self.arranged]

    def whole(self, phi: Tensor) -> Tensor:
        """All parameters [..., p] from the shared ones, at the client's own."""
        return self.joined(phi, self.values)

    def tangent(self, phi: Tensor, v: Tensor) -> Tensor:
        """With zeros for the personal parameters."""
        return self.joined(v, v.new_zeros(len(self.mine)))

    def cotangent(self, phi: Tensor, rows: Tensor) -> Tensor:
        """The entries of the shared parameters."""
        return rows[..., self.shared]


def _tail(network: Network, part: Part) -> int:
    """Number of parameters of the last layers."""
    layers = 1 if part == "classifier" else part
    if not isinstance(network, (MLP, ConvNet)):
        raise ValueError(
            f"Last layers are known of an MLP or a ConvNet, not of a "
            f"{type(network).__name__}; let all of it be personal."
        )
    every = weighted(network)
    if not isinstance(layers, int) or not 1 <= layers < every:
        raise ValueError(
            f"Of the {every} layers with weights the last 1 to {every - 1} "
            f"can be personal, 'classifier', the last one, or 'all'; got {part!r}."
        )
    return network.tail(torch.zeros(network.size, device="cpu"), layers).size
