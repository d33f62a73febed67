"""What the benchmark runs: methods with their options, suites of problems."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from _common import SUITE, tuned

import problems
from fedsciml.problem import Problem

RIVALS = (
    "fedprox",
    "scaffold",
    "fedadam",
    "feddyn",
    "fedpm",
    "fedpm_foof",
    "fedfisher_kfac",
    "fedfisher_diagonal",
    "fedfisher_oneshot",
    "gradient_only",
)
"""Federated methods beside FIPA, as published and not, and FedAvg."""


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

REGRESSION: dict[str, object] = {"tau": 20, "rank": "20", "step": 0.5}
LINE: dict[str, object] = {"tau": 100, "rank": "20", "step": 0.3}
SPACE: dict[str, object] = {"tau": 300, "rank": "200", "step": 0.5}
PUBLISHED: dict[str, dict[str, object]] = {
    **dict.fromkeys(SUITE, LINE),
    **dict.fromkeys(("sine2", "sine4", "sine8", "gaussians2d"), REGRESSION),
    "poisson2d": {"tau": 300, "rank": "50", "step": 0.3},
    "poisson3d": SPACE,
    "poisson5d": SPACE,
}
"""The settings of arXiv 2601.13608; Adam with 1e-4 throughout."""


class Published(NamedTuple):
    """FedAvg as published: options of the method, and rounds."""

    options: dict[str, object]
    rounds: int


def _fedavg(tau: int, rounds: int, learning_rate: float = 1e-3) -> Published:
    """Adam whose state the clients keep over the rounds."""
    options: dict[str, object] = {
        "tau": tau,
        "learning_rate": learning_rate,
        "keep_state": True,
    }
    return Published(options, rounds)


FEDPINN = {
    "gramacy_lee": _fedavg(3, 5000),
    "schaffer": _fedavg(5, 3000),
    # tau and rounds of this one are not known to us; these are like its neighbours.
    "poisson_multiscale": _fedavg(5, 5000),
    "helmholtz": _fedavg(5, 2000),
    "allen_cahn_time": _fedavg(5, 10000),
    "euler_beam": _fedavg(5, 1000),
    "inverse_diffusion_reaction": _fedavg(5, 20000, 1e-4),
}
"""The problems of suite ``fedpinn``: Zhang, Liu, Weng, Lu (2025), arXiv 2410.13141."""

EXTRA = {
    name: _fedavg(5, 1000)
    for name in (
        "heat",
        "burgers",
        "kovasznay",
        "taylor_green",
        "lame",
        "poisson_lshape",
        "poisson_ring",
        "heat_inverse",
        "burgers_inverse",
        "terrain",
    )
}
"""Our own problems; FedAvg as published for the smallest of suite ``fedpinn``."""

MORE = (
    "poisson_multiscale:points=4",
    "inverse_diffusion_reaction:points=4",
)
"""Problems of ``FEDPINN`` with four times the points."""

FEDAVG = FEDPINN | EXTRA

SOUGHT = {
    "inverse_diffusion_reaction": "k",
    "heat_inverse": "nu",
    "burgers_inverse": "nu",
}
"""What the error of an inverse problem is the error of: an output or an unknown."""

ASKED = {
    "gramacy_lee": 1e-5,
    "poisson_multiscale": 1e-8,
    "helmholtz": 1e-5,
    "allen_cahn_time": 1e-4,
    "euler_beam": 1e-8,
    "inverse_diffusion_reaction": 1e-4,
    "heat": 1e-8,
    "burgers": 1e-4,
    "kovasznay": 1e-6,
    "taylor_green": 1e-6,
    "lame": 1e-6,
    "heat_inverse": 1e-3,
    "burgers_inverse": 1e-3,
}
"""Errors aimed at after 100 rounds."""


@dataclass(frozen=True)
class Suite:
    """Problems that are compared in one record.

    Attributes:
        about: A sentence.
        problems: Their names; or NAME:KEY=VALUE,... with arguments of ``make``.
        record: File name in ``figures/data``.
        methods: Which of ``ROWS`` run unless told otherwise.
        rounds: So many, likewise.
    """

    about: str
    problems: Sequence[str]
    record: str = "suite.json"
    methods: Sequence[str] = tuple(ROWS)
    rounds: int = 50

    def cases(self) -> Iterator[tuple[str, str, int, int, float]]:
        """Problem, method, seed, rounds and budget of each run; the first start first.

        Methods are left out where they should be tuned, or published, and are not.
        """
        for seed in range(3):
            for problem in self.problems:
                for row in self.methods:
                    try:
                        options_of(problem, row)
                    except ValueError:
                        continue
                    yield problem, row, seed, self.rounds, ROWS[row].budget


def _beside(name: str, about: str, problems: Sequence[str]) -> Suite:
    """A suite of which FIPA, centralised Gauss-Newton and published FedAvg run."""
    methods = ("fipa", "gauss_newton", "fedavg")
    return Suite(about, problems, f"{name}.json", methods, 100)


SUITES = {
    "fipa": Suite("All methods, and DeepXDE, on the problems of the paper.", SUITE),
    "fipa-1d": Suite(
        "The same on those in one dimension.",
        tuple(n for n in SUITE if n[-2:] not in ("2d", "3d", "5d")),
    ),
    "fedpinn": _beside(
        "fedpinn",
        "FIPA and FedAvg on the problems of arXiv 2410.13141.",
        (*FEDPINN, *MORE),
    ),
    "extra": _beside("extra", "FIPA and FedAvg on other problems.", tuple(EXTRA)),
}


def load(problem: str) -> Problem:
    """The problem that NAME or NAME:KEY=VALUE,... stands for."""
    name, _, words = problem.partition(":")
    pairs = [word.partition("=") for word in words.split(",") if word]
    return problems.load(name, **{key: _value(text) for key, _, text in pairs})


def _value(text: str) -> object:
    """A number where it is one, else the word itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _published(problem: str, row: str) -> Published | None:
    """FedAvg's setting for a problem, whatever it is made with."""
    return FEDAVG.get(problem.partition(":")[0]) if row == "fedavg" else None


def options_of(problem: str, row: str) -> dict[str, object]:
    """What a method is made with.

    Raises:
        ValueError: If it should be tuned, or published, and is not.
    """
    found = ROWS[row]
    if setting := _published(problem, row):
        return setting.options
    options = tuned(problem, found.tuned) if found.tuned else {}
    if row == "fipa_paper":
        if problem not in PUBLISHED:
            raise ValueError(f"Nothing is published of FIPA on problem '{problem}'.")
        options = PUBLISHED[problem]
    return {**options, **found.options}


def rounds_of(problem: str, row: str, rounds: int) -> int:
    """How many rounds a method makes where the others make ``rounds``."""
    if setting := _published(problem, row):
        return setting.rounds
    return ROWS[row].rounds or rounds
