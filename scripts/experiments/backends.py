"""What carrying costs: overhead of Flower's messages, and rounds of very many clients.

``overhead``: the same exchanges of FIPA in process and over Flower in one process (the
real apps, every record through Flower's protobuf and back); the difference of their
CPU seconds, per client and exchange. allen_cahn, p = 2209, rank 20; medians.

``scaling``: rounds of FIPA with no option set on allen_cahn, a few rows a client, each
number of clients in a process of its own: CPU seconds a round of all clients and of
the server apart (a median), and the process's peak memory above what it has before the
problem is made. Three minutes of one core.
"""

import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from experiments._drawing import Drawing, chosen
from experiments._experiment import Experiment
from experiments._record import Entry, grouped, select, short
from experiments._table import Cell, Table
from fedsciml import methods, plot, problems
from fedsciml.federation.backend import Clients
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.traffic import size
from fedsciml.methods import Method, Record, conclude, flatten, payload
from fedsciml.methods._fipa import Probe, Sketched
from fedsciml.plot import Curve, Panel
from fedsciml.problem import Problem

CLIENTS = (10, 30, 100, 300, 1000)
BACKENDS = {"inprocess": "in process", "flower-local": "Flower, in one process"}
ROUNDS = 5
"""Of which the first is not counted."""

ROWS = 16
"""Of a client, on average."""


def connected(name: str, problem: Problem, method: Method) -> Clients:
    """The clients behind a backend."""
    if name == "inprocess":
        return InProcess().connect(problem, method)
    from fedsciml.flower import Flower, LocalGrid, client_app

    app = client_app(lambda *configs: problem, lambda config: method)
    m = problem.clients
    nodes: list[dict[str, Any]] = [
        {"partition-id": k, "num-partitions": m} for k in range(m)
    ]
    return Flower(LocalGrid(app, nodes, {}), "benchmark").connect(problem, method)


class Exchange(NamedTuple):
    """An ask, the answers, and the CPU seconds that each way to the clients took."""

    ask: Record
    answers: Sequence[Record]
    seconds: Sequence[float]


def exchanges(
    problem: Problem, method: Method, ways: Sequence[Clients], rounds: int
) -> Iterator[tuple[float, list[Exchange]]]:
    """CPU seconds of the server, and the exchanges, of each round.

    The server goes on with the answers of the first way; the others' must be the same.
    """
    start = problem.network.init(Generator().manual_seed(0), torch.float64)
    state = method.start(start, 0)
    memories: list[dict[int, Any]] = [
        dict.fromkeys(range(problem.clients)) for _ in ways
    ]
    for number in range(1, rounds + 1):
        found: list[Exchange] = []

        def answers(
            ask: Record, number: int = number, found: list[Exchange] = found
        ) -> Mapping[int, Record]:
            seconds, each = [], []
            for clients, memory in zip(ways, memories, strict=True):
                begin = time.process_time()
                replies = clients.ask(ask, memory, number, None)
                seconds.append(time.process_time() - begin)
                for m, reply in replies.items():
                    if isinstance(reply, Exception):
                        raise reply
                    memory[m] = reply.memory
                each.append({m: r.answer for m, r in replies.items()})  # type: ignore[union-attr]
            first, *others = each
            assert all(_same(first[m], other[m]) for other in others for m in first)
            found.append(Exchange(ask, list(first.values()), seconds))
            return first

        begin = time.process_time()
        state, _ = conclude(method.round(state), answers)
        taken = time.process_time() - begin
        yield taken - sum(sum(exchange.seconds) for exchange in found), found


def _same(one: Record, other: Record) -> bool:
    a, b = flatten(one), flatten(other)
    return list(a) == list(b) and all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x == y
        for x, y in zip(a.values(), b.values(), strict=True)
    )


def overhead(clients: int, rounds: int = 20) -> Entry:
    """Milliseconds per client and exchange that Flower's messages cost."""
    problem = problems.load("allen_cahn", clients=clients)
    method = methods.load("fipa", rank="20")
    ways = [connected(name, problem, method) for name in BACKENDS]
    extra: dict[str, list[float]] = {"sketch": [], "probe": []}
    sent = 0
    for number, (_, found) in enumerate(exchanges(problem, method, ways, rounds)):
        for ask, answers, (plain, flower) in found if number else ():
            kind = "probe" if isinstance(ask, Probe) else "sketch"
            extra[kind].append(1e3 * (flower - plain) / clients)
            sent = max(sent, payload(answers[0]))
    return {
        "parameters": problem.network.size,
        "bytes": sent,
        **{f"{kind}_ms": short(median(ms)) for kind, ms in extra.items()},
        "worst_ms": short(max(map(max, extra.values()))),
    }


