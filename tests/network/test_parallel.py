"""Several networks and unknown numbers as one network."""

import math

import pytest
import torch
from cases import draw
from torch import Generator

from fedsciml.network import MLP, Parallel, Personal


@pytest.mark.parametrize(
    ("networks", "start", "message"),
    [([], 1.0, "at least one network"), ([MLP((1, 2, 1))], math.inf, "starts at inf")],
)
def test_impossible_parallel_networks_are_refused(
    networks: list[MLP], start: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Parallel(networks, unknowns={"nu": start})


def test_a_number_is_shared_or_each_client_s_own() -> None:
    with pytest.raises(ValueError, match="give it in one of them"):
        Parallel([MLP((1, 2, 1))], unknowns={"nu": 1.0}, personal={"nu": 0.0})
    with pytest.raises(ValueError, match=r"personal=\{'nu': 0.05\}"):
        Parallel([MLP((1, 2, 1))], personal={"nu": [1.0, 2.0]})  # type: ignore[dict-item]


def test_what_is_no_network_cannot_be_personal() -> None:
    with pytest.raises(ValueError, match="write ModuleNetwork"):
        Personal(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_parallel_networks_are_theirs_side_by_side_with_the_unknowns_last() -> None:
    a, b = MLP((2, 4, 1)), MLP((2, 3, 3, 2), activation="sin")
    both = Parallel([a, b], unknowns={"nu": 0.25, "k": -2.0})
    theta, x = both.init(Generator().manual_seed(0)), draw(5, 2)
    assert both.size == len(theta) == a.size + b.size + 2
    assert dict(both.unknowns) == {"nu": 0.25, "k": -2.0}
    assert both.split(theta)[-1].tolist() == [1.0, -1.0]
    assert both.numbers(theta).tolist() == [0.25, -2.0]
    parts = a(theta[: a.size], x), b(theta[a.size : -2], x)
    assert torch.equal(both(theta, x), torch.cat(parts, 1))
