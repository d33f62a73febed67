"""Tables of the hard problems: medians and shares of the starts."""

from collections.abc import Sequence
from math import inf
from statistics import median
from typing import NamedTuple

from experiments._hard import (
    AUTO,
    BENT,
    ENOUGH,
    EVEN,
    EVERY,
    GRAMACY,
    HELMHOLTZ,
    MILD,
    POISSON5,
    POISSON10,
    SINE8,
    STEEP,
    Plan,
    bent,
    plan_of,
)
from experiments._record import Entry, select
from experiments._runs import middle, reached
from experiments._table import AtMost, Cell, Table

PAGE = "docs/hard.md"
SPARSE = ("poisson_multiscale", "inverse_diffusion_reaction")
"""Problems whose published points do not tell the solution."""

SHORT = 60
"""Rounds within which shares with and without acceleration are compared."""


def of(entries: Sequence[Entry], plan: Plan) -> list[Entry]:
    """The starts of a setting."""
    return select(entries, **plan._asdict())


def error(entry: Entry, rounds: int) -> float:
    """The error after so many rounds, or at the end of a run that ended before."""
    pairs = zip(entry["round"], entry["error"], strict=True)
    return next((x for k, x in reversed([*pairs]) if k <= rounds), inf)


def spent(entry: Entry, what: str, rounds: int = 10**6) -> float:
    """What a run had spent when it got to 1e-6; inf if it did not in so many rounds."""
    there = entry["reached"]
    return float(there[what]) if there and there["round"] <= rounds else inf


def share(met: Sequence[bool]) -> str:
    """``3 of 5``."""
    return f"{sum(met)} of {len(met)}"


def arrived(runs: Sequence[Entry], rounds: int = 10**6) -> list[bool]:
    """Which runs got to 1e-6 in so many rounds."""
    return [spent(e, "round", rounds) < inf for e in runs]


def ending(values: Sequence[float]) -> Cell:
    """The median of the last errors; runs end at 1e-9."""
    found = middle(values)
    ended = found is not None and found <= ENOUGH
    return AtMost(ENOUGH) if ended else found


def every(entries: Sequence[Entry]) -> Table:
    """All problems from both starts."""
    found = {
        name: [of(entries, plan_of(name, first)) for first in ("", AUTO)]
        for name in EVERY
    }
    found = {name: pair for name, pair in found.items() if any(pair)}
    rows: list[Sequence[Cell]] = [
        [
            *(f"`{name}`", (pair[0] or pair[1])[0]["parameters"]),
            *(*summary(pair[0]), *summary(pair[1]), chosen(pair[1])),
        ]
        for name, pair in found.items()
    ]
    rows.append(total("all", [*found.values()]))
    enough = [pair for name, pair in found.items() if name not in SPARSE]
    rows.append(total("all with enough points", enough))
    own = ("to 1e-6", "rounds", "error", "worst", "rank")
    heads = ["problem", "p", *own, *(f"auto: {head}" for head in own), "chosen"]
    caption = "Every problem with a smooth solution, 100 rounds."
    return Table("hard-every", caption, heads, rows, PAGE)


def total(name: str, pairs: Sequence[Sequence[Sequence[Entry]]]) -> list[Cell]:
    """The share of all starts that got there, from either start."""
    cells: list[Cell] = [name, ""]
    for k in (0, 1):
        met = [there for pair in pairs for there in arrived(pair[k])]
        part = f" ({sum(met) / len(met):.0%})" if met else ""
        cells += [share(met) + part, "", "", "", ""]
    return [*cells, ""]


def summary(runs: Sequence[Entry]) -> list[Cell]:
    """Share, rounds, median and worst of the last errors, and mean rank."""
    if not runs:
        return [""] * 5
    last = [e["error"][-1] for e in runs]
    rounds = reached([spent(e, "round") for e in runs]).partition(" ")[0]
    ranks = f"{median(e['rank'] for e in runs):.0f}"
    return [share(arrived(runs)), rounds, ending(last), ending([max(last)]), ranks]


def chosen(runs: Sequence[Entry]) -> str:
    """The frequencies that the starts chose, the most frequent first."""
    found = [e["first"] for e in runs]
    each = sorted(set(found), key=lambda f: (-found.count(f), f))
    return ", ".join(f"{f:g} ({found.count(f)})" for f in each)


