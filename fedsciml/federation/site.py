"""What a site far from the server does with a message; knows no transport.

A ``Site`` has the problem, its own rows and the method. What it remembers from one
exchange to the next it keeps itself, under *stamps*: "7.2" is what it remembered after
the second exchange of round 7. The server names the stamp to start from, so a server
that crashed, or that begins a round again, finds the site as it was. Where the process
of a site does not live from message to message, ``Files`` is what does.
"""

import re
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fedsciml.federation.checkpoint import pack, unpack
from fedsciml.federation.files import replace_file
from fedsciml.methods import Leaf, Method, Record, flatten, placed, rebuild
from fedsciml.problem import Problem, SiteError
from fedsciml.residual import System
from fedsciml.residual.fingerprint import agreement, contents
from fedsciml.residual.held_out import Breakdown, Fresh
from fedsciml.residual.start import check_finite, unsuitable
from fedsciml.wrappers import fitted

log = getLogger(__name__)

_ROWS = "site.rows"  # hash of the rows, beside what the method remembers

Content = dict[str, Leaf]
"""A record, flattened, and the hash of the rows that it belongs to."""

Memories = MutableMapping[str, Content]
"""What a site remembers, by stamps."""


class ForgottenError(SiteError, LookupError):
    """A site does not remember what an exchange goes on from."""


class Order(NamedTuple):
    """How an exchange is to be remembered.

    Attributes:
        stamp: Where to put what is remembered afterwards.
        base: What to start from; "" for nothing.
        keep: The site's stamp at the start of the round; older ones may be forgotten.
    """

    stamp: str
    base: str
    keep: str


class Site:
    """One client of a problem, at home.

    Args:
        problem: With this client's rows; those of others may be missing.
        method: Whose ``client`` function is run.
        client: Its number.
        device: Where to compute.
        dtype: ``torch.float64`` or ``torch.float32``.

    Raises:
        ValueError: If there is no such client.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        client: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.problem, self.client = problem, client
        method = fitted(method, problem)
        self.method = method.bound(problem, device, dtype)
        self.counts = problem.counts(client)
        self._rows = contents(problem.shard(client))
        self._how = (device, dtype)
        self._bound: tuple[list[int], System] | None = None
        self._fresh: Fresh | None = None
        self._begun = False
        told = unsuitable(problem, problem.shard(client)) + method.advice(problem)
        for warning in told:
            log.warning("%s", warning)

    @cached_property
    def agreement(self) -> str:
        """What the site's problem is; found when asked for, as a hello alone does."""
        return agreement(self.problem)

    def system(self, totals: list[int]) -> System:
        """The residual of the site's rows; made once.

        Args:
            totals: Points of each term over all clients, for the rows' weights.

        Raises:
            ValueError: If the site has more points than all clients together.
        """
        if self._bound is None or self._bound[0] != totals:
            if len(totals) != len(self.counts) or any(
                own > total for own, total in zip(self.counts, totals, strict=True)
            ):
                raise SiteError(
                    f"Client {self.client} holds {self.counts} points of the terms, "
                    f"all clients together {totals}. Did its data change in the run?"
                )
            shard = self.problem.shard(self.client, totals)
            self._bound = totals, System(self.problem, shard, *self._how)
        return self._bound[1]

    def exchange(
        self, ask: Record, totals: list[int], order: Order, memories: Memories
    ) -> tuple[Record, bool]:
        """The answer, and whether the site remembered what it was to start from.

        A missing memory is tolerated in the first exchange of a round only; the site
        then starts from none.

        Raises:
            LookupError: If it is not remembered in a later one.
            ValueError: If the site's rows changed since.
            Exception: What the method raises.
        """
        known = not order.base or order.base in memories
        if not known and order.base != order.keep:
            raise ForgottenError(
                f"Client {self.client} does not remember exchange {order.base}, in the "
                "middle of a round. Did its process start again without its memory?"
            )
        content = dict(memories[order.base]) if order.base and known else {}
        if content.pop(_ROWS, self._rows) != self._rows:
            raise SiteError(
                f"The rows of client {self.client} are not those of exchange "
                f"{order.base}: its data changed within the run. Put back what they "
                "were, or start another run."
            )
        memory, device = None, self._how[0]
        if content:
            memory = placed(rebuild(content, self.method.kinds), device)
        part, system = self.method.part(ask), self.system(totals)
        ask = placed(ask, device)
        begins = not self._begun and not self.method.silent
        if begins and hasattr(ask, "theta"):
            check_finite(system, ask.theta, tell_point=False)
            self._begun = True
        answer, memory = part(system, ask, memory)
        for stamp in [s for s in memories if _age(s) < _age(order.keep)]:
            del memories[stamp]
        content = {} if memory is None else flatten(memory)
        memories[order.stamp] = {**content, _ROWS: self._rows}
        return answer, known

    def loss(self, theta: Tensor, totals: list[int]) -> float:
        """1/2 |r(theta)|^2 of the site's rows.

        Raises:
            SiteError: If the method tells it in sums alone.
        """
        self._check_alone()
        return self.system(totals).loss(theta.to(self._how[0]))

    def breakdown(self, theta: Tensor, totals: list[int]) -> Breakdown:
        """Losses of the site's terms, also at points that it does not train on.

        Raises:
            SiteError: As ``loss``.
        """
        self._check_alone()
        system = self.system(totals)
        if self._fresh is None or self._fresh.system is not system:
            self._fresh = Fresh(system)
        return self._fresh.breakdown(theta.to(self._how[0]))

    def _check_alone(self) -> None:
        """Refuse a number of this site alone, where only sums may leave it."""
        if self.method.sums_only:
            raise SiteError(
                f"Client {self.client} tells of its losses in secure sums alone."
            )


