"""A party's rows at some theta as the range finder wants them, whole or in pieces."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

from fedsciml.linalg.rows import Rows, normal
from fedsciml.network import MLP
from fedsciml.network.khatri_rao import KhatriRao, khatri_rao, pays
from fedsciml.residual.block import empty
from fedsciml.residual.jet_rows import JetLinear
from fedsciml.residual.system import Linearisation, System


def rows(
    system: System, theta: Tensor, largest: int, memory: "Memory"
) -> tuple[Rows, float]:
    """The rows at theta [p], and the loss.

    Args:
        system: The party's.
        theta: Where they are linearised.
        largest: Bytes of J that may be in memory. Rows of which there are more are
            linearised again, chunk by chunk, whenever they are needed.
        memory: For J, as long as the rows are used.
    """
    network, size = system.problem.network, system.size
    wide = isinstance(network, MLP) and pays(network.widths)

    def draw(columns: int, generator: Generator) -> Tensor | KhatriRao:
        if wide:
            return khatri_rao(network.widths, columns, generator, theta)
        return normal(size, columns, generator, theta)

    parts = system.parts(theta, largest // (theta.element_size() * size))
    first = next(parts, None) or system.linearise(theta)
    if next(parts, None) is None:
        piece = Piece(first, memory)
        return Rows(first.residual, size, lambda: [piece], draw, True), first.loss

    def pieces() -> Iterator[Piece]:
        for linear in system.parts(theta, 0):
            yield Piece(linear, memory)

    del first, parts
    residuals, loss = list[Tensor](), 0.0
    for linear in system.parts(theta, 0):
        residuals.append(linear.residual)
        loss += linear.loss
    return Rows(torch.cat(residuals), size, pieces, draw), loss


class Memory:
    """That of one J, used again and again."""

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def of(self, linear: Linearisation) -> Tensor:
        """J of these rows, [m, p]; what was there before is lost."""
        r, held = linear.residual, self._held
        size = len(r) * linear.size
        alike = held is not None and (held.dtype, held.device) == (r.dtype, r.device)
        if held is None or not alike or len(held) < size:
            self._held = held = None  # before more is taken
            self._held = held = empty(1, size, r)[0]
        return linear.jacobian(held[:size].view(len(r), linear.size))


_SPARE = threading.local()


@contextmanager
def borrowed() -> Iterator[Memory]:
    """A thread's memory for J, which its next borrower gets again.

    The first touch of new memory takes a quarter of the time that J does.
    """
    memory = getattr(_SPARE, "memory", None) or Memory()
    _SPARE.memory = None  # who borrows meanwhile gets another one
    try:
        yield memory
    finally:
        _SPARE.memory = memory


class Piece:
    """Some of the rows.

    Args:
        linear: The rows.
        memory: For J.

    Attributes:
        residual: Shape [m].
    """

    def __init__(self, linear: Linearisation, memory: Memory) -> None:
        self.residual = linear.residual
        self._linear, self._memory = linear, memory
        self._known: Tensor | None = None

    def jacobian(self) -> Tensor:
        """J, shape [m, p], until that of the next piece is asked for."""
        if self._known is None:
            self._known = self._memory.of(self._linear)
        return self._known

    def mixed(self, omega: Tensor | KhatriRao) -> Tensor:
        """J Omega, shape [m, k]; of a Khatri-Rao product without J, by jets."""
        if isinstance(omega, Tensor):
            return self.jacobian() @ omega
        blocks = self._linear.blocks
        jets = [block for block in blocks if isinstance(block, JetLinear)]
        if len(jets) < len(blocks):
            return self.jacobian() @ omega.matrix()
        return torch.cat([block.mixed(omega) for block in jets])
