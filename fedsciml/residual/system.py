r"""The weighted residual of a shard and its linearisation.

A ``System`` binds a problem and one shard: it holds what does not depend on theta and
gives r(theta) [n], the loss 1/2 |r|^2, and a ``Linearisation`` with J [n, p], J v and
J^T w. Rows are ordered term by term; a term with q residuals per point gives q n rows.
Where the term has a likelihood, r are Pearson residuals and the loss half the deviance
(``likelihoods``); J^T r is the gradient of the loss all the same.
Rows are computed in blocks, by jets (``jet_rows``) or by torch.autograd
(``autograd_rows``); ``bind`` chooses.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Generator, Tensor

from fedsciml.network import AtSite, Partial
from fedsciml.problem import Problem, Rows, Shard
from fedsciml.residual.autograd_rows import AutogradBlock
from fedsciml.residual.block import CHUNK, empty, keep_freed
from fedsciml.residual.jet_rows import JetBlock, TaylorBlock
from fedsciml.residual.steep import gentle

Block = JetBlock | AutogradBlock
"""Rows of one term that are computed together."""


PIECE = 2**27
"""Bytes of the Jacobian of a chunk of points."""


class Linear(Protocol):
    """A block linearised at some theta.

    Attributes:
        residual: Weighted residual, shape [n].
        loss: Half the weighted deviance; None where it is that of squares.
    """

    @property
    def residual(self) -> Tensor:
        """Shape [n]."""

    @property
    def loss(self) -> Tensor | None:
        """Shape []."""

    def jacobian(self, out: Tensor) -> None:
        """Write J into ``out`` [n, p]."""

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [p]; or [n, k] for k columns [p, k]."""

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p], for w [n]; or [p, k] for k columns [n, k]."""


@dataclass(frozen=True, eq=False, repr=False)
class Linearisation:
    """r(theta + v) ~ r + J v for all rows of a shard.

    Attributes:
        residual: Weighted residual r, shape [n].
        blocks: The linearised blocks, in the order of the rows.
        size: Number of parameters p.
    """

    residual: Tensor
    blocks: list[Linear]
    size: int

    def jacobian(self, out: Tensor | None = None) -> Tensor:
        """J, shape [n, p]; written into ``out`` where given."""
        if out is None:
            out = empty(len(self.residual), self.size, self.residual)
        start = 0
        for block in self.blocks:
            stop = start + len(block.residual)
            block.jacobian(out[start:stop])
            start = stop
        return out

    def jvp(self, v: Tensor) -> Tensor:
        """J v, shape [n], for v [p]; or [n, k] for k columns [p, k]."""
        parts = [block.jvp(v) for block in self.blocks]
        return torch.cat(parts) if parts else v.new_zeros(0, *v.shape[1:])

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p], for w [n]; or [p, k] for k columns [n, k]."""
        parts = torch.split(w, [len(block.residual) for block in self.blocks])
        return sum(
            (b.vjp(part) for b, part in zip(self.blocks, parts, strict=True)),
            w.new_zeros(self.size, *w.shape[1:]),
        )

    @property
    def loss(self) -> float:
        """1/2 |r|^2, or half the deviance."""
        if all(block.loss is None for block in self.blocks):
            return float(self.residual @ self.residual) / 2
        return sum(
            float(b.residual @ b.residual) / 2 if b.loss is None else float(b.loss)
            for b in self.blocks
        )

    @property
    def gradient(self) -> Tensor:
        """J^T r, shape [p]."""
        return self.vjp(self.residual)


