"""Which client holds which points, and how different the clients are: a record.

For the figure of the partitions: some points of each client, in one coordinate the
intervals it owns, and the heterogeneity of all points (``collocation.heterogeneity``).
Of the problems named, nothing is recorded: their heterogeneity is printed alone.

    python scripts/partitions.py
    python scripts/partitions.py helmholtz euler_beam --clients 2
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import _common  # before torch, see there
import torch

import problems
from fedsciml.collocation import heterogeneity

RECORD = Path(__file__).parents[1] / "figures" / "data" / "partitions.json"
PIECES = (1, 2, 4, 8, 16, 32)
SHOWN = 90
"""About as many points of a client are kept."""

MAPS = (
    ("poisson2d", 2, "strips"),
    ("gaussians2d", 9, "boxes"),
    ("gaussians2d", 3, "pieces:4"),
)
"""Partitions in two coordinates of which points are shown."""

CASES = (
    *(("sine8", 8, kind) for kind in ("strips", *(f"pieces:{k}" for k in PIECES))),
    *(("allen_cahn", 4, kind) for kind in ("strips", *(f"pieces:{k}" for k in PIECES))),
    *MAPS,
    *(("gaussians2d", 3, f"pieces:{k}") for k in PIECES if k != 4),
    *(("allen_cahn", clients, "strips") for clients in (2, 8, 16, 32, 64)),
    *(("poisson2d", clients, "boxes") for clients in (2, 4, 8, 16, 32, 64)),
)
"""Problem, clients, partition."""


def entry(name: str, clients: int, partition: str) -> _common.Entry:
    """What the figure needs of a partition."""
    problem = problems.load(name, clients=clients, partition=partition)
    held = [shard.rows[0].points for shard in problem.shards()]
    found: _common.Entry = {
        "problem": name,
        "clients": clients,
        "partition": partition,
        "pieces": int(partition.partition(":")[2] or 0),
        "heterogeneity": _common.short(heterogeneity(held)),
    }
    if held[0].shape[1] == 1:
        x, order = torch.cat(held)[:, 0].sort()
        owner = torch.cat([torch.full((len(p),), m) for m, p in enumerate(held)])[order]
        change = (owner.diff() != 0).nonzero()[:, 0]
        inner = ((x[change] + x[change + 1]) / 2).tolist()
        found["edges"] = [round(e, 4) for e in (0.0, *inner, 1.0)]
        found["owner"] = [int(owner[0]), *owner[change + 1].tolist()]
    if (name, clients, partition) in MAPS:
        some = [p[:: max(1, len(p) // SHOWN)] for p in held]
        found["points"] = [[[round(c, 3) for c in x] for x in p.tolist()] for p in some]
    return found


def heterogeneities(name: str, clients: int | None) -> Iterator[str]:
    """A line for each number of pieces."""
    chosen = {} if clients is None else {"clients": clients}
    for piece in PIECES:
        try:
            problem = problems.load(name, partition=f"pieces:{piece}", **chosen)
            held = [shard.rows[0].points for shard in problem.shards()]
            distance = f"1-Wasserstein distance {heterogeneity(held):.3g}"
        except ValueError as error:
            distance = str(error)
        yield f"{name}, pieces:{piece}: {distance}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the record, or print what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", nargs="*", metavar="NAME", help="of these alone")
    parser.add_argument("--clients", type=int, help="default the problem's own number")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    todo = parser.parse_args(arguments)
    for name in todo.problems:
        if name not in problems.names():
            parser.error(f"unknown problem {name}; {', '.join(problems.names())}")
    for name in todo.problems:
        for line in heterogeneities(name, todo.clients):
            print(line)
    if not todo.problems:
        entries = [entry(*case) for case in CASES]
        _common.keep(todo.out, entries)
        print(f"{todo.out}: {len(entries)} partitions")


if __name__ == "__main__":
    main()
