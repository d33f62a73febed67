"""Rows of any network and any residual, by torch.autograd."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import vmap

from fedsciml.problem import Problem, Rows
from fedsciml.residual.block import Block, by_autograd

PRODUCTS = 64
"""Rows of J computed at once where each is a product with the autograd graph."""


class AutogradBlock(Block):
    """Rows of any differentiable network and any residual written with torch."""

    def __init__(self, problem: Problem, rows: Rows) -> None:
        self._problem, self.rows = problem, rows

    def evaluate(self, theta: Tensor) -> Tensor:
        """Predictors [q, n] at one theta [p], or at n of them, one a point."""
        problem, network = self._problem, self._problem.network

        def values(x: Tensor) -> Tensor:
            numbers = network.numbers(theta)
            if theta.ndim == 1:
                found = network(theta, x)
                return torch.cat([found, numbers.expand(len(x), -1)], -1)
            sides = len(x) // len(theta)
            pairs = theta.repeat(sides, 1), x
            found = vmap(lambda t, y: network(t, y.unsqueeze(0)).squeeze(0))(*pairs)
            return torch.cat([found, numbers.repeat(sides, 1)], -1)

        # The empty sum puts a residual without u on the graph of theta.
        return by_autograd(problem, self.rows, values) + theta[:0].sum()

    @torch.enable_grad()
    def predictors(self, thetas: Tensor) -> Tensor:
        """What the residual returns, [C, q, n] at thetas [C, p]."""
        return torch.stack([self.evaluate(t).detach() for t in thetas.detach()])

    def weighted(self, found: Tensor, z: Tensor) -> Tensor:
        """Rows [q', n] whose derivative is J, of predictors on the graph of theta.

        S is taken at z; both are [q, n].
        """
        mixed = found if self.squares else self.mixed(z, found)
        return mixed * self.rows.weights

    def linearise(self, theta: Tensor) -> "AutogradLinear":
        """The rows, linearised at theta [p]: the autograd graph of the residual."""
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            found = self.evaluate(leaf)
            z = found.detach()
            graph = self.weighted(found, z).flatten()
        r, loss = self.linear(z)
        return AutogradLinear(r, graph, leaf, self, z, loss)

    def slope(self, theta: Tensor) -> Tensor:
        """Gradient [p] of the loss at theta [p]."""
        leaf = theta.detach().clone().requires_grad_()
        with torch.enable_grad():
            found = self.evaluate(leaf)
            score = self.score(found.detach())
            (slope,) = torch.autograd.grad(found, leaf, score)
        return slope


@dataclass(frozen=True, eq=False, repr=False)
class AutogradLinear:
    """Rows linearised by torch.autograd; q residuals at each of n points.

    Attributes:
        residual: Weighted residuals, shape [q n].
        graph: What changes as they do, on the autograd graph of ``theta``: of squares
            the same.
        theta: Where they are linearised, shape [p].
        block: The rows.
        predictors: There, shape [q, n].
        loss: Half the weighted deviance; None where it is that of squares.
    """

    residual: Tensor
    graph: Tensor
    theta: Tensor
    block: AutogradBlock
    predictors: Tensor
    loss: Tensor | None = None

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
                found = self.block.evaluate(copies)
                sums = self.block.weighted(found, self.predictors).sum(1)
            for q, total in enumerate(sums):
                (rows,) = torch.autograd.grad(total, copies, retain_graph=True)
                out[q * n : (q + 1) * n] = rows
        except RuntimeError:  # for example, `if x.max() > 5` in the network
            self.products(out)

    def products(self, out: Tensor) -> None:
        """Write the first rows of J into ``out`` by products e_i^T J."""
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
        """J v [n], as the derivative of w -> v . J^T w; of columns [p, k] too."""
        if v.ndim > 1:
            return torch.stack([self.jvp(column) for column in v.unbind(1)], dim=1)
        w = torch.zeros_like(self.graph).requires_grad_()
        with torch.enable_grad():
            (back,) = torch.autograd.grad(
                self.graph, self.theta, w, create_graph=True, retain_graph=True
            )
        (result,) = torch.autograd.grad(back, w, v, retain_graph=True)
        return result

    def vjp(self, w: Tensor) -> Tensor:
        """J^T w, shape [p]; of columns [n, k] too."""
        if w.ndim > 1:
            return torch.stack([self.vjp(column) for column in w.unbind(1)], dim=1)
        (result,) = torch.autograd.grad(self.graph, self.theta, w, retain_graph=True)
        return result
