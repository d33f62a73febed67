"""What the benchmark runs: methods with their options, suites of problems."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import NamedTuple

from experiments._runs import OURS, ROUNDS
from fedsciml.command.suite import LINES, SINES, SPACES
from fedsciml.command.tuning import tuned


@dataclass(frozen=True)
class Row:
    """A method as the benchmark runs it.

    Attributes:
        method: Its name in ``fedsciml.methods``; empty for DeepXDE's own training.
        options: What it is made with, whatever the search found.
        tuned: Name under which the search has its options; empty if it was not
            searched for.
        rounds: If the method has a fixed number of them.
        budget: Seconds until which it goes on unless told otherwise.
    """

    method: str
    options: dict[str, object] = field(default_factory=dict)
    tuned: str = ""
    rounds: int = 0
    budget: float = 0.0


ONE_SHOT: dict[str, object] = {"fisher": "kfac", "tau": 3000, "server_steps": 2000}
"""Each client to its optimum, or nearly; the server's steps as in the paper."""

ROWS: dict[str, Row] = {
    "fipa": Row("fipa"),
    "gauss_newton": Row("gauss_newton", {"sketch": "range"}),
    "fipa_paper": Row("fipa_paper"),
    "fedavg": Row("fedavg", tuned="fedavg"),
    "fedprox": Row("fedprox", tuned="fedprox"),
    "scaffold": Row("scaffold", tuned="scaffold"),
    "fedadam": Row("fedadam", tuned="fedadam"),
    "feddyn": Row("feddyn", tuned="feddyn"),
    "fedpm": Row("fedpm", tuned="fedpm"),
    "fedpm_foof": Row("fedpm", {"preconditioner": "foof"}),
    "fedfisher_kfac": Row("fedfisher", {"fisher": "kfac"}, tuned="fedfisher"),
    "fedfisher_diagonal": Row("fedfisher", {"fisher": "diagonal"}, tuned="fedfisher"),
    "fedfisher_oneshot": Row("fedfisher", ONE_SHOT, tuned="fedfisher", rounds=1),
    "gradient_only": Row("gradient_only", budget=20.0),
    "local_only": Row("gauss_newton", {"sketch": "range"}),
    "deepxde": Row("", budget=60.0),
    "deepxde_nncg": Row("", budget=60.0),
    "adam": Row("adam", {"learning_rate": 3e-3}),
    "lbfgs": Row("lbfgs"),
}
"""Full SVD is as accurate for gauss_newton, and takes minutes a step in 3-D. Adam has
the best rate of 1e-3, 3e-3 and 1e-2 on sine2 and allen_cahn."""

RIVALS = (
    *("fedprox", "scaffold", "fedadam", "feddyn", "fedpm", "fedpm_foof"),
    *("fedfisher_kfac", "fedfisher_diagonal", "fedfisher_oneshot", "gradient_only"),
)
"""Federated methods beside FIPA, as published and not, and FedAvg."""

PRESETS: dict[str, str] = {
    **dict.fromkeys((*SINES, "gaussians2d"), "regression"),
    **dict.fromkeys(LINES, "line"),
    "poisson2d": "plane",
    **dict.fromkeys(("poisson3d", "poisson5d"), "space"),
    **dict.fromkeys(("gramacy_lee", "schaffer", "terrain"), "regression"),
    **dict.fromkeys(("poisson_multiscale", "euler_beam"), "line"),
    "inverse_diffusion_reaction": "line",
    **dict.fromkeys(("helmholtz", "allen_cahn_time", "poisson_square"), "plane"),
    **dict.fromkeys(("heat", "burgers", "kovasznay", "lame", "wave", "kdv"), "plane"),
    **dict.fromkeys(("poisson_lshape", "poisson_ring", "schroedinger"), "plane"),
    **dict.fromkeys(("heat_inverse", "burgers_inverse"), "plane"),
    **dict.fromkeys(("taylor_green", "poisson10d"), "space"),
}
"""Of ``fipa_paper``: the settings of arXiv 2601.13608, Adam with 1e-4 throughout; of
problems that it does not have, those of problems of the same kind and dimension."""


LIGHT, MIDDLE, HEAVY = 10.0, 30.0, 50.0
"""Seconds of one core."""

LONGEST = 100.0
"""Seconds of one core after which a run of suite ``fipa`` ends, whatever its rounds."""

LONG = 100
"""Rounds of FIPA and centralised Gauss-Newton."""


