"""Training with a report: ``fedsciml.run``."""

import time
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path

import torch

from fedsciml import federation
from fedsciml.federation import Backend, Result, Round, Rules
from fedsciml.federation.loop import Callback
from fedsciml.federation.progress import Progress
from fedsciml.methods import Method
from fedsciml.problem import Problem

log = getLogger(__name__)

KEPT = "Record kept in "
"""Begins the note on an error that ended a run of which there is a record."""

ABOUT = """
        report: Write ``report.html`` into ``out``. A report that fails is told as a
            warning; the run is as good without.
"""
"""The argument that is added to those of ``fedsciml.federation.run``."""


def run(
    problem: Problem,
    method: Method,
    rounds: int = 50,
    seed: int = 0,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    backend: Backend | None = None,
    rules: Rules | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    gn_gap: bool = False,
    progress: Progress = None,
    callbacks: Sequence[Callback] = (),
    stop: Callable[[list[Round]], bool] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    notes: dict[str, object] | None = None,
    report: bool = True,
) -> Result:
    """Train a problem with a method, and report on a run that is recorded.

    The arguments are those of ``fedsciml.federation.run``, and ``report``.
    """
    try:
        result = federation.run(
            problem,
            method,
            rounds,
            seed,
            out=out,
            resume=resume,
            backend=backend,
            rules=rules,
            device=device,
            dtype=dtype,
            gn_gap=gn_gap,
            progress=progress,
            callbacks=callbacks,
            stop=stop,
            clock=clock,
            notes=notes,
        )
    except Exception as error:
        kept = any(note.startswith(KEPT) for note in getattr(error, "__notes__", ()))
        if report and out is not None and kept:
            _reported(Path(out), problem, None)
        raise
    if report and result.out is not None:
        _reported(result.out, problem, result)
    return result


run.__doc__ = (federation.run.__doc__ or "").replace(
    "\n\n    Raises:", f"{ABOUT}\n    Raises:"
)


def _reported(out: Path, problem: Problem, result: Result | None) -> None:
    """Write the report of a run, finished or not."""
    try:
        from fedsciml import report  # matplotlib takes a while

        if result is None:
            report.unfinished(out, problem)
        else:
            report.write(result)
    except Exception as error:
        log.warning("The run in %s has no report: %r", out, error)
