"""Kronecker factors against dense blocks and naive jets."""

import math
from dataclasses import replace

import pytest
import torch
from cases import CASES, classes, draw, given, theta
from reference import along, relative
from torch import Generator, Tensor
from torch.nn import functional

from fedsciml.collocation import strips
from fedsciml.likelihoods import Categorical
from fedsciml.network import (
    MLP,
    ConvNet,
    Convolution,
    Dense,
    GroupNorm,
    Jet,
    Partial,
    Pool,
)
from fedsciml.network.layers import Layer
from fedsciml.problem import Problem, Row, Term, numbered
from fedsciml.residual import System, kronecker
from fedsciml.residual.kronecker import Factors, joined, matrices, shapes

JETS = ["scalar", "mixed", "system", "hard", "beam"]


def found(problem: Problem, client: int | None = None) -> tuple[System, Factors]:
    """The factors of a client, or of all rows."""
    shard = problem.pooled() if client is None else problem.shards()[client]
    system = System(problem, shard)
    return system, kronecker.factors(system, system.linearise(theta(problem)))


def regression(points: Tensor) -> Problem:
    term = Term("data", given, points, target=0.5, weight=3.0)
    return Problem("data", MLP((2, 4, 3, 1)), [term], strips([0, 1]), coordinates="xy")


