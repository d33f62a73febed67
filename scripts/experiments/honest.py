"""Is an honest client ever dropped? Every problem, ordinary set-ups, every method.

Problems: each with 2, 4, 8 and 16 clients from three starts, FIPA with its defaults,
five rounds, or fifty of the cheap ones. Set-ups: models in raw coordinates, whose sites
differ in units, rows and numbers of points (``_setups``). Methods: the federated ones,
FIPA with other options and wrappers, in float32, with clients that are missing for some
rounds. A round counts with a single client, so that what is dropped shows. An hour of
one core.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import NamedTuple

import torch

from experiments._absent import NOBODY, Patchy, away
from experiments._experiment import Experiment
from experiments._record import Entry, short
from experiments._setups import SETUPS
from experiments._table import Table
from fedsciml import methods, policies, problems, run, wrappers
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method
from fedsciml.problem import Problem

PAGE = "docs/attacks.md"
FEW, MANY = 5, 50
"""Rounds of a problem."""

CHEAP = (
    *("allen_cahn", "bratu", "burgers_inverse", "euler_beam", "fisher_kpp"),
    *("gramacy_lee", "heat", "heat_inverse", "inverse_diffusion_reaction"),
    *("poisson1d", "poisson_multiscale", "reaction_diffusion", "sine2", "sine4"),
    *("sine8",),
)
"""Problems of which fifty rounds are run."""

LONG, SHORT = 20, 3
"""Rounds of a way, and of a set-up as it was refused once."""


@dataclass(frozen=True)
class Way:
    """How a federation is trained.

    Args:
        method: Makes the method.
        dtype: Of theta.
        missing: Scenario of ``_absent.away``.
    """

    method: Callable[[], Method]
    dtype: torch.dtype = torch.float64
    missing: str = NOBODY


def loaded(name: str, **options: object) -> Way:
    """A method by name; local solvers train for 20 epochs."""
    given = {"tau": 20} | options if "tau" in methods.options(name) else options
    if name == "fipa" and "local" not in options:
        given = options
    return Way(partial(wrappers.load, name, **given))  # type: ignore[arg-type]


FIPA = Way(partial(methods.load, "fipa"))
WAYS: dict[str, Way] = {
    "fipa": FIPA,
    **{
        name: loaded(name)
        for name in methods.names()
        if name not in ("fipa", "fedrcl", "fedlora") and not methods.load(name).pooled
    },
    "fedfisher, diagonal": loaded("fedfisher", fisher="diagonal"),
    **{
        f"fipa, {key} {value}": loaded("fipa", **{key: value})
        for key, value in (
            *(("rank", word) for word in ("5", "energy:0.999", "published:1.0")),
            *(("rank", word) for word in ("bytes:400000", "predictive:0.1")),
            *(("sketch", word) for word in ("svd", "subspace")),
            *(("local", word) for word in ("adam", "gauss_newton")),
            *(("policy", word) for word in policies.names() if word != "natural"),
            *(("balance", word) for word in ("terms", "clients")),
            ("resample", "5"),
            ("warmup", "fedavg:5,tau=20"),
            *(("compress", word) for word in ("float32", "bfloat16")),
            ("compress", "bfloat16,feedback"),
        )
    },
    "fipa, local sgd": loaded("fipa", local="sgd", learning_rate=1e-4),
    "fipa, float32": Way(FIPA.method, torch.float32),
    "fipa, two missing for ten rounds": Way(FIPA.method, missing="two for ten rounds"),
    "fipa, missing at random": Way(FIPA.method, missing="at random"),
}
"""By name; "fipa" is what is usual."""


class Case(NamedTuple):
    """A run: its key in the record.

    Attributes:
        setup: A problem or a set-up.
        clients: How many.
        way: How it is trained.
        seed: Of the start.
        rounds: How many.
    """

    setup: str
    clients: int
    way: str = "fipa"
    seed: int = 0
    rounds: int = LONG


COUNTS, SEEDS = (2, 4, 8, 16), (0, 1, 2)
SITES = {"randhie": 6}
"""How many clients a problem has at most, where there are few."""
CASES = [
    *(
        Case(setup, clients, seed=seed, rounds=rounds)
        for setup, clients, seed in product(SETUPS, (4, 8), SEEDS)
        for rounds in (SHORT, LONG)
    ),
    *(
        Case("sites of 5 and 5000 points", clients, way)
        for clients in (2, 4)
        for way in ("gradient_only", "fedfisher", "fedfisher, diagonal")
    ),
    *(
        Case(setup, 5, way)
        for way in WAYS
        for setup in ("allen_cahn", "heat", "u'' = 1 on [0, 10]")
        if way != "fipa" and not ("resample" in way and setup in SETUPS)
    ),
    *(
        Case(name, clients, seed=seed, rounds=MANY if name in CHEAP else FEW)
        for name, clients, seed in product(problems.names(), COUNTS, SEEDS)
        if clients <= SITES.get(name, clients)
    ),
]


def made(setup: str, clients: int, seed: int) -> Problem:
    """A problem by name, or a set-up."""
    if setup in SETUPS:
        return SETUPS[setup](clients, seed)
    return problems.load(setup, clients=clients)


def measure(setup: str, clients: int, way: str, seed: int, rounds: int) -> Entry:
    """One run: how often a client that was there was dropped."""
    problem, how = made(setup, clients, seed), WAYS[way]
    missing = away(how.missing, seed) if how.missing != NOBODY else {}
    history, ended = list[Round](), ""
    try:
        run(
            problem,
            method := how.method(),
            rounds,
            seed,
            backend=Patchy(problem, method, missing, how.dtype),
            rules=Rules(min_clients=1),
            dtype=how.dtype,
            progress=history.append,
            clock=time.process_time,
        )
    except (RuntimeError, ValueError, FloatingPointError) as error:
        ended = str(error)[:200]
    refused = [
        (int(m), why)
        for line in history
        for m, why in line.dropped.items()
        if line.round not in missing.get(int(m), ())
    ]
    return {
        "done": len(history),
        "answers": sum(
            line.round not in missing.get(m, ())
            for line in history
            for m in range(problem.clients)
        ),
        "dropped": len(refused),
        "suspected": sum(len(line.suspects) for line in history),
        "who": sorted({m for m, _ in refused}),
        "why": refused[0][1].partition("cannot be merged: ")[2][:200]
        if refused
        else "",
        "ended": ended,
        "error": short(history[-1].relative_l2) if history else None,
        "seconds": short(history[-1].seconds) if history else 0.0,
    }


COUNTED = ("done", "answers", "dropped", "suspected")


def group(entry: Entry) -> str:
    """To which row of the table a run belongs."""
    if entry["way"] != "fipa":
        return "other methods and options"
    return "set-ups" if entry["setup"] in SETUPS else "problems"


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Runs, answers and drops of each group; below, where an honest client was."""
    rows = []
    for name in ("problems", "set-ups", "other methods and options"):
        of = [e for e in entries if group(e) == name]
        counts = [sum(e[key] for e in of) for key in COUNTED]
        rows.append([name, len(of), *counts, sum(bool(e["ended"]) for e in of)])
    heads = ["", "runs", "rounds", "answers", "dropped", "suspected", "ended early"]
    counted = Table("honest", "Honest clients that were dropped.", heads, rows, PAGE)
    worst = [
        [e["setup"], e["way"], e["clients"], e["seed"], *_told(e)]
        for e in sorted(entries, key=lambda e: -e["dropped"])
        if e["dropped"] or e["ended"] or e["suspected"]
    ]
    heads = ["set-up", "method", "clients", "start", "dropped", "suspected", "ended"]
    return [counted, *([Table("", "Where.", heads, worst)] if worst else [])]


def _told(e: Entry) -> list[int | str]:
    return [e["dropped"], e["suspected"], e["ended"][:60]]


EXPERIMENT = Experiment(
    "honest", __doc__, Case._fields, CASES, measure, tables, page=PAGE
)
