r"""The weighted residual of a shard and its linearisation.

A ``System`` binds a problem and one shard: it holds what does not depend on theta and
gives r(theta) [n], the loss 1/2 |r|^2, and a ``Linearisation`` with J [n, p], J v and
J^T w. Rows are ordered term by term; a term with q residuals per point gives q n rows.

An MLP and a residual that reads jets take the fast path: one forward sweep of jets, one
reverse sweep for all rows. Everything else takes the general autograd path, with the
same interface.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from fedsciml.jet import Channel, Jet, Nested, layout
from fedsciml.network import MLP, Network, Tape
from fedsciml.parallel import Parallel, ParallelTape
from fedsciml.problem import Problem, Row, Rows, Shard

CHUNK = 1024
"""Points per sweep: bounds its memory whatever the size of the shard; fits a cache."""


class Linear(Protocol):
    """A block of rows linearised at some theta."""

    @property
    def residual(self) -> Tensor:
        """Weighted residual, shape [n]."""

    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [n, p]."""

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [p]."""

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p], for w [n]."""


class Block(Protocol):
    """Rows of one term that are swept together."""

    rows: Rows

    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, n] at thetas [C, p]."""

    def linearise(self, theta: Tensor) -> Linear:
        """The rows' linearisation at theta."""


class Linearisation(NamedTuple):
    """r(theta + v) ~ r + J v for all rows of a shard."""

    residual: Tensor
    blocks: list[Linear]
    size: int

    def jacobian(self, out: Tensor | None = None) -> Tensor:
        """J, shape [n, p]; written into ``out`` where given."""
        if out is None:
            out = _empty(len(self.residual), self.size, self.residual)
        start = 0
        for block in self.blocks:
            stop = start + len(block.residual)
            block.jacobian(out[start:stop])
            start = stop
        return out

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [p]."""
        parts = [block.jvp(v) for block in self.blocks]
        return torch.cat(parts) if parts else v.new_zeros(0)

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p], for w [n]."""
        parts = torch.split(w, [len(block.residual) for block in self.blocks])
        return sum(
            (b.vjp(part) for b, part in zip(self.blocks, parts, strict=True)),
            w.new_zeros(self.size),
        )

    @property
    def loss(self) -> float:
        """1/2 |r|^2."""
        return float(self.residual @ self.residual) / 2

    @property
    def gradient(self) -> Tensor:
        """J^T r, shape [p]."""
        return self.vjp(self.residual)


