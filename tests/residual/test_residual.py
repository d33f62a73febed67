"""The weighted residual and its linearisation, by every path."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import CASES, classes, draw, given, scalar, theta
from reference import jacobian, relative, residual
from torch import Generator, Tensor

from fedsciml.collocation import strips
from fedsciml.network import MLP, ModuleNetwork, Network
from fedsciml.network.jet import Jet
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Row, Term
from fedsciml.residual import AutogradBlock, JetBlock, System, TaylorBlock

FUNCTIONAL = [name for name in CASES if name != "plain"]
"""Cases that torch.func can differentiate: not those that call torch.autograd."""


def pooled(problem: Problem, **options: int) -> System:
    """The system of all rows."""
    return System(problem, problem.pooled(), **options)


def random(n: int, seed: int) -> Tensor:
    """A standard normal vector."""
    generator = Generator().manual_seed(seed)
    return torch.randn(n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_residual_and_jacobian_are_those_of_torch_func(name: str) -> None:
    problem = CASES[name]()
    start = theta(problem)
    linear = pooled(problem).linearise(start)
    expected = residual(problem, problem.pooled(), start)
    # Measured at most: r 4e-16, J 2.2e-16.
    assert relative(linear.residual, expected) < 1e-14
    assert relative(pooled(problem).residual(start), expected) < 1e-14
    dense = jacobian(problem, problem.pooled(), start)
    assert relative(linear.jacobian(), dense) < 1e-13


class General:
    """A network of which only the general path knows the parameters' place."""

    def __init__(self, network: Network) -> None:
        self.size, self.init, self._network = network.size, network.init, network

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._network(theta, x)


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_general_path_equals_the_jet_path(name: str) -> None:
    problem = CASES[name]()
    network: Network = General(problem.network)
    if isinstance(problem.network, Parallel):
        parts = [General(part) for part in problem.network.networks]
        network = replace(problem.network, networks=parts)
    general = replace(problem, network=network)
    start = theta(problem)
    fast, slow = pooled(problem).linearise(start), pooled(general).linearise(start)
    assert all(isinstance(b, AutogradBlock) for b in pooled(general).blocks)
    assert relative(fast.residual, slow.residual) < 1e-14
    assert relative(fast.jacobian(), slow.jacobian()) < 1e-13
    v, w = random(problem.network.size, 1), random(len(fast.residual), 2)
    assert relative(fast.jvp(v), slow.jvp(v)) < 1e-13
    assert relative(fast.vjp(w), slow.vjp(w)) < 1e-13


@pytest.mark.parametrize("name", [n for n in FUNCTIONAL if n != "module"])
def test_residual_differentiated_by_itself_equals_the_jet_path(name: str) -> None:
    problem = CASES[name]()
    own = replace(problem, terms=[replace(t, autograd=True) for t in problem.terms])
    start = theta(problem)
    fast, slow = pooled(problem).linearise(start), pooled(own).linearise(start)
    assert all(isinstance(b, TaylorBlock) for b in pooled(own).blocks)
    assert relative(fast.residual, slow.residual) < 1e-14
    assert relative(fast.jacobian(), slow.jacobian()) < 1e-13


def test_residual_by_plain_autograd_equals_the_one_by_jets() -> None:
    jets, plain = CASES["scalar"](), CASES["plain"]()
    start = theta(jets)
    a, b = pooled(jets).linearise(start), pooled(plain).linearise(start)
    first, second = pooled(plain).blocks
    assert (type(first), type(second)) == (TaylorBlock, JetBlock)
    assert isinstance(first, TaylorBlock)
    assert first.layout.channels == (((),), ((0,),), ((0, 0),))
    assert relative(a.residual, b.residual) < 1e-14
    assert relative(a.jacobian(), b.jacobian()) < 1e-13


