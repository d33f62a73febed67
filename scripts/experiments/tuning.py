"""Small documented search for the averaging methods and their kin, in their favour.

Per problem, full batch, seed 0; the local solver is Adam but in stage 8. Chosen by the
error on the test points itself (in the baselines' favour), as the median of the last
five rounds:

1. FedAvg and SCAFFOLD on a grid of learning rates and tau, for a few rounds;
2. the best learning rates of the two best tau, for all rounds, each with optimisers
   that start afresh in every round and with such that keep their state;
3. FedProx with the two best of FedAvg's and several proximal factors, for a few rounds;
4. FedProx's two best, for all rounds;
5. FedAdam, FedDyn and FedFisher on a grid of what is their own (``OWN``) with FedAvg's
   best learning rate for tau = 20, and FedPM on its grid, for a few rounds;
6. the two best of each with tau = 100 and FedAvg's best learning rate for that, the
   better one also with optimisers that keep their state; FedPM has no other tau;
7. the best of each, and FedPM's two best, for all rounds;
8. FedAvg with local L-BFGS, for a few rounds, its best for all rounds;
9. of each method, as long as its best of all rounds has the least or the greatest value
   tried of a number (``LADDERS``), the next value beyond, for all rounds: at most
   ``WIDEN`` beyond the grid, and of tau no more than the plan's ``most``.

Stages 1 to 7 build on each other alone, so what 8 and 9 find does not undo them. In two
and more dimensions the grids are smaller. FedPM's local steps are not Adam's; with the
whole gramian a round costs as much as 200 epochs, so only tau = 1 is tried.

Problems outside of the suite have stage 1 alone, of a few processor seconds each. Where
a problem seeks an unknown number, the error is that of the number.

The record is every setting tried, with its error, and the best of those that ran for
all rounds, or until their ``limit`` of processor seconds. What takes the fewest seconds
runs first, by what was recorded, so a search that is interrupted is of use. Hours.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product, zip_longest
from statistics import median

from _common import TUNED

from experiments._experiment import Case, Experiment, token
from experiments._record import Entry, grouped, select
from experiments._suites import DENSE, EXTRA, FEDPINN, HARD, setting_of
from experiments._table import Cell, Table
from fedsciml import methods, problems, run
from fedsciml.federation.history import Round

SEED = 0
USUAL = "relative_l2"
KEY = ("problem", "method", "options", "rounds")
Options = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """How much is tried for a problem.

    Attributes:
        rates: Learning rates of the grid.
        taus: Local epochs of the grid.
        proximals: Factors of FedProx; empty to end after the grid.
        few: Rounds of the stages that choose.
        rounds: All rounds.
        kin: The other methods.
        thin: Of their own grids, the first and every so many.
        most: The greatest tau tried.
        limit: Processor seconds after which a run ends.
    """

    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    taus: tuple[int, ...] = (20, 100, 300)
    proximals: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    few: int = 10
    rounds: int = 50
    kin: tuple[str, ...] = ("fedadam", "feddyn", "fedfisher", "fedpm")
    thin: int = 1
    most: int = 1000
    limit: float = 90.0


# All of a plan for two problems (17 minutes of one core); the others less, for time.
FULL = Plan()
MEDIUM = Plan(taus=(20, 100))
# An epoch in two and more dimensions costs 10 to 60 times as much as in one.
SHORT = Plan((1e-3, 3e-3, 1e-2), (20, 100), (1e-1, 1.0), 10, 10, thin=2, most=300)
SHORTER = replace(SHORT, few=5, rounds=5, limit=180.0)
BRIEF = Plan((1e-3, 3e-3, 1e-2), (20, 100), (), 50, 50, kin=(), limit=6.0)

PLANS: dict[str, Plan] = {
    "sine2": FULL,
    "allen_cahn": FULL,
    "poisson1d": MEDIUM,
    "bratu": MEDIUM,
    "fisher_kpp": MEDIUM,
    "sine4": MEDIUM,
    "reaction_diffusion": MEDIUM,
    "sine8": MEDIUM,
    "gaussians2d": SHORT,
    "poisson2d": SHORT,
    "poisson3d": SHORTER,
    "poisson5d": SHORTER,
    **dict.fromkeys((*FEDPINN, *EXTRA, *HARD, *DENSE), BRIEF),
}

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
TENS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e4)
LADDERS: dict[str, tuple[float, ...]] = {
    "learning_rate": RATES,
    "tau": (1, 5, 20, 100, 300, 1000),
    "server_rate": TENS,
    "eps": TENS,
    "alpha": TENS,
    "proximal": TENS,
    "damping": TENS,
}
"""What values of an option follow each other."""

WIDEN = 2
"""So many values are tried beyond an edge of a grid, at most."""

LBFGS: list[Options] = [{"local": "lbfgs", "tau": tau} for tau in (5, 20, 100)]
"""Local L-BFGS finds its step itself."""

FOOF: list[Options] = [
    {"tau": 10, "learning_rate": rate, "damping": damping}
    for rate, damping in product((1e-3, 1e-2, 1e-1), (1e-2, 1.0))
]
GRAMIAN: list[Options] = [
    {"tau": 1, "preconditioner": "gramian", "learning_rate": rate, "damping": damping}
    for rate, damping in product((0.3, 1.0), (1e-2, 1e-4))
]
OWN: dict[str, list[Options]] = {
    "fedadam": [
        {"server_rate": rate, "eps": eps}
        for rate, eps in product((1e-3, 1e-2, 1e-1), (1e-3, 1e-1))
    ],
    "feddyn": [{"alpha": alpha} for alpha in (1e-2, 1e-1, 1.0, 10.0, 100.0)],
    "fedfisher": [
        {"fisher": fisher, "server_rate": rate}
        for fisher, rate in product(("kfac", "diagonal"), (1e-3, 1e-2))
    ],
    "fedpm": FOOF + GRAMIAN,
}
"""What is tried of a method's own options; FedPM's are all of them."""

FINALS = {"fedadam": 1, "feddyn": 1, "fedfisher": 1, "fedpm": 2}
"""How many of the best run for all rounds. Gauss-Newton steps with little damping begin
slowly and end lower, so FedPM's second may win."""