class Asked(NamedTuple):
    """An error that was asked for after so many rounds."""

    plan: Plan
    rounds: int
    error: float


def default(name: str, asked: float) -> Asked:
    """From the published start, as in the table of all problems."""
    return Asked(plan_of(name, ""), 100, asked)


ASKED = (
    *(Asked(plan, 100, 1e-8) for plan in HELMHOLTZ),
    *(Asked(plan, 60, 1e-9) for plan in GRAMACY),
    Asked(SINE8, 40, 1e-12),
    Asked(STEEP, 150, 3e-5),
    Asked(STEEP, 150, 1e-6),
    Asked(MILD, 100, 1e-10),
    Asked(EVEN, 100, 5e-5),
    default("kdv", 1e-6),
    default("wave", 1e-8),
    default("schroedinger", 1e-8),
    default("kovasznay", 1e-8),
    default("taylor_green", 1e-8),
    default("poisson_ring:clients=2", 1e-8),
    Asked(POISSON5, 50, 1e-5),
    Asked(POISSON5, 100, 1e-7),
    Asked(POISSON10, 100, 1e-4),
)


def asked(entries: Sequence[Entry]) -> Table:
    """What was asked for, and what was found."""
    rows = list[Sequence[Cell]]()
    for plan, rounds, aim in ASKED:
        runs = of(entries, plan)
        if not runs:
            continue
        found = [error(e, rounds) for e in runs]
        rows.append(
            [
                f"`{plan.problem}`" + (f", `{plan.method}`" if plan.method else ""),
                *(rounds, aim, share([x <= aim for x in found])),
                *(middle(found), min(found), max(found)),
                f"{median(e['rank'] for e in runs):.0f}",
                f"{median(e['seconds'] for e in runs):.0f}",
            ]
        )
    heads = ["setting", "rounds", "asked", "starts there", "median", "best", "worst"]
    caption = "Errors asked for and found."
    return Table("hard-asked", caption, [*heads, "rank", "s"], rows, PAGE)


def curves(entries: Sequence[Entry]) -> Table:
    """The same starts with acceleration and without it."""
    rows, every = list[Sequence[Cell]](), list[tuple[Entry, Entry]]()
    for name in BENT:
        bends, straights = (
            {e["seed"]: e for e in of(entries, plan)} for plan in bent(name)
        )
        pairs = [(e, straights[k]) for k, e in bends.items() if k in straights]
        if pairs:
            every += pairs
            rows.append([f"`{name}`", *compared(pairs)])
    if every:
        rows.append(["all: ratio of the same starts", *ratios(every)])
    heads = ["problem", "to 1e-6 in 60 rounds", "rounds", "messages", "MB", "s"]
    caption = "Steps with acceleration / without it, until 1e-6."
    return Table("hard-curves", caption, heads, rows, PAGE)


COSTS = {"round": 1.0, "messages": 1.0, "sent": 1e6, "seconds": 1.0}


def compared(pairs: Sequence[tuple[Entry, Entry]]) -> list[str]:
    """Shares, and medians of the starts that got there: with / without."""
    sides = list(zip(*pairs, strict=True))
    cells = [counts(pairs)]
    for what, unit in COSTS.items():
        costs = [[spent(e, what) / unit for e in side] for side in sides]
        cells.append(" / ".join(reached(of).partition(" ")[0] for of in costs))
    return cells


def counts(pairs: Sequence[tuple[Entry, Entry]]) -> str:
    """How many starts got there: with / without."""
    each = [sum(arrived(side, SHORT)) for side in zip(*pairs, strict=True)]
    return f"{each[0]} / {each[1]} of {len(pairs)}"


def ratios(pairs: Sequence[tuple[Entry, Entry]]) -> list[str]:
    """Shares, and the median ratio of the starts that got there both ways."""
    both = [pair for pair in pairs if all(arrived(pair))]
    each = [[spent(a, what) / spent(b, what) for a, b in both] for what in COSTS]
    return [counts(pairs), *(f"{median(of):.2f}" if of else "" for of in each)]


def tables(entries: Sequence[Entry]) -> list[Table]:
    """All of them."""
    return [every(entries), asked(entries), curves(entries)]
