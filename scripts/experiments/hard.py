"""Hard problems: every problem with a smooth solution from several starts.

Two clients, FIPA with its defaults unless an option is named. A start has a number,
which draws the points and the network. A run ends early at the error ``until``, and
after 240 s of one core; what it has not reached by then it has not reached. Networks of
more than 4000 parameters run with ``basis=own``: the shared one is slow there.

A problem is NAME or NAME:KEY=VALUE,..., a method the options of FIPA, as words.
"""

import time
from collections.abc import Sequence
from statistics import mean
from typing import Any

from experiments._experiment import Experiment
from experiments._hard import GOAL, cases, word
from experiments._hard_tables import PAGE, tables
from experiments._record import Entry, short
from fedsciml import problems, run, wrappers
from fedsciml.federation.history import Round

KEY = ("problem", "method", "seed", "rounds", "until")

LIMIT = 240.0
"""Seconds of one core after which a run is cut."""


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


EXPERIMENT = Experiment("hard", __doc__, KEY, cases(), measure, tables, page=PAGE)
