"""The server's side: a ``Backend`` whose clients are nodes of Flower."""

from collections.abc import Sequence

import torch
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from fedsciml.federation.backend import Traffic
from fedsciml.federation.site import placed
from fedsciml.flower.codec import decode, encode
from fedsciml.flower.membership import Refused, Register, log
from fedsciml.flower.messenger import Post
from fedsciml.methods import Message, State


class Flower:
    """The sites of a federation, behind Flower's ``Grid``.

    The run begins when all clients have answered a hello. One that does not answer
    later, or is gone, is not waited for: it gets another hello, as nodes do that are
    new, and takes part again in the round after it has answered.

    Args:
        grid: Flower's way to the nodes.
        clients: How many clients there are.
        terms: How many terms their problems have.
        agreement: What their problems must be, see ``fingerprint.agreement``.
        run: Name of the run, the same after a resume; letters and digits.
        counts: Points of each term at each client, where the run began before. It then
            goes on without clients that do not answer.
        need: Fewest clients that the run begins with; None for all. Those that do not
            answer the first hello then take no part in it.
        join: Seconds that the clients have for a hello.
        poll: Seconds between two looks for replies.
        device: Where the uploads are needed.

    Attributes:
        counts: As above, of all clients.

    Raises:
        TimeoutError: If clients are missing after ``join`` seconds.
        ValueError: If a site cannot make its problem, made another one than the server,
            or is there twice; the message names it.
    """

    name = "flower"
    remote = True

    def __init__(
        self,
        grid: Grid,
        clients: int,
        terms: int,
        agreement: str,
        *,
        run: str,
        counts: Sequence[Sequence[int]] = (),
        need: int | None = None,
        join: float = 300.0,
        poll: float = 0.1,
        device: torch.device | str = "cpu",
    ) -> None:
        self.run, self.device = run, device
        self.memories: list[State] = [{} for _ in range(clients)]
        self.traffic = Traffic()
        self._post = Post(grid, poll)
        self._register = Register(self._post, clients, terms, agreement, join, counts)
        self._register.gather(need)
        self.counts = [self._register.counts[m] for m in range(clients)]
        self.totals = [sum(column) for column in zip(*self.counts, strict=True)]
        if not sum(self.totals):
            raise ValueError("No client has any rows; there is nothing to train on.")
        self.shares = [sum(own) / sum(self.totals) for own in self.counts]
        self._round, self._exchange, self._keep = -1, 0, [""] * clients
        for m, (own, share) in enumerate(zip(self.counts, self.shares, strict=True)):
            if share:
                told = "Client %d has %s points of the terms, %.1f %% of all rows."
                log.info(told, m, own, 100 * share)
            else:
                log.warning("Client %d has no rows here; it takes no part.", m)

    def here(self, number: int) -> list[int]:
        """Clients that answered their last hello; others get one."""
        del number
        try:
            self._register.greet()
        except Refused as error:
            log.warning("%s", error)
        return sorted(self._register.nodes)

    def ask(
        self,
        broadcast: Message,
        clients: Sequence[int],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Message | Exception]:
        """Uploads, or why there is none; see ``Backend.ask``."""
        if number != self._round:
            self._round, self._exchange = number, 0
            self._keep = [_stamp(memory) for memory in self.memories]
        self._exchange += 1
        stamp, content = f"{number}.{self._exchange}", encode(broadcast)

        def letter(m: int) -> RecordDict:
            order = {"stamp": stamp, "base": _stamp(self.memories[m])}
            order |= {"keep": self._keep[m], "run": self.run}
            record = ConfigRecord({**order, "totals": self.totals})
            return RecordDict({**content, "order": record})

        def upload(m: int, reply: RecordDict) -> Message | Exception:
            remembered = _metric(reply, "remembered")
            if isinstance(remembered, Exception):
                return remembered
            try:
                found = placed(decode(reply), self.device)
            except Exception as error:
                return error
            if not remembered:
                log.warning(
                    "In round %d client %d goes on without what it remembered after "
                    "exchange %s.",
                    *(number, m, _stamp(self.memories[m])),
                )
            self.memories[m] = {"stamp": stamp}
            return found

        replies = self._replies("train", {m: letter(m) for m in clients}, deadline)
        return {
            m: reply if isinstance(reply, Exception) else upload(m, reply)
            for m, reply in replies.items()
        }

    def losses(
        self, theta: Tensor, clients: Sequence[int], deadline: float | None = None
    ) -> dict[int, float | Exception]:
        """Each client's loss at theta [p], or why it is not known."""
        order = ConfigRecord({"totals": self.totals})
        letter = RecordDict({**encode({"theta": theta}), "order": order})
        replies = self._replies("evaluate", dict.fromkeys(clients, letter), deadline)
        return {
            m: reply if isinstance(reply, Exception) else _metric(reply, "loss")
            for m, reply in replies.items()
        }

    def _replies(
        self, kind: str, letters: dict[int, RecordDict], deadline: float | None
    ) -> dict[int, RecordDict | Exception]:
        """By client, in the order of the letters; errors name client and node."""
        nodes = self._register.nodes
        sent = {nodes[m]: letter for m, letter in letters.items() if m in nodes}
        replies = self._post.exchange(kind, sent, deadline)
        found: dict[int, RecordDict | Exception] = {}
        for m in letters:
            node = nodes.get(m, -1)
            reply = replies.get(node, ConnectionError("it is not there"))
            if isinstance(reply, Exception):
                reply = type(reply)(f"client {m} (node {node}): {reply}")
            if isinstance(reply, (ConnectionError, TimeoutError)):
                self._register.forget(m)
            found[m] = reply
        return found


def _stamp(memory: State) -> str:
    stamp: str = memory.get("stamp", "")
    return stamp


def _metric(reply: RecordDict, key: str) -> float | Exception:
    metrics = reply.get("metrics")
    value = metrics.get(key) if isinstance(metrics, MetricRecord) else None
    if isinstance(value, (int, float)):
        return value
    return ValueError(f"its reply has no metric '{key}'")
