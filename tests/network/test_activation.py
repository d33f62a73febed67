"""Activations and their derivatives, against mpmath."""

import mpmath
import pytest
import torch
from reference import EXACT

from fedsciml.network.activation import ACTIVATIONS


@pytest.mark.parametrize("name", sorted(EXACT))
def test_derivatives_up_to_order_five_are_those_of_mpmath(name: str) -> None:
    z = torch.tensor([-7.3, -2.0, -0.4, 0.0, 1e-3, 0.9, 3.1], dtype=torch.float64)
    with mpmath.workdps(40):
        expected = [
            [float(mpmath.diff(EXACT[name], mpmath.mpf(float(x)), k)) for x in z]
            for k in range(6)
        ]
    found = ACTIVATIONS[name](z, 5)
    # Tails cancel: the error is relative to the largest derivative. Measured 1e-15.
    for k in range(6):
        values = torch.tensor(expected[k], dtype=torch.float64)
        assert float((found[k] - values).abs().max()) < 1e-14 * float(
            values.abs().max()
        )


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("order", range(5))
def test_lower_orders_are_a_prefix_of_higher_ones(name: str, order: int) -> None:
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    found = ACTIVATIONS[name](z, order)
    assert len(found) == order + 1
    for a, b in zip(found, ACTIVATIONS[name](z, 5), strict=False):
        assert torch.equal(a, b)


def test_relu_is_a_ramp_with_the_slope_of_torch_and_no_curvature() -> None:
    z = torch.tensor([-2.0, -1e-9, 0.0, 1e-9, 3.0], dtype=torch.float64)
    z.requires_grad_()
    ramp = z.clamp(min=0) * (z > 0)
    (slope,) = torch.autograd.grad(ramp.sum(), z)
    found = ACTIVATIONS["relu"](z.detach(), 5)
    assert torch.equal(found[0], ramp.detach())
    assert torch.equal(found[1], slope)
    assert not torch.stack(found[2:]).any()