def scaling(backend: str, clients: int) -> Entry:
    """Seconds and memory of a process with so many clients."""
    before = _peak()
    # The published points of two clients are 800.
    problem = problems.load("allen_cahn", clients=clients, points=ROWS * clients / 800)
    method = methods.load("fipa")
    begin = time.process_time()
    way = connected(backend, problem, method)
    made = time.process_time() - begin
    asked, server, ranks = [], [], []
    for merging, found in exchanges(problem, method, [way], ROUNDS):
        asked.append(sum(sum(exchange.seconds) for exchange in found))
        server.append(merging)
        sketches = [a for a in found[0].answers if isinstance(a, Sketched)]
        ranks.append(sum(len(sketch.factor) for sketch in sketches))
    rows = sum(len(rows.points) for shard in problem.shards() for rows in shard.rows)
    return {
        "parameters": problem.network.size,
        "rows": rows,
        "sum_rank": round(median(ranks[1:])),
        "clients_s": short(median(asked[1:])),
        "server_s": short(median(server[1:])),
        "made_s": short(made),
        "peak_MB": short(_peak() - before),
        "base_MB": short(before),
    }


def measure(kind: str, backend: str, clients: int) -> Entry:
    """One of both."""
    return overhead(clients) if kind == "overhead" else scaling(backend, clients)


def _peak() -> float:
    """Megabytes that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Overhead, and scaling."""
    small: list[list[Cell]] = []
    for e in sorted(select(entries, kind="overhead"), key=lambda e: e["clients"]):
        sizes = [str(e["clients"]), e["parameters"], size(e["bytes"])]
        small.append(
            [*sizes, *(str(e[f"{k}_ms"]) for k in ("sketch", "probe", "worst"))]
        )
    large: list[list[Cell]] = []
    runs = select(entries, kind="scaling")
    for e in sorted(runs, key=lambda e: (e["backend"][::-1], e["clients"])):
        m = e["clients"]
        row: list[Cell] = [e["backend"], m, e["rows"], e["sum_rank"]]
        for seconds in (e["clients_s"], e["server_s"]):
            row += [f"{seconds:.2g}", f"{1e3 * seconds / m:.2g}"]
        large.append([*row, f"{e['peak_MB']:.0f}", f"{e['peak_MB'] / m:.2g}"])
    heads = ["clients", "p", "upload", "ms, sketch", "ms, probe", "ms, worst"]
    wide = ["backend", "clients", "rows", "rows of all sketches", "clients, s / round"]
    wide += ["ms / client", "server, s / round", "server, ms / client"]
    wide += ["peak MB", "MB / client"]
    page = "docs/wire.md"
    return [
        Table("overhead", "Flower's messages:", heads, small, page),
        Table("scaling", "Very many clients:", wide, large, page),
    ]


def crowds(entries: Sequence[Entry]) -> plot.Figure:
    """Seconds of clients and server against the number of clients."""
    seconds = "CPU seconds a round"
    parts = [
        growing(entries, "clients_s", "all clients", seconds),
        growing(entries, "server_s", "server", seconds),
    ]
    return plot.panels(parts, 2, height=2.4, legend="below")


def memory(entries: Sequence[Entry]) -> plot.Figure:
    """Memory against the number of clients."""
    part = growing(entries, "peak_MB", "", "peak memory of the process, MB")
    return plot.panels([part], 1, width=plot.COLUMN, height=2.6, legend="below")


def growing(entries: Sequence[Entry], key: str, words: str, label: str) -> Panel:
    """A quantity against the number of clients, beside linear growth."""
    curves = []
    for k, (backend, mine) in enumerate(
        grouped(chosen(entries, kind="scaling"), "backend").items()
    ):
        order = sorted(mine, key=lambda e: e["clients"])
        x, y = ([e[name] for e in order] for name in ("clients", key))
        curves.append(Curve(BACKENDS[backend], x, y, k, 0, k + 1))
    last = max(y[-1] for y in (curve.y for curve in curves))
    ends = [x[0], x[-1]]
    level = [last * m / x[-1] for m in ends]
    curves.append(Curve("linear", ends, level, 6, 1, width=0.8))
    return Panel(words, "clients", label, curves)


EXPERIMENT = Experiment(
    "backends",
    __doc__,
    ("kind", "backend", "clients"),
    [
        *(("scaling", name, m) for name in BACKENDS for m in CLIENTS),
        *(("overhead", "flower-local", m) for m in (2, 8)),
    ],
    measure,
    tables,
    {
        "wire-clients": Drawing(
            crowds,
            "CPU seconds of a round of all clients and of the server, for 10 to 1000 "
            "clients of 16 rows each.",
        ),
        "wire-memory": Drawing(
            memory, "Peak memory of the process that simulates as many clients."
        ),
    },
    apart=True,
)
