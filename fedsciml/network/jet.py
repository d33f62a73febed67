r"""Jets: which derivatives a residual needs, and how they pass through a layer.

A *jet* is the value of a function together with some of its partial derivatives at n
points. Each of them is a *channel*; the channels of a layer are stacked in one tensor
[K, n, width], so that an affine layer is one matrix product for all of them.

Through an elementwise activation f the channels mix by the chain rule (Faa di Bruno,
multivariate form of Constantine and Savits, Trans. AMS 348, 1996): for the derivative
along the coordinates i_1, ..., i_k

    (f o z)_{i_1..i_k} = sum over set partitions P of {i_1..i_k}  f^(|P|)(z) prod_B z_B.

A channel may also be a *sum* of partial derivatives of one order, as the Laplacian: the
term linear in z is then shared by the whole sum (the "forward Laplacian" of Li et al.,
arXiv 2307.08214), which saves one channel per coordinate but one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedsciml.network.stand_in import Misread, StandIn, Unknown, of_a_tensor
from fedsciml.registry import suggestion

Index = tuple[int, ...]
"""Coordinates of a partial derivative, sorted: (0, 0, 1) is u_xxy, () the value."""

Channel = tuple[Index, ...]
"""A sum of partial derivatives of one order: ((0, 0), (1, 1)) is u_xx + u_yy."""

VALUE: Channel = ((),)


class Product(NamedTuple):
    """``times * prod_b z[b] ** power`` over ``factors``, pairs (channel b, power)."""

    factors: tuple[tuple[int, int], ...]
    times: int


class Mixing(NamedTuple):
    """``h[channel] += f^(order)(z[0]) * sum of products``, ``order >= 2``."""

    channel: int
    order: int
    products: tuple[Product, ...]


class Layout(NamedTuple):
    """The channels of a jet, lower orders first, closed under the chain rule.

    Attributes:
        channels: The channels; the first is the value.
        mixings: The part of the chain rule that is not linear in the derivatives.
        order: Highest order of a derivative.
    """

    channels: tuple[Channel, ...]
    mixings: tuple[Mixing, ...]
    order: int

    @property
    def firsts(self) -> list[tuple[int, int]]:
        """The first derivatives: pairs (channel, coordinate)."""
        indices = enumerate(channel[0] for channel in self.channels)
        return [(k, index[0]) for k, index in indices if len(index) == 1]


def layout(wanted: Iterable[Channel]) -> Layout:
    """The smallest closed set of channels that holds the wanted ones."""
    channels = {VALUE}
    for channel in wanted:
        channels.add(channel)
        for index in channel:
            for partition in _set_partitions(index):
                if len(partition) > 1:
                    channels.update((block,) for block in partition)
    ordered = tuple(sorted(channels, key=lambda c: (len(c[0]), len(c), c)))
    number = {channel: k for k, channel in enumerate(ordered)}
    mixings = []
    for k, channel in enumerate(ordered):
        products: dict[int, Counter[tuple[int, ...]]] = {}
        for index in channel:
            for partition in _set_partitions(index):
                if len(partition) > 1:
                    factors = tuple(sorted(number[(block,)] for block in partition))
                    products.setdefault(len(partition), Counter())[factors] += 1
        for order in sorted(products):
            mixings.append(
                Mixing(
                    k,
                    order,
                    tuple(
                        Product(tuple(sorted(Counter(factors).items())), count)
                        for factors, count in sorted(products[order].items())
                    ),
                )
            )
    return Layout(ordered, tuple(mixings), max(len(c[0]) for c in ordered))


def _set_partitions(index: Index) -> Iterator[list[Index]]:
    """All partitions of the positions of ``index`` into blocks, as sub-indices."""
    if not index:
        return
    if len(index) == 1:
        yield [index]
        return
    last = index[-1:]
    for partition in _set_partitions(index[:-1]):
        for b in range(len(partition)):
            grown = tuple(sorted(partition[b] + last))
            yield [*partition[:b], grown, *partition[b + 1 :]]
        yield [*partition, last]


class Jet(StandIn):
    """The solution and its derivatives at n points, as a residual function sees them.

    With coordinates x and t and one output, ``u.value``, ``u.x``, ``u.xx``, ``u.xt``,
    ``u.laplacian`` (the sum of the second derivatives along all coordinates) each have
    shape [n]. With several outputs named at the problem, pick one first: ``w.p.x``;
    ``w.values`` has shape [n, c]. Coordinates with longer names are written one after
    the other: ``u.x1x1``. An unknown number is an attribute too, ``u.nu``, shape [n];
    in a term with partners, ``u.partner`` is the jet at them.
    """

    def __init__(
        self,
        read: Callable[[Channel], Tensor],
        coordinates: Sequence[str],
        outputs: Sequence[str] = ("u",),
        unknowns: Sequence[str] = (),
        partner: "Jet | None" = None,
        output: int | None = None,
    ) -> None:
        self._read = read
        self._coordinates = coordinates
        self._outputs = outputs
        self._unknowns = unknowns
        self._partner = partner
        self._output = 0 if len(outputs) == 1 else output

    @property
    def values(self) -> Tensor:
        """All outputs, shape [n, c]."""
        return self._read(VALUE)[..., : len(self._outputs)]

    @property
    def partner(self) -> "Jet":
        """The jet at the points' partners."""
        if self._partner is None:
            raise Misread(
                "A residual reads u.partner, but its Term has none; give "
                "Term(..., partner=...): a second point for every point."
            )
        return self._partner

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        # A Tensor, or the Jet of one output: residuals would need a cast for the union.
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._unknowns:
            which = len(self._outputs) + self._unknowns.index(name)
            return self._read(VALUE)[..., which]
        if self._output is None and name in self._outputs:
            names = self._coordinates, self._outputs, self._unknowns
            there = self._partner
            partner = None if there is None else getattr(there, name)
            return Jet(self._read, *names, partner, self._outputs.index(name))
        try:
            wanted = channel(name, self._coordinates)
        except AttributeError as error:
            raise Unknown(self._unknown(name, str(error))) from None
        if self._output is None:
            example = f"{self._whole}.{self._outputs[0]}.{name}"
            raise Unknown(
                f"The solution has the outputs {', '.join(self._outputs)}; pick one "
                f"before the derivative, for example {example}."
            )
        return self._read(wanted)[..., self._output]

    def told(self, form: str) -> str:
        """What to write instead of what the form shows, with ``{}`` for the jet."""
        which, several = self._output, len(self._outputs) > 1
        whole = self._whole
        name = (
            whole if which is None or not several else f"{whole}.{self._outputs[which]}"
        )
        one = f"{whole}.{self._outputs[0]}" if which is None else name
        first, value = self._coordinates[0], f"{one}.value"
        outputs = f" of {', '.join(self._outputs)}" if which is None else ""
        return (
            f"{form.format(name)} takes {name} for a tensor, but it stands for values "
            f"and derivatives{outputs}. Did you mean {form.format(value)}? Tensors of "
            f"shape [n] are {value}, {one}.{first}, {one}.{first}{first}."
        )

    @property
    def _whole(self) -> str:
        """What it is called in messages: ``u``, or ``w`` where u is one output."""
        return "w" if len(self._outputs) > 1 and "u" in self._outputs else "u"

    def _unknown(self, name: str, usual: str) -> str:
        """What to say where a residual reads what there is not."""
        if name in self._outputs:
            return f"'{name}' is the only output: write u.value, u.x, without it."
        if of_a_tensor(name):
            return (
                f"{self.told(f'{{}}.{name}')} To differentiate by torch.autograd.grad "
                "or dde.grad, write Term(..., autograd=True) and take u.values [n, c] "
                "and row.points [n, d]."
            )
        known = ["value", "laplacian", *self._unknowns, *self._coordinates]
        known += [a + b for a in self._coordinates for b in self._coordinates]
        numbers = ", ".join(self._unknowns) or "none"
        return (
            f"{usual}. Unknown numbers of the network, Parallel(..., unknowns=), are: "
            f"{numbers}.{suggestion(name, known)}"
        )


