"""Hard problems: every problem with a smooth solution from several starts.

Two clients, FIPA with its defaults unless an option is named. A start has a number,
which draws the points and the network. A run ends early at the error ``until``, and
after 240 s of one core; what it has not reached by then it has not reached. Networks of
more than 4000 parameters run with ``basis=own``: the shared one is slow there.

A problem is NAME or NAME:KEY=VALUE,..., a method the options of FIPA, as words.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import chain, product
from statistics import mean
from typing import Any

from experiments._experiment import Case, Experiment
from experiments._record import Entry, short
from fedsciml import problems, run, wrappers
from fedsciml.federation.history import Round

KEY = ("problem", "method", "seed", "rounds", "until")

EASY = (
    *("sine2", "sine4", "sine8", "poisson1d", "allen_cahn", "bratu", "fisher_kpp"),
    *("reaction_diffusion", "euler_beam", "poisson_multiscale", "poisson_square"),
    *("heat", "inverse_diffusion_reaction", "gramacy_lee"),
)
"""Rounds of a tenth of a second."""

MIDDLE = ("wave", "schroedinger", "poisson_ring", "lame", "helmholtz")
HEAVY = (
    *("poisson2d", "kovasznay", "burgers", "kdv", "taylor_green", "gaussians2d"),
    *("poisson10d", "allen_cahn_time", "schaffer", "poisson3d", "poisson5d"),
)
EVERY = (*EASY, *MIDDLE, *HEAVY)

FEW = (
    *("taylor_green", "gaussians2d", "kovasznay", "allen_cahn_time", "schaffer"),
    *("poisson3d", "poisson5d", "poisson10d"),
)
"""Three starts in place of five."""

OWN = ("helmholtz", "allen_cahn_time", "gramacy_lee", "schaffer")
"""More than 4000 parameters."""

TWO = ("poisson_ring", "schaffer", "gaussians2d")
"""Published for more than two clients."""

STRAIGHT = "policy=natural:curves=false"
BENT = (
    *("sine4", "sine8", "reaction_diffusion", "euler_beam", "allen_cahn"),
    *("poisson1d", "heat", "gramacy_lee:first=5"),
)
"""Problems that are run with and without acceleration."""

GOAL = 1e-6
LIMIT = 240.0
"""Seconds of one core after which a run is cut."""


def name_of(problem: str) -> str:
    """The name of a problem, without its options."""
    return problem.partition(":")[0]


def word(problem: str, *options: str) -> str:
    """A problem with more options."""
    name, _, given = problem.partition(":")
    every = [o for o in (given, *options) if o]
    return f"{name}:{','.join(every)}" if every else name


def every(names: Sequence[str], seeds: Sequence[int]) -> Iterator[Case]:
    """Problems from their published start, and from that with frequencies chosen."""
    for seed, name, first in product(seeds, names, ("", "first=auto")):
        clients = "clients=2" if name in TWO else ""
        method = "basis=own" if name in OWN else ""
        if seed < (3 if name in FEW else 5):
            yield word(name, clients, first), method, seed, 100, 1e-9


def straight(seeds: Sequence[int]) -> Iterator[Case]:
    """Those of ``BENT``, without acceleration; with it, where ``every`` lacks it."""
    for seed, problem in product(seeds, BENT):
        own = "basis=own " if name_of(problem) in OWN else ""
        if ":" in problem:
            yield problem, own.strip(), seed, 100, 1e-9
        yield problem, own + STRAIGHT, seed, 100, 1e-9


SINE8: Case = ("sine8:first=auto", "", 40, 0.0)
GRAMACY: list[Case] = [
    ("gramacy_lee:first=auto", "basis=own", 60, 1e-10),
    ("gramacy_lee:first=auto,points=2", "basis=own", 60, 1e-10),
    ("gramacy_lee:activation=sin,first=1,points=2", "basis=own", 60, 1e-10),
]
HELMHOLTZ: list[Case] = [
    ("helmholtz:first=auto", "basis=own", 100, 1e-9),
    ("helmholtz:first=0.3", "basis=own", 100, 1e-9),
]
SHALLOW = "points=0.25,depth=1,width=64,initialisation=glorot"
POISSON5: Case = (f"poisson5d:{SHALLOW}", "policy=natural:begin=1e-5", 100, 1e-10)
POISSON10: Case = ("poisson10d", "", 100, 1e-9)
STEEP: Case = ("burgers:normalise=gradient,points=2", "", 150, 1e-10)
MILD: Case = ("burgers:nu=0.01,normalise=gradient,points=2", "", 100, 1e-10)
EVEN: Case = (
    "allen_cahn_time:symmetric=true,width=32,points=0.5",
    "resample=10,power=0,ratio=1.5",
    100,
    1e-10,
)
NAMED: list[tuple[Case, int]] = [
    (SINE8, 10),
    *((case, 10) for case in GRAMACY),
    *((case, 10) for case in HELMHOLTZ),
    (POISSON5, 5),
    (POISSON10, 3),
    (STEEP, 5),
    (MILD, 3),
    (EVEN, 3),
]
"""Problem, method, rounds and the error at which a run ends; and how many starts."""


def named(plan: Sequence[tuple[Case, int]], seeds: Sequence[int]) -> Iterator[Case]:
    """The settings that are named."""
    for seed, ((problem, method, rounds, until), starts) in product(seeds, plan):
        if seed < starts:
            yield problem, method, seed, rounds, until


def cases() -> list[Case]:
    """The runs, cheap ones first, and of those that take long one start of each."""
    five, ten = range(5), range(10)
    late = [c for seed in five for c in dear(seed)]
    found = chain(
        every(EASY, five),
        named(NAMED[:4], ten),
        straight(five),
        late,
        named(NAMED[4:], ten),
        every(EVERY, five),
    )
    return list(dict.fromkeys(found))


def dear(seed: int) -> Iterator[Case]:
    """One start of what takes a minute or more: what is named, then the rest."""
    yield from named(NAMED[4:], [seed])
    yield from every(("wave", "schroedinger", "poisson_ring", "lame", "kdv"), [seed])
    if seed > 0:
        yield from every(HEAVY, [seed - 1])


def options_of(method: str) -> dict[str, Any]:
    """Those of a word as ``basis=own policy=natural:curves=false``."""
    pairs = (part.partition("=") for part in method.split())
    return {key: value for key, _, value in pairs}


def measure(problem: str, method: str, seed: int, rounds: int, until: float) -> Entry:
    """One run. One that diverges has the rounds before."""
    made = problems.parse(word(problem, f"seed={seed}"))
    history: list[Round] = []

    def enough(lines: list[Round]) -> bool:
        return lines[-1].relative_l2 <= until or lines[-1].seconds >= LIMIT

    diverged = False
    try:
        run(
            made,
            wrappers.load("fipa", **options_of(method)),
            rounds,
            seed,
            stop=enough,
            clock=time.process_time,
            progress=history.append,
        )
    except FloatingPointError:
        diverged = True
    if not history:
        raise FloatingPointError("The first round diverges.")
    return told(history, rounds, until) | {
        "parameters": made.network.size,
        "clients": made.clients,
        "diverged": diverged,
    }


def told(history: Sequence[Round], rounds: int, until: float) -> Entry:
    """What is kept of a run."""
    first, last = history[0], history[-1]
    there = [line for line in history if line.relative_l2 <= GOAL][:1]
    fields = ("round", "messages", "sent", "seconds")
    marks = [line for line in history if line.round % 10 == 0 or line is last]
    return {
        "reached": {f: short(getattr(x, f)) for x in there for f in fields},
        "round": [line.round for line in marks],
        "error": [short(line.relative_l2) for line in marks],
        "loss": short(min(line.loss for line in history)),
        "first": first.first,
        "tried": [[f, short(promise)] for f, promise in first.tried],
        "rank": short(mean(rank for line in history for rank in line.ranks)),
        "largest": max(rank for line in history for rank in line.ranks),
        "messages": last.messages,
        "sent": last.sent,
        "seconds": short(last.seconds),
        "cut": last.round < rounds and last.relative_l2 > until,
    }


EXPERIMENT = Experiment("hard", __doc__, KEY, cases(), measure, page="docs/hard.md")
