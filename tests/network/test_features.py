"""What a first layer takes in place of coordinates."""

import re

import pytest
import torch
from cases import draw
from torch import Generator

from fedsciml.network import MLP, PointFunction, beside, even, periodic, scaled
from fedsciml.network.jet import derivatives, layout


def columns() -> PointFunction:
    """Of all kinds; five of three coordinates."""
    return beside(
        periodic(0, -1.0, 2.0, harmonics=1),
        even(1, 1.0, 5.0),
        scaled(2, 0.0, 4.0),
        lambda x: x[:, 0] * 0 + 7,
    )


def test_features_are_what_their_formulas_say() -> None:
    x = torch.tensor([[-1.0, 3.0, 0.0], [-0.25, 5.0, 3.0]], dtype=torch.float64)
    expected = torch.tensor([[1, 0, 0, -1, 7], [0, 1, 1, 0.5, 7]], dtype=x.dtype)
    assert float((columns()(x) - expected).abs().max()) < 1e-15


def test_harmonics_are_cosines_and_then_sines() -> None:
    x = draw(9, 1)
    found = periodic(0, 0.0, 1.0, harmonics=3)(x)
    s = 2 * torch.pi * x
    expected = [torch.cos(k * s) for k in (1, 2, 3)]
    expected += [torch.sin(k * s) for k in (1, 2, 3)]
    assert float((found - torch.cat(expected, 1)).abs().max()) < 1e-14


def test_a_network_of_features_has_their_symmetries_whatever_theta() -> None:
    network = MLP((5, 6, 1), features=columns())
    theta = torch.randn(network.size, dtype=torch.float64)
    theta = network.init(Generator().manual_seed(0)) + 0.3 * theta
    x = draw(20, 3)
    channels = layout([((0, 0, 0),), ((0, 1),)]).channels

    def u(points: torch.Tensor) -> torch.Tensor:
        return network(theta, points)

    here = derivatives(u, x, channels)
    later = derivatives(u, x + torch.tensor([3.0, 0.0, 0.0]).double(), channels)
    mirrored = x.clone()
    mirrored[:, 1] = 6 - x[:, 1]
    across = derivatives(u, mirrored, channels)
    for channel in channels:
        # Measured 2e-14, where derivatives are up to 10 in size.
        assert float((here[channel] - later[channel]).abs().max()) < 1e-12
        sign = (-1) ** channel[0].count(1)
        assert float((here[channel] - sign * across[channel]).abs().max()) < 1e-12


def test_jets_of_a_network_of_features_are_those_of_autograd() -> None:
    network = MLP((5, 6, 4, 1), features=columns())
    theta = network.init(Generator().manual_seed(1))
    x, plan = draw(9, 3), layout([((0, 0, 1),), ((2, 2),), ((1, 2),)])
    jets = network.forward(theta, network.prepared(x, plan), plan).output
    naive = derivatives(lambda points: network(theta, points), x, plan.channels)
    for jet, channel in zip(jets, plan.channels, strict=True):
        torch.testing.assert_close(jet, naive[channel], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: periodic(0, 1.0, 1.0), "Coordinate 0 needs an interval .* 1.0 and 1"),
        (lambda: even(1, 0.0, float("inf")), "interval of finite length"),
        (lambda: scaled(-1, 0.0, 1.0), "a coordinate from 0 on, got -1"),
        (lambda: periodic(0, 0.0, 1.0, 0), "harmonics must be .* got 0"),
        (beside, re.escape("beside(periodic(0, 0.0, 1.0), scaled(1, 0.0, 1.0))")),
    ],
)
def test_features_that_are_none_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()