NEAR, FAR = 20, 100
"""tau of the kin: the grid of their own options, and the best of it."""


def measure(problem: str, method: str, options: Options, rounds: int) -> Entry:
    """A setting, and how it ended."""
    history: list[Round] = []
    diverged = False
    loaded = methods.load(method, **options)
    made, setting = problems.parse(problem), setting_of(problem)
    sought = setting.sought if setting else ""
    limit = PLANS[problem].limit

    def enough(lines: list[Round]) -> bool:
        return lines[-1].seconds >= limit

    try:
        run(
            made,
            loaded,
            rounds,
            SEED,
            progress=history.append,
            stop=enough,
            clock=time.process_time,
        )
    except FloatingPointError:
        diverged = True
    last = history[-1] if history else None
    ends = [line.errors[sought] if sought else line.relative_l2 for line in history]
    return {
        "diverged": diverged,
        f"median_{sought or USUAL}": _finite(median(ends[-5:]) if ends else None),
        **{
            k: _finite(getattr(last, k, None))
            for k in ("relative_l2", "mse", "seconds")
        },
        "error": sought or USUAL,
        "ran": len(history),
        "limit": limit,
    }


def error_of(entry: Entry) -> float | None:
    """What a setting is judged by; None where it is not finite."""
    value: float | None = entry[f"median_{entry.get('error', USUAL)}"]
    return None if entry["diverged"] else value


def _finite(value: float | None) -> float | None:
    """The number, or None, as JSON has no other."""
    return value if value is not None and math.isfinite(value) else None


def ranked(
    entries: Sequence[Entry], problem: str, method: str, rounds: int
) -> list[tuple[float, Options]]:
    """Errors with their options, the best first; diverged runs left out."""
    found = [
        (error, e["options"])
        for e in select(entries, problem=problem, method=method, rounds=rounds)
        if (error := error_of(e)) is not None
    ]
    return sorted(found, key=lambda pair: pair[0])


def stages(entries: Sequence[Entry], problem: str) -> Iterator[list[Case]]:
    """The cases, stage by stage; each stage builds on the one before."""
    plan = PLANS[problem]
    asked: dict[str, list[Case]] = {}
    for stage in grids(entries, problem):
        for case in stage:
            asked.setdefault(case[1], []).append(case)
        yield stage
    if plan.proximals:  # of all methods side by side, as none builds on another
        walks = [_late(entries, problem, method, asked[method]) for method in asked]
        for parts in zip_longest(*walks, fillvalue=()):
            yield [case for part in parts for case in part]


