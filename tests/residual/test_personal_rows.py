"""Rows of clients with parameters of their own, against dense linear algebra."""

from dataclasses import replace
from math import inf

import pytest
import torch
from cases import owned, theta
from scipy.linalg import orth
from torch import Tensor

from fedsciml.problem import Problem
from fedsciml.residual import Eliminated, System, Together


def values(problem: Problem, seed: int = 0) -> Tensor:
    """Parameters of all clients' own, [S, p_f], away from where they begin."""
    assert problem.personal is not None
    begin = problem.personal.values
    generator = torch.Generator().manual_seed(seed)
    away = torch.randn(
        problem.clients, len(begin), generator=generator, dtype=begin.dtype
    )
    return begin + 0.2 * away


def joint_step(j: Tensor, r: Tensor, mu: Tensor) -> Tensor:
    """argmin 1/2 |r + J D|^2 + 1/2 sum mu_i D_i^2, by LAPACK."""
    rows = torch.cat([j, mu.sqrt().diag()])
    target = torch.cat([-r, torch.zeros_like(mu)])
    return torch.linalg.lstsq(rows, target, driver="gelsd").solution


@pytest.mark.parametrize("prior", [0.0, 0.1])
@pytest.mark.parametrize("held", [False, True])
def test_the_jacobian_of_all_parameters_is_that_of_finite_differences(
    prior: float, held: bool
) -> None:
    problem = owned(prior)
    at, f = theta(problem), values(problem)
    pooled = System(problem, problem.pooled())
    rows = Together(pooled, at if held else None)
    x = rows.joined(at, f)
    linear = rows.linearise(x)
    j, r = linear.jacobian(), linear.residual
    h = 1e-6
    units = h * torch.eye(len(x), dtype=x.dtype)
    found = [(rows.residual(x + e) - rows.residual(x - e)) / (2 * h) for e in units]
    assert (j - torch.stack(found, 1)).abs().max() < 1e-8  # h^2 |r'''| and eps / h
    v, w = torch.randn(len(x), 2, dtype=x.dtype), torch.randn(len(r), 2, dtype=x.dtype)
    assert torch.allclose(linear.jvp(v), j @ v, atol=1e-13)
    assert torch.allclose(linear.jvp(v[:, 0]), j @ v[:, 0], atol=1e-13)
    assert torch.allclose(linear.vjp(w), j.mT @ w, atol=1e-13)
    assert torch.allclose(linear.vjp(w[:, 0]), j.mT @ w[:, 0], atol=1e-13)
    assert torch.allclose(rows.slope(x), j.mT @ r, atol=1e-14)
    assert rows.loss(x) == pytest.approx(float(r @ r) / 2, rel=1e-14)


@pytest.mark.parametrize(
    ("prior", "shared", "own"),
    [
        (0.0, 1e-6, 1e-3),
        (0.0, 1e-4, 1e-9),
        (0.1, 1e-6, 1e-3),
        (0.1, 1e-2, 0.0),  # f is determined by its prior
    ],
)
def test_eliminated_steps_are_the_joint_ones(
    prior: float, shared: float, own: float
) -> None:
    problem = owned(prior)
    at, f = theta(problem), values(problem)
    whole = Together(System(problem, problem.pooled()))
    linear = whole.linearise(whole.joined(at, f))
    mu = torch.tensor([shared, own], dtype=at.dtype).repeat_interleave(
        torch.tensor([len(at), f.numel()])
    )
    step = joint_step(linear.jacobian(), linear.residual, mu)
    clients = [
        Eliminated(System(problem, shard), at, f[m : m + 1], own)
        for m, shard in enumerate(problem.shards())
    ]
    left = [client.linearise(at) for client in clients]
    j = torch.cat([linear.jacobian() for linear in left])
    r = torch.cat([linear.residual for linear in left])
    move = joint_step(j, r, torch.full_like(at, shared))
    assert (move - step[: len(at)]).norm() < 1e-11 * move.norm()  # 4e-13 measured
    full = torch.ones(1, dtype=at.dtype)
    gone = [client.going(full, client.step) for client in clients]
    found = torch.cat([client.own((at + move)[None])[0] for client in gone]) - f
    assert (found.flatten() - step[len(at) :]).norm() < 1e-11 * found.norm()


@pytest.mark.parametrize("damping", [1e-4, 1e-12])
def test_a_shift_leaves_no_trace_in_what_is_left_but_by_the_damping(
    damping: float,
) -> None:
    problem = owned()
    at, f = theta(problem), values(problem)[:1]
    moved = f.clone()
    moved[0, -2] += 3  # the shift, in which rows are linear
    system = System(problem, problem.shard(0))
    one, other = (Eliminated(system, at, x, damping).linearise(at) for x in (f, moved))
    # (I - Q Q^T) (J_f, sqrt(mu) I) = 0
    assert (one.residual - other.residual).norm() < 3 * damping**0.5 + 1e-13
    assert torch.allclose(one.jacobian(), other.jacobian(), atol=1e-14)


def test_what_is_left_of_pooled_rows_is_what_is_left_of_the_clients() -> None:
    problem = owned(0.1)
    at, f = theta(problem), values(problem)
    pooled = Eliminated(System(problem, problem.pooled()), at, f, 1e-4).linearise(at)
    clients = [
        Eliminated(System(problem, shard), at, f[m : m + 1], 1e-4).linearise(at)
        for m, shard in enumerate(problem.shards())
    ]
    j, several = pooled.jacobian(), [one.jacobian() for one in clients]
    assert torch.allclose(j.mT @ j, sum(a.mT @ a for a in several), atol=1e-13)
    assert pooled.loss == pytest.approx(sum(one.loss for one in clients), rel=1e-14)
    assert torch.allclose(pooled.gradient, sum(one.gradient for one in clients))


