"""Small documented search for the averaging methods and their kin, in their favour.

Per problem, local solver Adam, full batch, seed 0. Chosen by the error on the test
points itself (in the baselines' favour), as the median of the last five rounds:

1. FedAvg and SCAFFOLD on a grid of learning rates and tau, for a few rounds;
2. the best learning rates of the two best tau, for all rounds, each with optimisers
   that start afresh in every round and with such that keep their state;
3. FedProx with the two best of FedAvg's and several proximal factors, for a few rounds;
4. FedProx's two best, for all rounds;
5. in one dimension, FedAdam, FedDyn and FedFisher on a grid of what is their own
   (``OWN``) with FedAvg's best learning rate for tau = 20, and FedPM on its grid, for a
   few rounds;
6. the two best of each with tau = 100 and FedAvg's best learning rate for that, the
   better one also with optimisers that keep their state; FedPM has no other tau;
7. the best of each, and FedPM's two best, for all rounds.

In two and more dimensions the kin take FedAvg's options and their defaults, see
``fedsciml.command.tuning``; FedPM is left out. FedPM's local steps are not Adam's; with
the whole gramian a round costs as much as 200 epochs, so only tau = 1 is tried.

The record is every setting tried, with its error, and the best of those that ran for
all rounds. Hours.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from statistics import median

from _common import TUNED

from experiments._experiment import Case, Experiment, token
from experiments._record import Entry, select
from experiments._table import Cell, Table
from fedsciml import methods, problems, run
from fedsciml.federation.history import Round

SEED = 0
KEY = ("problem", "method", "options", "rounds")
Options = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """How much is tried for a problem."""

    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    taus: tuple[int, ...] = (20, 100, 300)
    proximals: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    few: int = 10
    rounds: int = 50
    kin: tuple[str, ...] = ("fedadam", "feddyn", "fedfisher", "fedpm")


# All of a plan for two problems (17 minutes of one core); the others less, for time.
FULL = Plan()
MEDIUM = Plan(taus=(20, 100))
# An epoch in two and more dimensions costs 10 to 60 times as much as in one.
SHORT = Plan((1e-3, 3e-3, 1e-2), (20, 100), (1e-1, 1.0), 10, 10, kin=())
SHORTER = Plan((1e-3, 3e-3, 1e-2), (20, 100), (1e-1, 1.0), 5, 5, kin=())

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
}

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
    try:
        run(problems.load(problem), loaded, rounds, SEED, progress=history.append)
    except FloatingPointError:
        diverged = True
    last = history[-1] if history else None
    ends = [line.relative_l2 for line in history[-5:]]
    return {
        "diverged": diverged,
        "median_relative_l2": _finite(median(ends) if ends else None),
        **{
            k: _finite(getattr(last, k, None))
            for k in ("relative_l2", "mse", "seconds")
        },
    }


def _finite(value: float | None) -> float | None:
    """The number, or None, as JSON has no other."""
    return value if value is not None and math.isfinite(value) else None


def ranked(
    entries: Sequence[Entry], problem: str, method: str, rounds: int
) -> list[tuple[float, Options]]:
    """Errors with their options, the best first; diverged runs left out."""
    found = [
        (e["median_relative_l2"], e["options"])
        for e in select(entries, problem=problem, method=method, rounds=rounds)
        if not e["diverged"] and e["median_relative_l2"] is not None
    ]
    return sorted(found, key=lambda pair: pair[0])


def stages(entries: Sequence[Entry], problem: str) -> Iterator[list[Case]]:
    """The cases, stage by stage; each stage builds on the one before."""
    plan = PLANS[problem]

    def best(method: str, rounds: int) -> list[Options]:
        return [options for _, options in ranked(entries, problem, method, rounds)]

    both = ("fedavg", "scaffold")
    grid: list[Options] = [
        {"learning_rate": rate, "tau": tau}
        for tau, rate in product(plan.taus, plan.rates)
    ]
    yield [(problem, m, options, plan.few) for m in both for options in grid]

    finals: list[Case] = []
    for method in both:
        plain = [o for o in best(method, plan.few) if "keep_state" not in o]
        bests = {o["tau"]: o for o in reversed(plain)}
        for options in sorted(bests.values(), key=plain.index)[:2]:
            for final in (options, {**options, "keep_state": True}):
                finals.append((problem, method, final, plan.rounds))
    yield finals

    yield [
        (problem, "fedprox", {**options, "proximal": mu}, plan.few)
        for options, mu in product(best("fedavg", plan.rounds)[:2], plan.proximals)
    ]
    yield [(problem, "fedprox", o, plan.rounds) for o in best("fedprox", plan.few)[:2]]

    local = [m for m in plan.kin if m != "fedpm"]
    near = locally(entries, problem, NEAR) if local else {}
    yield [
        (problem, m, {**own, **(near if m in local else {})}, plan.few)
        for m in plan.kin
        for own in OWN[m]
    ]

    far = locally(entries, problem, FAR) if local else {}
    better: list[Case] = []
    for method in local:
        plain = [{**o, **far} for o in best(method, plan.few) if o["tau"] == NEAR][:2]
        kept = [{**o, "keep_state": True} for o in plain[:1]]
        better += [(problem, method, o, plan.few) for o in plain + kept]
    yield better

    yield [
        (problem, method, options, plan.rounds)
        for method in plan.kin
        for options in best(method, plan.few)[: FINALS[method]]
    ]


def locally(entries: Sequence[Entry], problem: str, tau: int) -> Options:
    """FedAvg's best local training of tau epochs, without keeping state."""
    found = ranked(entries, problem, "fedavg", PLANS[problem].few)
    plain = (o for _, o in found if o["tau"] == tau and "keep_state" not in o)
    return next(plain)


def cases(entries: Sequence[Entry]) -> Iterator[Case]:
    """Of every problem, the stages up to the first that is not done."""
    done = {token(tuple(e[name] for name in KEY)) for e in entries}
    for problem in PLANS:
        for stage in stages(entries, problem):
            yield from stage
            if not all(token(case) in done for case in stage):
                break


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
        "local": "adam",
        "plans": {problem: asdict(plan) for problem, plan in PLANS.items()},
        "best": best,
    }
    lines = ",\n".join(sorted("  " + json.dumps(entry) for entry in entries))
    head = json.dumps(content, indent=1)[:-2]
    return head + ',\n "tried": [\n' + lines + "\n ]\n}\n"


def winners(entries: Sequence[Entry]) -> Iterator[tuple[str, str, float, Options]]:
    """Problem, method, error and options of the best that ran for all rounds."""
    for problem, plan in PLANS.items():
        for method in TUNED:
            for error, options in ranked(entries, problem, method, plan.rounds)[:1]:
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
