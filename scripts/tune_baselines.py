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
``_common.tuned``; FedPM is left out. FedPM's local steps are not Adam's; with the whole
gramian a round costs as much as 200 epochs, so only tau = 1 is tried.

The result is ``figures/data/tuning.json``: every setting tried, with its error, and the
best of those that ran for all rounds. Settings found there are not run again, so an
interrupted search goes on where it stopped:

    python scripts/tune_baselines.py --jobs 2
    python scripts/tune_baselines.py --problems sine2 allen_cahn
"""

import argparse
import json
import math
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _common import TUNED, TUNING
from tqdm import tqdm

import problems
from fedsciml import methods
from fedsciml.federation.history import Round
from fedsciml.federation.loop import run
from fedsciml.federation.record import replace_file

SEED = 0

Options = dict[str, object]
Entry = dict[str, Any]
"""A setting that was tried, and how it ended; a line of the file."""


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


@dataclass(frozen=True)
class Job:
    """One run."""

    problem: str
    method: str
    options: Options
    rounds: int


def tried(job: Job) -> Entry:
    """Run a job and say how it ended."""
    history: list[Round] = []
    diverged = False
    try:
        run(
            problems.load(job.problem),
            methods.load(job.method, **job.options),
            job.rounds,
            SEED,
            progress=history.append,
        )
    except FloatingPointError:
        diverged = True
    last = history[-1] if history else None
    return {
        **asdict(job),
        "diverged": diverged,
        "median_relative_l2": _finite(
            median(line.relative_l2 for line in history[-5:]) if history else None
        ),
        **{
            k: _finite(getattr(last, k, None))
            for k in ("relative_l2", "mse", "seconds")
        },
    }


class Search:
    """What has been tried, in memory and in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Entry] = []
        if path.is_file():
            self.lines = json.loads(path.read_text())["tried"]

    def errors(
        self, problem: str, method: str, rounds: int
    ) -> list[tuple[float, Options]]:
        """Errors with their options, the best first; diverged runs left out."""
        found = [
            (line["median_relative_l2"], line["options"])
            for line in self.lines
            if (line["problem"], line["method"], line["rounds"])
            == (problem, method, rounds)
            and not line["diverged"]
            and line["median_relative_l2"] is not None
        ]
        return sorted(found, key=lambda pair: pair[0])

    def stages(self, problem: str) -> Iterator[list[Job]]:
        """The jobs, stage by stage; each stage builds on the one before."""
        plan = PLANS[problem]
        both = ("fedavg", "scaffold")
        grid: list[Options] = [
            {"learning_rate": rate, "tau": tau}
            for tau, rate in product(plan.taus, plan.rates)
        ]
        yield [Job(problem, m, options, plan.few) for m in both for options in grid]

        finals = []
        for method in both:
            ranked = self.errors(problem, method, plan.few)
            plain = [o for _, o in ranked if "keep_state" not in o]
            bests = {o["tau"]: o for o in reversed(plain)}
            for options in sorted(bests.values(), key=plain.index)[:2]:
                for final in (options, {**options, "keep_state": True}):
                    finals.append(Job(problem, method, final, plan.rounds))
        yield finals

        ranked = self.errors(problem, "fedavg", plan.rounds)[:2]
        yield [
            Job(problem, "fedprox", {**options, "proximal": mu}, plan.few)
            for (_, options), mu in product(ranked, plan.proximals)
        ]

        ranked = self.errors(problem, "fedprox", plan.few)[:2]
        yield [Job(problem, "fedprox", options, plan.rounds) for _, options in ranked]

        local = [m for m in plan.kin if m != "fedpm"]
        near = self.locally(problem, NEAR) if local else {}
        yield [
            Job(problem, m, {**own, **(near if m in local else {})}, plan.few)
            for m in plan.kin
            for own in OWN[m]
        ]

        far = self.locally(problem, FAR) if local else {}
        better = []
        for method in local:
            ranked = self.errors(problem, method, plan.few)
            plain = [{**o, **far} for _, o in ranked if o["tau"] == NEAR][:2]
            better += [(method, o) for o in plain]
            better += [(method, {**o, "keep_state": True}) for o in plain[:1]]
        yield [Job(problem, method, o, plan.few) for method, o in better]

        yield [
            Job(problem, method, options, plan.rounds)
            for method in plan.kin
            for _, options in self.errors(problem, method, plan.few)[: FINALS[method]]
        ]

    def locally(self, problem: str, tau: int) -> Options:
        """FedAvg's best local training of tau epochs, without keeping state."""
        ranked = self.errors(problem, "fedavg", PLANS[problem].few)
        plain = (o for _, o in ranked if o["tau"] == tau and "keep_state" not in o)
        return next(plain)

    def missing(self, jobs: list[Job]) -> list[Job]:
        """Those that the file does not hold."""
        names = [field.name for field in fields(Job)]
        keys = [{name: line[name] for name in names} for line in self.lines]
        return [job for job in jobs if asdict(job) not in keys]

    def save(self) -> None:
        """Replace the file."""
        best: dict[str, dict[str, Options]] = {}
        for problem, plan in PLANS.items():
            for method in TUNED:
                ranked = self.errors(problem, method, plan.rounds)
                if ranked:
                    best.setdefault(problem, {})[method] = ranked[0][1]
        content = {
            "command": "python scripts/tune_baselines.py",
            "seed": SEED,
            "local": "adam",
            "plans": {problem: asdict(plan) for problem, plan in PLANS.items()},
            "best": best,
        }
        text = json.dumps(content, indent=1)[:-2]
        # One line per setting: 300 of them are to be read, and compared in a diff.
        lines = ",\n".join(sorted("  " + json.dumps(line) for line in self.lines))
        text += ',\n "tried": [\n' + lines + "\n ]\n}\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.path, text)


def main() -> None:
    """Search, and print the best."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=list(PLANS),
        default=list(PLANS),
        metavar="NAME",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread")
    parser.add_argument("--out", type=Path, default=TUNING, help=f"default {TUNING}")
    arguments = parser.parse_args()
    search = Search(arguments.out)
    pool = ProcessPoolExecutor(
        arguments.jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=torch.set_num_threads,
        initargs=(1,),
    )
    with pool:
        for problem in arguments.problems:
            for number, stage in enumerate(search.stages(problem), 1):
                futures = [pool.submit(tried, job) for job in search.missing(stage)]
                title = f"{problem} {number}/7"
                for future in tqdm(as_completed(futures), title, len(futures)):
                    search.lines.append(future.result())
                    search.save()
            for method in TUNED:
                ranked = search.errors(problem, method, PLANS[problem].rounds)
                for error, options in ranked[:1]:
                    print(f"{problem} {method} {error:.2e} {options}", flush=True)


def _finite(value: float | None) -> float | None:
    """The number, or None, as JSON has no other."""
    return value if value is not None and math.isfinite(value) else None


if __name__ == "__main__":
    main()