def grids(entries: Sequence[Entry], problem: str) -> Iterator[list[Case]]:
    """Stages 1 to 7, whatever else there is among the entries."""
    plan = PLANS[problem]
    asked: set[str] = set()

    def best(method: str, rounds: int) -> list[Options]:
        return [
            options
            for _, options in ranked(entries, problem, method, rounds)
            if token((problem, method, options, rounds)) in asked
        ]

    def stage(cases: Sequence[Case]) -> list[Case]:
        asked.update(map(token, cases))
        return list(cases)

    both = ("fedavg", "scaffold")
    grid: list[Options] = [
        {"learning_rate": rate, "tau": tau}
        for tau, rate in product(plan.taus, plan.rates)
    ]
    yield stage([(problem, m, options, plan.few) for m in both for options in grid])
    if not plan.proximals:
        return

    finals: list[Case] = []
    for method in both:
        plain = [o for o in best(method, plan.few) if "keep_state" not in o]
        bests = {o["tau"]: o for o in reversed(plain)}
        for options in sorted(bests.values(), key=plain.index)[:2]:
            for final in (options, {**options, "keep_state": True}):
                finals.append((problem, method, final, plan.rounds))
    yield stage(finals)

    yield stage(
        [
            (problem, "fedprox", {**options, "proximal": mu}, plan.few)
            for options, mu in product(best("fedavg", plan.rounds)[:2], plan.proximals)
        ]
    )
    yield stage(
        [(problem, "fedprox", o, plan.rounds) for o in best("fedprox", plan.few)[:2]]
    )

    local = [m for m in plan.kin if m != "fedpm"]
    near = locally(entries, problem, NEAR) if local else {}
    yield stage(
        [
            (problem, m, {**own, **(near if m in local else {})}, plan.few)
            for m in plan.kin
            for own in OWN[m][:: plan.thin]
        ]
    )

    far = locally(entries, problem, FAR) if local else {}
    better: list[Case] = []
    for method in local:
        plain = [{**o, **far} for o in best(method, plan.few) if o["tau"] == NEAR][:2]
        kept = [{**o, "keep_state": True} for o in plain[:1]]
        better += [(problem, method, o, plan.few) for o in plain + kept]
    yield stage(better)

    yield stage(
        [
            (problem, method, options, plan.rounds)
            for method in plan.kin
            for options in best(method, plan.few)[: FINALS[method]]
        ]
    )


def _late(
    entries: Sequence[Entry], problem: str, method: str, asked: Sequence[Case]
) -> Iterator[list[Case]]:
    """Stages 8 and 9 of a method, from the cases of those before."""
    plan = PLANS[problem]
    asked = list(asked)

    def stage(options: Sequence[Options], rounds: int) -> list[Case]:
        found: list[Case] = [(problem, method, o, rounds) for o in options]
        asked.extend(found)
        return found

    if method == "fedavg":
        yield stage(LBFGS, plan.few)
        few = [o for _, o in ranked(entries, problem, method, plan.few) if o in LBFGS]
        yield stage(few[:1], plan.rounds)
    grid = [options for _, _, options, _ in asked]
    found = [options for _, options in ranked(entries, problem, method, plan.rounds)]
    while True:
        tried = [options for *_, options, rounds in asked if rounds == plan.rounds]
        best = next((options for options in found if options in tried), {})
        seen = [options for _, _, options, _ in asked]
        new = [o for o in beyond(best, seen, grid, plan.most) if o not in tried]
        if not new:
            return
        yield stage(new, plan.rounds)


def beyond(
    best: Options, tried: Sequence[Options], grid: Sequence[Options], most: float
) -> list[Options]:
    """``best`` with the next value of each number that is on the edge of those tried.

    Args:
        best: What is widened; options of another kind do not count.
        tried: All options of the method.
        grid: Those before the first widening; what has one value there is no grid.
        most: The greatest tau.
    """
    result: list[Options] = []
    for key in sorted(best.keys() & LADDERS.keys()):
        ladder = [v for v in LADDERS[key] if key != "tau" or v <= most]

        def places(options: Sequence[Options], key: str = key) -> list[int]:
            values = [o[key] for o in options if _kind(o) == _kind(best)]
            return [place for place, v in enumerate(LADDERS[key]) if v in values]

        began = places(grid)
        if len(began) < 2:
            continue
        now, (here,) = places(tried), places([best])
        for edge, place in ((now[0], here - 1), (now[-1], here + 1)):
            near = began[0] - WIDEN <= place <= began[-1] + WIDEN
            if here == edge and near and 0 <= place < len(ladder):
                result.append({**best, key: ladder[place]})
    return result


