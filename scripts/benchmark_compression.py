"""What fewer bits on the wire cost in digits and rounds, and what they save in bytes.

FIPA with no option set and FedAvg with the options of tune_baselines.py, from the same
starts, with every compression of ``fedsciml.wrappers.compress``. The error is the relative L2
error, of a regression the root of the mean squared one. Finished runs are kept in the
record and not run again; the table goes to docs/wire.md.

    python scripts/benchmark_compression.py                     # 5 minutes of one core
    python scripts/benchmark_compression.py --problems sine4
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import _common  # before torch, see there
from _common import Entry, short
from _suites import options_of
from _tables import first, megabytes, paste
from benchmark_steps import error

import problems
from fedsciml import methods, run
from fedsciml.wrappers.compress import compressed

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "compression.json"
PAGE = ROOT / "docs" / "wire.md"
WORDS = (
    *("none", "float32", "float32,feedback"),
    *("bfloat16", "bfloat16,feedback"),
)
STARTS = {
    ("allen_cahn", "fipa"): 3,
    ("sine4", "fipa"): 3,
    ("heat_inverse", "fipa"): 6,
    ("poisson2d", "fipa"): 1,
    ("allen_cahn", "fedavg"): 1,
}
"""By problem and method."""

TARGETS = (1e-6, 1e-10)
WAYS = ("up", "down")
ROUNDS = 50
KEY = ("problem", "method", "compression", "seed", "rounds")


def measured(
    problem: str, method: str, compression: str, seed: int, rounds: int
) -> Entry:
    """One run, round by round, to four digits."""
    made = problems.load(problem)
    quantity = _common.quantity(made)
    options = options_of(problem, method)
    loaded = compressed(methods.load(method, **options), compression)
    history = run(made, loaded, rounds, seed, clock=time.process_time).history
    ranks = [rank for line in history for rank in line.ranks]
    return {
        **dict(zip(KEY, (problem, method, compression, seed, rounds), strict=True)),
        "quantity": quantity,
        "parameters": made.network.size,
        "clients": made.clients,
        "round": [line.round for line in history],
        "error": [short(error(line, quantity)) for line in history],
        "up": [int(short(line.bytes_up)) for line in history],
        "down": [int(short(line.bytes_down)) for line in history],
        "mean_rank": short(mean(ranks)) if ranks else None,
        "seconds": short(history[-1].seconds),
    }


def table(entries: Sequence[Entry]) -> str:
    """Markdown: a row per problem, method and compression; medians over the starts."""
    heads = ["problem", "method", "uploads", "starts", "error at end", "worst"]
    heads += [f"rounds to {target:g}" for target in TARGETS]
    heads += [f"MB up to {target:g}" for target in TARGETS]
    heads += ["MB up", "MB down", "mean rank"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for problem, method in STARTS:
        for word in WORDS:
            wanted = (problem, method, word)
            mine = [e for e in entries if tuple(e[k] for k in KEY[:3]) == wanted]
            if not mine:
                continue
            ends = [e["error"][-1] for e in mine]
            cells = [problem, method, word, str(len(mine))]
            cells += [f"{median(ends):.1e}", f"{max(ends):.1e}"]
            cells += [_cost(mine, "round", target) for target in TARGETS]
            cells += [_cost(mine, "up", target) for target in TARGETS]
            cells += [str(megabytes(median(e[k][-1] for e in mine))) for k in WAYS]
            ranks = [e["mean_rank"] for e in mine if e["mean_rank"] is not None]
            cells.append(f"{mean(ranks):.1f}" if ranks else "")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cost(entries: Sequence[Entry], axis: str, target: float) -> str:
    """Median of rounds or bytes to an error over the starts that get there."""
    spent = [first(entry, axis, target) for entry in entries]
    some = [value for value in spent if value < float("inf")]
    if not some:
        return "never"
    of = "" if len(some) == len(spent) else f" ({len(some)} of {len(spent)})"
    return f"{median(some) / (1e6 if axis in WAYS else 1):.3g}{of}"


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = sorted({problem for problem, _ in STARTS})
    parser.add_argument("--problems", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default {ROUNDS}")
    _common.add_runs(parser, RECORD)
    parser.add_argument("--page", type=Path, default=PAGE, help=f"default {PAGE}")
    todo = parser.parse_args()
    keys = [
        (problem, method, word, seed, todo.rounds)
        for (problem, method), starts in STARTS.items()
        if problem in todo.problems
        for seed in range(starts)
        for word in WORDS
    ]
    entries = _common.completed(
        todo.out, KEY, keys, measured, todo.jobs, todo.threads, todo.fresh
    )
    paste(todo.page, "compression", table(entries))
    print(f"{todo.out}: {len(entries)} runs; table in {todo.page}.")


if __name__ == "__main__":
    main()
