"""How far clients' low-rank factors lie apart."""

import math

import pytest
import torch
from cases import draw
from torch import Generator, Tensor

from fedsciml.analysis import variation
from fedsciml.network import MLP, Lora, lora

NETWORK = MLP((3, 5, 2))
THETA = NETWORK.init(Generator().manual_seed(0))


def begun(form: str) -> tuple[Lora, Tensor]:
    """A network with factors, none of which is zero."""
    small = lora(NETWORK, 2, form=form, theta=THETA, zero="nothing")
    return small, small.init(Generator().manual_seed(1))


def naive(found: list[list[Tensor]], at: list[Tensor]) -> tuple[float, float]:
    """Means over clients and vectors, one by one."""
    directions, magnitudes = list[float](), list[float]()
    for client in found:
        for v, start in zip(client, at, strict=True):
            a, b = math.sqrt(float(v @ v)), math.sqrt(float(start @ start))
            directions.append(1 - float(v @ start) / (a * b))
            magnitudes.append(abs(a - b))
    count = len(directions)
    return sum(directions) / count, sum(magnitudes) / count


@pytest.mark.parametrize("form", ["plain", "diagonal", "split"])
@pytest.mark.parametrize("given", [True, False])
def test_it_is_the_mean_over_clients_and_vectors(form: str, given: bool) -> None:
    small, start = begun(form)
    thetas = start + 0.4 * (draw(4, small.size) - 0.5)
    found = variation(small, list(thetas), start if given else None)
    for number, name in enumerate("AB"):
        several = []
        for theta in (*thetas, start):
            factors = [pair[number] for pair in small.factors(theta)]
            rows = [f if name == "A" else f.mT for f in factors]
            several.append([row for factor in rows for row in factor])
        *clients, begin = several
        mean = [torch.stack(vs).mean(0) for vs in zip(*clients, strict=True)]
        direction, magnitude = naive(clients, begin if given else mean)
        assert getattr(found, f"direction_{name}") == pytest.approx(direction)
        assert getattr(found, f"magnitude_{name}") == pytest.approx(magnitude)
        assert getattr(found, f"length_{name}") > 0


def test_longer_vectors_differ_in_magnitude_and_turned_ones_in_direction() -> None:
    small, start = begun("split")
    longer = start.clone()
    longer[small.groups["magnitudes_A"]] *= 1.5
    found = variation(small, longer[None], start)
    assert found.magnitude_A == pytest.approx(0.5 * found.length_A)
    assert found.direction_A == pytest.approx(0, abs=1e-15)
    assert found.magnitude_B == pytest.approx(0, abs=1e-15)
    turned = start.clone()
    turned[small.groups["B"]] *= -3
    found = variation(small, turned[None], start)
    assert found.direction_B == pytest.approx(2)
    assert found.magnitude_B == pytest.approx(0, abs=1e-15)


def test_vectors_of_length_zero_have_no_direction() -> None:
    small = lora(NETWORK, 2, theta=THETA)
    start = small.init(Generator())
    found = variation(small, start[None] + 0.1, start)
    assert math.isnan(found.direction_B)
    assert found.magnitude_B > 0


def test_other_shapes_are_refused() -> None:
    small, start = begun("plain")
    with pytest.raises(ValueError, match=r"shape \[M, 30\]; got \[30\]"):
        variation(small, start)
    with pytest.raises(ValueError, match=r"one theta \[30\]; got shape \[1, 30\]"):
        variation(small, start[None], start[None])
