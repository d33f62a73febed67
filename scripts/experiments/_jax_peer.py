"""The program at the other end of ``_peer``: residuals, Jacobians and steps in JAX.

Runs in an environment of its own (``make peer``); reads requests and writes answers.
A residual is sign * Laplacian(u) - target, or u - target, times a weight, of a tanh
network u; theta and the order of the rows are those of ``fedsciml``.

The Laplacian is a forward Laplacian (Li et al., Nature Machine Intelligence 6, 2024).
For 900 rows and p = 1185, vmap(grad) on it takes 3.5 ms of one core, on nested jvp 8.2
and on the trace of the Hessian 15; vmap(jacfwd) takes 7 s.
"""

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from experiments._pipes import receive, send

Array = Any
"""A ``jax.Array``: JAX is not there where types are checked."""

Rows = tuple[Array, Array]
"""Residual [n] and Jacobian [n, p]."""

BLOCKS = 8
"""Of columns of J in J^T J."""

Widths = list[int]
Layers = list[tuple[Array, Array]]

Block = Callable[[Array, Array, Array], Rows]
"""Rows of one term at theta [p], points [n, d] and targets [n]."""

Way = Callable[[float, float, Widths], Block]
"""Makes a ``Block`` for a sign and a weight."""

Term = tuple[float, float, Array, Array]
"""Sign of the Laplacian, 0 for values; weight; points [n, d]; targets [n]."""

PIECE = 50
"""Points at once, so that a piece stays in the cache, at most; 20 to 200 take as
long."""


def layers(theta: Array, widths: Widths) -> Layers:
    """Weights [out, in] and biases [out] of the layers, views of theta [p]."""
    found, at = [], 0
    for a, b in pairwise(widths):
        weight, at = theta[at : at + a * b].reshape(b, a), at + a * b
        found.append((weight, theta[at : at + b]))
        at += b
    return found


def bend(jets: Array, bias: Array) -> Array:
    """Jets [K, ...] after tanh: of the value, its d slopes, and the Laplacian."""
    h = jnp.tanh(jets[0] + bias)
    if len(jets) == 1:
        return h[None]
    f, slopes = 1 - h * h, jets[1:-1]
    laplacian = f * jets[-1] - 2 * h * f * jnp.square(slopes).sum(0)
    return jnp.concatenate([h[None], f * slopes, laplacian[None]])


def residual(
    sign: float, weight: float, weights: Layers, x: Array, target: Array
) -> Array:
    """Weighted residual at a point x [d]."""
    *hidden, (w, c) = weights
    if not sign:
        for matrix, bias in hidden:
            x = jnp.tanh(matrix @ x + bias)
        return weight * ((w @ x + c)[0] - target)
    h, slopes, laplacian = x, jnp.eye(len(x)), jnp.zeros_like(x)
    for matrix, bias in hidden:
        h, slopes = jnp.tanh(matrix @ h + bias), slopes @ matrix.T
        f = 1 - h * h
        laplacian = f * (matrix @ laplacian) - 2 * h * f * jnp.square(slopes).sum(0)
        slopes = f * slopes
    return weight * (sign * (w @ laplacian)[0] - target)


def by_grad(sign: float, weight: float, widths: Widths) -> Block:
    """vmap of the gradient by theta."""

    def f(theta: Array, x: Array, y: Array) -> Array:
        return residual(sign, weight, layers(theta, widths), x, y)

    return jax.vmap(jax.value_and_grad(f), (None, 0, 0))


def by_jacrev(sign: float, weight: float, widths: Widths) -> Block:
    """vmap of jacrev."""

    def f(theta: Array, x: Array, y: Array) -> tuple[Array, Array]:
        value = residual(sign, weight, layers(theta, widths), x, y)
        return value, value

    def block(theta: Array, x: Array, y: Array) -> Rows:
        slopes, values = jax.vmap(jax.jacrev(f, has_aux=True), (None, 0, 0))(
            theta, x, y
        )
        return values, slopes

    return block


def by_layers(sign: float, weight: float, widths: Widths) -> Block:
    """vmap of the gradient by each weight and bias, then concatenated."""
    both = jax.vmap(jax.value_and_grad(partial(residual, sign, weight)), (None, 0, 0))

    def block(theta: Array, x: Array, y: Array) -> Rows:
        values, slopes = both(layers(theta, widths), x, y)
        flat = [part.reshape(len(x), -1) for layer in slopes for part in layer]
        return values, jnp.concatenate(flat, 1)

    return block


