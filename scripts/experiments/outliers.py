"""How unequal honest uploads are, and what a client does that scales its own.

An upload is refused where a norm in it is more than ``Rules.outlier`` times what is
usual (see ``fedsciml.federation.admission``). Honest clients: the largest ratios of a
run, of FIPA on several problems and partitions, also where one client holds nine tenths
of the domain, of other methods on fewer points, and of clients that come back; beside
them the ratios to the median of the same round alone, which would be the simpler rule.
Scaled: of ten clients an inner one sends s B and -s c, with the check and without,
under the default policy, which probes its steps, and under one that does not. Three
minutes of one core.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import problems
from experiments._absent import CLIENTS, NOBODY, Patchy, away
from experiments._experiment import Experiment
from experiments._record import Entry, select, short
from experiments._table import Table
from fedsciml import methods
from fedsciml.federation.admission import usual
from fedsciml.federation.backend import Reply
from fedsciml.federation.participation import Rules
from fedsciml.methods import Expected, Method, Record
from fedsciml.methods.fipa import Sketched
from fedsciml.problem import Problem

PAGE = "docs/stragglers.md"
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
        missing: Scenario of ``away``.
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
    missing: str = NOBODY
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
    """Clients whose answers are measured before anyone judges them.

    Attributes:
        ratios: By field, the largest norm over what is usual.
        alone: The same over the median of its own exchange.
    """

    def __init__(self, problem: Problem, method: Method, case: Case) -> None:
        super().__init__(problem, method, away(case.missing, 0))
        self.scale = case.scale
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
        found = {m: r for m, r in replies.items() if isinstance(r, Reply)}
        if self.scale != 1 and CULPRIT in found:
            found[CULPRIT] = scaled(found[CULPRIT], self.scale)
        answers = {m: reply.answer for m, reply in found.items()}
        expected = self.method.expects(ask, self.problem.network.size)
        self.norms = usual(answers, expected, self.norms)
        _raise(self.ratios, answers.values(), expected, self.norms)
        _raise(self.alone, answers.values(), expected, usual(answers, expected))
        return {**replies, **found}


def scaled(reply: Reply, scale: float) -> Reply:
    """With s B and -s c in place of B and c."""
    answer = reply.answer
    if not isinstance(answer, Sketched):
        return reply
    factor, target = scale * answer.factor, -scale * answer.target
    return reply._replace(answer=replace(answer, factor=factor, target=target))


def _raise(
    largest: dict[str, float],
    answers: Iterable[Record],
    expected: Expected,
    norms: Mapping[str, float],
) -> None:
    """Let the largest ratios be those of these answers, where they are larger."""
    for answer in answers:
        for key, norm in usual({0: answer}, expected).items():
            if norms[key] > 0:
                largest[key] = max(largest.get(key, 0.0), norm / norms[key])


def measure(*key: Any) -> Entry:  # noqa: ANN401
    """One run."""
    case = Case(*key)
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
    clients = Watched(problem, method, case)
    outlier = Rules.outlier if case.checked else math.inf
    history = clients.run(case.rounds, 0, Rules(min_clients=1, outlier=outlier))
    reasons = [r for line in history for r in line.dropped.values()]
    return {
        "ratios": {k: short(v) for k, v in clients.ratios.items()},
        "alone": {k: short(v) for k, v in clients.alone.items()},
        "refused": sum("cannot be merged" in reason for reason in reasons),
        "steps": sum(line.step > 0 for line in history),
        "error": short(history[-1].relative_l2),
        "seconds": short(history[-1].seconds),
    }


def groups(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The runs of honest clients, by what they are."""
    found: dict[str, list[Entry]] = {}
    for e in select(entries, scale=1, policy=NATURAL):
        name = e["method"]
        if e["partition"] == UNEQUAL:
            name += ", one holds nine tenths"
        if e["missing"] != NOBODY:
            name += ", clients come back"
        found.setdefault(name, []).append(e)
    return found


def largest(entries: Sequence[Entry], rule: str) -> tuple[float, str, Entry]:
    """The largest ratio of the runs by a rule, in which field, and in which run."""
    return max(
        ((ratio, key, e) for e in entries for key, ratio in e[rule].items()),
        key=lambda found: found[0],
    )


def tables(entries: Sequence[Entry]) -> list[Table]:
    """The ratios of honest clients; what becomes of a run in which one is not."""
    order = {case: k for k, case in enumerate(CASES)}
    entries = sorted(
        entries,
        key=lambda e: order.get(Case(*(e[k] for k in Case._fields)), len(order)),
    )
    rows = []
    for name, runs in groups(entries).items():
        ratio, key, e = largest(runs, "ratios")
        where = f"{e['problem']}, {e['clients']} clients, {e['partition']}"
        alone, refused = largest(runs, "alone")[0], sum(e["refused"] for e in runs)
        numbers = f"{ratio:.3g}", f"{alone:.3g}"
        rows.append([name, len(runs), numbers[0], key, where, numbers[1], refused])
    heads = ["clients", "runs", "largest", "of", "on", "in its round alone", "refused"]
    ratios = Table("ratios", "Largest ratios of honest clients.", heads, rows, PAGE)
    rows = []
    for e in select(entries, clients=10):
        if e["partition"] != UNEQUAL:
            policy, s = e["policy"].split(":")[0], f"{e['scale']:g}"
            check = "yes" if e["checked"] else "no"
            found = e["refused"], e["steps"], e["error"]
            rows.append([e["problem"], policy, s, check, *found])
    heads = ["problem", "policy", "s", "check", "rounds refused", "steps", "error"]
    caption = "One of ten clients scales its sketch."
    return [ratios, Table("scaled", caption, heads, rows, PAGE)]


EXPERIMENT = Experiment(
    "outliers", __doc__, Case._fields, CASES, measure, tables, page=PAGE
)
