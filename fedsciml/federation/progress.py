"""A bar while a run goes on, for people who look on."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fedsciml.federation.history import Round

Progress = bool | Callable[[Round], None] | None
"""A bar or none, what is told each line of the history, or None: a bar where a person
looks on."""

DELAY = 0.5
"""Seconds before a bar is drawn: what is done sooner needs none."""

OFTEN, SELDOM = 0.1, 10.0
"""Seconds between two lines of a bar, where a person looks on and in a log."""

SHORT = "{desc}: {bar:10} {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
OPEN = "{desc}: {n_fmt} [{elapsed}{postfix}]"
"""Bars whose error and loss are still on a terminal of 80 columns; of a run of a known
number of rounds, and of one that is ended by something else."""


def watched(stream: TextIO) -> bool:
    """Whether a person looks on: the stream is a terminal's, or in a notebook."""
    try:
        terminal = stream.isatty()
    except (AttributeError, ValueError):  # there is no stream, or it is closed
        terminal = False
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return terminal or hasattr(shell, "kernel")


@contextmanager
def shown(
    progress: Progress, label: str, rounds: int | None
) -> Iterator[Callable[[Round], None]]:
    """What is told each line of a history, for as long as the run goes on.

    Args:
        progress: Whether a bar is drawn on stderr, or a function to tell instead.
        label: What stands before the bar.
        rounds: When it is full; None where that is not known.
    """
    if callable(progress):
        yield progress
        return
    if progress is None:
        progress = watched(sys.stderr)
    if not progress:
        yield lambda line: None
        return
    from tqdm import tqdm  # where there is no bar, nothing is drawn with

    often = OFTEN if watched(sys.stderr) else SELDOM
    shape = OPEN if rounds is None else SHORT
    with tqdm(
        desc=label, total=rounds, delay=DELAY, mininterval=often, bar_format=shape
    ) as bar:

        def show(line: Round) -> None:
            numbers = {"error": line.relative_l2, "loss": line.loss}
            known = {k: f"{v:.1e}" for k, v in numbers.items() if not math.isnan(v)}
            if "accuracy" in line.metrics:
                known = {"accuracy": f"{line.metrics['accuracy']:.1%}", **known}
            if ranks := line.ranks:
                known["rank"] = "/".join(map(str, ranks))
            bar.set_postfix(known, refresh=False)
            bar.update(line.round - bar.n)

        yield show
