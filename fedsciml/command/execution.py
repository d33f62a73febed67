"""One run: train a problem with a method and record it."""

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from functools import partial
from inspect import Parameter
from pathlib import Path

import torch

from fedsciml.callbacks import Until
from fedsciml.command import asked
from fedsciml.command.arguments import Caller, Given, read
from fedsciml.command.order import Order
from fedsciml.command.summary import sentence, summary
from fedsciml.command.terminal import new_directory, status, terminable
from fedsciml.command.tuning import tuned
from fedsciml.extras import install
from fedsciml.federation import InProcess, Result
from fedsciml.federation.directory import KEPT, UNSAVED
from fedsciml.methods import Method
from fedsciml.training import run


@terminable()
def execute(
    words: Sequence[str], arguments: Callable[[], Sequence[Parameter]], caller: Caller
) -> int:
    """Run what the words of a command line ask for; returns the exit status.

    Args:
        words: Without the program's name.
        arguments: Gives those that there are.
        caller: The program.
    """
    out: Path | None = None
    made: Path | None = None
    given: Given = {}
    try:
        given = read(words, arguments())
        # Whatever is printed on the way must not get between the lines of --json.
        with redirect_stdout(sys.stderr):
            if "resume" in given and "out" in given:
                raise ValueError("--resume DIR writes to DIR; leave --out away.")
            resumed = "resume" in given
            known_best = tuned if "tuned" in given else None
            if resumed:
                todo, known = asked.recorded(given, caller, known_best)
            else:
                todo, known = asked.new(given, caller, known_best), {}
            rules = asked.rules(given, known)
            todo.check()
            until = given.get("until")
            callbacks = [] if until is None else [Until.read(until)]
            notes = {"command": todo.record} | ({"until": until} if until else {})
            torch.set_num_threads(todo.threads)
            problem, method = todo.made(asked.moved(given))
            for one in callbacks:
                one.check(problem)
            train = _trainer(todo, method)
            if "out" in given:
                out = given["out"]
            elif resumed:
                out = Path(given["resume"])
            else:
                out = made = new_directory(todo.label)
            result = train(
                problem,
                method,
                todo.rounds,
                todo.seed,
                out=out,
                resume=resumed,
                rules=rules,
                device=todo.device,
                dtype=getattr(torch, todo.dtype),
                gn_gap=todo.gn_gap,
                progress="quiet" not in given,
                callbacks=callbacks,
                notes=notes,
                report="no_plots" not in given,
            )
        content = summary(result, todo, out)
        lines = [f"warning: {text}" for text in result.warnings]
        told = "\n".join([sentence(content), result.outcome.sentence, *lines])
        print(json.dumps(content) if "json" in given else told)
        if "no_plots" not in given:
            _draw(result, todo, out, caller)
    except KeyboardInterrupt as error:
        if out and (out / "run.json").exists():
            said = ["Interrupted.", *_noted(error, UNSAVED)]
            print(*said, _again(caller, out, given), file=sys.stderr)
        return status(error)
    except Exception as error:
        if kept := _noted(error, KEPT):  # not before it began
            said = [str(error), *kept, *_noted(error, UNSAVED)]
            if not isinstance(error, FloatingPointError):
                traceback.print_exc()
                said.append(_again(caller, out, given))
            print(f"{caller.name}: failed:", *said, file=sys.stderr)
            return 1
        if isinstance(error, (ValueError, OSError, ModuleNotFoundError)):
            said = [str(error), *_noted(error, "")]
            print(f"{caller.name}: error:", "\n".join(said), file=sys.stderr)
            return 2
        raise
    finally:
        if made:  # whatever was refused leaves no empty directory
            with suppress(OSError):
                os.removedirs(made)
    return 0


def _again(caller: Caller, out: Path | None, given: Given) -> str:
    """How a run goes on that was ended."""
    until = f" --until {given['until']}" if "until" in given else ""
    return f"Continue with: {caller.again.format(out)}{until}"


def _noted(error: BaseException, start: str) -> list[str]:
    """The notes on an error that begin so."""
    return [n for n in getattr(error, "__notes__", []) if n.startswith(start)]


def _trainer(todo: Order, method: Method) -> Callable[..., Result]:
    """``fedsciml.run``, or what does the same over Flower."""
    here: Callable[..., Result] = partial(run, backend=InProcess(workers=todo.workers))
    trainer = {"inprocess": lambda: here, "flower-local": _flower}[todo.backend]
    if trainer is _flower and method.pooled:
        raise ValueError(
            f"Method {method.name} is centralised and has no clients; leave out "
            f"--backend {todo.backend}."
        )
    if trainer is _flower and todo.workers > 1:
        raise ValueError(
            f"--workers {todo.workers} is for clients that are function calls; leave "
            f"it out with --backend {todo.backend}."
        )
    return trainer()


def _flower() -> Callable[..., Result]:
    try:
        from fedsciml import flower  # an extra, and it takes a while
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--backend flower-local needs Flower: {install('flower')} ({error})."
        ) from error
    return flower.run


def _draw(result: Result, todo: Order, out: Path, caller: Caller) -> None:
    """The pictures; without them the run is as good, so trouble is only told."""
    try:
        with redirect_stdout(sys.stderr):
            from fedsciml import plot  # matplotlib takes a while

            plot.pictures(result, out, {Path(todo.method).stem: result.history})
    except Exception as error:
        print(
            f"{caller.name}: warning: the run is complete but its pictures are not: "
            f"{error!r}",
            file=sys.stderr,
        )
