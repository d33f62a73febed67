"""Blocks of rows of one term: three ways to their residual and Jacobian.

``JetBlock``: the residual reads the jets of MLPs; one forward sweep of jets, then one
reverse sweep for all rows. ``TaylorBlock``: the same for a residual that calls
torch.autograd itself, which is given the jets, see ``taylor``. ``AutogradBlock``: any
network and any residual, by torch.autograd. ``bind`` chooses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.func import vmap

from fedsciml.network import MLP, Tape
from fedsciml.network.jet import Channel, Jet, Nested, layout
from fedsciml.network.parallel import Parallel, ParallelTape
from fedsciml.problem import Problem, Row, Rows
from fedsciml.residual.taylor import Read, field, needed

CHUNK = 1024
"""Points per sweep: bounds its memory whatever the size of the shard; fits a cache."""

PRODUCTS = 64
"""Rows of J at once where they are products with the graph: each takes a sweep."""


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
        self.layout = layout(self._channels(x))
        self._number = {c: k for k, c in enumerate(self.layout.channels)}
        self._inputs: Any = self._network.inputs(x, self.layout)
        self._constraint = self._network.constrain(x, self.layout)

    def _channels(self, x: Tensor) -> list[Channel]:
        """The channels that the residual needs at the points and their partners."""
        return _traced(self._evaluate, x, self._network.columns)

    def _evaluate(self, read: Read) -> Tensor:
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


class TaylorBlock(JetBlock):
    """Rows of a term whose residual calls torch.autograd, which is given jets.

    Also any rows of a network with an output transform that only torch can
    differentiate.
    """

    def _channels(self, x: Tensor) -> list[Channel]:
        return needed(self._evaluate, x, self._network.columns)

    def _evaluate(self, read: Read) -> Tensor:
        network = self._network

        def values(x: Tensor) -> Tensor:
            columns = field(read, x)
            return columns if isinstance(network, MLP) else network.finish(x, columns)

        with torch.enable_grad():
            return _by_autograd(self._problem, self.rows, values)

    def _residuals(self, jets: Tensor) -> Tensor:
        def read(channel: Channel) -> Tensor:
            # A channel that no residual depends on is read all the same.
            known = channel in self._number
            return jets[self._number[channel]] if known else torch.zeros_like(jets[0])

        return self._evaluate(read)


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
                both = empty(2 * n, out.shape[1], out)
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

    def evaluate(self, theta: Tensor) -> Tensor:
        """Weighted residuals [q, n] for one theta [p], or for one a point, [n, p]."""
        problem, network = self._problem, self._problem.network

        def values(x: Tensor) -> Tensor:
            numbers = theta[..., network.size - len(problem.unknowns) :]
            if theta.ndim == 1:
                found = network(theta, x)
                return torch.cat([found, numbers.expand(len(x), -1)], -1)
            sides = len(x) // len(theta)
            pairs = theta.repeat(sides, 1), x
            found = vmap(lambda t, y: network(t, y.unsqueeze(0)).squeeze(0))(*pairs)
            return torch.cat([found, numbers.repeat(sides, 1)], -1)

        # The empty sum puts a residual without u on the graph of theta.
        weighted = _by_autograd(problem, self.rows, values) * self.rows.weight
        return weighted + theta[:0].sum()

    @torch.enable_grad()
    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, n] at thetas [C, p]."""
        parts = [self.evaluate(t).detach().flatten() for t in thetas.detach()]
        return torch.stack(parts)

    def linearise(self, theta: Tensor) -> "AutogradLinear":
        """The rows' linearisation at theta: the graph of the residual."""
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            graph = self.evaluate(leaf).flatten()
        return AutogradLinear(graph.detach(), graph, leaf, self)


