r"""Where a site's sums were opened: so that no difference of sums gives a site away.

The sum over the sites A at theta less the sum over A without m at the same theta is
what m alone told; at a theta close by it is nearly that. A rule that allows sets that
differ by t sites is not enough: a sum over seven sites less two sums over three of them
each is the seventh's, and no site can know of all three. So a site that has opened a
sum takes part in sums over another set only where its points are farther than ``NEAR``
times their norm from all those of the first one.

That holds against a server that asks where its method leads. One that chooses points
finds others, far away, at which sums say the same: with the units of a layer in another
order the network is the same function. Against it only sums over one set help, from the
first to the last.

Points are kept as products with ``PRODUCTS`` random vectors that the site alone knows:
|P (x - y)|^2 / PRODUCTS is |x - y|^2 to a fifth or so (Johnson, Lindenstrauss 1984).
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, MutableMapping, Sequence
from secrets import randbits

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.secure.keys import digest

Vault = MutableMapping[str, str]
"""What a site keeps, by names, where the server cannot turn it back."""

NEAR = 0.01
"""Distance of points, relative to their norm, up to which sums are much the same."""

USUAL = 0.1
"""Size of a parameter, as networks begin: what is far smaller is no other point."""

PRODUCTS = 48

_SECRET, _SET, _POINTS = "ledger.secret", "ledger.set.", "ledger.points."


class Ledger:
    """The points of the sums that a site has opened.

    Args:
        vault: Where they are kept.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._vectors: Tensor | None = None

    def products(self, points: Tensor) -> Tensor:
        """Of points [N, p] with the random vectors, and sizes, [N, PRODUCTS + 1]."""
        if _SECRET not in self._vault:
            self._vault[_SECRET] = str(randbits(62))
        shape = points.shape[1], PRODUCTS
        if self._vectors is None or self._vectors.shape != shape:
            random = Generator("cpu").manual_seed(int(self._vault[_SECRET]))
            self._vectors = torch.randn(
                shape, generator=random, dtype=torch.float64, device="cpu"
            )
        points = points.detach().double().cpu()
        return torch.cat([points @ self._vectors, size(points)[:, None]], 1).float()

    def opened(self, members: Sequence[int], products: Tensor) -> None:
        """Keep the points of a sum over these sites."""
        name = _name(members)
        number = sum(1 for _ in self._keys(name))
        self._vault[f"{_POINTS}{name}.{number}"] = written(products)
        self._vault[_SET + name] = json.dumps(list(members))

    def beside(
        self, members: Sequence[int], products: Tensor, anywhere: bool = False
    ) -> list[int] | None:
        """Another set over which a sum was opened near one of the points, or None.

        Args:
            members: Of the sum that is asked for.
            products: Of its points.
            anywhere: Not near a point alone.
        """
        asked = products.double()
        for key in [k for k in self._vault if k.startswith(_SET)]:
            other: list[int] = json.loads(self._vault[key])
            if other == list(members):
                continue
            for word in [self._vault[k] for k in self._keys(_name(other))]:
                known = read(word).double()
                distance = torch.cdist(known[:, :-1], asked[:, :-1]) / PRODUCTS**0.5
                # Also of what is not a number nothing shows that it is far.
                far = distance > NEAR * torch.maximum(known[:, -1:], asked[:, -1])
                if anywhere or not bool(far.all()):
                    return other
        return None

    def _keys(self, name: str) -> Iterator[str]:
        start = f"{_POINTS}{name}."
        return (key for key in list(self._vault) if key.startswith(start))


def size(points: Tensor) -> Tensor:
    """What distances of points [..., p] are held against, shape [...]."""
    return points.norm(dim=-1).clamp(min=USUAL * points.shape[-1] ** 0.5)


def written(products: Tensor) -> str:
    """Products [N, PRODUCTS + 1] as a word."""
    return b64encode(products.numpy().tobytes()).decode()


def read(word: str) -> Tensor:
    """What was ``written``."""
    data = np.frombuffer(b64decode(word), np.float32)
    return torch.from_numpy(data.copy()).view(-1, PRODUCTS + 1)


def _name(members: Sequence[int]) -> str:
    """Of the same length for any number of them."""
    return digest(json.dumps(list(members)).encode()).hex()