def _kind(options: Options) -> Options:
    """The words among options, and which numbers there are besides."""
    return {
        key: None if key in LADDERS else value
        for key, value in options.items()
        if key != "keep_state"
    }


def locally(entries: Sequence[Entry], problem: str, tau: int) -> Options:
    """FedAvg's best local Adam of tau epochs, without keeping state."""
    plan = PLANS[problem]
    grid: list[Options] = [{"learning_rate": r, "tau": tau} for r in plan.rates]
    found = ranked(entries, problem, "fedavg", plan.few)
    return next((options for _, options in found if options in grid), grid[0])


def cases(entries: Sequence[Entry]) -> list[Case]:
    """Of every problem, the stages up to the first that is not done; cheapest first."""
    done = {token(tuple(e[name] for name in KEY)) for e in entries}
    known = grouped(entries, "problem")
    result: list[Case] = []
    for problem in PLANS:
        for stage in stages(known.get(problem, []), problem):
            result += stage
            if not all(token(case) in done for case in stage):
                break
    return sorted(result, key=expected(entries))


def expected(entries: Sequence[Entry]) -> Callable[[Case], float]:
    """About how many seconds a run takes, by those of SCAFFOLD's epochs before."""
    known = [e for e in select(entries, method="scaffold") if e.get("seconds")]
    paces = {
        problem: median(
            e["seconds"] / (e.get("ran", e["rounds"]) * e["options"]["tau"])
            for e in lines
        )
        for problem, lines in grouped(known, "problem").items()
    }

    def seconds(case: Case) -> float:
        problem, _, options, rounds = case
        epochs = rounds * max(options["tau"], NEAR)
        return min(PLANS[problem].limit, paces.get(problem, math.inf) * epochs)

    return seconds


def unpack(content: bytes) -> list[Entry]:
    """The settings tried."""
    found: list[Entry] = json.loads(content)["tried"]
    return found


def pack(entries: Sequence[Entry]) -> str:
    """The search, the best, and a line for each setting tried."""
    best: dict[str, dict[str, Options]] = {}
    for problem, method, _, options in winners(entries):
        best.setdefault(problem, {})[method] = options
    content = {
        "command": "python -m scripts.experiments tuning",
        "seed": SEED,
        "plans": {problem: asdict(plan) for problem, plan in PLANS.items()},
        "best": best,
    }
    lines = ",\n".join(sorted("  " + json.dumps(entry) for entry in entries))
    head = json.dumps(content, indent=1)[:-2]
    return head + ',\n "tried": [\n' + lines + "\n ]\n}\n"


def winners(entries: Sequence[Entry]) -> Iterator[tuple[str, str, float, Options]]:
    """Problem, method, error and options of the best that ran for all rounds."""
    known = grouped(entries, "problem")
    for problem, plan in PLANS.items():
        own = known.get(problem, [])
        for method in TUNED if own else ():
            for error, options in ranked(own, problem, method, plan.rounds)[:1]:
                yield problem, method, error, options


def table(entries: Sequence[Entry]) -> Table:
    """The best of each problem and method."""
    rows: list[list[Cell]] = [
        [problem, method, error, json.dumps(options)]
        for problem, method, error, options in winners(entries)
    ]
    heads = ["problem", "method", "error", "options"]
    return Table("tuning", "Best settings, start 0:", heads, rows)


def check(problem: str, method: str, options: Options, rounds: int) -> None:
    """Raise ValueError if the problem is not searched, or there is no such method."""
    if problem not in PLANS:
        raise ValueError(f"No plan for problem '{problem}': {', '.join(PLANS)}.")
    methods.load(method, **options)


EXPERIMENT = Experiment(
    "tuning",
    __doc__,
    KEY,
    cases,
    measure,
    lambda entries: [table(entries)],
    page="the options of the baselines",
    check=check,
    unpack=unpack,
    pack=pack,
)
