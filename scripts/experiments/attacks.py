"""One of five clients lies, or two do: is it named, and what becomes of the run?

FIPA with its defaults and five clients; a round needs three. A liar sends something
else than an honest client in every round, or from some round on. It is *named* in the
first round in which it is dropped, suspected, or the only one against a step; two, when
both are. An attack is
*harmless* if the error at the end is at most ten times that of a run in which the liars
are absent. An honest client that is dropped is worse than any lie. Six minutes of one
core.
"""

from collections.abc import Sequence

from experiments._absent import CLIENTS
from experiments._experiment import Experiment
from experiments._lies import ABSENT, ATTACKS, CONTROLS, NOBODY, Lying
from experiments._record import Entry, grouped, select, short
from experiments._table import Cell, Table
from fedsciml import methods, problems
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules

PAGE = "docs/attacks.md"
ROUNDS = 40
LEAST = 3
"""Clients of a round: two liars may be left out."""

SOON = 3
"""Rounds of lies within which a liar is to be named."""

FACTOR = 10.0
"""Of the error without the liars, up to which an attack is harmless."""

KNOWN = CONTROLS | ATTACKS
PROBLEMS = {"allen_cahn": (0, 1, 2), "heat": (0,)}
"""Starts by problem."""

CASES = [
    (problem, attack, seed)
    for problem, seeds in PROBLEMS.items()
    for attack, lies in KNOWN.items()
    for seed in seeds
    if problem != "heat" or not lies.shift
]
"""Inner clients of heat have no targets that could be shifted."""


def measure(problem: str, attack: str, seed: int) -> Entry:
    """One run."""
    made = problems.load(problem, clients=CLIENTS)
    lies = KNOWN[attack]
    clients = Lying(made, methods.load("fipa", basis="own"), lies)
    ended, history = "", list[Round]()
    try:
        clients.run(ROUNDS, seed, Rules(min_clients=LEAST), history.append)
    except (RuntimeError, FloatingPointError) as error:
        ended = str(error)[:200]
    liars = {str(m) for m in lies.liars}
    named = {m: [k for k, of in enumerate(told(history), 1) if m in of] for m in liars}
    dropped = [[m in line.dropped for line in history] for m in sorted(liars)]
    why = [line.dropped[m] for line in history for m in liars if m in line.dropped]
    return {
        "named": max(min(of) for of in named.values())
        if liars and all(named.values())
        else None,
        "rounds": max(map(sum, dropped), default=0),
        "honest": sum(len(line.dropped.keys() - liars) for line in history),
        "suspected": sum(len(of - liars) for of in told(history)),
        "steps": sum(line.step > 0 for line in history),
        "error": short(history[-1].relative_l2) if history else 1.0,
        "why": why[0].partition("cannot be merged: ")[2][:200] if why else "",
        "ended": ended,
        "seconds": short(history[-1].seconds) if history else 0.0,
    }


def told(history: Sequence[Round]) -> list[set[str]]:
    """Clients that each round names: dropped, suspected, or alone against a step."""
    return [
        {*line.dropped, *line.suspects, *map(str, _alone(line.against))}
        for line in history
    ]


def _alone(against: Sequence[int]) -> Sequence[int]:
    """One is to blame; of several, nobody."""
    return against if len(against) == 1 else ()


def verdict(entry: Entry, without: float) -> str:
    """What an attack amounts to, given the error without the liars."""
    if entry["honest"]:
        return "honest clients dropped"
    if entry["ended"]:
        return "ends the run"
    attack, named = KNOWN[entry["attack"]], entry["named"]
    if named is not None and named - attack.begins < SOON:
        return "named"
    if entry["error"] <= FACTOR * without:
        return "harmless"
    return "not named" if named is None else "named late"


def judged(entries: Sequence[Entry], attack: str) -> list[tuple[Entry, str, float]]:
    """The runs of an attack, the verdict on each, and the error without the liars."""
    found = []
    for e in select(entries, attack=attack):
        of = {"problem": e["problem"], "seed": e["seed"]}
        absent = ABSENT.get(KNOWN[attack].liars, NOBODY)
        without = max(c["error"] for c in select(entries, attack=absent, **of))
        found.append((e, verdict(e, without), without))
    return found


def tables(entries: Sequence[Entry]) -> list[Table]:
    """A row per attack; of several starts the worst of each."""
    return [_table(problem, of) for problem, of in grouped(entries, "problem").items()]


def _table(problem: str, mine: Sequence[Entry]) -> Table:
    rows: list[list[Cell]] = []
    for attack in [NOBODY, *ATTACKS]:
        runs = judged(mine, attack)
        if not runs:
            continue
        named = [e["named"] for e, _, _ in runs]
        rounds = [e["rounds"] for e, _, _ in runs]
        verdicts = dict.fromkeys(word for _, word, _ in runs)
        rows.append(
            [
                attack,
                "" if None in named else max(named),
                _range(rounds) if attack != NOBODY else "",
                sum(e["honest"] for e, _, _ in runs),
                sum(e["suspected"] for e, _, _ in runs),
                max(e["error"] for e, _, _ in runs),
                max(without for _, _, without in runs),
                ", ".join(verdicts) if attack != NOBODY else "",
            ]
        )
    heads = ["attack", "named in", "rounds dropped", "honest dropped"]
    heads += ["honest named", "error", "without", "verdict"]
    caption = f"{problem}; of several starts the worst of each."
    return Table(f"attacks-{problem}", caption, heads, rows, PAGE)


def _range(counts: Sequence[int]) -> str:
    """``38 to 40``, or one number."""
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low} to {high}"


EXPERIMENT = Experiment(
    "attacks", __doc__, ("problem", "attack", "seed"), CASES, measure, tables, page=PAGE
)