@pytest.mark.parametrize("largest", [2**28, 0])
def test_products_with_what_is_left_are_those_of_its_jacobian(
    largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsciml.residual.personal.LARGEST", largest)
    problem = owned(0.1)
    at = theta(problem)
    rows = Eliminated(
        System(problem, problem.shards()[1]), at, values(problem)[:1], 1e-3
    )
    linear = rows.linearise(at)
    j = linear.jacobian()
    v = torch.randn(len(at), 3, dtype=at.dtype)
    w = torch.randn(len(linear.residual), 3, dtype=at.dtype)
    assert torch.allclose(linear.jvp(v), j @ v, atol=1e-13)
    assert torch.allclose(linear.jvp(v[:, 0]), j @ v[:, 0], atol=1e-13)
    assert torch.allclose(linear.vjp(w), j.mT @ w, atol=1e-13)
    pieces = list(rows.parts(at, 8))
    assert len(pieces) > 1
    joined = torch.cat([piece.jacobian() for piece in pieces])
    assert torch.allclose(joined, j, atol=1e-15)
    gramian = sum(
        (
            piece.jacobian().mT @ piece.jacobian()
            for piece in Eliminated(rows, at, values(problem)[:1], 1e-3).parts(at, 99)
        ),
        torch.zeros(len(at), len(at), dtype=at.dtype),
    )
    monkeypatch.undo()
    other = Eliminated(rows, at, values(problem)[:1], 1e-3).linearise(at).jacobian()
    assert torch.allclose(gramian, other.mT @ other, atol=1e-13)


def test_targets_on_the_way_follow_what_is_left_to_first_order() -> None:
    problem = owned(0.1)
    at, f = theta(problem), values(problem)
    rows = Eliminated(System(problem, problem.shards()[0]), at, f[:1], 1e-3)
    linear = rows.linearise(at)
    move = torch.randn(len(at), dtype=at.dtype)
    missed = []
    for t in (1e-3, 1e-4):
        fraction = torch.tensor([t], dtype=at.dtype)
        way = rows.going(fraction, rows.step)
        loss, r = way.judged((at + t * move)[None])
        predicted = linear.residual + t * linear.jvp(move)
        missed.append(float((r[0] - predicted).norm()))
        assert float(r[0] @ r[0]) <= 2 * float(loss[0]) * (1 + 1e-12)
    assert missed[1] < 1.1e-2 * missed[0]  # of second order


def test_held_parameters_leave_the_rows_as_they_are() -> None:
    problem = owned()
    at, f = theta(problem), values(problem)
    shard = problem.shards()[2]
    assert problem.personal is not None
    fixed = replace(problem, network=problem.personal.at(f[2]))
    expected = System(fixed, shard).linearise(at)
    rows = Eliminated(System(problem, shard), at, f[2:3], inf)
    found = rows.linearise(at)
    assert torch.allclose(found.residual, expected.residual, atol=1e-15)
    assert torch.allclose(found.jacobian(), expected.jacobian(), atol=1e-14)
    elsewhere = at + 0.1
    slope = System(fixed, shard).slope(elsewhere)
    assert torch.allclose(rows.slope(elsewhere), slope, atol=1e-14)
    assert torch.allclose(rows.linearise(elsewhere).gradient, slope, atol=1e-14)


def test_rows_are_eliminated_at_one_theta_alone() -> None:
    problem = owned()
    at = theta(problem)
    rows = Eliminated(System(problem, problem.shards()[0]), at, values(problem)[:1], 0)
    with pytest.raises(ValueError, match="eliminated at one theta alone"):
        rows.linearise(at + 1)


@pytest.mark.parametrize("n", [9, 3])
@pytest.mark.parametrize("damping", [0.0, 1e-32])
def test_what_rows_do_not_see_is_not_eliminated(n: int, damping: float) -> None:
    # The shift and the last bias of v do the same, and of n = 3 points 6 rows have 12
    # parameters of the client's own.
    problem = owned(n=n)
    view = problem.personal
    assert view is not None
    at, f = theta(problem), values(problem)[:1]
    system = System(problem, problem.shard(0))
    linear = system.sites[0].linearise(view.joined(at, f[0]))
    j, r = linear.jacobian(), linear.residual
    own, shared = j[:, view.mine], j[:, view.shared]
    basis = torch.from_numpy(orth(own.numpy(), rcond=1e-13))
    away = torch.eye(len(r), dtype=r.dtype) - basis @ basis.mT
    rows = Eliminated(system, at, f, damping)
    left = rows.linearise(at).jacobian()
    size = torch.linalg.matrix_norm(shared, 2) ** 2
    off = left.mT @ left - shared.mT @ away @ shared
    # 1e-11 measured, as rounding turns directions by eps s_1 / s_k; 1e-4 by a QR.
    assert off.abs().max() < 1e-9 * size
    step = torch.linalg.lstsq(own, -r, rcond=1e-13, driver="gelsd").solution
    fits = own @ rows.step.start[0] - own @ step
    assert fits.norm() < 1e-7 * r.norm()  # 3e-9 measured
    assert rows.step.start[0].norm() < 1.001 * step.norm()