class Setting(NamedTuple):
    """A problem of the suites ``fedpinn``, ``extra`` and ``more``.

    Attributes:
        tau: Of FedAvg as published, whose clients keep the state of their Adam; where
            nothing was searched for.
        rate: Its learning rate.
        asked: Error aimed at after 100 rounds.
        sought: The output or unknown number that the error is the error of.
        seconds: Of one core, that every method has; FIPA and Gauss-Newton may be
            done before.
        starts: How many.
    """

    tau: int = 5
    rate: float = 1e-3
    asked: float | None = None
    sought: str = ""
    seconds: float = HEAVY
    starts: int = 3


FEDPINN = {
    "gramacy_lee": Setting(3, asked=1e-5, seconds=LIGHT, starts=5),
    "schaffer": Setting(),
    # tau of this one is not known to us; it is like its neighbours'.
    "poisson_multiscale": Setting(asked=1e-8, seconds=LIGHT, starts=5),
    "helmholtz": Setting(asked=1e-5),
    "allen_cahn_time": Setting(asked=1e-4),
    "euler_beam": Setting(asked=1e-8, seconds=LIGHT, starts=5),
    "inverse_diffusion_reaction": Setting(
        5, 1e-4, asked=1e-4, sought="k", seconds=LIGHT, starts=5
    ),
}
"""The problems of suite ``fedpinn``: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141."""

EXTRA = {
    "heat": Setting(asked=1e-8, seconds=LIGHT),
    "burgers": Setting(asked=1e-4),
    "kovasznay": Setting(asked=1e-6),
    "taylor_green": Setting(asked=1e-6),
    "lame": Setting(asked=1e-6, seconds=MIDDLE),
    "poisson_lshape": Setting(seconds=MIDDLE),
    "poisson_ring": Setting(),
    "heat_inverse": Setting(asked=1e-3, sought="nu", seconds=LIGHT),
    "burgers_inverse": Setting(asked=1e-3, sought="nu", seconds=MIDDLE),
    "terrain": Setting(seconds=MIDDLE),
}
"""Our own problems; FedAvg as published for the smallest of suite ``fedpinn``."""

HARD = {
    "kdv": Setting(asked=1e-6),
    "poisson10d": Setting(asked=1e-4),
    "schroedinger": Setting(asked=1e-8),
    "wave": Setting(asked=1e-8, seconds=MIDDLE),
    "poisson_square": Setting(seconds=LIGHT),
}
"""Suite ``more``: solitons, standing waves, ten dimensions, a small square."""

DENSE = ("poisson_multiscale:points=4", "inverse_diffusion_reaction:points=4")
"""Problems of ``FEDPINN`` with four times the points."""

BESIDE = ("fipa", "gauss_newton", "deepxde", "fedavg", "scaffold", "fipa_paper")
"""Methods that run on the problems of these suites."""


def setting_of(problem: str) -> Setting | None:
    """That of a problem with any parameters; None in suite ``fipa``."""
    return (FEDPINN | EXTRA | HARD).get(problem.partition(":")[0])


STARTS = dict.fromkeys(("gaussians2d", *SPACES), 3)
"""Of suite ``fipa``, where there are not five."""


def options_of(problem: str, row: str) -> dict[str, object]:
    """What a method is made with.

    Raises:
        ValueError: If it should be tuned, or published, and is not.
    """
    found, setting = ROWS[row], setting_of(problem)
    if row == "fipa_paper":
        name = problem.partition(":")[0]
        if name not in PRESETS:
            raise ValueError(f"Nothing is published of FIPA on problem '{problem}'.")
        return {"preset": PRESETS[name]}
    try:
        return {**(tuned(problem, found.tuned) if found.tuned else {}), **found.options}
    except ValueError:
        if not setting or row != "fedavg":
            raise
    return {"tau": setting.tau, "learning_rate": setting.rate, "keep_state": True}


def longest_of(problem: str) -> float:
    """Seconds of one core after which a run ends, whatever its rounds."""
    setting = setting_of(problem)
    return setting.seconds if setting else LONGEST


def cases(
    problems: Sequence[str], rows: Sequence[str] = tuple(ROWS)
) -> Iterator[tuple[str, str, int, int, float]]:
    """Problem, method, seed, rounds and budget of each run; the first start first.

    Methods are left out where they should be tuned, or published, and are not.

    Args:
        problems: Their names; or NAME:OPTION=VALUE,...
        rows: Methods of ``ROWS``.
    """
    for seed, problem, row in product(range(5), problems, rows):
        try:
            options_of(problem, row)
        except ValueError:
            continue
        setting = setting_of(problem)
        if seed >= (setting.starts if setting else STARTS.get(problem, 5)):
            continue
        if row in OURS:
            yield problem, row, seed, LONG, 0.0
        elif setting:
            yield problem, row, seed, 1, setting.seconds
        else:
            yield problem, row, seed, ROUNDS, ROWS[row].budget
