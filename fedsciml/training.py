"""Training with a report: ``fedsciml.run``."""

import time
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path

import torch

from fedsciml import federation
from fedsciml.federation import Backend, Result, Round, Rules
from fedsciml.federation.directory import KEPT
from fedsciml.federation.loop import Callback
from fedsciml.federation.progress import Progress
from fedsciml.methods import Method
from fedsciml.problem import Problem

log = getLogger(__name__)


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

    The same arguments and number of threads give the same bytes of theta.

    Args:
        problem: What to train.
        method: How; see ``fedsciml.methods``.
        rounds: Number of communication rounds, or of steps of a centralised method.
        seed: Draws the start theta and whatever is random in the method; at least 0
            and below 2^63.
        out: Directory to record the run in, new or empty; nothing is recorded without.
        resume: Continue the run that ``out`` holds, also a finished one to more
            rounds; its configuration must agree, but for ``rounds`` and ``rules``.
        backend: Way to the clients; all in this process by default.
        rules: Which rounds count when clients fail; by default all clients are needed.
        device: Where to compute, ``cpu`` or ``cuda``.
        dtype: ``torch.float64`` or ``torch.float32``.
        gn_gap: Compare every step with the centralised Gauss-Newton step. This pools
            the clients' rows: for study, not for use.
        progress: True draws a bar on stderr, False none, None does where a person looks
            on, at a terminal or in a notebook. Or a function that is called with each
            line of the history as it comes.
        callbacks: Called with the history after each round, and first of all with that
            of a run that is resumed; the run ends where one returns true. See
            ``fedsciml.callbacks``.
        stop: One more of them.
        clock: Gives the history's ``seconds``; ``time.process_time`` counts the work of
            all clients, whatever else the machine does.
        notes: Further configuration for the record.
        report: Write ``report.html`` into ``out``. A report that fails is told as a
            warning; the run is as good without.

    Raises:
        ValueError: If an argument is out of range or the rules do not suit, or the
            directory to resume holds a run of another configuration or problem, of more
            rounds, or one that is damaged.
        BlockingIOError: If another run is writing to ``out``.
        TooFewClients: If clients fail and fewer than the rules ask for are left.
        FileExistsError: If ``out`` is not empty and ``resume`` is off.
        FloatingPointError: If theta or the loss stops being finite. The record then
            ends at the last good round and says why. Whatever ends a recorded run
            before its last round carries the note "Record kept in DIRECTORY.", how to
            continue, and what could not be saved.
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
