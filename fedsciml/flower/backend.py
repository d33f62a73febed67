"""The server's side: clients that are nodes of Flower."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedsciml.federation.backend import Reply
from fedsciml.flower.codec import REPLY_MEGABYTES, decode, encode, megabytes
from fedsciml.flower.membership import Membership, Refused
from fedsciml.flower.messenger import Messenger, log
from fedsciml.methods import Addressed, Method, Opening, Record, addressed, placed
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.fingerprint import agreement
from fedsciml.residual.held_out import Breakdown, HeldOut


@dataclass(frozen=True, eq=False)
class Flower:
    """The sites of a federation, behind Flower's ``Grid``.

    Args:
        grid: Flower's way to the nodes.
        run: Name of the run, the same after a resume; letters and digits.
        counts: Points of each term at each client, where the run began before, and 0 of
            those that were not there. It goes on without clients that do not answer.
        joined: Points of each term of clients that came since.
        need: Fewest clients that the run begins with; None for all.
        join: Seconds that the clients have for a hello.
        poll: Seconds between two looks for replies.
        reply_megabytes: Largest reply that is read.
    """

    grid: Grid
    run: str
    counts: Sequence[Sequence[int]] = ()
    joined: Mapping[int, Sequence[int]] = field(default_factory=dict)
    need: int | None = None
    join: float = 300.0
    poll: float = 0.1
    reply_megabytes: float = REPLY_MEGABYTES

    def connect(
        self,
        problem: Problem,
        method: Method,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> "Nodes":
        """The nodes that answer a hello.

        Raises:
            TimeoutError: If clients are missing after ``join`` seconds.
            ValueError: If a site cannot make its problem, made another one than the
                server, or is there twice; the message names it.
        """
        messenger, everyone = Messenger(self.grid, self.poll), range(problem.clients)
        known = {**dict(enumerate(self.counts)), **self.joined}
        membership = Membership(
            messenger,
            problem.clients,
            len(problem.terms),
            agreement(problem),
            self.join,
            {m: own for m, own in known.items() if any(own)},
            [] if problem.partial else [problem.counts(m) for m in everyone],
            method.sums_only or method.silent,
        )
        membership.gather(self.need)
        none = [0] * len(problem.terms)
        began = self.counts or [membership.counts.get(m, none) for m in everyone]
        most = self.reply_megabytes
        return Nodes(self.run, method, messenger, membership, began, device, most)


class Stamp(Record):
    """The name under which a site keeps what it remembers: round and exchange."""

    stamp: str


class Nodes:
    """The nodes that are there.

    The run begins when enough clients have answered a hello. One that does not answer
    later, or is gone, is not waited for: it gets another hello, as nodes do that are
    new, and takes part in the round after it has answered.

    Args:
        run: Name of the run.
        method: What is run.
        messenger: Way to the nodes.
        membership: Which node is which client.
        began: Points of each term at each client when the run began.
        device: Where the answers are needed.
        most: Largest reply that is read, in megabytes.

    Attributes:
        counts: Points of each term at each client; 0 if nobody knows.
        totals: Of all clients.
    """

    name = "flower"
    remote = True
    kinds: tuple[type, ...] = (Stamp,)

    def __init__(
        self,
        run: str,
        method: Method,
        messenger: Messenger,
        membership: Membership,
        began: Sequence[Sequence[int]],
        device: torch.device | str,
        most: float = REPLY_MEGABYTES,
    ) -> None:
        self._most = most
        self.run, self.method, self.device = run, method, device
        self._messenger, self._membership = messenger, membership
        self.notes: Mapping[str, object] = {"flower": {"run": run, "counts": began}}
        self._none = [0] * len(began[0])
        self._count()
        if not sum(self.totals):
            raise ValueError("No client has any rows; there is nothing to train on.")
        self._round, self._exchange = -1, 0
        self._keep: dict[int, str] = {}
        for m, own in sorted(membership.counts.items()):
            self._tell(m, own)

    def _count(self) -> None:
        """What the weights of the rows are, from what the clients have."""
        known = self._membership.counts
        self.uncounted: Mapping[int, str] = self._membership.uncounted
        everyone = range(len(known) + len(self.uncounted))
        self.counts = [known.get(m, self._none) for m in everyone]
        self.totals = [sum(column) for column in zip(*self.counts, strict=True)]
        all_rows = max(sum(self.totals), 1)
        self.shares = [sum(own) / all_rows for own in self.counts]

    def _tell(self, m: int, own: Sequence[int]) -> None:
        """What a client says that it has."""
        if any(own):
            told = "Client %d has %s points of the terms, %.1f %% of all rows."
            log.info(told, m, list(own), 100 * self.shares[m])
        else:
            log.warning("Client %d has no rows here; it takes no part.", m)

    def here(self, number: int) -> list[int]:
        """Clients that answered their last hello; others get one."""
        self._greet()
        return sorted(self._membership.nodes)

    def systems_here(self) -> Mapping[int, System]:
        """None: clients are elsewhere."""
        return {}

    def joined(self, number: int) -> dict[int, list[int]]:
        """Those whose points were not counted before, and how many they have."""
        self._greet()
        joined = self._membership.counted_in()
        self._count()
        for m, own in joined.items():
            self._tell(m, own)
            told = "It takes part from round %d on; the weights of all rows change."
            log.warning(told, number)
        return joined

    def _greet(self) -> None:
        try:
            self._membership.greet()
        except Refused as error:
            log.warning("%s", error)

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """Answers, or why there is none; see ``Clients.ask``."""
        bases = {m: _stamp(memory) for m, memory in memories.items()}
        if number != self._round:
            self._round, self._exchange, self._keep = number, 0, {}
        self._keep = {**bases, **self._keep}
        self._exchange += 1
        stamp = f"{number}.{self._exchange}"
        whole = None if isinstance(ask, Addressed) else encode(ask)

        def letter(m: int) -> RecordDict:
            order = {"stamp": stamp, "base": bases[m], "keep": self._keep[m]}
            order["run"] = self.run
            record = ConfigRecord({**order, "totals": self.totals})
            content = encode(addressed(ask, m)) if whole is None else whole
            return RecordDict({**content, "order": record})

        def answer(m: int, reply: RecordDict) -> Reply | Exception:
            remembered = _metric(reply, "remembered")
            if isinstance(remembered, Exception):
                return remembered
            size = megabytes(reply)
            if size > self._most:
                return ValueError(
                    f"its reply of {size:.3g} MB is larger than reply-megabytes, "
                    f"{self._most:g}; take a smaller rank, or let larger ones pass"
                )
            try:
                found = placed(decode(reply, self.method.kinds), self.device)
            except Exception as error:
                return error
            if not remembered:
                log.warning(
                    "In round %d client %d goes on without what it remembered after "
                    "exchange %s.",
                    *(number, m, bases[m]),
                )
            return Reply(found, Stamp(stamp))

        replies = self._replies("train", {m: letter(m) for m in memories}, deadline)
        return {
            m: reply if isinstance(reply, Exception) else answer(m, reply)
            for m, reply in replies.items()
        }

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, float | Exception]:
        """Each client's loss at theta [p], or why it is not known."""
        replies = self._evaluated(theta, clients, deadline)
        return {
            m: reply if isinstance(reply, Exception) else _metric(reply, "loss")
            for m, reply in replies.items()
        }

    def breakdown(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, Breakdown | Exception]:
        """Each client's losses at points that it does not train on, and by term."""
        replies = self._evaluated(theta, clients, deadline, {"breakdown": True})
        return {
            m: reply if isinstance(reply, Exception) else _breakdown(reply)
            for m, reply in replies.items()
        }

    def _evaluated(
        self,
        theta: Tensor,
        clients: Sequence[int],
        deadline: float | None,
        more: Mapping[str, bool] | None = None,
    ) -> dict[int, RecordDict | Exception]:
        """What each client replies about its rows at theta [p]."""
        order = ConfigRecord({"totals": self.totals, **(more or {})})
        letter = RecordDict({**encode(Opening(theta)), "order": order})
        return self._replies("evaluate", dict.fromkeys(clients, letter), deadline)

    def _replies(
        self, kind: str, letters: dict[int, RecordDict], deadline: float | None
    ) -> dict[int, RecordDict | Exception]:
        """By client, in the order of the letters; errors name client and node."""
        nodes = self._membership.nodes
        sent = {nodes[m]: letter for m, letter in letters.items() if m in nodes}
        replies = self._messenger.exchange(kind, sent, deadline)
        found: dict[int, RecordDict | Exception] = {}
        for m in letters:
            node = nodes.get(m, -1)
            reply = replies.get(node, ConnectionError("it is not there"))
            if isinstance(reply, Exception):
                reply = type(reply)(f"client {m} (node {node}): {reply}")
            if isinstance(reply, (ConnectionError, TimeoutError)):
                self._membership.forget(m)
            found[m] = reply
        return found


def _stamp(memory: Record | None) -> str:
    return memory.stamp if isinstance(memory, Stamp) else ""


def _breakdown(reply: RecordDict) -> Breakdown | Exception:
    metrics = reply.get("metrics")
    terms = metrics.get("terms") if isinstance(metrics, MetricRecord) else None
    if not isinstance(terms, list):
        return ValueError("its reply has no metric 'terms', a number for each")
    told = [_metric(reply, key) for key in HeldOut._fields]
    wrong = [value for value in told if isinstance(value, Exception)]
    if wrong:
        return wrong[0]
    return Breakdown(HeldOut(*told), tuple(terms))  # type: ignore[arg-type]


def _metric(reply: RecordDict, key: str) -> float | Exception:
    metrics = reply.get("metrics")
    value = metrics.get(key) if isinstance(metrics, MetricRecord) else None
    if isinstance(value, (int, float)):
        return value
    return ValueError(f"its reply has no metric '{key}'")
