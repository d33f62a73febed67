"""Where the weight matrices of a network lie in its theta."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from torch import nn

from fedsciml.network.base import Network, completed
from fedsciml.network.convolution import ConvNet
from fedsciml.network.layers import Dense
from fedsciml.network.mlp import MLP
from fedsciml.network.module import ModuleNetwork

Layers = Literal["all", "classifier"] | Sequence[int | str]
"""All; the last one; numbers from 0, negative from the end; names of linear modules."""


class Matrix(NamedTuple):
    """A weight matrix [out, into], row by row from ``start`` on in theta."""

    start: int
    out: int
    into: int

    @property
    def where(self) -> slice:
        """Its entries."""
        return slice(self.start, self.start + self.out * self.into)


def matrices(network: Network, layers: Layers) -> list[Matrix]:
    """The weight matrices of some layers, in their order in theta.

    Raises:
        ValueError: If the network has no weight matrices that are known, or there is no
            such layer.
    """
    known = _known(network)
    names = list(known)
    wanted: list[str] = []
    if not isinstance(layers, str):
        inside = range(-len(names), len(names))
        wanted = [names[n] if n in inside else str(n) for n in layers]  # type: ignore[index]
    elif layers in ("all", "classifier"):
        wanted = names if layers == "all" else names[-1:]
    if not wanted or any(name not in known for name in wanted):
        raise ValueError(
            f"This network has weight matrices in layers {', '.join(names)}; name some "
            f"of them, [{names[-1]!r}], or 'all', or the 'classifier', the last one. "
            f"Got {layers!r}."
        )
    return sorted({known[name] for name in wanted})


def _known(network: Network) -> Mapping[str, Matrix]:
    """Each weight matrix by its number or name."""
    found, start = dict[str, Matrix](), 0
    if isinstance(network, MLP):
        for into, out in pairwise(network.widths):
            found[str(len(found))] = Matrix(start, out, into)
            start += (into + 1) * out
        return found
    if isinstance(network, ConvNet):
        triples = zip(network.layers, network.shapes, network.sizes, strict=True)
        for layer, shapes, size in triples:
            if isinstance(layer, Dense):
                out, into = shapes[0]
                found[str(len(found))] = Matrix(start, out, into)
            start += size
        return found
    network = completed(network)
    if not isinstance(network, ModuleNetwork):
        raise ValueError(
            "Weight matrices are known of an MLP, of the dense layers of a ConvNet and "
            f"of a ModuleNetwork; got a {type(network).__name__}. Of several networks "
            "side by side write Parallel([lora(network, rank), ...])."
        )
    linear = {
        f"{name}.weight".lstrip("."): name or "0"
        for name, part in network.module.named_modules()
        if isinstance(part, nn.Linear)
    }
    for name, weight in network.module.named_parameters():
        if weight.requires_grad:
            if name in linear:
                found[linear[name]] = Matrix(start, *weight.shape)
            start += weight.numel()
    if not found:
        raise ValueError(
            "No torch.nn.Linear of this module has a weight that requires grad; set "
            "requires_grad to True. Of a fixed base it stays all the same."
        )
    return found
