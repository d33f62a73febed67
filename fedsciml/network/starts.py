"""Starts of a network with several first-layer frequencies, of which one is taken."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace

import torch
from torch import Generator, Tensor

from fedsciml.network.base import Network
from fedsciml.network.frequency import FREQUENCIES
from fedsciml.network.mapped import Mapped
from fedsciml.network.mlp import MLP
from fedsciml.network.parallel import Parallel
from fedsciml.network.units import Corners

MANY = 1000
"""Points of the domain from which the box of features is found."""


def framed(network: Network, domain: Corners | None) -> Network:
    """The network with the box in which the centres of first layers lie.

    Itself where no part of it has a ``first``, or all know of their box.

    Args:
        network: That of a problem.
        domain: Corners of the box of its points.

    Raises:
        ValueError: If the box is not known.
    """
    return _changed(network, lambda part: _boxed(part, domain))


def automatic(network: Network) -> bool:
    """Whether a part of it asks for a first-layer frequency to be chosen."""
    return settled(network) is not network


def settled(network: Network) -> Network:
    """The network with the first of ``FREQUENCIES`` where one is to be chosen."""
    return _with(network, FREQUENCIES[0])


def starts(network: Network, seed: int, dtype: torch.dtype) -> dict[float, Tensor]:
    """The start [p] with each of ``FREQUENCIES`` where it is chosen, by frequency.

    The same numbers are drawn for each; that of the first is ``network.init``.
    """
    return {
        f: _with(network, f).init(Generator().manual_seed(seed), dtype)
        for f in FREQUENCIES
    }


def _with(network: Network, frequency: float) -> Network:
    return _changed(
        network,
        lambda part: replace(part, first=frequency) if part.first == "auto" else part,
    )


def _changed(network: Network, change: Callable[[MLP], MLP]) -> Network:
    """The network with its MLPs changed; itself where none is."""
    if isinstance(network, MLP):
        return change(network)
    if isinstance(network, Mapped):
        base = _changed(network.network, change)
        if base is network.network:
            return network
        result = copy(network)
        result.network = base
        return result
    if isinstance(network, Parallel):
        parts = [_changed(part, change) for part in network.networks]
        same = all(a is b for a, b in zip(parts, network.networks, strict=True))
        return network if same else replace(network, networks=parts)
    return network


def _boxed(network: MLP, domain: Corners | None) -> MLP:
    """With the box of what its first layer takes, if it has a use for one."""
    if network.first is None:
        return network
    if network.inputs is not None or network.box is not None:
        return network
    if domain is None:
        raise ValueError(
            "MLP(first=...) puts the centres of its neurons in the box of the points: "
            "give the problem that box, Problem(domain=(lower, upper)), or a network "
            "without features its own, MLP(inputs=(lower, upper))."
        )
    if network.features is None:
        return replace(network, box=domain)
    lower, upper = (torch.tensor(c, dtype=torch.float64, device="cpu") for c in domain)
    draw = torch.rand(
        MANY, len(lower), generator=Generator().manual_seed(0), dtype=torch.float64
    )
    taken = network.taken(lower + (upper - lower) * draw)
    return replace(network, box=(taken.amin(0).tolist(), taken.amax(0).tolist()))