def by_products(sign: float, weight: float, widths: Widths) -> Block:
    """All points at once: a row of a layer is a product of what goes in and comes back.

    As this library does it; in JAX the cotangents of a layer's jets are those of
    zeros that are added to them.
    """

    def block(theta: Array, x: Array, y: Array) -> Rows:
        *hidden, (w, c) = layers(theta, widths)
        n, d = x.shape
        start = x[None]
        if sign:
            slopes = jnp.broadcast_to(jnp.eye(d)[:, None], (d, n, d))
            start = jnp.concatenate([start, slopes, jnp.zeros((1, n, d))])

        def forward(zeros: list[Array]) -> tuple[Array, list[Array]]:
            jets, inputs = start, []
            for (matrix, bias), zero in zip(hidden, zeros, strict=True):
                inputs.append(jets)
                jets = bend(jets @ matrix.T + zero, bias)
            top = sign * (jets[-1] @ w[0]) if sign else jets[0] @ w[0] + c
            return weight * (top - y), [*inputs, jets]

        zeros = [jnp.zeros((len(start), n, len(bias))) for _, bias in hidden]
        values, pull, inputs = jax.vjp(forward, zeros, has_aux=True)
        (bars,) = pull(jnp.ones(n))
        columns = []
        for jets, bar in zip(inputs, bars, strict=False):
            product = jnp.einsum("kno,kni->noi", bar, jets)
            columns += [product.reshape(n, -1), bar[0]]
        last = inputs[-1][-1] * (weight * (sign or 1.0))
        ends = jnp.full((n, 1), 0.0 if sign else weight)
        return values, jnp.concatenate([*columns, last, ends], 1)

    return block


def whole(way: Way, widths: Widths, terms: list[Term], theta: Array) -> Rows:
    """Residual and Jacobian of all terms, one below the other."""
    parts = [way(sign, weight, widths)(theta, x, y) for sign, weight, x, y in terms]
    if len(parts) == 1:
        return parts[0]
    r, jacobian = zip(*parts, strict=True)
    return jnp.concatenate(r), jnp.concatenate(jacobian)


