"""Torch modules as networks."""

import torch
from cases import draw
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
