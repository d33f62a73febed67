"""First layers made for waves."""

from collections.abc import Callable
from dataclasses import replace
from math import pi

import pytest
import torch
from torch import Generator, Tensor

from fedsciml import MLP, Parallel, Problem, Term
from fedsciml.collocation import strips
from fedsciml.network import Network, Personal, lora, periodic
from fedsciml.network.frequency import FREQUENCIES
from fedsciml.network.jet import Jet
from fedsciml.network.starts import framed, starts
from fedsciml.problem import Row

BOX = [2.0, -1.0], [6.0, 0.0]


def fitted(u: Jet, row: Row) -> Tensor:
    return u.value - row.target


def waves(network: Network, scale: float = 1.0) -> Problem:
    x = torch.linspace(0, scale, 60, dtype=torch.float64)[:, None]
    term = Term("data", fitted, x, lambda q: torch.sin(6 * pi * q[:, 0] / scale))
    edges = strips([0, scale / 2, scale])
    return Problem("waves", network, [term], edges, domain=([0.0], [scale]))


def begun(network: Network, seed: int = 0) -> Tensor:
    return network.init(Generator().manual_seed(seed), torch.float64)


def test_neurons_are_centred_in_the_box_and_as_steep_as_they_are_told() -> None:
    network = MLP((2, 4000, 1), first=3, box=BOX)
    weight, bias = network.layers(begun(network))[0]
    half = torch.tensor([2.0, 0.5], dtype=torch.float64)
    middle = torch.tensor([4.0, -0.5], dtype=torch.float64)
    scaled = weight * half
    assert float(scaled.square().sum(1).mean()) == pytest.approx(9, rel=0.05)
    # At the middle a neuron is -w c with c uniform in [-1, 1]^2: variance f^2 / 3.
    assert float((weight @ middle + bias).square().mean()) == pytest.approx(3, rel=0.05)


def test_other_layers_start_as_ever() -> None:
    plain, told = MLP((1, 30, 30, 1)), MLP((1, 30, 30, 1), first=2)
    hidden = [net.layers(begun(net))[1][0] for net in (plain, told)]
    assert float(hidden[1].std()) == pytest.approx(float(hidden[0].std()), rel=0.1)
    assert not torch.equal(*hidden)


def test_a_domain_twice_as_wide_has_the_same_start_to_the_bit() -> None:
    small, large = (waves(MLP((1, 20, 1), first=5), scale) for scale in (1.0, 2.0))
    x = small.terms[0].points
    assert isinstance(x, Tensor)
    values = [p.network(begun(p.network), s * x) for p, s in ((small, 1), (large, 2))]
    assert torch.equal(*values)


def test_features_have_a_box_of_their_own() -> None:
    network = MLP((2, 20, 1), first=2, features=periodic(0, 0.0, 1.0))
    found = waves(network).network
    assert isinstance(found, MLP)
    assert found.box is not None
    lower, upper = map(torch.tensor, found.box)
    assert lower.tolist() == pytest.approx([-1, -1], abs=0.01)
    assert upper.tolist() == pytest.approx([1, 1], abs=0.01)


def test_starts_share_their_numbers_and_the_first_is_the_network_s() -> None:
    box = [0.0], [1.0]
    parts = [MLP((1, 9, 1), first="auto"), MLP((1, 5, 1))]
    network = framed(Parallel(parts), box)
    known = starts(network, 3, torch.float64)
    assert tuple(known) == FREQUENCIES
    assert torch.equal(known[FREQUENCIES[0]], begun(network, 3))
    for f, theta in known.items():
        ratio = theta / known[FREQUENCIES[0]]
        assert torch.allclose(ratio[:18], theta.new_full((18,), f / FREQUENCIES[0]))
        assert torch.equal(theta[18:], begun(network, 3)[18:])


@pytest.mark.parametrize("first", [0, -1, float("nan"), True, "steep"])
def test_what_is_no_frequency_is_refused(first: object) -> None:
    with pytest.raises(ValueError, match="positive number such as 3, or 'auto'"):
        MLP((1, 5, 1), first=first)  # type: ignore[arg-type]


def test_a_frequency_needs_a_box() -> None:
    problem = waves(MLP((1, 5, 1)))
    with pytest.raises(ValueError, match=r"Problem\(domain=\(lower, upper\)\)"):
        Problem("waves", MLP((1, 5, 1), first=3), problem.terms, strips([0, 0.5, 1]))


@pytest.mark.parametrize("around", [lambda n: lora(n, 2, base="trained"), Personal])
def test_networks_around_one_with_a_frequency_have_its_box_and_starts(
    around: Callable[[Network], Network],
) -> None:
    base, box = MLP((1, 9, 1), first="auto"), ([2.0], [6.0])
    network = framed(around(base), box)
    assert framed(network, box) is network
    own = starts(framed(base, box), 0, torch.float64)
    for f, theta in starts(network, 0, torch.float64).items():
        assert torch.equal(theta[: base.size], own[f])
    with pytest.raises(ValueError, match="in the box of the points"):
        framed(around(base), None)


def test_a_start_that_is_given_has_no_frequency() -> None:
    network = MLP((1, 5, 1))
    with pytest.raises(ValueError, match="leave out first, or the start"):
        replace(network, start=begun(network), first=3)
