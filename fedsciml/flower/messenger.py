"""Letters to nodes and their replies, over Flower's ``Grid``."""

import time
from collections.abc import Mapping
from logging import getLogger

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedsciml.problem.outward import line

log = getLogger("flwr")
"""Flower's own logger: ``flwr run --stream`` shows what it is told."""

RAISED = 2
"""Flower's code for an app that raised."""

FAILED = (1, RAISED)
"""Flower's codes for an app that cannot be loaded, or that raised. All others say that
the node or a message is gone."""


class Messenger:
    """Sends letters one by one and waits for the replies.

    One by one, as Flower bounds the size of what is sent at once and does not tell
    which of several letters it did not take; and as a reply that Flower cannot read
    must not take the others with it.

    Args:
        grid: Flower's way to the nodes.
        poll: Seconds between two looks for replies.
    """

    def __init__(self, grid: Grid, poll: float) -> None:
        self.grid, self.poll = grid, poll
        self._lost = False

    def nodes(self) -> set[int] | None:
        """Nodes that are there; None if Flower does not say."""
        try:
            there = set(self.grid.get_node_ids())
        except Exception as error:
            self._trouble("does not say which nodes are there", error)
            return None
        self._lost = False
        return there

    def send(
        self, node: int, kind: str, letter: RecordDict, ttl: float | None
    ) -> str | None:
        """What the reply can be taken by; None if Flower did not take the letter.

        Args:
            node: Where to.
            kind: Flower's message type.
            letter: The content.
            ttl: Seconds after which letter and reply are thrown away.
        """
        message = Message(letter, dst_node_id=node, message_type=kind, ttl=ttl)
        try:
            return next(iter(self.grid.push_messages([message])), None)
        except Exception as error:
            self._trouble("took no message", error)
            return None

    def take(self, sent: str) -> RecordDict | Exception | None:
        """The reply's content, or why there is none; None while it has not come.

        A ``ConnectionError`` says that the node is gone, a ``RuntimeError`` that its
        app failed.
        """
        try:
            reply = next(iter(self.grid.pull_messages([sent])), None)
            if reply is None:
                return None
            if not reply.has_error():
                return reply.content
        except Exception as error:
            return ValueError(line(f"the reply cannot be read: {error!r}"))
        code, lines = reply.error.code, (reply.error.reason or "").split("\n")
        reason = next((text.strip() for text in reversed(lines) if text.strip()), "")
        told = line(f"Flower's error {code}: {reason or 'no reason given'}")
        return RuntimeError(told) if code in FAILED else ConnectionError(told)

    def exchange(
        self, kind: str, letters: Mapping[int, RecordDict], deadline: float | None
    ) -> dict[int, RecordDict | Exception]:
        """Each node's reply until the deadline, or why there is none.

        A ``TimeoutError`` stands for one that has not come.
        """
        end = None if deadline is None else time.monotonic() + deadline
        found: dict[int, RecordDict | Exception] = {}
        waiting: dict[int, str] = {}
        for node, letter in letters.items():
            sent = self.send(node, kind, letter, deadline)
            if sent is None:
                found[node] = ConnectionError("Flower did not take the message")
            else:
                waiting[node] = sent
        while waiting:
            for node, sent in list(waiting.items()):
                reply = self.take(sent)
                if reply is not None:
                    found[node] = reply
                    del waiting[node]
            left = self.poll if end is None else end - time.monotonic()
            if left <= 0:
                break
            if waiting:
                time.sleep(min(self.poll, left))
        late = f"no reply within {deadline} s"
        return found | {node: TimeoutError(late) for node in waiting}

    def _trouble(self, what: str, error: Exception) -> None:
        """Tell it once: Flower's server may be busy with something too large."""
        if not self._lost:
            log.warning("Flower's server %s: %s", what, line(repr(error)))
        self._lost = True
