"""Nets of DeepXDE that are differentiated by torch.autograd, and who reads what."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

from fedsciml.alone import alone
from fedsciml.network import ModuleNetwork


class General(ModuleNetwork):
    """A net whose transforms may read its parameters as they please.

    A transform of a DeepXDE script is a function with the parameters in its scope: as
    ``net.k(x)``, which ``ModuleNetwork`` replaces by theta, or as a tensor ``k`` that
    was registered by ``net.k = k``, which is replaced here.
    """

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        with alone:  # while the module's parameters are its own
            tensors = self.tensors(theta)
            own = {id(p): tensors[name] for name, p in self.module.named_parameters()}
            with _Replaced(own):
                return super().__call__(theta, x)


class _Replaced(TorchFunctionMode):
    """Gives torch's functions other tensors for some, which are known by identity."""

    def __init__(self, tensors: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._tensors = tensors

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        named = {key: self._of(value) for key, value in (kwargs or {}).items()}
        return func(*map(self._of, args), **named)

    def _of(self, value: object) -> object:
        if type(value) is list:
            return [self._of(part) for part in value]
        if type(value) is tuple:
            return tuple(self._of(part) for part in value)
        return self._tensors.get(id(value), value)


@contextmanager
def listening(net: Module) -> Iterator[list[str]]:
    """Yields a list of the names of the parts of the net that are called meanwhile."""
    heard: list[str] = []
    handles = [
        part.register_forward_pre_hook(lambda *_, name=name: heard.append(name))
        for name, part in net.named_modules()
    ]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def leaves(values: Tensor) -> dict[int, Tensor]:
    """The leaves of the graph of the values, by their identity."""
    found, seen, todo = {}, set(), [values.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        todo += [following for following, _ in node.next_functions]
    return found