def channel(name: str, coordinates: Sequence[str]) -> Channel:
    """The channel with a name such as ``value``, ``xx`` or ``laplacian``.

    Raises:
        AttributeError: If the name is not made of the coordinates' names.
    """
    return _channel(name, tuple(coordinates))


@cache
def _channel(name: str, coordinates: tuple[str, ...]) -> Channel:
    if name == "value":
        return VALUE
    if name == "laplacian":
        return tuple((i, i) for i in range(len(coordinates)))
    index: list[int] = []
    rest = name
    while rest:
        fits = [i for i, c in enumerate(coordinates) if rest.startswith(c)]
        if not fits:
            raise AttributeError(
                f"'{name}' is no derivative of the solution: the coordinates are "
                f"{', '.join(coordinates)}; write for example u.value, "
                f"u.{coordinates[0]}{coordinates[0]} or u.laplacian"
            )
        longest = max(fits, key=lambda i: len(coordinates[i]))
        index.append(longest)
        rest = rest[len(coordinates[longest]) :]
    return (tuple(sorted(index)),)


class Nested:
    """Channels of values [n, c] that are on the autograd graph of points x [n, d].

    Nested reverse mode, one backward pass a derivative: slow and general. Row i of the
    values must depend on row i of the points alone.
    """

    def __init__(self, values: Tensor, x: Tensor) -> None:
        self._x = x
        self._known: dict[Index, Tensor] = {(): values}

    def __call__(self, channel: Channel) -> Tensor:
        """The channel, shape [n, c], on the autograd graph."""
        first, *rest = channel
        with torch.enable_grad():
            return sum((self._partial(i) for i in rest), self._partial(first))

    def _partial(self, index: Index) -> Tensor:
        if index not in self._known:
            lower = self._partial(index[:-1])
            columns = [self._slope(column, index[-1]) for column in lower.unbind(-1)]
            self._known[index] = torch.stack(columns, dim=-1)
        return self._known[index]

    def _slope(self, column: Tensor, coordinate: int) -> Tensor:
        if not column.requires_grad:
            return torch.zeros_like(column)
        (slope,) = torch.autograd.grad(
            column.sum(), self._x, create_graph=True, allow_unused=True
        )
        return torch.zeros_like(column) if slope is None else slope[:, coordinate]


def derivatives(
    function: Callable[[Tensor], Tensor], points: Tensor, channels: Iterable[Channel]
) -> dict[Channel, Tensor]:
    """Channels [n, c] of a function from points [n, d] to values [n, c], detached."""
    x = points.detach().clone().requires_grad_()
    with torch.enable_grad():
        nested = Nested(function(x), x)
        return {channel: nested(channel).detach() for channel in channels}
