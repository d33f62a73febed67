"""Layers held fixed: the rest is a network of its own."""

from dataclasses import replace

import pytest
import torch
from cases import draw, scalar, theta
from reference import relative
from torch import Generator, nn

from fedsciml import methods, run
from fedsciml.network import (
    MLP,
    ConvNet,
    Convolution,
    Dense,
    GroupNorm,
    ModuleNetwork,
    Network,
    Partial,
    Pool,
)
from fedsciml.residual import JetBlock, System

IMAGES = ConvNet(
    (1, 6, 6),
    [Convolution(3), GroupNorm(), "tanh", Pool(2), Dense(5), "relu", Dense(2)],
)


@pytest.mark.parametrize(
    ("network", "trained", "size"),
    [
        (IMAGES, "classifier", 12),
        (IMAGES, "dense", 27 * 5 + 5 + 12),
        (
            MLP((36, 4, 3, 2), inputs=([0] * 36, [2] * 36), outputs=(1, 3)),
            "classifier",
            8,
        ),
        (MLP((36, 4, 3, 2)), 2, 15 + 8),
    ],
)
def test_rows_are_the_last_columns_of_those_of_the_whole(
    network: MLP | ConvNet, trained: object, size: int
) -> None:
    x, start = draw(5, 36), network.init(Generator().manual_seed(0))
    start = start + 0.1 * draw(1, network.size)[0]
    part = Partial(network, start, trained)
    own = part.init(Generator())
    assert part.size == len(own) == size
    assert torch.equal(part.whole(own), start)
    assert torch.equal(own, start[-size:])
    torch.testing.assert_close(part(own, x), network(start, x), rtol=1e-14, atol=1e-14)
    other = own + 0.1
    assert relative(part(other, x), network(part.whole(other), x)) < 1e-14
    whole = torch.func.jacrev(lambda t: network(t, x))(start)
    found = torch.func.jacrev(lambda t: part(t, x))(own)
    assert relative(found, whole[..., -size:]) < 1e-13


def test_derivatives_by_coordinates_pass_through_fixed_layers() -> None:
    problem = scalar()
    start = theta(problem)
    part = Partial(problem.network, start)
    own = replace(problem, network=part)
    system, expected = (
        System(p, p.pooled()).linearise(t)
        for p, t in ((own, part.init(Generator())), (problem, start))
    )
    assert relative(system.residual, expected.residual) < 1e-12
    columns = expected.jacobian()[:, -part.size :]
    assert relative(system.jacobian(), columns) < 1e-12
    assert all(isinstance(b, JetBlock) for b in System(own, own.pooled()).blocks)


def test_a_run_trains_the_last_layer_alone() -> None:
    problem = scalar()
    start = theta(problem)
    part = Partial(problem.network, start)
    tuned = run(replace(problem, network=part), methods.load("fipa"), rounds=3)
    assert len(tuned.theta) == part.size
    whole = part.whole(tuned.theta)
    assert torch.equal(whole[: -part.size], start[: -part.size])
    losses = System(problem, problem.pooled()).losses(torch.stack([start, whole]))
    assert float(losses[1]) < float(losses[0])
    assert float(losses[1]) == pytest.approx(tuned.loss, rel=1e-9)


@pytest.mark.parametrize(
    ("network", "size", "trained", "message"),
    [
        (ModuleNetwork(nn.Linear(2, 1)), 3, 1, "of an MLP or a ConvNet.*requires_grad"),
        (IMAGES, 5, 1, r"has 188 parameters, but theta has shape \[5\]"),
        (IMAGES, IMAGES.size, 3, "1 to 2 are trained.*got 3"),
        (MLP((2, 3, 1)), 13, "dense", "1 to 1 are trained"),
        (IMAGES, IMAGES.size, "last", "got 'last'"),
    ],
)
def test_what_cannot_be_held_fixed_is_refused(
    network: Network, size: int, trained: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Partial(network, torch.zeros(size), trained)
