"""Networks whose parameters make those of another one.

Of a network u(theta, x) with theta [p] and a map theta = w(phi) of phi [q],

    v(phi, x) = u(w(phi), x),    dv/dphi = du/dtheta dw/dphi.

``Lora`` puts low-rank factors into weight matrices so, and ``AtSite`` puts a client's
personal parameters beside the shared ones.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Generator, Tensor

from fedsciml.network.base import Network
from fedsciml.network.jet import Layout
from fedsciml.network.tape import Taped


class Mapped(Network):
    """A network u of parameters theta = w(phi).

    A subclass gives ``size``, ``init``, ``whole``, ``tangent`` and ``cotangent``.

    Args:
        network: u, the base.
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    @abstractmethod
    def whole(self, phi: Tensor) -> Tensor:
        """theta [..., p] of phi [..., q], on the autograd graph."""

    @abstractmethod
    def tangent(self, phi: Tensor, v: Tensor) -> Tensor:
        """dw/dphi v, shape [..., p], at phi [q] along v [..., q]."""

    @abstractmethod
    def cotangent(self, phi: Tensor, rows: Tensor) -> Tensor:
        """Rows [..., p] times dw/dphi, shape [..., q], at phi [q]."""

    @property
    def unknowns(self) -> Mapping[str, float]:
        """Those of the base."""
        return self.network.unknowns

    def numbers(self, theta: Tensor) -> Tensor:
        """Values of the unknown numbers [..., s] at phi [..., q]."""
        return self.network.numbers(self.whole(theta))

    @property
    def jets(self) -> "Mapped | None":
        """The network itself if the base carries jets, else None."""
        return None if self.network.jets is None else self

    def levels(self, theta: Tensor, x: Tensor) -> list[Tensor]:
        """Those of the base."""
        return self.network.levels(self.whole(theta), x)

    @property
    def points(self) -> int | None:
        """As the base."""
        return self.network.points

    @property
    def own(self) -> Sequence[int]:
        """None; see ``Personal``."""
        return ()

    def description(self) -> Sequence[object]:
        """The class, and that of the base."""
        return [type(self).__name__, *self.network.description()]

    def init(self, generator: Generator, dtype: Any) -> Tensor:  # noqa: ANN401
        """Start parameters phi, shape [q]."""
        raise NotImplementedError

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        return self.network(self.whole(theta), x)

    # What rows by jets ask for.

    @property
    def columns(self) -> int:
        """Number of columns of the jets."""
        found: int = self._jets.columns
        return found

    @property
    def transform(self) -> Any:  # noqa: ANN401
        """Output transform of the base."""
        return self._jets.transform

    @property
    def order(self) -> int | None:
        """Highest order of a derivative in the jets of the base; None for any."""
        found: int | None = self._jets.order
        return found

    def prepared(self, x: Tensor, layout: Layout) -> Any:  # noqa: ANN401
        """As of the base."""
        return self._jets.prepared(x, layout)

    def constrain(self, x: Tensor, layout: Layout) -> Any:  # noqa: ANN401
        """As of the base."""
        return self._jets.constrain(x, layout)

    def forward(
        self,
        theta: Tensor,
        inputs: Any,  # noqa: ANN401
        layout: Layout,
        keep: bool = True,
    ) -> Taped:
        """Jets of the base at w(phi); arguments as for ``MLP.forward``."""
        tape: Taped = self._jets.forward(self.whole(theta), inputs, layout, keep)
        return MappedTape(self, theta, tape, tape.output)

    @property
    def _jets(self) -> Any:  # noqa: ANN401
        return self.network.jets


@dataclass(frozen=True, eq=False)
class MappedTape(Taped):
    """The base's tape, with derivatives by phi [q]."""

    network: Mapped
    phi: Tensor
    tape: Taped
    output: Tensor

    def rows(self, cotangent: Tensor, out: Tensor) -> None:
        """Write the gradient of each row with respect to phi into ``out`` [n, q]."""
        self.jacobian(cotangent[None], out[None])

    def jacobian(self, cotangents: Tensor, out: Tensor) -> None:
        """``rows`` of several cotangents [s, K, n, c], into ``out`` [s, n, q]."""
        base = out.new_empty(*out.shape[:-1], self.network.network.size)
        self.tape.jacobian(cotangents, base)
        out.copy_(self.network.cotangent(self.phi, base))

    def pull(self, cotangent: Tensor) -> Tensor:
        """Sum of the gradients of all rows, shape [q]."""
        return self.network.cotangent(self.phi, self.tape.pull(cotangent))

    def push(self, tangent: Tensor) -> Tensor:
        """Derivative of the output along a tangent [q] of phi, as the output."""
        return self.tape.push(self.network.tangent(self.phi, tangent))

    def pulls(self, cotangents: Tensor) -> Tensor:
        """``pull`` of several cotangents, shape [s, q]."""
        return self.network.cotangent(self.phi, self.tape.pulls(cotangents))

    def pushes(self, tangents: Tensor) -> Tensor:
        """``push`` along several tangents [s, q], shape [s, K, n, c]."""
        return self.tape.pushes(self.network.tangent(self.phi, tangents))
