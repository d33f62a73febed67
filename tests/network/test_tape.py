"""Sweeps of jets, kept and not kept, and the rows that are made of them."""

import pytest
import torch
from cases import draw
from reference import relative
from torch import Generator

from fedsciml.network import MLP
from fedsciml.network.activation import ACTIVATIONS
from fedsciml.network.jet import Channel, layout
from fedsciml.network.tape import LARGE

CHANNELS: list[Channel] = [((0, 0), (1, 1)), ((0, 0, 1),), ((0, 1),)]


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("columns", [1, 2])
def test_jets_are_the_same_bytes_whether_derivatives_are_kept(
    activation: str, columns: int
) -> None:
    network, x = MLP((2, 6, 5, 4, columns), activation), draw(7, 2)
    theta = network.init(Generator().manual_seed(0))
    for wanted in ([], CHANNELS[2:], CHANNELS):
        top = layout(wanted)
        kept = network.forward(theta, x, top)
        assert torch.equal(kept.output, network.forward(theta, x, top, False).output)
        thetas = torch.stack([theta, 2 * theta, -theta])
        several = network.forward(thetas, x, top, False).output
        each = torch.stack([network.forward(t, x, top).output for t in thetas])
        assert several.shape == each.shape
        assert relative(several, each) < 1e-14  # measured 2e-16


@pytest.mark.parametrize("width", [8, 40])
def test_rows_add_up_to_the_product_that_needs_no_rows(width: int) -> None:
    top = layout(CHANNELS)
    # Narrow layers go channel by channel, wide ones by one matrix product.
    assert (len(top.channels) * width**2 >= LARGE) == (width == 40)
    network, x = MLP((2, width, width, 1)), draw(9, 2)
    tape = network.forward(network.init(Generator().manual_seed(0)), x, top)
    cotangent = draw(len(top.channels) * 9, 1).view(-1, 9, 1)
    rows = torch.empty(9, network.size, dtype=torch.float64)
    tape.rows(cotangent, rows)
    assert relative(rows.sum(0), tape.pull(cotangent)) < 1e-13
    tangent = draw(1, network.size)[0]
    along = (cotangent * tape.push(tangent)).sum((0, 2))
    assert relative(rows @ tangent, along) < 1e-13
