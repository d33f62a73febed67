"""What stands for tensors but is none, and says so where it is used as one."""

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from torch import Tensor


class Misread(ValueError):
    """A jet or a row is used as what it is not; the message says what to write."""


class Unknown(Misread, AttributeError):
    """A jet or a row has nothing of that name."""


SIGNS = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/", "true_divide": "/"},
    **{"subtract": "-", "multiply": "*", "divide": "/", "pow": "**", "power": "**"},
}
"""Of torch's and NumPy's names of operations."""


def _refused(form: str) -> Callable[..., NoReturn]:
    """A method that refuses what the form shows, with ``{}`` for the object."""

    def refused(self: "StandIn", *_: object) -> NoReturn:
        raise Misread(self.told(form))

    return refused


class StandIn:
    """Refuses arithmetic, comparison, indexing, calls, functions of torch and NumPy."""

    def told(self, form: str) -> str:
        """What to write instead of what the form shows, with ``{}`` for the object."""
        raise NotImplementedError

    __add__, __radd__ = _refused("{} + ..."), _refused("... + {}")
    __sub__, __rsub__ = _refused("{} - ..."), _refused("... - {}")
    __mul__, __rmul__ = _refused("{} * ..."), _refused("... * {}")
    __truediv__, __rtruediv__ = _refused("{} / ..."), _refused("... / {}")
    __floordiv__, __rfloordiv__ = _refused("{} // ..."), _refused("... // {}")
    __mod__, __rmod__ = _refused("{} % ..."), _refused("... % {}")
    __pow__, __rpow__ = _refused("{} ** ..."), _refused("... ** {}")
    __matmul__, __rmatmul__ = _refused("{} @ ..."), _refused("... @ {}")
    __lt__, __le__ = _refused("{} < ..."), _refused("{} <= ...")
    __gt__, __ge__ = _refused("{} > ..."), _refused("{} >= ...")
    __eq__, __ne__ = _refused("{} == ..."), _refused("{} != ...")
    __neg__, __pos__, __abs__ = _refused("-{}"), _refused("+{}"), _refused("abs({})")
    __invert__, __bool__ = _refused("~{}"), _refused("if {}:")
    __float__, __int__ = _refused("float({})"), _refused("int({})")
    __getitem__, __call__ = _refused("{}[...]"), _refused("{}(...)")
    __len__, __iter__ = _refused("len({})"), _refused("for ... in {}")
    __array__ = _refused("numpy.asarray({})")
    __hash__ = object.__hash__

    def __array_ufunc__(self, ufunc: Any, *_: object, **__: object) -> NoReturn:  # noqa: ANN401
        raise Misread(self.told(_called(ufunc.__name__)))

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., object],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: object = None,
    ) -> NoReturn:
        listed = [
            *args,
            *(a for arg in args if isinstance(arg, (list, tuple)) for a in arg),
        ]
        name = function.__name__.strip("_")
        for found in listed:
            if isinstance(found, StandIn):
                raise Misread(found.told(_called(name)))
        raise Misread(f"torch.{name} takes tensors: u.value, u.x, row.x, row.target.")


def _called(name: str) -> str:
    """The form of a function or an operation, as it is written with torch."""
    return f"... {SIGNS[name]} {{}}" if name in SIGNS else f"torch.{name}({{}})"


def of_a_tensor(name: str) -> bool:
    """Whether tensors have such an attribute; one letter may be a coordinate's."""
    return len(name) > 1 and name[:1] != "_" and hasattr(Tensor, name)
