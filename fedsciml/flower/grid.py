"""A whole federation over Flower in one process: no server, no Ray, the real apps."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import torch
from flwr.app import Context, Error, Message, RecordDict, UserConfigValue
from flwr.app import UserConfig as Config
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedsciml.federation.participation import Rules
from fedsciml.federation.progress import Progress
from fedsciml.federation.result import Result
from fedsciml.flower.apps import client_app, server_app
from fedsciml.methods import Method
from fedsciml.problem import Problem
from fedsciml.secure.seat import seats
from fedsciml.wrappers.secure import Secure


class LocalGrid(Grid):
    """Nodes in this process, who answer one after the other when they are asked.

    Every message, reply and node state goes through Flower's protobuf and back, so what
    cannot be sent, or comes out otherwise, shows. A deadline does not interrupt a node,
    but what it replies later is thrown away.

    Args:
        app: What runs on the nodes.
        node_configs: Of each node; the nodes are numbered from 1.
        run_config: Of the run.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: Sequence[Mapping[str, UserConfigValue]],
        run_config: Mapping[str, UserConfigValue],
    ) -> None:
        self.app = app
        self.contexts = {
            node: Context(1, node, dict(config), RecordDict(), dict(run_config))
            for node, config in enumerate(node_configs, 1)
        }
        self._replies: dict[str, Message] = {}
        self._number = count(1)
        # Flower signs messages with what its own processes set when they start.
        TaskIdentity.task_id, TaskIdentity.run_id = 1, 1
        TaskIdentity.node_id = SUPERLINK_NODE_ID

    def get_node_ids(self) -> Iterable[int]:
        """All nodes."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Run the nodes' app on the messages."""
        sent = []
        for message in messages:
            identity, begin = str(next(self._number)), time.monotonic()
            message.metadata.__dict__["_message_id"] = identity
            reply = self._reply(_travelled(message))
            if time.monotonic() - begin <= message.metadata.ttl:
                self._replies[identity] = reply
            sent.append(identity)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The replies, once each."""
        known = [i for i in message_ids if i in self._replies]
        return [self._replies.pop(identity) for identity in known]

    def _reply(self, message: Message) -> Message:
        context = self.contexts.get(message.metadata.dst_node_id)
        if context is None:
            error = Error(ErrorCode.NODE_UNAVAILABLE, "there is no such node")
            return Message(error, reply_to=message)
        try:
            reply = self.app(message, context)
        except Exception as error:
            # In the words of Flower's own client process.
            reason = f"{type(error)}:<'{error}'>"
            code = ErrorCode.CLIENT_APP_RAISED_EXCEPTION
            reply = Message(Error(code, reason), reply_to=message)
        state = recorddict_to_proto(context.state)
        context.state = recorddict_from_proto(
            state.FromString(state.SerializeToString())
        )
        return _travelled(reply)

    def set_run(self, run: Run) -> None:
        """There is one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(1)

    def create_message(self, *_: object, **__: object) -> NoReturn:
        """Flower's old way to make a message."""
        raise NotImplementedError("Make a flwr.app.Message.")

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """All replies."""
        return self.pull_messages(self.push_messages(messages))


def _travelled(message: Message) -> Message:
    """What comes out at the other end."""
    proto = message_to_proto(message)
    return message_from_proto(proto.FromString(proto.SerializeToString()))


def run(
    problem: Problem,
    method: Method,
    rounds: int = 50,
    seed: int = 0,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    rules: Rules | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    progress: Progress = None,
    **options: Any,  # noqa: ANN401
) -> Result:
    """``fedsciml.run`` by the ServerApp and the ClientApp over a ``LocalGrid``.

    The same bytes of theta. What the sites remember is in ``out/memories``, so that a
    resumed run ends the same, too. For secure sums seats are made for all nodes, as for
    all clients in process.

    Args:
        problem: As there, as all arguments.
        method: Not a centralised one.
        rounds: Number of rounds.
        seed: Of all that is random.
        out: Run directory.
        resume: Continue the run in it.
        rules: Which rounds count.
        device: Where server and sites compute.
        dtype: ``torch.float64`` or ``torch.float32``.
        progress: Whether a bar is drawn, or what is told each line of the history.
        options: Others.

    Raises:
        Exception: As ``fedsciml.run``; and ValueError for a centralised method.
    """
    config: Config = {
        "num-server-rounds": rounds,
        "seed": seed,
        "resume": resume,
        "dtype": str(dtype).removeprefix("torch."),
    }
    node: Config = {"num-partitions": problem.clients, "device": str(device)}
    if out is not None:
        config["out"], node["memory"] = str(out), str(Path(out) / "memories")
    config |= {
        {"min_clients": "min-available-nodes"}.get(key, key): value
        for key, value in asdict(rules or Rules()).items()
        if value is not None
    }
    if isinstance(method, Secure) and method.seats is None:
        method = replace(method, seats=seats(problem.clients))
    results: list[Result] = []
    sites = client_app(lambda run_config, node_config: problem, lambda config: method)
    nodes: list[Config] = [{"partition-id": m, **node} for m in range(problem.clients)]
    server = server_app(
        lambda run_config, node_config: problem,
        lambda config: method,
        done=results.append,
        progress=progress,
        device=device,
        **options,
    )
    server(
        LocalGrid(sites, nodes, config),
        Context(1, SUPERLINK_NODE_ID, {}, RecordDict(), config),
    )
    return results[0]