def test_a_branch_that_the_start_does_not_take_is_found() -> None:
    def steep(u: Jet, row: Row) -> Tensor:
        (slope,) = torch.autograd.grad(u.value.sum(), row.points, create_graph=True)
        return u.value - torch.relu(slope[:, 0] - 50)

    terms = [Term("steep", steep, draw(8, 1), autograd=True)]
    problem = Problem("steep", MLP((1, 4, 1)), terms, strips([0, 1]))
    (block,) = pooled(problem).blocks
    assert isinstance(block, TaylorBlock)
    start = 20 * theta(problem)
    u = problem.solution(start, draw(8, 1))
    expected = (u.value - torch.relu(u.x - 50)) / 8**0.5
    assert (u.x > 50).any()
    assert relative(block.linearise(start).residual, expected) < 1e-14


def one_sided(u: Tensor, u_x: Tensor) -> Tensor:
    return torch.relu(-u_x - 0.5)


def switched(u: Tensor, u_x: Tensor) -> Tensor:
    return torch.relu(-u - 0.5) * u_x


def twice_one_sided(u: Tensor, u_x: Tensor) -> Tensor:
    return torch.relu(-u) * torch.relu(u_x)


@pytest.mark.parametrize("rows", [1, 2, 4, 20])
@pytest.mark.parametrize("branch", [one_sided, switched, twice_one_sided])
def test_few_rows_do_not_hide_a_branch(
    rows: int, branch: Callable[[Tensor, Tensor], Tensor]
) -> None:
    def residual(u: Jet, row: Row) -> Tensor:
        (slope,) = torch.autograd.grad(u.value.sum(), row.points, create_graph=True)
        return branch(u.value, slope[:, 0])

    points = draw(rows, 1)
    terms = [Term("branch", residual, points, autograd=True)]
    problem = Problem("branch", MLP((1, 4, 1)), terms, strips([0, 1]))
    # The start, at which the kind of block is chosen, may lie on the other branch.
    system = pooled(problem)
    taken = 0
    for seed in range(20):
        theta = 3 * random(problem.network.size, seed)
        u = problem.solution(theta, points)
        expected = branch(u.value, u.x) / rows**0.5
        taken += bool((expected != 0).any())
        # Rounding of jets of order 10.
        assert (system.residual(theta) - expected).abs().max() < 1e-13
    assert taken


def test_residual_that_hides_a_derivative_takes_the_general_path() -> None:
    def hidden(u: Jet, row: Row) -> Tensor:
        (slope,) = torch.autograd.grad(u.value.sum(), row.points, create_graph=True)
        return u.value + slope[:, 0].detach() ** 2

    terms = [Term("hidden", hidden, draw(8, 1), autograd=True)]
    problem = Problem("hidden", MLP((1, 4, 1)), terms, strips([0, 1]))
    start = theta(problem)
    (block,) = pooled(problem).blocks
    assert isinstance(block, AutogradBlock)
    u = problem.solution(start, draw(8, 1))
    expected = (u.value + u.x**2) / 8**0.5
    assert relative(pooled(problem).residual(start), expected) < 1e-14


