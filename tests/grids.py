"""Flower's nodes in this process, with faults."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, RecordDict, UserConfig

from fedsciml.flower import Flower, LocalGrid, client_app
from fedsciml.flower.backend import Nodes
from fedsciml.methods import Method
from fedsciml.problem import Problem

Fault = Callable[[Message], Message | None]
"""From a reply to what the server gets instead; None for nothing."""


@dataclass
class Faults:
    """What goes wrong on a grid.

    Attributes:
        replies: By node, what happens to its replies to messages of a kind.
        kind: Of messages.
        away: Nodes that are not there.
    """

    replies: dict[int, Fault] = field(default_factory=dict)
    kind: str = "train"
    away: set[int] = field(default_factory=set)


GONE = 1
"""The client that fails, of three."""

NODE = GONE + 1
"""Its node."""


class FaultyGrid(LocalGrid):
    """A ``LocalGrid`` with faults, which can be changed as it goes.

    Args:
        problem: Of all nodes.
        method: Of all nodes.
        problems: Of a node, where it is another; or what making it raises.
        configs: What is otherwise in the node config of some nodes.
    """

    def __init__(
        self,
        problem: Problem,
        method: Method,
        problems: Mapping[int, Problem | Exception] | None = None,
        configs: Mapping[int, UserConfig] | None = None,
    ) -> None:
        def problem_of(run: UserConfig, node: UserConfig) -> Problem:
            number = node["partition-id"]
            assert isinstance(number, int)
            found = (problems or {}).get(number + 1, problem)
            if isinstance(found, Exception):
                raise found
            return found

        nodes: list[UserConfig] = [
            {
                "partition-id": m,
                "num-partitions": problem.clients,
                **(configs or {}).get(m + 1, {}),
            }
            for m in range(problem.clients)
        ]
        super().__init__(client_app(problem_of, lambda run: method), nodes, {})
        self.problem, self.method = problem, method
        self.faults = Faults()
        self.sent: list[tuple[str, int]] = []

    def backend(self, **options: Any) -> Flower:  # noqa: ANN401
        """The server's side; see ``no_waiting`` for sites that do not answer."""
        return Flower(self, **{"run": "test", "join": 60.0, "poll": 0.001, **options})

    def connected(self, **options: Any) -> Nodes:  # noqa: ANN401
        """The nodes, after their hello."""
        return self.backend(**options).connect(self.problem, self.method)

    def move(self, node: int, to: int) -> None:
        """The node comes back under another number, with an empty state."""
        old = self.contexts.pop(node)
        self.contexts[to] = type(old)(
            1, to, old.node_config, type(old.state)(), old.run_config
        )

    def get_node_ids(self) -> Iterable[int]:
        """Those that are there."""
        return [n for n in super().get_node_ids() if n not in self.faults.away]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """What is sent to a node that is away stays without reply."""
        sent = []
        for message in messages:
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            self.sent.append((kind, node))
            (identity,) = super().push_messages([message])
            fault = self.faults.replies.get(node) if kind == self.faults.kind else None
            if node in self.faults.away:
                del self._replies[identity]
            elif fault and identity in self._replies:  # else it came too late
                reply = fault(self._replies.pop(identity))
                if reply is not None:
                    self._replies[identity] = reply
            sent.append(identity)
        return sent


def instead(content: RecordDict) -> Callable[[Message], Message]:
    """Another reply than the site's."""

    def fault(reply: Message) -> Message:
        return Message(content, metadata=reply.metadata)  # type: ignore[call-overload]

    return fault