class System:
    """The residual of one shard as a function of theta.

    Args:
        problem: Gives network and terms.
        shard: The rows; see ``Problem.shards`` and ``Problem.pooled``.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.
        chunk: Points per sweep.
    """

    def __init__(
        self,
        problem: Problem,
        shard: Shard,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        chunk: int = CHUNK,
    ) -> None:
        self.problem = problem
        self.shard = shard
        self.size = problem.network.size
        self.blocks: list[Block] = []
        for rows in shard.rows:
            term = problem.terms[rows.term]
            fast = _carries_jets(problem.network) and not term.autograd
            kind = JetBlock if fast else AutogradBlock
            for start in range(0, len(rows.points), chunk):
                part = rows.part(slice(start, start + chunk))
                target, partner = (
                    None if value is None else value.to(device, dtype)
                    for value in (part.target, part.partner)
                )
                points = part.points.to(device, dtype)
                part = replace(part, points=points, target=target, partner=partner)
                self.blocks.append(kind(problem, part))

    def scaled(self, factors: Sequence[float]) -> "System":
        """The same system with the loss of term t times ``factors[t]``; shares data."""

        def scale(rows: Rows) -> Rows:
            return replace(rows, weight=rows.weight * factors[rows.term] ** 0.5)

        result = copy(self)
        rows = tuple(scale(rows) for rows in self.shard.rows)
        result.shard = replace(self.shard, rows=rows)
        result.blocks = [copy(block) for block in self.blocks]
        for block in result.blocks:
            block.rows = scale(block.rows)
        return result

    def residual(self, theta: Tensor) -> Tensor:
        """Weighted residual r, shape [n]."""
        return self.residuals(theta.unsqueeze(0))[0]

    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, n] at thetas [C, p]; faster than one by one."""
        parts = [block.residuals(thetas) for block in self.blocks]
        return torch.cat(parts, dim=1) if parts else thetas.new_zeros(len(thetas), 0)

    def loss(self, theta: Tensor) -> float:
        """1/2 |r|^2."""
        r = self.residual(theta)
        return float(r @ r) / 2

    def losses(self, thetas: Tensor) -> Tensor:
        """1/2 |r|^2 at each of thetas [C, p], shape [C]."""
        return self.residuals(thetas).square().sum(1) / 2

    def linearise(self, theta: Tensor) -> Linearisation:
        """r and its derivative at theta."""
        return self._joined(theta, [block.linearise(theta) for block in self.blocks])

    def parts(self, theta: Tensor, rows: int) -> Iterator[Linearisation]:
        """The linearisation in pieces of about ``rows`` rows, one after the other.

        A piece is one chunk at least; pieces are made as they are asked for, so that a
        large shard is never in memory as a whole.
        """
        piece: list[Linear] = []
        for block in self.blocks:
            linear = block.linearise(theta)
            if piece and sum(len(p.residual) for p in (*piece, linear)) > rows:
                yield self._joined(theta, piece)
                piece = []
            piece.append(linear)
        if piece:
            yield self._joined(theta, piece)

    def _joined(self, theta: Tensor, blocks: list[Linear]) -> Linearisation:
        parts = [block.residual for block in blocks]
        r = torch.cat(parts) if parts else theta.new_zeros(0)
        return Linearisation(r, blocks, self.size)


class JetBlock:
    """Rows of a term whose residual reads the jets of an MLP, or of several.

    Points and their partners are swept together; K channels, c outputs, s unknowns.
    """

    def __init__(self, problem: Problem, rows: Rows) -> None:
        assert isinstance(problem.network, (MLP, Parallel))
        self._network = problem.network
        self._problem, self.rows = problem, rows
        self._term = problem.terms[rows.term]
        self._row = Row(rows.points, rows.target, problem.coordinates, rows.partner)
        x = _with_partners(rows.points, rows.partner)
        columns = len(problem.outputs) + len(problem.unknowns)
        self.layout = layout(_traced(self._evaluate, x, columns))
        self._number = {c: k for k, c in enumerate(self.layout.channels)}
        self._inputs: Any = self._network.inputs(x, self.layout)
        self._constraint = self._network.constrain(x, self.layout)

    def _evaluate(self, read: Callable[[Channel], Tensor]) -> Tensor:
        """Unweighted residuals [q, n] from the channels of u."""
        jet = _jet(self._problem, read, len(self.rows.points), self.rows.partner)
        parts = self._term.residual(jet, self._row)
        return _stacked(parts, len(self.rows.points), self._term.name)

    def _residuals(self, jets: Tensor) -> Tensor:
        return self._evaluate(lambda channel: jets[self._number[channel]])

    def _solution(self, jets: Tensor) -> Tensor:
        return jets if self._constraint is None else self._constraint.apply(jets)

    @torch.no_grad()
    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, n] at thetas [C, p], some of them in one sweep."""
        n = len(self.rows.points)
        result = []
        for group in thetas.split(max(1, CHUNK // max(1, n))):
            # One theta alone takes the path of ``linearise`` and agrees bit for bit.
            tape = self._network.forward(
                group.squeeze(0), self._inputs, self.layout, keep=False
            )
            several = tape.output.unbind(1) if len(group) > 1 else [tape.output]
            for jets in several:
                result.append(self._residuals(self._solution(jets)).flatten())
        return torch.stack(result).mul_(self.rows.weight)

    @torch.no_grad()
    def linearise(self, theta: Tensor) -> "JetLinear":
        """The rows' linearisation at theta: one sweep of jets, one small backward."""
        tape = self._network.forward(theta, self._inputs, self.layout)
        jets = self._solution(tape.output).requires_grad_()
        with torch.enable_grad():
            parts = self._residuals(jets)
            # A residual without u is off the graph; the empty sum puts it on.
            sums = parts.sum(1) + jets[:0].sum()
            bars = [
                torch.autograd.grad(total, jets, retain_graph=True)[0]
                for total in sums.unbind()
            ]
        cotangents = []
        for bar in bars:
            bar.mul_(self.rows.weight)
            pull = self._constraint.pull if self._constraint else None
            cotangents.append(pull(bar) if pull else bar)
        r = parts.detach().flatten() * self.rows.weight
        return JetLinear(r, tape, cotangents, 1 if self.rows.partner is None else 2)


class JetLinear(NamedTuple):
    """Linearised rows: ``cotangents[q]`` [K, n, c] is d residual_q / d jets.

    With partners, ``sides`` is 2: n points, then their n partners, make n rows.
    """

    residual: Tensor
    tape: Tape | ParallelTape
    cotangents: list[Tensor]
    sides: int

    @torch.no_grad()
    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [q n, p]."""
        n = len(self.residual) // len(self.cotangents)
        for q, cotangent in enumerate(self.cotangents):
            rows = out[q * n : (q + 1) * n]
            if self.sides == 1:
                self.tape.rows(cotangent, rows)
            else:
                both = _empty(2 * n, out.shape[1], out)
                self.tape.rows(cotangent, both)
                torch.add(both[:n], both[n:], out=rows)

    @torch.no_grad()
    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [q n]."""
        tangent = self.tape.push(v)
        parts = [(bar * tangent).sum((0, 2)) for bar in self.cotangents]
        return torch.cat([part.view(self.sides, -1).sum(0) for part in parts])

    @torch.no_grad()
    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p]."""
        parts = w.view(len(self.cotangents), 1, -1, 1).repeat(1, 1, self.sides, 1)
        total = sum(
            (bar * part for bar, part in zip(self.cotangents, parts, strict=True)),
            torch.zeros_like(self.cotangents[0]),
        )
        return self.tape.pull(total)


class AutogradBlock:
    """Rows of any differentiable network and any residual written with torch."""

    def __init__(self, problem: Problem, rows: Rows) -> None:
        self._problem, self.rows = problem, rows
        self._term = problem.terms[rows.term]

    def _evaluate(self, theta: Tensor) -> Tensor:
        problem, rows = self._problem, self.rows
        points = rows.points.detach().clone().requires_grad_()
        partner = rows.partner
        if partner is not None:
            partner = partner.detach().clone().requires_grad_()
        x = _with_partners(points, partner)
        values = problem.network(theta, x)
        if unknowns := len(problem.unknowns):
            numbers = theta[-unknowns:].expand(len(x), unknowns)
            values = torch.cat([values, numbers], -1)
        jet = _jet(problem, Nested(values, x), len(points), partner)
        row = Row(points, rows.target, problem.coordinates, partner)
        parts = self._term.residual(jet, row)
        stacked = _stacked(parts, len(points), self._term.name)
        # The empty sum puts a residual without u on the graph of theta.
        return stacked.flatten() * self.rows.weight + theta[:0].sum()

    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, n] at thetas [C, p]."""
        with torch.enable_grad():
            return torch.stack([self._evaluate(t).detach() for t in thetas.detach()])

    def linearise(self, theta: Tensor) -> "AutogradLinear":
        """The rows' linearisation at theta: the graph of the residual."""
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            graph = self._evaluate(leaf)
        return AutogradLinear(graph.detach(), graph, leaf)


class AutogradLinear(NamedTuple):
    """Linearised rows as an autograd graph."""

    residual: Tensor
    graph: Tensor
    theta: Tensor

    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [n, p] by batched vector-Jacobian products."""
        n, at_once = len(self.graph), 64
        for start in range(0, n, at_once):
            seeds = torch.zeros(min(at_once, n - start), n).to(self.graph)
            seeds[:, start:].fill_diagonal_(1)
            (rows,) = torch.autograd.grad(
                self.graph, self.theta, seeds, retain_graph=True, is_grads_batched=True
            )
            out[start : start + len(rows)] = rows

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], as the derivative of w -> v . J^T w."""
        w = torch.zeros_like(self.graph).requires_grad_()
        with torch.enable_grad():
            (back,) = torch.autograd.grad(
                self.graph, self.theta, w, create_graph=True, retain_graph=True
            )
        (result,) = torch.autograd.grad(back, w, v, retain_graph=True)
        return result

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p]."""
        (result,) = torch.autograd.grad(self.graph, self.theta, w, retain_graph=True)
        return result


def _carries_jets(network: Network) -> bool:
    return isinstance(network, MLP) or (
        isinstance(network, Parallel) and network.carries_jets
    )


def _with_partners(points: Tensor, partner: Tensor | None) -> Tensor:
    return points if partner is None else torch.cat([points, partner])


def _jet(
    problem: Problem,
    read: Callable[[Channel], Tensor],
    n: int,
    partner: Tensor | None,
) -> Jet:
    """What a residual sees of channels that are read at n points and their partners."""
    names = problem.coordinates, problem.outputs, problem.unknowns
    if partner is None:
        return Jet(read, *names)
    return Jet(lambda c: read(c)[:n], *names, Jet(lambda c: read(c)[n:], *names))


def _empty(rows: int, columns: int, like: Tensor) -> Tensor:
    """Memory for a Jacobian; on the CPU from NumPy, which asks Linux for huge pages.

    The first touch of ordinary pages takes longer than computing what goes there.
    """
    if not like.is_cpu:
        return like.new_empty(rows, columns)
    return torch.from_numpy(np.empty((rows, columns), like[:0].numpy().dtype))


def _stacked(parts: object, n: int, term: str) -> Tensor:
    """What a residual function returned for n points, as [q, n]."""
    if isinstance(parts, Tensor):
        parts = [parts]
    listed: list[Tensor] = list(parts) if isinstance(parts, (tuple, list)) else []
    shapes = [list(p.shape) if isinstance(p, Tensor) else type(p) for p in listed]
    if not shapes or any(shape != [n] for shape in shapes):
        raise ValueError(
            f"The residual of term '{term}' must return one tensor [n], or a tuple of "
            f"such tensors, one entry per point; for n = {n} points it returned "
            f"{shapes}. Use u.value, u.x, row.x, row.target."
        )
    return torch.stack(listed)


def _traced(
    evaluate: Callable[[Callable[[Channel], Tensor]], Tensor],
    points: Tensor,
    columns: int,
) -> list[Channel]:
    """Which channels a residual reads, found by letting it read zeros."""
    seen: list[Channel] = []

    def read(channel: Channel) -> Tensor:
        seen.append(channel)
        return points.new_zeros(len(points), columns)

    evaluate(read)
    return seen