class System:
    """The residual of one shard as a function of theta.

    Args:
        problem: The problem, for its network and terms.
        shard: The rows; see ``Problem.shards`` and ``Problem.pooled``.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.
        chunk: Points per sweep, if the network bears as many, and their J, with one
            residual each, takes no more than ``PIECE`` bytes.
    """

    def __init__(
        self,
        problem: Problem,
        shard: Shard,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        chunk: int = CHUNK,
    ) -> None:
        keep_freed()
        self.problem = problem
        self.shard = shard
        self.size = problem.network.size
        self._how = (device, dtype, chunk)
        self._last: System | None = None
        self._tail: tuple[Partial, System] | None = None
        self._sites: list[System] = []
        self.blocks: list[Block] = []
        bytes_ = torch.finfo(dtype).bits // 8 * self.size
        chunk = min(chunk, problem.network.points or chunk, max(1, PIECE // bytes_))
        for rows in shard.rows:
            for start in range(0, len(rows.points), chunk):
                part = rows.part(slice(start, start + chunk))
                target, partner, scale = (
                    None if value is None else value.to(device, dtype)
                    for value in (part.target, part.partner, part.scale)
                )
                points = part.points.to(device, dtype)
                part = Rows(part.term, points, target, part.weight, partner, scale)
                self.blocks.append(bind(problem, part))

    def scaled(self, factors: Sequence[float]) -> "System":
        """The system with the loss of term t times ``factors[t]``; shares its data."""

        def scale(rows: Rows) -> Rows:
            return replace(rows, weight=rows.weight * factors[rows.term] ** 0.5)

        result = self._copied()
        rows = tuple(scale(rows) for rows in self.shard.rows)
        result.shard = replace(self.shard, rows=rows)
        for block in result.blocks:
            block.rows = scale(block.rows)
        return result

    def normalised(self, theta: Tensor) -> "System":
        """The system with the rows' weights as they are at theta [p]; shares its data.

        Itself where no term asks for weights against steep gradients.
        """
        problem = self.problem
        asks = {t for t, term in enumerate(problem.terms) if term.normalise}
        if asks.isdisjoint(block.rows.term for block in self.blocks):
            return self
        result, found = self._copied(), dict[int, list[Tensor]]()
        for block in result.blocks:
            if block.rows.term in asks:
                scale = gentle(problem.network, theta, block.rows.points)
                block.rows = replace(block.rows, scale=scale)
                found.setdefault(block.rows.term, []).append(scale)
        rows = tuple(
            replace(own, scale=torch.cat(found[own.term]).to(own.points))
            if own.term in found
            else own
            for own in self.shard.rows
        )
        result.shard = replace(self.shard, rows=rows)
        return result

    def _copied(self) -> "System":
        """A copy whose blocks may get other rows; shares their data."""
        result = copy(self)
        result._last, result._tail, result._sites = None, None, []
        result.blocks = [copy(block) for block in self.blocks]
        return result

    def moved(self, points: Mapping[int, Tensor]) -> "System":
        """The system with other points [n, d] for some terms, by their numbers.

        Row weights stay. The last result is kept, and returned again for equal points.

        Raises:
            ValueError: As ``Problem.moved``.
        """
        if not points:
            return self
        last = self._last
        if last is not None and all(
            torch.equal(rows.points, points.get(own.term, own.points))
            for rows, own in zip(last.shard.rows, self.shard.rows, strict=True)
        ):
            return last
        rows = tuple(
            self.problem.moved(rows, points[rows.term]) if rows.term in points else rows
            for rows in self.shard.rows
        )
        self._last = self.on(rows)
        return self._last

    def under(self, network: Partial) -> "System":
        """The system of the network's last layers alone, on the same rows.

        The last result is kept, and returned again for equal fixed layers: what these
        make of the points is not computed anew.
        """
        last = self._tail
        if last is None or not last[0].same(network):
            problem = replace(self.problem, network=network)
            last = self._tail = network, System(problem, self.shard, *self._how)
        return last[1]

    @property
    def view(self) -> AtSite:
        """The network, which says what parameters are each client's own.

        Raises:
            ValueError: If none are.
        """
        if (found := self.problem.personal) is None:
            raise ValueError(
                f"Problem '{self.problem.name}' has no personal parameters: no entry "
                "of theta is a client's own."
            )
        return found

    @property
    def sites(self) -> "list[System]":
        """The rows of each client here, as functions of all its parameters [p].

        One system; of pooled rows as many as there are clients. Made once.
        """
        if not self._sites:
            problem = copy(self.problem)
            # What was checked of the problem holds of the network of all parameters.
            object.__setattr__(problem, "network", self.view.joint)
            parts = self.shard.parts or (self.shard,)
            self._sites = [System(problem, part, *self._how) for part in parts]
        return self._sites

    def common(self, theta: Tensor) -> Tensor:
        """Of theta what the problem's prior is of, with zeros for the rest: all."""
        return theta

    def on(self, rows: Sequence[Rows]) -> "System":
        """Another system of the same party: these rows instead of its own."""
        shard = replace(self.shard, rows=tuple(rows))
        return System(self.problem, shard, *self._how)

    @property
    def squares(self) -> bool:
        """Whether the loss is 1/2 |r|^2."""
        return all(block.squares for block in self.blocks)

    def residual(self, theta: Tensor) -> Tensor:
        """Weighted residual r, shape [n]."""
        return self.residuals(theta.unsqueeze(0))[0]

    def residuals(self, thetas: Tensor) -> Tensor:
        """Weighted residuals [C, n] at thetas [C, p]; faster than one by one."""
        parts = [block.residuals(thetas) for block in self.blocks]
        return torch.cat(parts, dim=1) if parts else thetas.new_zeros(len(thetas), 0)

    def judged(self, thetas: Tensor, at: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Losses [C] and weighted residuals [C, n] at thetas [C, p].

        Args:
            thetas: Where.
            at: Where the root of the information is taken by which residuals are
                divided, shape [p]; None for each of thetas itself.
        """
        if self.squares:
            r = self.residuals(thetas)
            return r.square().sum(1) / 2, r
        parts = [block.judged(thetas, at) for block in self.blocks]
        losses = torch.stack([loss for loss, _ in parts]).sum(0)
        return losses, torch.cat([r for _, r in parts], dim=1)

    def loss(self, theta: Tensor) -> float:
        """1/2 |r|^2, or half the deviance."""
        if not self.squares:
            return float(self.losses(theta[None])[0])
        r = self.residual(theta)
        return float(r @ r) / 2

    def losses(self, thetas: Tensor) -> Tensor:
        """The loss at each of thetas [C, p], shape [C]."""
        if self.squares:
            return self.residuals(thetas).square().sum(1) / 2
        return torch.stack([block.losses(thetas) for block in self.blocks]).sum(0)

    def slope(self, theta: Tensor) -> Tensor:
        """Gradient of the loss, shape [p]; that of ``linearise`` to rounding, faster.

        It takes one backward, however many residuals a point has.
        """
        parts = (block.slope(theta) for block in self.blocks)
        return sum(parts, torch.zeros_like(theta))

    def linearise(self, theta: Tensor) -> Linearisation:
        """r and its derivative at theta."""
        return self._joined(theta, [*self._linear(theta)])

    def parts(self, theta: Tensor, rows: int) -> Iterator[Linearisation]:
        """The linearisation in pieces of at most ``rows`` rows, or one chunk.

        Pieces are computed one by one, so that the Jacobian of a large shard is never
        in memory as a whole.
        """
        piece: list[Linear] = []
        for linear in self._linear(theta):
            if piece and sum(len(p.residual) for p in (*piece, linear)) > rows:
                yield self._joined(theta, piece)
                piece = []
            piece.append(linear)
        if piece:
            yield self._joined(theta, piece)

    def _linear(self, theta: Tensor) -> Iterator[Linear]:
        """The blocks linearised at theta, one by one."""
        return (block.linearise(theta) for block in self.blocks)

    def _joined(self, theta: Tensor, blocks: list[Linear]) -> Linearisation:
        parts = [block.residual for block in blocks]
        r = torch.cat(parts) if parts else theta.new_zeros(0)
        return Linearisation(r, blocks, self.size)


def bind(problem: Problem, rows: Rows) -> Block:
    """The fastest kind of block that fits the network and the residual."""
    jets = problem.network.jets
    if jets is None:
        return AutogradBlock(problem, rows)
    plain = not problem.terms[rows.term].autograd and jets.transform is None
    fast = JetBlock(problem, rows) if plain else TaylorBlock(problem, rows)
    if jets.order is not None and fast.layout.order > jets.order:
        return AutogradBlock(problem, rows)
    if plain:
        return fast
    general = AutogradBlock(problem, rows)
    # A residual that detaches u or branches on it may hide from random jets. Near the
    # start and not at it: by symmetry a residual may vanish there but for rounding.
    generator = Generator().manual_seed(0)
    theta = problem.network.init(generator, torch.float64)
    theta += 0.1 * torch.randn(len(theta), generator=generator, device="cpu")
    expected, found = (b.linearise(theta.to(rows.points)) for b in (general, fast))
    close = 1e-8 if rows.points.dtype == torch.float64 else 1e-4
    pairs = [(found.residual, expected.residual)]
    pairs.append((found.vjp(found.residual), expected.vjp(found.residual)))
    agree = all(bool((a - b).norm() <= close * b.norm()) for a, b in pairs)
    return fast if agree else general
