"""What carrying costs: overhead of Flower's messages, and rounds of very many clients.

``overhead``: the same exchanges of FIPA in process and over Flower in one process (the
real apps, every record through Flower's protobuf and back); the difference of their
CPU seconds, per client and exchange. allen_cahn, p = 2209, rank 20; medians.

``scaling``: rounds of FIPA with no option set on allen_cahn, a few rows a client, each
number of clients in a process of its own: CPU seconds a round of all clients and of
the server apart (a median), and the process's peak memory above what it has before the
problem is made. What is there already in the record is not measured again; the table
goes to docs/wire.md.

    python scripts/benchmark_backends.py                # 3 minutes of one core
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import _common  # before torch, see there
import torch
from _common import Entry, short
from experiments._table import paste
from torch import Generator

import problems
from fedsciml import methods
from fedsciml.federation.backend import Clients, Reply
from fedsciml.federation.inprocess import InProcess
from fedsciml.methods import Method, Record, flatten, payload
from fedsciml.methods.fipa import Sketched
from fedsciml.problem import Problem

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "backends.json"
PAGE = ROOT / "docs" / "wire.md"
CLIENTS = (10, 30, 100, 300, 1000)
BACKENDS = ("inprocess", "flower-local")
ROUNDS = 5
"""Of which the first is not counted."""

ROWS = 16
"""Of a client, on average."""

KEY = ("kind", "backend", "clients")


def door(name: str, problem: Problem, method: Method) -> Clients:
    """The clients behind a backend."""
    if name == "inprocess":
        return InProcess().connect(problem, method)
    from fedsciml.flower import Flower, LocalGrid, client_app

    app = client_app(lambda *configs: problem, lambda config: method)
    m = problem.clients
    nodes: list[dict[str, Any]] = [
        {"partition-id": k, "num-partitions": m} for k in range(m)
    ]
    grid = LocalGrid(app, nodes, {})
    return Flower(grid, run="benchmark").connect(problem, method)


def exchanges(
    problem: Problem, method: Method, doors: Sequence[Clients], rounds: int
) -> Iterator[tuple[int, list[float], float, list[Record]]]:
    """Round, CPU seconds of each door and of the server, and the uploads.

    The server goes on with the uploads of the first door; the others' must be the same.
    """
    start = problem.network.init(Generator().manual_seed(0), torch.float64)
    state = method.start(start, 0)
    memories: list[dict[int, Record | None]]
    memories = [dict.fromkeys(range(problem.clients)) for _ in doors]
    for number in range(1, rounds + 1):
        sent, info = method.round(state), None
        ask = next(sent)
        while info is None:
            seconds, found = [], list[dict[int, Record]]()
            for carrier, remembered in zip(doors, memories, strict=True):
                begin = time.process_time()
                replies = carrier.ask(ask, remembered, number, None)
                seconds.append(time.process_time() - begin)
                found.append(_answers(replies, remembered))
            uploads = list(found[0].values())
            for other in found[1:]:
                same = zip(uploads, other.values(), strict=True)
                assert all(_equal(a, b) for a, b in same)
            begin = time.process_time()
            try:
                ask = sent.send(found[0])
            except StopIteration as end:
                state, info = end.value
            yield number, seconds, time.process_time() - begin, uploads


def overhead(clients: int, rounds: int = 20) -> Entry:
    """Milliseconds per client and exchange that Flower's messages cost."""
    problem = problems.load("allen_cahn", clients=clients)
    method = methods.load("fipa", rank="20")
    doors = [door(name, problem, method) for name in BACKENDS]
    extra: dict[str, list[float]] = {"sketch": [], "probe": []}
    sent = 0
    for number, (plain, flower), _, uploads in exchanges(
        problem, method, doors, rounds
    ):
        if number > 1:
            kind = "sketch" if isinstance(uploads[0], Sketched) else "probe"
            extra[kind].append(1e3 * (flower - plain) / clients)
            sent = max(sent, payload(uploads[0]))
    return {
        **dict(zip(KEY, ("overhead", "flower-local", clients), strict=True)),
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
    carrier = door(backend, problem, method)
    made = time.process_time() - begin
    asked, server = [0.0] * ROUNDS, [0.0] * ROUNDS
    ranks = [0] * ROUNDS
    for number, (seconds,), merging, uploads in exchanges(
        problem, method, [carrier], ROUNDS
    ):
        asked[number - 1] += seconds
        server[number - 1] += merging
        sketches = [upload for upload in uploads if isinstance(upload, Sketched)]
        if sketches:
            ranks[number - 1] = sum(len(sketch.factor) for sketch in sketches)
    return {
        **dict(zip(KEY, ("scaling", backend, clients), strict=True)),
        "parameters": problem.network.size,
        "rows": sum(problem.counts(0)) if clients == 1 else _rows(problem),
        "sum_rank": round(median(ranks[1:])),
        "clients_s": short(median(asked[1:])),
        "server_s": short(median(server[1:])),
        "made_s": short(made),
        "peak_MB": short(_peak() - before),
        "base_MB": short(before),
    }


def measured(kind: str, backend: str, clients: int) -> Entry:
    """One entry, from a process of its own."""
    command = [sys.executable, __file__, "--measure", kind, backend, str(clients)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    found: Entry = json.loads(done.stdout.splitlines()[-1])
    return found


def tables(entries: Sequence[Entry]) -> tuple[str, str]:
    """Markdown: overhead, and scaling."""
    small = [e for e in entries if e["kind"] == "overhead"]
    large = [e for e in entries if e["kind"] == "scaling"]
    heads = ["clients", "p", "upload", "ms, sketch", "ms, probe", "ms, worst"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for e in sorted(small, key=lambda e: e["clients"]):
        cells = [e["clients"], e["parameters"], _common.size(e["bytes"])]
        cells += [e["sketch_ms"], e["probe_ms"], e["worst_ms"]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    first = "\n".join(lines) + "\n"
    heads = ["backend", "clients", "rows", "rows of all sketches", "clients, s / round"]
    heads += ["ms / client", "server, s / round", "server, ms / client"]
    heads += ["peak MB", "MB / client"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for e in sorted(large, key=lambda e: (e["backend"][::-1], e["clients"])):
        m = e["clients"]
        cells = [e["backend"], str(m), str(e["rows"]), str(e["sum_rank"])]
        cells += [f"{e['clients_s']:.2g}", f"{1e3 * e['clients_s'] / m:.2g}"]
        cells += [f"{e['server_s']:.2g}", f"{1e3 * e['server_s'] / m:.2g}"]
        cells += [f"{e['peak_MB']:.0f}", f"{e['peak_MB'] / m:.2g}"]
        lines.append("| " + " | ".join(cells) + " |")
    return first, "\n".join(lines) + "\n"


def _peak() -> float:
    """Megabytes that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _rows(problem: Problem) -> int:
    return sum(len(rows.points) for s in problem.shards() for rows in s.rows)


def _answers(
    replies: Mapping[int, Reply | Exception], memories: dict[int, Record | None]
) -> dict[int, Record]:
    """The answers, when the memories have been replaced by what the clients keep."""
    answers: dict[int, Record] = {}
    for m, reply in replies.items():
        if isinstance(reply, Exception):
            raise reply
        answers[m], memories[m] = reply
    return answers


def _equal(one: Record, other: Record) -> bool:
    a, b = flatten(one), flatten(other)
    return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return one == other


def main() -> None:
    """Measure what is missing and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--fresh", action="store_true", help="measure all again")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"default {PAGE}")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    todo = parser.parse_args()
    torch.set_num_threads(todo.threads)
    if todo.measure:
        kind, backend, number = todo.measure
        m = int(number)
        print(json.dumps(overhead(m) if kind == "overhead" else scaling(backend, m)))
        return
    keys = [("scaling", name, m) for name in todo.backends for m in todo.clients]
    if "flower-local" in todo.backends:
        keys += [("overhead", "flower-local", m) for m in (2, 8)]
    entries = _common.completed(
        todo.out, KEY, keys, measured, 1, todo.threads, todo.fresh
    )
    for name, text in zip(("overhead", "scaling"), tables(entries), strict=True):
        paste(todo.page, name, text)
    print(f"{todo.out}: {len(entries)} entries; tables in {todo.page}.")


if __name__ == "__main__":
    main()
