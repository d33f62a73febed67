"""External trainable variables: what a ``pde`` reads by its closure, as part of theta.

A ``pde`` of DeepXDE has its unknown numbers as ``dde.Variable`` objects in scope. While
it is evaluated they stand for the unknowns in theta. Their derivatives are found for
every row at once: for residuals r(c) [n] of one number c, the product with weights w,
g(w) = w . dr/dc, is linear in w, and dg/dw = dr/dc [n].
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fedsciml.network.jet import Jet


class _Standin(Tensor):
    """A variable in whose place torch takes its attribute ``number``."""

    number: Tensor

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        del types
        named = {key: _number(value) for key, value in (kwargs or {}).items()}
        return func(*map(_number, args), **named)


def _number(value: Any) -> Any:  # noqa: ANN401
    if type(value) in (list, tuple):
        return type(value)(_number(part) for part in value)
    return value.__dict__["number"] if isinstance(value, _Standin) else value


@contextmanager
def standing_in(variables: Mapping[str, Tensor], u: Jet) -> Iterator[dict[str, Tensor]]:
    """Let the variables have the values of the unknowns that ``u`` has by their names.

    Yields:
        The numbers in their place by name, leaves of the graph.
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
    """Residuals [q, n] that depend on leaves, made to depend on u's unknowns instead.

    To first order, which is what a Jacobian asks for.
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
