"""The table of the suites ``fedpinn`` and ``extra``: what is reached, beside what."""

from collections.abc import Mapping, Sequence
from statistics import mean

from _common import Entry
from _tables import Cell, Runs, Table, megabytes, middle, plain


def reached(
    name: str,
    problems: Sequence[str],
    entries: Sequence[Entry],
    asked: Mapping[str, float],
    rounds: int,
) -> Table:
    """A row per problem: FIPA's error beside centralised Gauss-Newton's and FedAvg's.

    Args:
        name: Of the suite.
        problems: Its problems.
        entries: Its runs; the longest of each start.
        asked: The errors aimed at.
        rounds: After so many FIPA and Gauss-Newton are compared; of FedAvg the lowest
            error of all its rounds counts.
    """
    rows: list[Sequence[Cell]] = []
    runs = Runs(sorted(entries, key=lambda e: e["seed"]))
    for problem in problems:
        mine = runs.of(problem, "fipa")
        if not mine:
            continue
        ours = middle(runs.errors(problem, "fipa", rounds))
        central = middle(runs.errors(problem, "gauss_newton", rounds))
        last = mine[0]
        rows.append(
            [
                problem,
                last["clients"],
                last["parameters"],
                ours,
                asked.get(problem.partition(":")[0]),
                _each(last),
                central,
                f"{ours / central:.2g}" if ours and central else None,
                *_averaging(runs.of(problem, "fedavg")),
                f"{mean(mean(e['rank']) for e in mine):.0f}" if last["rank"] else None,
                megabytes(middle([e["bytes"][-1] for e in mine])),
                f"{mean(e['seconds'][-1] / e['round'][-1] for e in mine):.2g}",
            ]
        )
    heads = ["problem", "clients", "p", "FIPA", "asked", "of each output"]
    heads += ["centralised Gauss-Newton", "FIPA / it", "FedAvg", "rounds x epochs"]
    caption = f"Suite {name}: error after {rounds} rounds, median over the starts."
    return Table(name, caption, [*heads, "mean rank", "MB", "s / round"], rows)


def _each(entry: Entry) -> str | None:
    """``u 1.2e-9, k 3.4e-7``: the last errors of the outputs and unknowns."""
    found = entry.get("each", {}).items()
    return ", ".join(f"{name} {plain(value)}" for name, value in found) or None


def _averaging(entries: Sequence[Entry]) -> list[Cell]:
    if not entries:
        return [None, None]
    lowest = middle([min(e["error"]) for e in entries])
    rounds, epochs = entries[0]["round"][-1], entries[0]["epochs"][-1]
    return [lowest, f"{rounds} x {epochs // rounds}"]
