"""Rows of a term whose residual and Jacobian come from jets.

``JetBlock``: the residual reads the jets of the network; one forward sweep of jets,
then one reverse sweep for all rows. ``TaylorBlock``: the same for a residual that calls
torch.autograd itself, which is given the jets, see ``taylor``.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fedsciml.network.jet import Channel, layout
from fedsciml.network.khatri_rao import KhatriRao
from fedsciml.network.tape import Taped
from fedsciml.problem import Problem, Row, Rows
from fedsciml.problem.evaluation import evaluated
from fedsciml.residual.block import (
    SEVERAL,
    Block,
    by_autograd,
    empty,
    jet,
    with_partners,
)
from fedsciml.residual.taylor import DRAWS, Read, field, needed


class JetBlock(Block):
    """Rows of a term whose residual reads the jets of a network.

    Points and their partners go through the network together.

    Raises:
        ValueError: If the network carries no jets.
    """

    def __init__(self, problem: Problem, rows: Rows) -> None:
        network = problem.network.jets
        if network is None:
            raise ValueError(
                f"The network of problem '{problem.name}' carries no jets; use "
                "AutogradBlock."
            )
        self._network = network
        self._problem, self.rows = problem, rows
        self._row = Row(rows.points, rows.target, problem.coordinates, rows.partner)
        x = with_partners(rows.points, rows.partner)
        self.layout = layout(self._channels(x))
        self._number = {c: k for k, c in enumerate(self.layout.channels)}
        self._inputs: Any = network.prepared(x, self.layout)
        self._constraint = network.constrain(x, self.layout)

    def _channels(self, x: Tensor) -> list[Channel]:
        """The channels that the residual needs, at points and partners x."""
        return _traced(self._evaluate, x, self._network.columns)

    def _evaluate(self, read: Read) -> Tensor:
        """Residuals [q, n] without their weight, from the channels of u."""
        u = jet(self._problem, read, len(self.rows.points), self.rows.partner)
        return evaluated(self._problem, self.rows.term, u, self._row)

    def _residuals(self, jets: Tensor) -> Tensor:
        return self._evaluate(lambda channel: jets[self._number[channel]])

    def _solution(self, jets: Tensor) -> Tensor:
        return jets if self._constraint is None else self._constraint.apply(jets)

    @torch.no_grad()
    def predictors(self, thetas: Tensor) -> Tensor:
        """What the residual returns, [C, q, n] at thetas [C, p]: several a sweep."""
        n = len(self.rows.points)
        result = []
        for group in thetas.split(max(1, SEVERAL // max(1, n))):
            # One theta alone takes the path of ``linearise`` and agrees bit for bit.
            tape = self._network.forward(
                group.squeeze(0), self._inputs, self.layout, keep=False
            )
            several = tape.output.unbind() if len(group) > 1 else [tape.output]
            for jets in several:
                result.append(self._residuals(self._solution(jets)))
        return torch.stack(result)

    @torch.no_grad()
    def linearise(self, theta: Tensor) -> "JetLinear":
        """The rows, linearised at theta [p]: one sweep of jets, one small backward."""
        tape = self._network.forward(theta, self._inputs, self.layout)
        jets = self._solution(tape.output).requires_grad_()
        with torch.enable_grad():
            parts = self._residuals(jets)
            r, loss = self.linear(parts.detach())
            if not self.squares:
                parts = self.mixed(parts.detach(), parts)
            # A residual without u is off the graph; the empty sum puts it on.
            sums = parts.sum(1) + jets[:0].sum()
            bars = [
                torch.autograd.grad(total, jets, retain_graph=True)[0]
                for total in sums.unbind()
            ]
        cotangents, weights = [], self.rows.weights
        if isinstance(weights, Tensor):  # of points, and of partners below them
            weights = weights.repeat(bars[0].shape[1] // len(weights))[:, None]
        for bar in bars:
            bar.mul_(weights)
            pull = self._constraint.pull if self._constraint else None
            cotangents.append(pull(bar) if pull else bar)
        sides = 1 if self.rows.partner is None else 2
        return JetLinear(r, tape, cotangents, sides, loss)

    @torch.no_grad()
    def slope(self, theta: Tensor) -> Tensor:
        """Gradient [p] of the loss at theta [p]: one sweep forth, one back."""
        tape = self._network.forward(theta, self._inputs, self.layout)
        jets = self._solution(tape.output).requires_grad_()
        with torch.enable_grad():
            parts = self._residuals(jets)
            score = self.score(parts.detach())
            total = (parts * score).sum() + jets[:0].sum()
            (bar,) = torch.autograd.grad(total, jets)
        return tape.pull(self._constraint.pull(bar) if self._constraint else bar)


class TaylorBlock(JetBlock):
    """Rows of a term whose residual calls torch.autograd, which is given jets.

    Also the rows of any network with a ``transform``.
    """

    def _channels(self, x: Tensor) -> list[Channel]:
        n = len(self.rows.points)
        if 0 < n < DRAWS:  # the same rows again and again, instead of evaluations
            several = self.rows.part(torch.arange(DRAWS, device=x.device) % n)
            with suppress(Exception):  # of what is known at all n of its points alone
                return needed(
                    partial(self._evaluate, rows=several),
                    with_partners(several.points, several.partner),
                    self._network.columns,
                )
        return needed(self._evaluate, x, self._network.columns)

    def _evaluate(self, read: Read, rows: Rows | None = None) -> Tensor:
        transform, unknowns = self._network.transform, self._problem.unknowns

        def values(x: Tensor) -> Tensor:
            columns = field(read, x)
            if transform is None:
                return columns
            split = [columns.shape[1] - len(unknowns)]
            outputs, numbers = columns.tensor_split(split, 1)
            return torch.cat([transform(x, outputs), numbers], -1)

        with torch.enable_grad():
            return by_autograd(self._problem, rows or self.rows, values)

    def _residuals(self, jets: Tensor) -> Tensor:
        def read(channel: Channel) -> Tensor:
            # A channel that no residual depends on is read all the same.
            known = channel in self._number
            return jets[self._number[channel]] if known else torch.zeros_like(jets[0])

        return self._evaluate(read)


@dataclass(frozen=True, eq=False, repr=False)
class JetLinear:
    """Rows linearised by jets; q residuals at each of n points.

    Attributes:
        residual: Weighted residuals, shape [q n].
        tape: The forward sweep.
        cotangents: Derivative of each of the q residuals with respect to the jets of
            the columns, shape [K, n, c]; [K, 2 n, c] with partners.
        sides: 2 with partners, whose jets stand below those of their points; else 1.
        loss: Half the weighted deviance; None where it is that of squares.
    """

    residual: Tensor
    tape: Taped
    cotangents: list[Tensor]
    sides: int
    loss: Tensor | None = None

    @torch.no_grad()
    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [q n, p]."""
        several = torch.stack(self.cotangents)
        rows = out.view(len(several), -1, out.shape[1])
        if self.sides == 1:
            self.tape.jacobian(several, rows)
            return
        n = rows.shape[1]
        both = empty(2 * n, out.shape[1], out)
        for cotangent, own in zip(several, rows, strict=True):
            self.tape.rows(cotangent, both)
            torch.add(both[:n], both[n:], out=own)

    @torch.no_grad()
    def mixed(self, omega: KhatriRao) -> Tensor:
        """J Omega, shape [q n, k]."""
        parts = [self.tape.mixed(bar, omega) for bar in self.cotangents]
        both = torch.stack(parts).unflatten(1, (self.sides, -1))
        return both.sum(1).flatten(0, 1)

    @torch.no_grad()
    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [q n], for v [p]; or [q n, k] for k columns [p, k]."""
        several = self.tape.pushes(v.mT) if v.ndim > 1 else self.tape.push(v)[None]
        parts = [(bar * several).sum((1, 3)) for bar in self.cotangents]
        summed = [part.unflatten(1, (self.sides, -1)).sum(1) for part in parts]
        result = torch.cat(summed, dim=1)
        return result.mT if v.ndim > 1 else result[0]

    @torch.no_grad()
    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p], for w [q n]; or [p, k] for k columns [q n, k]."""
        columns = w.mT if w.ndim > 1 else w[None]
        parts = columns.unflatten(1, (len(self.cotangents), -1))
        parts = parts.repeat(1, 1, self.sides)[:, :, None, :, None]
        total = sum(
            (
                bar * part
                for bar, part in zip(self.cotangents, parts.unbind(1), strict=True)
            ),
            torch.zeros_like(self.cotangents[0]),
        )
        return self.tape.pulls(total).mT if w.ndim > 1 else self.tape.pull(total[0])


def _traced(
    evaluate: Callable[[Read], Tensor], points: Tensor, columns: int
) -> list[Channel]:
    """The channels that a residual reads, found by evaluating it on zeros."""
    seen: list[Channel] = []

    def read(channel: Channel) -> Tensor:
        seen.append(channel)
        return points.new_zeros(len(points), columns)

    evaluate(read)
    return seen
