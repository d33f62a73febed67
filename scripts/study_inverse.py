"""Unknown numbers from four sites' sensors: viscosity and diffusivity, FIPA and FedAvg.

Problems `heat_inverse` and `burgers_inverse`, one start; clean data and data with
1 % noise, three draws of points and errors. An entry has the relative errors of the
number and of the solution, and the standard deviation of the number over its truth, by
`fedsciml.analysis.laplace`. FedAvg, whose optimisers keep their state, is searched on the clean
data of the first draw by the error of the number itself, in its favour, and the best
setting runs on the noisy data too.

The record is `figures/data/inverse.json`; what is there is not run again:

    python scripts/study_inverse.py
"""

import argparse
import time
from collections.abc import Sequence
from math import pi
from pathlib import Path

import _common  # before torch, see there
from _common import Entry, short

import problems
from fedsciml import methods, run
from fedsciml.analysis.laplace import laplace

RECORD = Path(__file__).parents[1] / "figures" / "data" / "inverse.json"
KEY = ("problem", "noise", "seed", "weight", "viscosity", "method", "tau", "rate")
ROUNDS = 100
NOISES = (0.0, 0.01)
SEEDS = (0, 1, 2)

Run = tuple[str, float, int, float, float | None, str, int | None, float | None]

PROBLEMS = (("heat_inverse", None), ("burgers_inverse", 0.05 / pi))
"""With the viscosity, where it is a parameter."""

NEAR = [(20, 1e-3), (20, 3e-3), (20, 1e-2)]
SEARCH = {
    "heat_inverse": [*NEAR, (100, 1e-3), (100, 1e-2)],
    "burgers_inverse": [*NEAR, (100, 3e-3)],
}
"""FedAvg's tau and learning rate: what is tried."""

SHARP: Run = ("burgers_inverse", 0.0, 0, 100.0, 0.01 / pi, "fipa", None, None)


def measured(
    problem: str,
    noise: float,
    seed: int,
    weight: float,
    viscosity: float | None,
    method: str,
    tau: int | None,
    rate: float | None,
) -> Entry:
    """One run."""
    values = (problem, noise, seed, weight, viscosity, method, tau, rate)
    parameters: dict[str, object] = {"noise": noise, "seed": seed, "weight": weight}
    if viscosity is not None:
        parameters["viscosity"] = viscosity
    options: dict[str, object] = {}
    if method == "fedavg":
        options = {"tau": tau, "learning_rate": rate, "keep_state": True}
    made = problems.load(problem, **parameters)
    solver = methods.load(method, **options)
    result = run(made, solver, ROUNDS, clock=time.process_time)
    ((name, found),) = result.unknowns().items()
    truth, last = made.truth[name], result.history[-1]
    known = laplace(made, result.theta)
    return {
        **dict(zip(KEY, values, strict=True)),
        "found": found,
        "error": short(abs(found - truth) / truth),
        "deviation": short(known.deviation[name] / truth),
        "solution": short(result.errors()[0]),
        "errors": [short(line.errors[name]) for line in result.history],
        "bytes": last.bytes_up + last.bytes_down,
        "seconds": short(last.seconds),
    }


def _fedavg(
    problem: str, viscosity: float | None, noise: float, tau: int, rate: float
) -> Run:
    return (problem, noise, 0, 1.0, viscosity, "fedavg", tau, rate)


def _best(entries: Sequence[Entry], problem: str) -> Entry:
    """FedAvg's on clean data."""
    tried = [e for e in entries if (e["problem"], e["noise"]) == (problem, 0.0)]
    fedavg = [e for e in tried if e["method"] == "fedavg"]
    return min(fedavg, key=lambda e: float(e["error"]))


def main() -> None:
    """Run what the record lacks, and print all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    out = parser.parse_args().out

    def completed(runs: list[Run]) -> list[Entry]:
        return _common.completed(out, KEY, runs, measured, jobs=1, threads=1)

    fipa: list[Run] = [
        (problem, noise, seed, 1.0, viscosity, "fipa", None, None)
        for problem, viscosity in PROBLEMS
        for noise in NOISES
        for seed in SEEDS
    ]
    entries = completed([*fipa, SHARP])
    for problem, nu in PROBLEMS:
        entries = completed([_fedavg(problem, nu, 0.0, *of) for of in SEARCH[problem]])
        best = _best(entries, problem)
        entries = completed([_fedavg(problem, nu, 0.01, best["tau"], best["rate"])])
    print(
        "problem         noise seed weight method  tau  rate    error      +- solution"
    )
    for e in sorted(entries, key=lambda e: (e["problem"], e["noise"], e["method"])):
        print(
            f"{e['problem']:15} {e['noise']:5} {e['seed']:4} {e['weight']:6} "
            f"{e['method']:6} {e['tau'] or '':4} {e['rate'] or '':5} "
            f"{e['error']:8.1e} {e['deviation']:8.1e} {e['solution']:8.1e}"
        )


if __name__ == "__main__":
    main()
