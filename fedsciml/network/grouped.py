"""Groups of parameters of a network with low-rank factors, wherever these are in it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fedsciml.network.base import Network
from fedsciml.network.low_rank import Lora
from fedsciml.network.parallel import Parallel
from fedsciml.network.personal import AtSite, Joint


def groups(network: Network) -> Mapping[str, Tensor]:
    """Groups of the entries of a network's theta, by name; see ``Lora``.

    Of several networks with LoRA side by side they are joined, of shared parameters the
    personal ones left out; none of a network without LoRA.
    """
    if isinstance(network, Joint):
        return groups(network.network)
    if isinstance(network, Lora):
        return network.groups
    if isinstance(network, AtSite):
        number = torch.full((network.network.size,), -1, device="cpu")
        number[network.shared] = torch.arange(network.size, device="cpu")
        known = {k: number[v] for k, v in groups(network.network).items()}
        return {k: v[v >= 0] for k, v in known.items() if int(v.max()) >= 0}
    found, start = dict[str, Tensor](), 0
    for part in network.networks if isinstance(network, Parallel) else ():
        for name, numbers in groups(part).items():
            before = found.get(name, numbers[:0])
            found[name] = torch.cat([before, numbers + start])
        start += part.size
    return found
