"""How unequal honest uploads are, and what a client does that scales its own.

An upload is refused where a norm in it is more than ``Rules.outlier`` times what is
usual (see ``fedsciml.federation.admission``). Honest clients: the largest ratios of a
run, of FIPA on several problems and partitions, also where one client holds nine tenths
of the domain, of other methods on fewer points, and of clients that come back; beside
them the ratios to the median of the same round alone, which would be the simpler rule.
Scaled: of ten clients an inner one sends s B and -s c, with the check and without,
under the default policy, which probes its steps, and under one that does not.

The record is `figures/data/outliers.json`; what is there is not run again. The tables
go to docs/stragglers.md:

    python scripts/study_outliers.py        # 3 minutes of one core
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import _common  # before torch, see there
from _common import Entry, short
from experiments._table import Table, paste
from study_stragglers import CLIENTS, Connected, Patchy, away
from torch import Tensor

import problems
from fedsciml import methods, run
from fedsciml.federation.admission import usual
from fedsciml.federation.backend import Reply
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method, Record, flatten
from fedsciml.methods.fipa import Sketched
from fedsciml.problem import Problem

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "figures" / "data" / "outliers.json"
DOCS = ROOT / "docs" / "stragglers.md"
NATURAL = "natural"
FIXED = "fixed:length=0.5,damping=1e-4"
UNEQUAL = "unequal strips"
"""The first client holds 91 % of the domain."""

CULPRIT = 3
"""Of ten clients, the one that scales."""

TAU = 20
"""Local epochs of methods that train."""


class Case(NamedTuple):
    """A run: its key in the record.

    Attributes:
        problem: Its name.
        points: Part of the problem's points that is taken.
        clients: How many.
        partition: As the problem takes it, or ``UNEQUAL``.
        method: Its name.
        policy: Step policy of FIPA.
        missing: Scenario of ``study_stragglers``.
        scale: s of ``CULPRIT``; 1 for an honest one.
        checked: Whether what is too large is refused.
        rounds: How many.
    """

    problem: str
    points: float = 1.0
    clients: int = 8
    partition: str = "strips"
    method: str = "fipa"
    policy: str = NATURAL
    missing: str = "nobody"
    scale: float = 1.0
    checked: bool = True
    rounds: int = 40


ONE_DIMENSION = ("sine4", "allen_cahn", "bratu", "fisher_kpp", "reaction_diffusion")
SPLITS = ((2, "strips"), (4, "strips"), (8, "strips"), (8, "pieces:8"))
OTHERS = ("fedavg", "scaffold", "fedpm", "fedfisher", "gradient_only", "fipa_paper")
CASES = [
    *(
        Case(problem, clients=clients, partition=partition)
        for problem in (*ONE_DIMENSION, "heat")
        for clients, partition in SPLITS
    ),
    *(
        Case("burgers", clients=clients, partition=partition, rounds=50)
        for clients, partition in SPLITS
    ),
    *(Case(name, clients=10, partition=UNEQUAL) for name in ("allen_cahn", "heat")),
    *(
        Case("allen_cahn", clients=CLIENTS, missing=missing, rounds=60)
        for missing in ("two for ten rounds", "at random")
    ),
    *(
        Case(problem, points=0.1, method=method, rounds=20)
        for problem in ("allen_cahn", "heat", "burgers")
        for method in OTHERS
    ),
    *(
        Case(problem, clients=10, policy=policy, scale=scale, checked=checked)
        for problem in ("allen_cahn", "heat")
        for policy, scale, checked in (
            (NATURAL, 1.0, True),
            (NATURAL, 1000.0, True),
            (NATURAL, 1000.0, False),
            (NATURAL, 100.0, True),
            (NATURAL, 10.0, True),
            (FIXED, 1.0, True),
            (FIXED, 1000.0, False),
        )
    ),
]


class Watched(Patchy):
    """Clients whose uploads are measured before anyone judges them.

    Attributes:
        ratios: By field, the largest norm over what is usual.
        alone: The same over the median of its own exchange.
    """

    def __init__(self, problem: Problem, method: Method, case: Case) -> None:
        super().__init__(problem, method, away(case.missing, 0))
        self.size, self.scale = problem.network.size, case.scale
        self.norms: dict[str, float] = {}
        self.ratios: dict[str, float] = {}
        self.alone: dict[str, float] = {}

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> dict[int, Reply | Exception]:
        """As a federation gets them."""
        replies = super().ask(ask, memories, number, deadline)
        answers = {m: r.answer for m, r in replies.items() if isinstance(r, Reply)}
        culprit = answers.get(CULPRIT)
        if self.scale != 1 and isinstance(culprit, Sketched):
            answers[CULPRIT] = replace(
                culprit,
                factor=self.scale * culprit.factor,
                target=-self.scale * culprit.target,
            )
        expected = self.method.expects(ask, self.size)
        self.norms = usual(answers, expected, self.norms)
        _raise(self.ratios, answers, self.norms)
        _raise(self.alone, answers, usual(answers, expected))
        return {
            m: r._replace(answer=answers[m]) if isinstance(r, Reply) else r
            for m, r in replies.items()
        }


def _raise(
    largest: dict[str, float],
    answers: Mapping[int, Record],
    norms: Mapping[str, float],
) -> None:
    """Let the largest ratios be those of these answers, where they are larger."""
    contents = [flatten(answer) for answer in answers.values()]
    for key, norm in norms.items():
        values = [content.get(key.replace(".", "/")) for content in contents]
        for tensor in values if norm > 0 else []:
            if isinstance(tensor, Tensor):
                ratio = float(tensor.norm()) / norm
                largest[key] = max(largest.get(key, 0.0), ratio)


def measured(*key: object) -> Entry:
    """One run."""
    case = Case(*key)  # type: ignore[arg-type]
    more: dict[str, object] = {"partition": case.partition}
    if case.partition == UNEQUAL:
        edges = [0.91 + 0.09 * k / (case.clients - 1) for k in range(case.clients)]
        more = {"edges": [0.0, *edges]}
    if case.points != 1:
        more["points"] = case.points
    problem = problems.load(case.problem, clients=case.clients, **more)
    given = {"policy": case.policy} if case.method == "fipa" else {"tau": TAU}
    takes = methods.options(case.method)
    method = methods.load(case.method, **{k: given[k] for k in given if k in takes})
    door = Watched(problem, method, case)
    outlier = Rules.outlier if case.checked else math.inf
    history = run(
        problem,
        method,
        case.rounds,
        backend=Connected(door),
        rules=Rules(min_clients=1, outlier=outlier),
        clock=time.process_time,
    ).history
    reasons = [r for line in history for r in line.dropped.values()]
    return {
        **case._asdict(),
        "ratios": {k: short(v) for k, v in door.ratios.items()},
        "alone": {k: short(v) for k, v in door.alone.items()},
        "refused": sum("cannot be merged" in reason for reason in reasons),
        "steps": sum(line.step > 0 for line in history),
        "error": short(history[-1].relative_l2),
        "seconds": short(history[-1].seconds),
    }


def ordered(entries: Sequence[Entry]) -> list[Entry]:
    """As in ``CASES``."""
    return sorted(
        entries, key=lambda e: CASES.index(Case(*(e[k] for k in Case._fields)))
    )


def groups(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The runs of honest clients, by what they are."""
    found: dict[str, list[Entry]] = {}
    for e in ordered(entries):
        if e["scale"] != 1 or e["policy"] != NATURAL:
            continue
        name = e["method"]
        if e["partition"] == UNEQUAL:
            name += ", one holds nine tenths"
        if e["missing"] != "nobody":
            name += ", clients come back"
        found.setdefault(name, []).append(e)
    return found


