"""Collocation points and who owns them: sampling, partitions, heterogeneity."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Partition:
    """Which client owns a point: ``owner`` maps points [n, d] to client numbers [n]."""

    name: str
    clients: int
    owner: Callable[[Tensor], Tensor]


def strips(edges, axis=0):
    edges = torch.as_tensor(edges, dtype=torch.float64)

    def owner(x):
        return torch.bucketize(x[:, axis].contiguous(), edges[1:-1], right=True)

    return Partition("strips", len(edges) - 1, owner)