class Choosy(torch.autograd.Function):
    """The hyperbolic tangent; its backward pass branches on what it is given."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return z.tanh()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, bar: Tensor) -> Tensor:  # noqa: ANN401
        (h,) = ctx.saved_tensors
        return bar * (1 - h**2) if bar.abs().max() > 0 else torch.zeros_like(bar)


class Branching(torch.nn.Module):
    """One hidden layer; the branches are one function, so that both are known."""

    def __init__(self, choosy: bool) -> None:
        super().__init__()
        self.choosy = choosy
        self.first, self.last = torch.nn.Linear(2, 5), torch.nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        if z.max() > 5:
            return self.last(z.tanh())
        return self.last(Choosy.apply(z) if self.choosy else z.tanh())


@pytest.mark.parametrize("choosy", [False, True])
def test_a_network_that_branches_on_its_values_has_a_jacobian(choosy: bool) -> None:
    def pde(u: Jet, row: Row) -> Tensor:
        return u.x * u.value - u.t

    terms = [Term("pde", pde, draw(70, 2)), Term("data", given, draw(5, 2), target=0.5)]
    smooth = Problem("smooth", MLP((2, 5, 1)), terms, strips([0, 1]), coordinates="xt")
    branching = replace(smooth, network=ModuleNetwork(Branching(choosy)))
    start = theta(smooth)
    fast, slow = pooled(smooth).linearise(start), pooled(branching).linearise(start)
    assert relative(slow.residual, fast.residual) < 1e-14
    assert relative(slow.jacobian(), fast.jacobian()) < 1e-13


@pytest.mark.parametrize("name", CASES)
def test_jacobian_is_the_limit_of_differences(name: str) -> None:
    problem = CASES[name]()
    system, start = pooled(problem), theta(problem)
    v, h = random(problem.network.size, 1), 1e-5
    slope = (system.residual(start + h * v) - system.residual(start - h * v)) / (2 * h)
    # Of order h^2 times the third derivative, and 1e-16 / h. Measured at most 2.3e-9.
    assert relative(system.linearise(start).jvp(v), slope) < 1e-7


@pytest.mark.parametrize("name", CASES)
def test_products_with_j_are_those_of_the_explicit_jacobian(name: str) -> None:
    problem = CASES[name]()
    linear = pooled(problem).linearise(theta(problem))
    j = linear.jacobian()
    v, w = random(j.shape[1], 1), random(j.shape[0], 2)
    assert relative(linear.jvp(v), j @ v) < 1e-13
    assert relative(linear.vjp(w), w @ j) < 1e-13
    assert relative(linear.gradient, linear.residual @ j) < 1e-13
    assert linear.loss == pytest.approx(float(linear.residual.square().sum()) / 2)


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_gradient_is_that_of_torch_autograd(name: str) -> None:
    problem = CASES[name]()
    leaf = theta(problem).requires_grad_()
    loss = residual(problem, problem.pooled(), leaf).square().sum() / 2
    (expected,) = torch.autograd.grad(loss, leaf)
    linear = pooled(problem).linearise(leaf.detach())
    assert relative(linear.gradient, expected) < 1e-13


@pytest.mark.parametrize("name", [*CASES, "classes"])
def test_the_slope_is_the_gradient_of_the_linearisation(name: str) -> None:
    problem = classes() if name == "classes" else CASES[name]()
    start = theta(problem)
    expected = pooled(problem).linearise(start).gradient
    assert relative(pooled(problem, chunk=7).slope(start), expected) < 1e-13


@pytest.mark.parametrize("name", CASES)
def test_chunks_do_not_change_loss_gradient_and_gramian(name: str) -> None:
    problem = CASES[name]()
    start = theta(problem)
    whole = pooled(problem).linearise(start)
    parts = pooled(problem, chunk=4).linearise(start)
    assert len(parts.blocks) > len(whole.blocks)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-14)
    assert relative(parts.gradient, whole.gradient) < 1e-13
    j, k = whole.jacobian(), parts.jacobian()
    assert relative(k.mT @ k, j.mT @ j) < 1e-13
    if all(len(cotangents_of(b)) == 1 for b in whole.blocks):
        assert relative(k, j) < 1e-13  # with one residual a point the order is the same


def cotangents_of(block: object) -> list[object]:
    """The residuals per point of a linearised block, where it tells."""
    return getattr(block, "cotangents", [None])


def test_jacobian_is_written_into_the_given_tensor() -> None:
    problem = CASES["system"]()
    linear = pooled(problem).linearise(theta(problem))
    out = torch.empty(len(linear.residual), linear.size, dtype=torch.float64)
    assert linear.jacobian(out) is out
    assert torch.equal(out, linear.jacobian())


def test_single_precision_agrees_to_single_precision() -> None:
    problem = CASES["mixed"]()
    start = theta(problem)
    double = pooled(problem).linearise(start)
    system = System(problem, problem.pooled(), dtype=torch.float32)
    single = system.linearise(start.float())
    j = single.jacobian()
    assert j.dtype == torch.float32
    assert relative(j.double(), double.jacobian()) < 1e-5


@pytest.mark.parametrize("autograd", [False, True])
def test_residual_without_u_has_a_zero_jacobian(autograd: bool) -> None:
    def constant(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return row.x**2, u.x * 0 + row.x

    problem = Problem(
        "constant",
        MLP((1, 4, 1)),
        [
            Term("none", lambda u, row: row.x, draw(5, 1), autograd=autograd),
            Term("one of two", constant, draw(5, 1), autograd=autograd),
        ],
        strips([0, 1]),
    )
    start = theta(problem)
    linear = pooled(problem).linearise(start)
    assert not linear.jacobian().any()
    assert not linear.jvp(start).any()
    assert not linear.gradient.any()
    assert linear.loss > 0


def test_client_without_rows_of_a_term_has_no_such_rows() -> None:
    problem = scalar()
    middle = problem.shards()[1]
    assert len(middle.rows[1].points) == 0
    linear = System(problem, middle).linearise(theta(problem))
    n = len(middle.rows[0].points)
    assert linear.jacobian().shape == (n, problem.network.size)
    assert linear.jvp(theta(problem)).shape == (n,)


def test_shard_of_no_rows_is_a_system_of_no_equations() -> None:
    problem = scalar()
    shard = problem.shards()[1]
    empty = replace(
        shard, rows=tuple(replace(r, points=r.points[:0]) for r in shard.rows)
    )
    system, start = System(problem, empty), theta(problem)
    linear = system.linearise(start)
    assert system.loss(start) == linear.loss == 0
    assert linear.jacobian().shape == (0, linear.size)
    assert linear.jvp(start).shape == (0,)
    assert not linear.gradient.any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda u, row: u.x.mean(), r"one tensor \[n\].*shape \[\]"),
        (lambda u, row: u.values, r"for n = 3 points it returned shape \[3, 1\]"),
        (lambda u, row: (u.x, 0.0), "float"),
        (lambda u, row: None, "one tensor"),
        (lambda u, row: u.x - row.target, "reads row.target"),
    ],
)
@pytest.mark.parametrize("autograd", [False, True])
def test_residual_of_another_shape_is_refused(
    wrong: object, message: str, autograd: bool
) -> None:
    term = Term("bad", wrong, draw(5, 1), autograd=autograd)
    with pytest.raises(ValueError, match=f"'bad'.*{message}"):
        Problem("wrong", MLP((1, 4, 1)), [term], strips([0, 1]))


def test_misspelt_derivative_or_coordinate_is_named() -> None:
    for residual_of, message in [
        (lambda u, row: u.xz, "'xz' is no derivative"),
        (lambda u, row: u.value - row.t, "no 't'"),
    ]:
        term = Term("a", residual_of, draw(3, 1))
        with pytest.raises(ValueError, match=f"'a'.*{message}"):
            Problem("wrong", MLP((1, 4, 1)), [term], strips([0, 1]))


def test_target_of_several_columns_reaches_the_residual() -> None:
    def data(u: Jet, row: Row) -> tuple[Tensor, Tensor]:
        return u.value - row.target[:, 0], u.x - row.target[:, 1]

    x = draw(6, 1)
    problem = Problem(
        "sine and slope",
        MLP((1, 4, 1)),
        [
            Term("data", data, x, target=torch.cat([x.sin(), x.cos()], 1)),
            Term("given", given, x, target=x),
        ],
        strips([0, 1]),
    )
    start = theta(problem)
    expected = residual(problem, problem.pooled(), start)
    assert relative(pooled(problem).residual(start), expected) < 1e-14


@pytest.mark.parametrize("name", CASES)
def test_residuals_at_several_thetas_are_those_at_each(name: str) -> None:
    problem = CASES[name]()
    thetas = torch.stack([theta(problem, seed) for seed in range(3)])
    for system in (pooled(problem), pooled(problem, chunk=4)):
        each = torch.stack([system.residual(t) for t in thetas])
        assert relative(system.residuals(thetas), each) < 1e-14
        assert torch.equal(system.linearise(thetas[0]).residual, each[0])