def pieces(way: Way, widths: Widths, terms: list[Term], theta: Array) -> Rows:
    """The same piece by piece, each in its place at once."""
    counts = [len(x) for _, _, x, _ in terms]
    size = max(k for k in range(1, PIECE + 1) if not any(n % k for n in counts))
    points = jnp.concatenate([x for _, _, x, _ in terms])
    blocks = [way(sign, weight, widths) for sign, weight, _, _ in terms]
    of = [t for t, n in enumerate(counts) for _ in range(n // size)]

    def piece(given: tuple[Array, Array, Array]) -> Rows:
        term, x, y = given
        if len(blocks) == 1:
            return blocks[0](theta, x, y)
        return jax.lax.switch(term, blocks, theta, x, y)

    targets = jnp.concatenate([y for _, _, _, y in terms])
    cut = points.reshape(-1, size, points.shape[1]), targets.reshape(-1, size)
    r, jacobian = jax.lax.map(piece, (jnp.array(of), *cut))
    return r.reshape(-1), jacobian.reshape(-1, len(theta))


WAYS = {
    "vmap(grad)": by_grad,
    "vmap(jacrev)": by_jacrev,
    "vmap(grad) by layers": by_layers,
    "products by layers": by_products,
}
ROWS: dict[str, Callable[..., Rows]] = {
    name + words: partial(put, way)
    for name, way in WAYS.items()
    for words, put in (("", whole), (", in pieces", pieces))
}


def cholesky(jacobian: Array, r: Array, mu: float) -> Array:
    """D of (J^T J + mu) D = -J^T r."""
    return solved(jacobian.T @ jacobian, jacobian.T @ r, mu)


def half(jacobian: Array, r: Array, mu: float) -> Array:
    """The same; J^T J by blocks of columns, those above the diagonal left out."""
    edges = [jacobian.shape[1] * i // BLOCKS for i in range(BLOCKS + 1)]
    columns = [jacobian[:, a:b] for a, b in pairwise(edges)]
    gramian = [
        [
            a.T @ b if j <= i else jnp.zeros((a.shape[1], b.shape[1]))
            for j, b in enumerate(columns)
        ]
        for i, a in enumerate(columns)
    ]
    return solved(jnp.block(gramian), jacobian.T @ r, mu)


def solved(gramian: Array, gradient: Array, mu: float) -> Array:
    """D of a gramian, of which the lower half is read."""
    damped = gramian + mu * jnp.eye(len(gramian))
    factor = jax.scipy.linalg.cho_factor(damped, lower=True)
    return -jax.scipy.linalg.cho_solve(factor, gradient)


def qr(jacobian: Array, r: Array, mu: float) -> Array:
    """D of min |J D + r|^2 + mu |D|^2, by the QR of [J; sqrt(mu)]."""
    p = jacobian.shape[1]
    q, triangle = jnp.linalg.qr(jnp.concatenate([jacobian, jnp.eye(p) * mu**0.5]))
    return -jax.scipy.linalg.solve_triangular(triangle, q[: len(r)].T @ r)


def triangle(jacobian: Array, r: Array, mu: float) -> Array:
    """The same by R of [J, -r; sqrt(mu), 0] alone: Q is not formed."""
    p = jacobian.shape[1]
    above = jnp.concatenate([jacobian, -r[:, None]], 1)
    both = jnp.concatenate([above, jnp.eye(p, p + 1) * mu**0.5])
    found = jnp.linalg.qr(both, mode="r")
    return jax.scipy.linalg.solve_triangular(found[:p, :p], found[:p, p])


def step(
    solve: Callable[..., Array],
    rows: Callable[..., Rows],
    widths: Widths,
    terms: list[Term],
    theta: Array,
    mu: float,
) -> tuple[Array, Array]:
    """A step D [p] of Levenberg-Marquardt, and the loss at theta + D."""
    r, jacobian = rows(widths, terms, theta)
    move = solve(jacobian, r, mu)
    there = layers(theta + move, widths)
    moved = [
        jax.vmap(partial(residual, sign, weight), (None, 0, 0))(there, x, y)
        for sign, weight, x, y in terms
    ]
    return move, sum(part @ part for part in moved) / 2


BEST = "products by layers, in pieces"
"""For many rows, in a step."""

STEPS = {
    "Cholesky": cholesky,
    "Cholesky, half of J^T J": half,
    "QR": qr,
    "QR, R alone": triangle,
}


def main() -> None:
    """Answer until the requests end.

    The first request is ``widths`` and, by term, ``signs`` and ``weights``, with its
    points and targets. The others name a ``way``, with theta, and mu of a step; the
    answer has the ``seconds`` of this process that it took, and where it was to
    ``tell`` them, the arrays. A way is compiled where it is asked for first.
    """
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what others print is no message
    head, arrays = receive(source)
    widths, columns = head["widths"], iter(map(jnp.asarray, arrays))
    numbers = zip(head["signs"], head["weights"], strict=True)
    # Signs and weights are constants of the compiled code, points and targets are not.
    terms = [(sign, weight, next(columns), next(columns)) for sign, weight in numbers]
    data = [term[2:] for term in terms]

    def made(call: Callable[..., Any]) -> Callable[..., Any]:
        def on(data: list[tuple[Array, Array]], *arguments: Array) -> tuple[Array, ...]:
            with_points = [(*t[:2], *d) for t, d in zip(terms, data, strict=True)]
            return tuple(call(widths, with_points, *arguments))

        return partial(jax.jit(on), data)

    known = {name: made(call) for name, call in ROWS.items()}
    best = ROWS[BEST]
    known |= {name: made(partial(step, solve, best)) for name, solve in STEPS.items()}
    send(sink, {"version": jax.__version__, "ways": [*ROWS], "steps": [*STEPS]}, [])
    while True:
        try:
            head, arrays = receive(source)
        except EOFError:
            return
        arguments = [jnp.asarray(array) for array in arrays]
        begin = time.process_time()
        found = jax.block_until_ready(known[head["way"]](*arguments))
        seconds = time.process_time() - begin
        send(sink, {"seconds": seconds}, found if head["tell"] else [])


if __name__ == "__main__":
    main()