def test_a_single_row_of_a_regression_is_exact() -> None:
    problem = regression(draw(1, 2))
    system, factors = found(problem)
    jacobian = system.linearise(theta(problem)).jacobian()
    gradients = matrices(shapes(problem.network), jacobian[0])
    for a, g, row in zip(factors.inputs, factors.outputs, gradients, strict=True):
        dense = torch.outer(row.flatten(), row.flatten())
        torch.testing.assert_close(torch.kron(g[0], a[0]), dense, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", JETS)
def test_products_are_those_of_the_dense_matrix(name: str) -> None:
    problem = CASES[name]()
    _, factors = found(problem)
    blocks = [
        sum(torch.kron(g, a) for g, a in zip(gs, as_, strict=True))
        for gs, as_ in zip(factors.outputs, factors.inputs, strict=True)
    ]
    dense = torch.block_diag(*blocks)
    v = torch.randn(len(dense), generator=Generator().manual_seed(0)).double()
    flat = torch.cat([m.flatten() for m in matrices(shapes(problem.network), v)])
    product = matrices(
        shapes(problem.network), factors.product(v, shapes(problem.network))
    )
    assert relative(torch.cat([m.flatten() for m in product]), dense @ flat) < 1e-13


@pytest.mark.parametrize("name", JETS)
def test_factors_are_symmetric_and_positive_semidefinite(name: str) -> None:
    problem = CASES[name]()
    terms, widths = len(problem.terms), problem.network.widths
    _, factors = found(problem, 1)
    assert [a.shape for a in factors.inputs] == [
        (terms, width + 1, width + 1) for width in widths[:-1]
    ]
    assert [g.shape for g in factors.outputs] == [
        (terms, width, width) for width in widths[1:]
    ]
    for stack in (*factors.inputs, *factors.outputs):
        torch.testing.assert_close(stack, stack.mT, rtol=1e-13, atol=1e-13)
        values = torch.linalg.eigvalsh(stack)
        assert float(values.min()) > -1e-13 * float(values.max())


def test_inputs_are_second_moments_of_the_layers_jets() -> None:
    problem = CASES["scalar"]()  # its equation reads u and u_xx, so u_x is there too
    system, factors = found(problem)
    start = theta(problem)
    layers = problem.network.layers(start)

    def hidden(depth: int, x: Tensor) -> Tensor:
        for weight, bias in layers[:depth]:
            x = torch.tanh(weight @ x + bias)
        return x

    for depth, moments in enumerate(factors.inputs):
        value = torch.func.vmap(lambda x, d=depth: hidden(d, x))
        first = along(lambda x, d=depth: hidden(d, x), 0)
        jets = [value, torch.func.vmap(first), torch.func.vmap(along(first, 0))]
        for term, channels in enumerate((jets, jets[:1])):
            expected = torch.zeros_like(moments[term])
            points = system.shard.rows[term].points
            for order, jet in enumerate(channels):
                bias = torch.full_like(points, float(order == 0))
                a = torch.cat([jet(points), bias], 1)
                expected += a.mT @ a
            assert relative(moments[term], expected) < 1e-13


def test_outputs_are_mean_second_moments_of_the_cotangents() -> None:
    problem = CASES["scalar"]()
    system, factors = found(problem)
    inner, ends = system.shard.rows
    u = problem.network(theta(problem), inner.points)[:, 0]
    # -u_xx + u^3 - u - 1 by u, u_x and u_xx: three channels a point; at the ends one.
    by_value = 3 * u**2 - 1
    expected = inner.weight**2 * float((by_value**2 + 1).mean()) / 3
    assert float(factors.outputs[-1][0]) == pytest.approx(expected, rel=1e-13)
    assert float(factors.outputs[-1][1]) == pytest.approx(ends.weight**2, rel=1e-13)


def test_a_term_without_rows_has_no_factors() -> None:
    _, factors = found(CASES["scalar"](), 1)
    assert not any(float(a[1].abs().max()) for a in (*factors.inputs, *factors.outputs))


def test_merged_factors_are_the_sum_of_the_matrices() -> None:
    problem = CASES["scalar"]()
    parts = [found(problem, client)[1] for client in range(3)]
    v = torch.linspace(-1, 1, problem.network.size, dtype=torch.float64)
    layers = shapes(problem.network)
    expected = sum(part.product(v, layers) for part in parts)
    merged = kronecker.merge(parts).product(v, layers)
    torch.testing.assert_close(merged, expected, rtol=1e-12, atol=1e-12)


def test_matrices_of_a_vector_join_to_the_vector() -> None:
    widths = (3, 4, 2)
    vector = torch.arange(26.0)
    layers = shapes(MLP(widths))
    parts = matrices(layers, vector)
    weight, bias = MLP(widths).layers(vector)[1]
    assert torch.equal(parts[1][:, :-1], weight)
    assert torch.equal(parts[1][:, -1], bias)
    assert torch.equal(joined(layers, parts), vector)


def images(layers: list[Layer | str], shape: tuple[int, int, int], n: int) -> Problem:
    """n images, and their classes by a convolutional network."""
    network = ConvNet(shape, [*layers, Dense(3)])
    d = math.prod(shape)

    def logits(u: Jet, row: Row) -> Tensor:
        return u.values

    labels, told = torch.arange(n).double() % 3, Categorical()
    term = Term("classes", logits, draw(n, d), labels, likelihood=told)
    names = numbered("x", d)
    return Problem("images", network, [term], strips([0, 1]), names, outputs="abc")


def test_a_single_image_of_one_patch_is_exact() -> None:
    layers: list[Layer | str] = [Convolution(4, padding="valid", bias=False), "tanh"]
    problem = images(layers, (2, 3, 3), 1)
    system, factors = found(problem)
    jacobian = system.linearise(theta(problem)).jacobian()
    rows = [matrices(shapes(problem.network), row) for row in jacobian]
    for k, (a, g) in enumerate(zip(factors.inputs, factors.outputs, strict=True)):
        several = torch.stack([row[k].flatten() for row in rows])
        dense = several.mT @ several  # the same input for both residuals
        assert relative(torch.kron(g[0], a[0]), dense) < 1e-13


def test_patches_and_pixels_are_the_pairs_of_a_convolution() -> None:
    problem = images([Convolution(4), "tanh", Pool(2)], (2, 4, 4), 5)
    system, factors = found(problem)
    weight, bias, *_ = [p for one in problem.network.split(theta(problem)) for p in one]
    (rows,) = system.shard.rows
    x = rows.points.unflatten(1, (2, 4, 4))
    patches = functional.unfold(x, 3, padding=1).mT.flatten(0, 1)
    patches = torch.cat([patches, patches.new_ones(len(patches), 1)], 1)
    assert relative(factors.inputs[0][0], patches.mT @ patches) < 1e-13

    def residuals(z: Tensor) -> Tensor:
        """S^T of the logits, from what the convolution gives at all pixels."""
        h = functional.max_pool2d(z.tanh(), 2).flatten(1)
        *_, (out, shift) = problem.network.split(theta(problem))
        logits = h @ out.mT + shift
        root = Categorical().transposed_root(logits.detach().mT, None, logits.mT)
        return root * rows.weight

    z = functional.conv2d(x, weight, bias, padding=1).requires_grad_()
    expected = torch.zeros(4, 4, dtype=z.dtype)
    for part in residuals(z):
        (g,) = torch.autograd.grad(part.sum(), z, retain_graph=True)
        pixels = g.movedim(1, -1).flatten(0, 2)
        expected += pixels.mT @ pixels / len(pixels)
    assert relative(factors.outputs[0][0], expected) < 1e-13


@pytest.mark.parametrize("convolutional", [True, False])
def test_factors_of_the_last_layers_are_theirs_alone(convolutional: bool) -> None:
    problem = classes()
    if convolutional:
        problem = images([Convolution(4), GroupNorm(2), "tanh"], (1, 3, 3), 6)
    network = Partial(problem.network, theta(problem))
    tuned = replace(problem, network=network)
    system = System(tuned, tuned.pooled())
    start = theta(problem)[-network.size :]
    a, g = kronecker.factors(system, system.linearise(start))
    (level,) = problem.network.levels(theta(problem), system.shard.rows[0].points)[-1:]
    level = torch.cat([level, level.new_ones(len(level), 1)], 1)
    assert relative(a[0][0], level.mT @ level) < 1e-13
    assert [len(a), len(g)] == [1, 1]


def test_a_normalisation_has_no_kronecker_factors() -> None:
    problem = images([Convolution(4), GroupNorm(2), "tanh"], (1, 3, 3), 2)
    with pytest.raises(ValueError, match="a ConvNet without GroupNorm"):
        found(problem)


@pytest.mark.parametrize("name", ["module", "inverse"])
def test_what_carries_no_jets_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"need an MLP.*term 'pde'.*Use a diagonal"):
        found(CASES[name]())
