"""Which node is which client: the hello that comes before everything else."""

import time
from collections.abc import Mapping, Sequence

from flwr.app import ConfigRecord, RecordDict

from fedsciml.flower.messenger import Messenger, log
from fedsciml.problem.outward import line

MOST = 10**12
"""Points of a term at a client are fewer: sums over the clients fit in 64 bits."""

LONGEST = 500
"""Letters of a refusal, of which a node may have written most."""


class Refused(ValueError):
    """A site that cannot take part."""


class Membership:
    """The nodes that answered a hello.

    Every node that is not known to be there gets a hello. Its reply says which client
    it is, what its problem is, and how many points of each term it has.

    The run begins with those that answer the first one. Another client may come later.
    Where its points were counted from the first it is like one that was away; else it
    waits until it is ``counted_in``, as then the weights of all rows change.

    Args:
        messenger: Way to the nodes.
        clients: How many clients there are.
        terms: How many terms their problems have.
        agreement: What their problems must be.
        join: Seconds that a node has for its reply.
        counts: Points of each term, by client, of those that were counted in a run that
            goes on; none in one that begins.
        expected: Likewise of all clients, where the server can make their points.
        fixed: Whether weights stay as they are, and sites take part in sums over one
            set of sites alone unless their hello says otherwise.

    Attributes:
        nodes: Of the clients that are there.
        counts: Points of each term, by client, as far as they are counted.
    """

    def __init__(
        self,
        messenger: Messenger,
        clients: int,
        terms: int,
        agreement: str,
        join: float,
        counts: Mapping[int, Sequence[int]] | None = None,
        expected: Sequence[Sequence[int]] = (),
        fixed: bool = False,
    ) -> None:
        self.nodes: dict[int, int] = {}
        self.counts = {m: list(own) for m, own in (counts or {}).items()}
        self._expected, self._fixed = expected, fixed
        self._begins, self._loose = not self.counts, True
        self._waiting: dict[int, tuple[int, list[int]]] = {}  # node and points
        self._messenger, self._clients, self._terms = messenger, clients, terms
        self._agreement, self._join = agreement, join
        self._asked: dict[int, tuple[str, float]] = {}  # node: hello, until when
        self._refused: dict[int, float] = {}  # node: until when

    def gather(self, need: int | None = None) -> None:
        """Wait for the first hello of all clients.

        Args:
            need: Fewest that the run begins with; None for all.

        Raises:
            Refused: If a site cannot take part in a run that begins: that is to be
                mended, not left out. In one that is resumed it is left out for now.
            TimeoutError: If too few answer; in a run that goes on one is enough.
        """
        until = time.monotonic() + self._join
        while True:
            try:
                self.greet()
            except Refused as error:
                if self._begins:
                    raise
                log.warning("%s", error)
            came = len(self.nodes) + len(self._waiting) + len(self._refused)
            if came >= self._clients or time.monotonic() >= until:
                break
            time.sleep(self._messenger.poll)
        missing = [m for m in range(self._clients) if m not in self.nodes]
        few = self._begins and len(self.nodes) < (need or self._clients)
        if few or not self.nodes:
            raise TimeoutError(
                f"Of {self._clients} clients {len(self.nodes)} answered within "
                f"{self._join:g} s; there is no word from {missing}. Start a node with "
                "each of these numbers as its partition-id, or wait longer."
            )
        if self._begins and self._expected and (self._loose or not self._fixed):
            self.counts |= {m: list(self._expected[m]) for m in missing}
        self._begins = False
        for why in self.uncounted.values():
            log.warning("No answer within %g s: %s", self._join, why)
        if away := [m for m in missing if m in self.counts]:
            log.warning("The run goes on without the clients %s until they come.", away)

    @property
    def uncounted(self) -> dict[int, str]:
        """Clients of whom nobody knows how many points they have, and what follows."""
        then = "has not come. When it does the weights of all rows change."
        if self._fixed:
            then = (
                "was not there when this run of sums over one set of sites began; "
                "start another one to have it in."
            )
        everyone = range(self._clients)
        return {m: f"Client {m} {then}" for m in everyone if m not in self.counts}

    def counted_in(self) -> dict[int, list[int]]:
        """Take in those who wait; the points of each term of each."""
        joined = {m: own for m, (_, own) in sorted(self._waiting.items())}
        self.nodes |= {m: node for m, (node, _) in self._waiting.items()}
        self._waiting.clear()
        self.counts |= joined
        return joined

    def greet(self) -> None:
        """Take in what nodes reply to a hello, and send one to others; at once.

        Raises:
            Refused: If a site cannot take part; it is asked again after ``join``
                seconds, or when it was away or another client is lost.
        """
        there, now = self._messenger.nodes(), time.monotonic()
        if there is None:
            return
        until = now + self._join
        for m in [m for m, node in self.nodes.items() if node not in there]:
            self.forget(m)
        self._waiting = {m: it for m, it in self._waiting.items() if it[0] in there}
        self._asked = {
            node: (sent, end)
            for node, (sent, end) in self._asked.items()
            if node in there and end > now
        }
        self._refused = {
            node: end
            for node, end in self._refused.items()
            if node in there and end > now
        }
        letter = RecordDict({"config": ConfigRecord({"action": "hello"})})
        known = {*self._refused, *self._asked, *self.nodes.values()}
        known |= {node for node, _ in self._waiting.values()}
        for node in sorted(there - known):
            sent = self._messenger.send(node, "query.hello", letter, self._join)
            if sent is not None:
                self._asked[node] = sent, until
        refusals = []
        for node, (sent, _) in list(self._asked.items()):
            reply = self._messenger.take(sent)
            if reply is not None:
                del self._asked[node]
            # A node that is gone gets another hello when it is back.
            if reply is None or isinstance(reply, ConnectionError):
                continue
            try:
                self._enter(node, reply)
            except Refused as error:
                self._refused[node] = until
                refusals.append(line(str(error), LONGEST))
        if refusals:
            raise Refused(" ".join(refusals))

    def forget(self, client: int) -> None:
        """The client must answer a hello before it is there again."""
        self.nodes.pop(client, None)
        self._refused.clear()  # one of them may be its new node

    def _enter(self, node: int, reply: RecordDict | Exception) -> None:
        if isinstance(reply, Exception):
            raise Refused(f"Node {node} cannot take part: {reply}")
        told = reply.get("config")
        told = told if isinstance(told, ConfigRecord) else ConfigRecord()
        m, counts = told.get("partition-id"), told.get("counts")
        if "error" in told:
            wrong = str(told["error"])
            raise Refused(f"Client {m!r} (node {node}) cannot take part: {wrong}")
        if not (isinstance(m, int) and isinstance(counts, list)):
            raise Refused(f"Node {node} is no site of this federation; it says {told}.")
        if not 0 <= m < self._clients:
            raise Refused(
                f"Node {node} says that it is client {m}, but the clients are 0 to "
                f"{self._clients - 1}; correct its partition-id."
            )
        there = self.nodes | {m: node for m, (node, _) in self._waiting.items()}
        if m in there:
            raise Refused(
                f"Client {m} is there twice, as node {there[m]} and as node {node}; "
                "give each site a partition-id of its own."
            )
        if told.get("agreement") != self._agreement:
            raise Refused(
                f"Client {m} (node {node}) has another problem than the server: "
                "equation, network, terms, weights or options differ. Run the same "
                "version with the same options everywhere."
            )
        own = [n for n in counts if isinstance(n, int) and 0 <= n < MOST]
        if not len(own) == len(counts) == self._terms:
            raise Refused(
                f"Client {m} (node {node}) must say how many points of each of the "
                f"{self._terms} terms it has, a number of less than {MOST:.0e}; it "
                f"says {counts}."
            )
        known = self.counts.get(m, [])
        if any(known) and own != known:
            raise Refused(
                f"Client {m} (node {node}) has {own} points of the terms, but is "
                f"counted with {known}. Put back its data, or start another run."
            )
        self._loose &= told.get("one-set") is False
        if self._begins or own == known or not any(own):
            self.counts[m], self.nodes[m] = own, node
        elif self._fixed:
            raise Refused(
                f"This run of sums over one set of sites began without client {m} "
                f"(node {node}); start another one to have it in."
            )
        else:
            self._waiting[m] = node, own
