r"""Do 95 % intervals of an unknown number contain it in 95 % of the cases?

Each draw of problem `heat_inverse` has its own points and its own errors of 1 % in the
measurements of four sites. FIPA starts at the solution of clean data, so that few
rounds do, and `fedsciml.analysis.laplace` gives the standard deviation of the number
found. The interval is that of Student's t distribution with the residual degrees of
freedom.

    python scripts/study_coverage.py               # `figures/data/coverage.json`

For both standard deviations, that of the sandwich and its bound s^2 A^-1, the share of
intervals that contain the truth, with the 95 % interval of a binomial share (Clopper
and Pearson, Biometrika 26, 1934), and the root mean square of the errors over the mean
standard deviation, 1 if these are right.

    python scripts/study_coverage.py --damping     # not recorded

prints the standard deviation of the first draw's number for some dampings mu.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import _common  # before torch, see there
from _common import Entry
from scipy.stats import binomtest, t
from torch import Tensor

import problems
from fedsciml import methods, run
from fedsciml.analysis.laplace import laplace
from fedsciml.methods.fipa import Fipa, State

RECORD = Path(__file__).parents[1] / "figures" / "data" / "coverage.json"
KEY = ("problem", "noise", "draw")
PROBLEM, NOISE, DRAWS = "heat_inverse", 0.01, 100
CLEAN, ROUNDS = 80, 15
LEVEL = 0.95
DAMPINGS = (1e-13, 1e-12, 1e-10, 1e-8, 1e-6, 1e-5)
"""mu over the largest eigenvalue."""


@dataclass(frozen=True)
class Warm(Fipa):
    """FIPA from a given theta."""

    begin: Tensor = field(kw_only=True)

    def start(self, theta: Tensor, seed: int) -> State:
        """As FIPA's, at ``begin``."""
        del theta
        return super().start(self.begin, seed)


class Coverage(NamedTuple):
    """How many intervals contain the truth.

    Attributes:
        share: Of them all.
        low: Lower end of the share's 95 % interval.
        high: Upper end.
        ratio: Root mean square error over the mean standard deviation.
    """

    share: float
    low: float
    high: float
    ratio: float


@cache
def clean(problem: str) -> Tensor:
    """theta of clean data, shape [p]."""
    return run(problems.load(problem), methods.load("fipa"), CLEAN).theta


def measured(problem: str, noise: float, draw: int) -> Entry:
    """What one draw finds, relative to the truth."""
    made = problems.load(problem, noise=noise, seed=1 + draw)
    ((name, truth),) = made.truth.items()
    # Distances from 0 are the positive numbers themselves; errors have lost their sign.
    bare = replace(made, truth={name: 0.0})
    result = run(bare, Warm(begin=clean(problem)), ROUNDS)
    found = [line.errors[name] for line in result.history]
    known = laplace(made, result.theta)
    return {
        **dict(zip(KEY, (problem, noise, draw), strict=True)),
        "error": known.mean[name] / truth - 1,
        "deviation": known.deviation[name] / truth,
        "bound": known.bound[name] / truth,
        "sigma": known.sigma,
        "freedom": known.freedom,
        # What the last third of the rounds still moved: little beside the deviation.
        "moved": abs(found[-1] - found[2 * ROUNDS // 3 - 1]) / truth,
    }


def quantile(entry: Entry) -> float:
    """Half an interval, in standard deviations."""
    return float(t.ppf((1 + LEVEL) / 2, entry["freedom"]))


def coverage(entries: Sequence[Entry], width: str) -> Coverage:
    """Of the intervals with the standard deviations ``width`` of the entries."""
    inside = [abs(e["error"]) <= quantile(e) * e[width] for e in entries]
    share = sum(inside) / len(inside)
    interval = binomtest(sum(inside), len(inside)).proportion_ci(0.95)
    size = fmean(e["error"] ** 2 for e in entries) ** 0.5
    ratio = size / fmean(e[width] for e in entries)
    return Coverage(share, interval.low, interval.high, ratio)


def main() -> None:
    """Make the draws that the record lacks, and print the coverage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=DRAWS, help=f"default {DRAWS}")
    parser.add_argument("--out", type=Path, default=RECORD, help=f"default {RECORD}")
    parser.add_argument(
        "--damping", action="store_true", help="only the standard deviation by damping"
    )
    given = parser.parse_args()
    if given.damping:
        made = problems.load(PROBLEM, noise=NOISE, seed=1)
        theta = run(made, Warm(begin=clean(PROBLEM)), ROUNDS).theta
        for mu in DAMPINGS:
            (deviation,) = laplace(made, theta, damping=mu).deviation.values()
            print(f"mu {mu:.0e}: +- {deviation:.4e}")
        return
    draws = [(PROBLEM, NOISE, draw) for draw in range(given.draws)]
    entries = _common.completed(given.out, KEY, draws, measured, jobs=1, threads=1)
    for width in ("deviation", "bound"):
        found = coverage(entries, width)
        print(
            f"{width:9} {found.share:.1%} of {len(entries)} intervals contain the "
            f"truth [{found.low:.1%}, {found.high:.1%}]; errors are {found.ratio:.2f} "
            "times as large as they say"
        )
    moved = max(entry["moved"] / entry["deviation"] for entry in entries)
    print(f"the last rounds moved no number by more than {moved:.1e} deviations")


if __name__ == "__main__":
    main()