class AutogradLinear(NamedTuple):
    """Linearised rows as an autograd graph."""

    residual: Tensor
    graph: Tensor
    theta: Tensor
    block: AutogradBlock

    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [q n, p].

        Every point gets its own copy of theta; row i of the gradient of the sum of the
        residuals with respect to the copies is the gradient of residual i. A network
        that vmap cannot run at several thetas is differentiated as it ran at one.
        """
        n = len(self.block.rows.points)
        copies = self.theta.detach().expand(n, -1).clone().requires_grad_()
        try:
            with torch.enable_grad():
                sums = self.block.evaluate(copies).sum(1)
            for q, total in enumerate(sums):
                (rows,) = torch.autograd.grad(total, copies, retain_graph=True)
                out[q * n : (q + 1) * n] = rows
        except RuntimeError:  # for example, `if x.max() > 5` in the network
            self.products(out)

    def products(self, out: Tensor) -> None:
        """Write the first rows of J into ``out`` by products e_i^T J, some at once."""
        for start in range(0, len(out), PRODUCTS):
            rows = out[start : start + PRODUCTS]
            unit = self.graph.new_zeros(len(rows), len(self.graph))
            unit.diagonal(start).fill_(1)
            try:
                (found,) = torch.autograd.grad(
                    self.graph,
                    self.theta,
                    unit,
                    retain_graph=True,
                    is_grads_batched=True,
                )
            except RuntimeError:  # a backward pass of the user's own may branch as well
                found = torch.stack([self.vjp(w) for w in unit])
            rows.copy_(found)

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


def bind(problem: Problem, rows: Rows) -> Block:
    """The fastest kind of block that fits the network and the residual."""
    network = problem.network
    jets, finished = isinstance(network, MLP), False
    if isinstance(network, Parallel):
        jets, finished = network.carries_jets, network.transform is not None
    if not jets:
        return AutogradBlock(problem, rows)
    if not (problem.terms[rows.term].autograd or finished):
        return JetBlock(problem, rows)
    general, fast = AutogradBlock(problem, rows), TaylorBlock(problem, rows)
    # A residual that detaches u or branches on it may hide from random jets. Near the
    # start and not at it: by symmetry a residual may vanish there but for rounding.
    generator = Generator().manual_seed(0)
    theta = network.init(generator, torch.float64)
    theta += 0.1 * torch.randn(len(theta), generator=generator, device="cpu")
    expected, found = (b.linearise(theta.to(rows.points)) for b in (general, fast))
    close = 1e-8 if rows.points.dtype == torch.float64 else 1e-4
    pairs = [(found.residual, expected.residual)]
    pairs.append((found.vjp(found.residual), expected.vjp(found.residual)))
    agree = all(bool((a - b).norm() <= close * b.norm()) for a, b in pairs)
    return fast if agree else general


def _by_autograd(
    problem: Problem, rows: Rows, values: Callable[[Tensor], Tensor]
) -> Tensor:
    """Residuals [q, n] of values that are on the graph of the rows' points."""
    term = problem.terms[rows.term]
    points, partner = (
        None if x is None else x.detach().clone().requires_grad_()
        for x in (rows.points, rows.partner)
    )
    assert points is not None
    x = _with_partners(points, partner)
    jet = _jet(problem, Nested(values(x), x), len(points), partner)
    row = Row(points, rows.target, problem.coordinates, partner)
    return _stacked(term.residual(jet, row), len(points), term.name)


def _with_partners(points: Tensor, partner: Tensor | None) -> Tensor:
    return points if partner is None else torch.cat([points, partner])


def _jet(
    problem: Problem,
    read: Read,
    n: int,
    partner: Tensor | None,
) -> Jet:
    """What a residual sees of channels that are read at n points and their partners."""
    names = problem.coordinates, problem.outputs, problem.unknowns
    if partner is None:
        return Jet(read, *names)
    return Jet(lambda c: read(c)[:n], *names, Jet(lambda c: read(c)[n:], *names))


def empty(rows: int, columns: int, like: Tensor) -> Tensor:
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
    evaluate: Callable[[Read], Tensor],
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
