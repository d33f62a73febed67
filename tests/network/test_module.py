"""Torch modules as networks."""

from dataclasses import replace

import pytest
import torch
from cases import draw, scalar
from torch import Generator, Tensor

from fedsciml.network import ModuleNetwork


def test_buffers_of_a_module_have_the_precision_of_theta() -> None:
    module = torch.nn.Linear(3, 1)
    matrix = torch.linspace(-1, 1, 6).view(3, 2)

    class Fourier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = module
            self.register_buffer("matrix", matrix)
            self.register_buffer("order", torch.tensor([2, 0, 1]))

        def forward(self, x: Tensor) -> Tensor:
            return self.last((x @ self.matrix.T)[:, self.order].sin())

    network = ModuleNetwork(Fourier())
    theta = network.init(Generator(), torch.float64)
    x = draw(4, 2)
    hidden = (x @ matrix.double().T)[:, [2, 0, 1]].sin()
    expected = hidden @ theta[:3].unsqueeze(1) + theta[3]
    assert torch.allclose(network(theta, x), expected, 1e-14, 1e-15)
    several = torch.stack([theta, 2 * theta])
    values = torch.func.vmap(lambda t: network(t, x))(several)
    assert torch.allclose(values[1], network(2 * theta, x), 1e-14, 1e-15)
    assert network.module.matrix.dtype == torch.float32


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (torch.nn.Dropout(0.1), "'1' is a Dropout.*0.1.*module.eval"),
        (torch.nn.AlphaDropout(0.2), "AlphaDropout"),
        (torch.nn.BatchNorm1d(4), "'1' is a BatchNorm1d in training mode.*GroupNorm"),
    ],
)
def test_what_is_random_or_couples_points_is_refused_by_name(
    part: torch.nn.Module, said: str
) -> None:
    layers = torch.nn.Linear(1, 4), part, torch.nn.Tanh(), torch.nn.Linear(4, 1)
    module = torch.nn.Sequential(*layers)
    with pytest.raises(ValueError, match=said):
        ModuleNetwork(module)
    network = ModuleNetwork(module.eval())
    module.train()
    with pytest.raises(ValueError, match=said):
        network.init(torch.Generator())


class Coupled(torch.nn.Module):
    """Random, or depends on the mean over the points."""

    def __init__(self, random: bool) -> None:
        super().__init__()
        self.layer, self.random = torch.nn.Linear(1, 1).double(), random

    def forward(self, x: Tensor) -> Tensor:
        away = torch.rand_like(x) if self.random else x.mean()
        return self.layer(x) - away


@pytest.mark.parametrize(
    ("random", "said"), [(True, "is random"), (False, "depend on the points")]
)
def test_a_problem_notices_a_network_that_is_no_function_of_a_point(
    random: bool, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        replace(scalar(), network=ModuleNetwork(Coupled(random)))


def test_trained_weights_are_written_back_into_the_module() -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.BatchNorm1d(4).eval()
    )
    module[0].bias.requires_grad_(False)
    fixed = module[0].bias.clone()
    network = ModuleNetwork(module)
    theta = torch.linspace(-1, 1, network.size, dtype=torch.float64)
    network.restore(theta)
    assert torch.equal(network.init(Generator(), torch.float32), theta.float())
    assert torch.equal(module[0].bias, fixed)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert module[0].weight.requires_grad
    assert module[2].running_mean.tolist() == [0.0] * 4
    x = draw(5, 1)
    assert torch.allclose(module(x.float()).double(), network(theta, x), 1e-5, 1e-6)
    with pytest.raises(ValueError, match=r"shape \[11\], but .* 12 numbers"):
        network.restore(theta[1:])
