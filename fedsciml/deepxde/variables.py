"""External trainable variables of DeepXDE as unknown numbers in theta.

A ``pde`` of DeepXDE reads its unknown numbers as ``dde.Variable`` objects in its scope.
While it is evaluated, these take the values of the unknowns in theta. Derivatives are
found for all rows at once: for residuals r(c) [n] of one number c, the product with
weights w, g(w) = w . dr/dc, is linear in w, and dg/dw = dr/dc [n].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fedsciml.network.jet import Jet


class _Standin(Tensor):
    """A variable that torch functions replace by its attribute ``number``."""

    number: Tensor

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        named = {key: _number(value) for key, value in (kwargs or {}).items()}
        return func(*map(_number, args), **named)


def _number(value: Any) -> Any:  # noqa: ANN401
    if type(value) in (list, tuple):
        return type(value)(_number(part) for part in value)
    return value.__dict__["number"] if isinstance(value, _Standin) else value


@contextmanager
def standing_in(variables: Mapping[str, Tensor], u: Jet) -> Iterator[dict[str, Tensor]]:
    """Give the variables the values of the unknowns of the same names in ``u``.

    Yields:
        By name, the numbers that replace the variables, leaves of the autograd graph.
    """
    numbers, kinds = {}, {}
    for name, variable in variables.items():
        value = getattr(u, name)[0].detach().clone()
        numbers[name] = value.view(variable.shape).requires_grad_()
    try:
        for name, variable in variables.items():
            kinds[name] = type(variable)
            variable.__dict__["number"] = numbers[name]
            variable.__class__ = _Standin
        yield numbers
    finally:
        for name, kind in kinds.items():
            variables[name].__class__ = kind
            del variables[name].__dict__["number"]


def attached(residuals: Tensor, numbers: Mapping[str, Tensor], u: Jet) -> Tensor:
    """Residuals [q, n] with their dependence on ``numbers`` moved to u's unknowns.

    To first order, as a Jacobian needs it.
    """
    result = residuals
    for name, number in numbers.items():
        w = torch.zeros_like(residuals).requires_grad_()
        (product,) = torch.autograd.grad(
            residuals, number, w, create_graph=True, allow_unused=True
        )
        if product is not None:
            (slope,) = torch.autograd.grad(product, w)
            unknown = getattr(u, name)
            result = result + slope.detach() * (unknown - unknown.detach())
    return result