def largest(entries: Sequence[Entry], rule: str) -> tuple[float, str, Entry]:
    """The largest ratio of the runs by a rule, in which field, and in which run."""
    return max(
        ((ratio, key, e) for e in entries for key, ratio in e[rule].items()),
        key=lambda found: found[0],
    )


def ratios(entries: Sequence[Entry]) -> Table:
    """The largest ratios of honest clients."""
    heads = ["clients", "runs", "largest", "of", "on", "in its round alone", "refused"]
    rows = []
    for name, runs in groups(entries).items():
        ratio, key, e = largest(runs, "ratios")
        where = f"{e['problem']}, {e['clients']} clients, {e['partition']}"
        alone, refused = largest(runs, "alone")[0], sum(e["refused"] for e in runs)
        numbers = f"{ratio:.3g}", f"{alone:.3g}"
        rows.append([name, len(runs), numbers[0], key, where, numbers[1], refused])
    return Table("ratios", "Largest ratios of honest clients.", heads, rows)


def scaled(entries: Sequence[Entry]) -> Table:
    """What becomes of a run in which a client scales its sketch."""
    heads = ["problem", "policy", "s", "check", "rounds refused", "steps", "error"]
    rows = []
    for e in ordered(entries):
        if e["clients"] == 10 and e["partition"] != UNEQUAL:
            policy, s = e["policy"].split(":")[0], f"{e['scale']:g}"
            check = "yes" if e["checked"] else "no"
            found = e["refused"], e["steps"], e["error"]
            rows.append([e["problem"], policy, s, check, *found])
    return Table("scaled", "One of ten clients scales its sketch.", heads, rows)


def main() -> None:
    """Run what the record lacks, and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    parser.add_argument("--docs", type=Path, default=DOCS, help=f"default {DOCS}")
    todo = parser.parse_args()
    entries = _common.completed(
        todo.out, Case._fields, CASES, measured, jobs=1, threads=1
    )
    for table in (ratios(entries), scaled(entries)):
        paste(todo.docs, table.name, table.markdown())


if __name__ == "__main__":
    main()
