"""A language model that others trained: bits per character of methods with LoRA.

``examples/characters.py`` with its own four texts: the output layer changes by low
rank, the rest stays. Bits per character of the last fifth of each text, of rivals after
the round where they are fewest, of ours after the last one. Every method has the best
of its settings on start 0, chosen by the same bits, and runs from all starts. The texts
are short, so that some hundredths of a bit mean nothing: it shows that the methods run
on a model that others trained, and no more. Half an hour of one core.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from experiments._experiment import Case, Experiment
from experiments._record import ROOT, Entry, select, short
from experiments._table import Table
from fedsciml import methods, problems, run
from fedsciml.analysis import predicted
from fedsciml.problem import Problem

EXAMPLE = ROOT / "examples" / "characters.py"
PAGE = "docs/characters.md"
STARTS = (0, 1, 2)
RANK = 2
OURS = "ours: FIPA, magnitudes eliminated"
Options = dict[str, Any]

PLAIN = {"form": "plain", "personal": "none"}
SPLIT = {"form": "split", "personal": "magnitudes_B"}
OWN = {"form": "diagonal", "personal": "magnitudes"}
RATES = (3e-4, 1e-3, 3e-3, 1e-2)


def settings() -> Iterator[tuple[str, Options, str, Options, int]]:
    """Label, options of the problem, method, its options, and rounds."""
    yield "the model as it is", PLAIN, "", {}, 0
    for rate in RATES:
        alone = {"tau": 10, "learning_rate": rate}
        adam = {**alone, "local": "adam"}
        for prior in (0.0, 1e-2):
            here = {**PLAIN, "prior": prior}
            yield "local LoRA", here, "alone", alone, 40
            yield "FedAvg of LoRA", here, "fedavg", adam, 40
        for prior in (0.0, 2.5e-3):
            here = {"form": "plain", "personal": "B", "prior": 0.0}
            here["personal_prior"] = prior
            yield "FedSA-LoRA", here, "fedavg", adam, 40
        free = {**SPLIT, "prior": 0.0}
        yield "FedLoRA-Optimizer, trained together", free, "fedavg", adam, 40
        for averaged in (10, 20):
            stages = {"averaged": averaged, "directions": 10}
            rates = {"global_rate": rate, "own_rate": rate}
            published = {**adam, **stages, **rates}
            yield "FedLoRA-Optimizer as published", free, "fedlora", published, 40
    for prior in (1e-2, 3e-2):
        exact = {"sketch": "svd", "rank": "cutoff"}
        yield OURS, {**OWN, "prior": prior}, "fipa", exact, 8


def cases(entries: Sequence[Entry]) -> Iterable[Case]:
    """All settings on start 0; the best of each on the others."""
    every = [[*setting] for setting in settings()]
    yield from ((*setting, 0) for setting in every)
    done = select(entries, seed=0)
    if len(done) < len(every):
        return
    for seed, label in product(STARTS[1:], dict.fromkeys(s[0] for s in every)):
        best = chosen(done, label)
        if best["rounds"]:
            yield (*(best[name] for name in KEY[:-1]), seed)


def chosen(entries: Sequence[Entry], label: str) -> Entry:
    """The entry of a method with the fewest bits."""
    return min(select(entries, label=label), key=lambda e: mean(e["bits"]))


def measure(
    label: str, setting: Options, method: str, options: Options, rounds: int, seed: int
) -> Entry:
    """Bits per character of each site, of all by round, and the bytes that one sent."""
    problem = problems.load(str(EXAMPLE), rank=RANK, **setting)
    if not rounds:
        theta = problem.network.init(torch.Generator(), torch.float64)
        return {"bits": bits(problem, theta), "curve": [], "up": 0.0}
    if method != "alone":
        return trained(problem, method, options, rounds, seed, label != OURS)
    several = [
        trained(mine(problem, m), "adam", options, rounds, seed, True)
        for m in range(problem.clients)
    ]
    curves = zip(*(found["curve"] for found in several), strict=True)
    return {
        "bits": [found["bits"][0] for found in several],
        "curve": [short(mean(values)) for values in curves],
        "up": 0.0,
    }


def mine(problem: Problem, client: int) -> Problem:
    """The problem of one site alone; a prior weighs as much against its rows."""
    (test,) = problem.tests
    points = [x for x in test.points if isinstance(x, Tensor)]
    targets = torch.cat([*test.target]).split([*map(len, points)])  # type: ignore[misc]
    own = replace(test, points=points[client], target=targets[client])
    prior = problem.prior * problem.shard(client).share
    return replace(problem.alone(client), tests=[own], prior=prior)


def trained(
    problem: Problem, method: str, options: Options, rounds: int, seed: int, stop: bool
) -> Entry:
    """As ``measure``; ``stop``: after the round where bits are fewest."""
    made = methods.load(method, **options)
    dtype = torch.float64 if stop else torch.float32  # as the weights of the model
    result = run(problem, made, rounds, seed, dtype=dtype)
    curve = [line.metrics["deviance"] / (2 * math.log(2)) for line in result.history]
    best = min(range(rounds), key=curve.__getitem__) + 1
    if stop and best < rounds:
        result = run(problem, made, best, seed, dtype=dtype)
    return {
        "bits": bits(problem, result.theta, result.personal),
        "curve": [short(value) for value in curve],
        "up": result.history[-1].bytes_up / problem.clients,
    }


@torch.no_grad()
def bits(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor] | None = None
) -> list[float]:
    """Bits per character of each test text, -log2 P(next) in the mean."""
    ((z, y),), (term,) = predicted(problem, theta, personal), problem.tests
    each = term.likelihood.half_deviance(z, y) / math.log(2)
    several = [term.points] if isinstance(term.points, Tensor) else term.points
    return [short(float(part.mean())) for part in each.split([*map(len, several)])]


def tables(entries: Sequence[Entry]) -> list[Table]:
    """Means over the sites, by method, and its settings."""
    rows = []
    first = select(entries, seed=0)
    for label in dict.fromkeys(setting[0] for setting in settings()):
        if not select(first, label=label):
            continue
        best = chosen(first, label)
        same = [e for e in entries if all(e[k] == best[k] for k in KEY[:-1])]
        values = [mean(e["bits"]) for e in same]
        spread = f"{min(values):.3f} to {max(values):.3f}" if len(values) > 1 else ""
        each = zip(*(e["bits"] for e in same), strict=True)
        sent = f"{best['up'] / 1e3:.0f}" if best["up"] else ""
        rows.append([label, f"{mean(values):.3f}", spread, *map(shown, each), sent])
    heads = ["method", "mean", "over starts", *SITES, "kB from a site"]
    return [Table("characters", "Bits per character.", heads, rows, PAGE)]


def shown(values: Sequence[float]) -> str:
    """Their mean, to two digits behind the point."""
    return f"{mean(values):.2f}"


SITES = ("garden", "kitchen", "mathematics", "sea")
KEY = ("label", "setting", "method", "options", "rounds", "seed")
EXPERIMENT = Experiment("characters", __doc__, KEY, cases, measure, tables, page=PAGE)
