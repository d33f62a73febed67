"""Any ``torch.nn.Module`` as a network."""

import torch
from torch import Generator, Tensor

from fedsciml.network.base import Network


class ModuleNetwork(Network):
    """Any ``torch.nn.Module`` from [n, d] to [n, c], differentiated by torch.autograd.

    theta lists ``module.parameters()`` in order. Training starts from the present
    parameters, whatever the seed. Floating buffers are used in theta's precision.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self._shapes = {name: p.shape for name, p in module.named_parameters()}

    @property
    def size(self) -> int:
        """Number of parameters p."""
        return sum(shape.numel() for shape in self._shapes.values())

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """The module's present parameters, shape [p]."""
        parts = [p.detach().flatten() for p in self.module.parameters()]
        return torch.cat(parts).to(dtype)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        tensors = {
            name: buffer.to(theta.device, theta.dtype)
            for name, buffer in self.module.named_buffers()
            if buffer.is_floating_point()
        }
        start = 0
        for name, shape in self._shapes.items():
            tensors[name] = theta[start : start + shape.numel()].view(shape)
            start += shape.numel()
        values: Tensor = torch.func.functional_call(self.module, tensors, (x,))
        return values