class Files(Memories):
    """Memories in files ``DIRECTORY/RUN.CLIENT-STAMP.safetensors``.

    A file is replaced as a whole.

    Args:
        directory: Made when the first is written.
        run: Name of the run, letters and digits.
        client: The site's number.

    Raises:
        ValueError: If the name of the run, or a stamp, could lead out of the directory.
    """

    def __init__(self, directory: Path | str, run: str, client: int) -> None:
        if not run.isalnum():
            raise ValueError(f"A run's name is of letters and digits, got {run!r}.")
        self.directory, self._prefix = Path(directory), f"{run}.{client}-"

    def __getitem__(self, stamp: str) -> Content:
        path = self._path(stamp)
        if not path.is_file():
            raise KeyError(stamp)
        try:
            return unpack(path)
        except ValueError as error:
            raise SiteError(
                f"{path.name}, what the site remembers, is damaged. Remove it; the "
                "site then starts its round without memory.",
                f"The file is {path}: {error}.",
            ) from error

    def __setitem__(self, stamp: str, memory: Content) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(self._path(stamp), pack(memory))

    def __delitem__(self, stamp: str) -> None:
        self._path(stamp).unlink()

    def __contains__(self, stamp: object) -> bool:
        return isinstance(stamp, str) and self._path(stamp).is_file()

    def __iter__(self) -> Iterator[str]:
        for path in sorted(self.directory.glob(f"{self._prefix}*.safetensors")):
            yield path.stem.removeprefix(self._prefix)

    def __len__(self) -> int:
        return sum(1 for _ in self)  # list(self) would ask for the length

    def _path(self, stamp: str) -> Path:
        _age(stamp)
        return self.directory / f"{self._prefix}{stamp}.safetensors"


def _age(stamp: str) -> tuple[int, int]:
    """Round and exchange of a stamp; (0, 0) of none."""
    if not stamp:
        return 0, 0
    if not re.fullmatch(r"\d+\.\d+", stamp):
        raise ValueError(f"A stamp is ROUND.EXCHANGE, such as 7.2; got {stamp!r}.")
    round_, _, exchange = stamp.partition(".")
    return int(round_), int(exchange)
