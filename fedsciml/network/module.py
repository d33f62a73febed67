"""Any ``torch.nn.Module`` as a network."""

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Generator, Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from fedsciml.alone import alone
from fedsciml.network.base import Network


class ModuleNetwork(Network):
    """Any ``torch.nn.Module`` from [n, d] to [n, c], differentiated by torch.autograd.

    theta lists ``module.parameters()`` in order, but for those with ``requires_grad``
    False, which stay as they are. Training starts from the present parameters, whatever
    the seed. Floating buffers are used in theta's precision.

    Raises:
        ValueError: If a part of the module is random or couples the points of a batch:
            dropout and batch normalisation in training mode; also when training starts.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        _check(module)
        self._shapes = {
            name: p.shape for name, p in module.named_parameters() if p.requires_grad
        }

    @property
    def size(self) -> int:
        """Number of trained parameters p."""
        return sum(shape.numel() for shape in self._shapes.values())

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """The module's present parameters, shape [p]."""
        _check(self.module)
        with alone:
            present = dict(self.module.named_parameters())
        parts = [present[name].detach().cpu().flatten() for name in self._shapes]
        return torch.cat([*parts, torch.zeros(0, device="cpu")]).to(dtype)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        return self.changed(theta, {}, x)

    def changed(
        self, theta: Tensor, weights: Mapping[int, Tensor], x: Tensor
    ) -> Tensor:
        """Values [n, c] with other weights, by where they begin in theta."""
        starts = accumulate((s.numel() for s in self._shapes.values()), initial=0)
        with alone:  # meanwhile the module has other tensors than its own
            tensors = self.tensors(theta)
            for start, name in zip(starts, self._shapes, strict=False):
                tensors[name] = weights.get(start, tensors[name])
            values: Tensor = torch.func.functional_call(self.module, tensors, (x,))
        return values

    @torch.no_grad()
    def restore(self, theta: Tensor) -> None:
        """Write theta [p] into the module's parameters, as if it had been trained.

        They keep their precision and device; fixed ones and buffers stay.

        Raises:
            ValueError: If theta has not the size of the parameters.
        """
        if list(theta.shape) != [self.size]:
            raise ValueError(
                f"theta has shape {list(theta.shape)}, but the trained parameters of "
                f"the module are {self.size} numbers. Give the theta of a run of this "
                "module; of Parallel, its part of theta: parallel.split(theta)[0]."
            )
        parameters, start = dict(self.module.named_parameters()), 0
        for name, shape in self._shapes.items():
            parameters[name].copy_(theta[start : start + shape.numel()].view(shape))
            start += shape.numel()

    def tensors(self, theta: Tensor) -> dict[str, Tensor]:
        """Parameters, those of theta [p] and fixed ones, and buffers, by name."""
        named = (*self.module.named_buffers(), *self.module.named_parameters())
        tensors = {
            name: fixed.detach().to(theta.device, theta.dtype)
            for name, fixed in named
            if name not in self._shapes and fixed.is_floating_point()
        }
        start = 0
        for name, shape in self._shapes.items():
            tensors[name] = theta[start : start + shape.numel()].view(shape)
            start += shape.numel()
        return tensors


def _check(module: torch.nn.Module) -> None:
    """Refuse what makes a residual random, or that of a point depend on others."""
    for name, part in module.named_modules():
        if not part.training:
            continue
        kind, where = type(part).__name__, f"'{name}'" if name else "the module itself"
        if isinstance(part, _BatchNorm):
            raise ValueError(
                f"{where} is a {kind} in training mode: values at a point then depend "
                "on the other points of the batch, and a residual must not. Call "
                "module.eval() to use the statistics it has, or take GroupNorm or "
                "LayerNorm."
            )
        chance = part.p if isinstance(part, _DropoutNd) else getattr(part, "dropout", 0)
        if isinstance(chance, float) and chance > 0:
            raise ValueError(
                f"{where} is a {kind} that drops values at random (dropout {chance:g}, "
                "training mode); a residual must be the same whenever it is "
                "evaluated. Call module.eval(), or build it without."
            )
