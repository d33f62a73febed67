"""Classification: accuracy against rounds, uploads and seconds, with tuned rivals.

Start s has seed s, division s of the digits over five clients, and fifth s for testing.
Accuracies are those on that fifth. Uploads are of one client, in units of p numbers.

1. Every rival is searched on starts 0 and 1 of digits at alpha 0.1, two of those that
   are reported, in its favour; its best settings run from all starts, and the one that
   is best on these counts, at each alpha. Ours have one setting everywhere; how lazy
   sketches may be was tried on starts 5 to 8 at alpha 0.05.
2. FIPA with other ranks, from three starts, and without the gradient, from one.
3. More alike clients: alpha 0.3 and 0.5.
4. One round: FedAvg by the best local training for that, and FedFisher by the same.
5. Some rounds of FedAvg, and then FIPA on all parameters or on the classifier alone.
6. A convolutional network of 22,658 parameters on 2000 digits of MNIST.

An hour and a half of one core. Runs on mnist5k are of one start as yet.
"""

from collections.abc import Iterator, Sequence
from itertools import product

from experiments import _classes_tables as shown
from experiments._classes import (
    KEY,
    LAZY,
    OFTEN,
    PLAN,
    SELDOM,
    SKETCHES,
    STARTS,
    Options,
    length,
    loaded,
    measure,
    ranked,
    search,
    sgd,
)
from experiments._classes_figures import DRAWINGS
from experiments._experiment import Case, Experiment, token
from experiments._record import Entry, select

ALPHAS = (0.1, 0.05)
OURS = ((SKETCHES, 20), (LAZY, 30), (OFTEN, 30), (SELDOM, 30))
"""Settings with their rounds."""

SHOTS = [sgd(rate, tau) for rate, tau in product((0.3, 1.0), (20, 50, 100, 200))]
SHOTS += [sgd(1.0, 500), sgd(3.0, 50), sgd(3.0, 200)]
FISHERS = ("diagonal", "kfac", "sketch")
LENGTHS = (5, 10, 20, 40)
"""Rounds of a warm-up; twenty follow."""

AFTER = 20
SEQUELS = (("all", LAZY), ("classifier", LAZY), ("classifier", SKETCHES))
"""What comes after a warm-up: trained layers, and options."""

IMAGES = {
    "fedavg": [sgd(r, t, 32) for r, t in product((0.03, 0.1, 0.3), (1, 3))],
    "scaffold": [sgd(r, t, 32) for r, t in product((0.03, 0.1, 0.3), (1, 3))],
}
"""The search on mnist5k, on start 0."""

CONVOLUTIONAL = (
    ({"rank": "50", "gradient": True}, 12),
    ({"rank": "20", "every": 5}, 15),
)
OTHERS = range(5, 9)
"""Starts that are not reported."""

FEW = range(3)
"""Starts where runs take long."""


def cases(entries: Sequence[Entry]) -> list[Case]:
    """The runs; those with settings of the search when it is done."""
    return list({token(case): case for case in every(entries)}.values())


def every(entries: Sequence[Entry]) -> Iterator[Case]:
    """As ``cases``; some come twice."""
    for alpha in ALPHAS:
        for (options, rounds), seed in product(OURS, STARTS):
            yield "digits", alpha, "fipa", options, seed, rounds
    yield from search(entries)
    for method, most in PLAN.items():
        some = ranked(entries, method)[:most]
        for alpha, options, seed in product(ALPHAS, some, STARTS):
            yield "digits", alpha, method, options, seed, length(method)
    for seed in STARTS:
        yield "digits", 0.1, "lbfgs", {}, seed, 3
    yield from alike(entries)
    yield from by_rank()
    for options, seed in product(shown.LAZIES, OTHERS):
        yield "digits", 0.05, "fipa", options, seed, 24
    yield from one_shot(entries)
    yield from sequels(entries)
    yield from images(entries)


def alike(entries: Sequence[Entry]) -> Iterator[Case]:
    """Clients that are more alike."""
    for alpha in (0.3, 0.5):
        for method in ("fedavg", "scaffold"):
            some = ranked(entries, method)[: PLAN[method]]
            for options, seed in product(some, STARTS):
                yield "digits", alpha, method, options, seed, length(method)
        for (options, rounds), seed in product(OURS[:2], STARTS):
            yield "digits", alpha, "fipa", options, seed, rounds


def by_rank() -> Iterator[Case]:
    """Other ranks, with the gradient and, from one start, without."""
    ranks = ("5", "10", "20", "50")
    for rank, seed in product(ranks, FEW):
        yield "digits", 0.1, "fipa", shown.by_ranks(rank, True), seed, 20
    for rank in ranks:
        yield "digits", 0.1, "fipa", shown.by_ranks(rank, False), 0, 20


def one_shot(entries: Sequence[Entry]) -> Iterator[Case]:
    """FedAvg with every local training; FedFisher with the best of these."""
    for options, seed in product(SHOTS, STARTS):
        yield "digits", 0.1, "fedavg", options, seed, 1
    done = select(entries, problem="digits", alpha=0.1, method="fedavg", rounds=1)
    if len(done) < len(SHOTS) * len(STARTS):
        return
    local = shown.best_shot(done)[0]["options"]
    for fisher, seed in product(FISHERS, STARTS):
        yield "digits", 0.1, "fedfisher", {**local, "fisher": fisher}, seed, 1


def sequels(entries: Sequence[Entry]) -> Iterator[Case]:
    """FIPA after a warm-up."""
    for setting in ranked(entries, "fedavg")[:1]:
        for seed in STARTS:
            yield "digits", 0.1, "fedavg", setting, seed, max(LENGTHS) + AFTER
        for rounds, (trained, own), seed in product(LENGTHS, SEQUELS, STARTS):
            warm = {"warm_up": ["fedavg", setting, rounds], "trained": trained}
            yield "digits", 0.1, "fipa", {**own, **warm}, seed, rounds + AFTER


def images(entries: Sequence[Entry]) -> Iterator[Case]:
    """The convolutional network."""
    here: Options = {"problem": "mnist5k", "alpha": 0.1}
    for method, options in IMAGES.items():
        for own in options:
            yield "mnist5k", 0.1, method, own, 0, 15
    for seed in FEW:
        for own, rounds in CONVOLUTIONAL:
            yield "mnist5k", 0.1, "fipa", own, seed, rounds
        for method, options in IMAGES.items():
            mine = select(entries, method=method, seed=0, **here)
            if len(mine) >= len(options):
                best = max(mine, key=lambda e: shown.at_round(e, 10))
                yield "mnist5k", 0.1, method, best["options"], seed, 15


def check(
    problem: str, alpha: float, method: str, options: Options, seed: int, rounds: int
) -> None:
    """Raise ValueError if there is no such method."""
    loaded(method, {k: v for k, v in options.items() if k not in shown.MORE})


EXPERIMENT = Experiment(
    "classification", __doc__, KEY, cases, measure, shown.tables, DRAWINGS, check=check
)
