"""Models that come back: the result of a run, from its directory or a file."""

from collections.abc import Mapping
from dataclasses import replace
from logging import getLogger
from pathlib import Path
from typing import Any

from fedsciml import problems
from fedsciml.federation.directory import FREE, MODEL, RunDirectory
from fedsciml.federation.outcome import Outcome
from fedsciml.federation.remembered import own
from fedsciml.federation.result import Result
from fedsciml.federation.saving import HASH, KEPT, identity, read
from fedsciml.problem import Problem
from fedsciml.registry import SUFFIX
from fedsciml.residual.fingerprint import fingerprint

log = getLogger(__name__)


def load(
    path: Path | str, problem: Problem | None = None, memory: Path | str | None = None
) -> Result:
    """The result of a run: problem, theta, history, ``solution``, ``errors``, ...

    Of a run that is not finished, the model of its checkpoint; its loss is then that of
    its last round, and a warning says so.

    A run directory may name a problem file, ``rod.py``, which is then run, as Python:
    of a directory that others sent look at run.json first, or give the problem. What
    ``result.save`` wrote runs no file.

    Args:
        path: A run directory, also one that a Flower server wrote; or a file that
            ``result.save`` wrote.
        problem: What was trained, where that is no entry of ``fedsciml.problems``: a
            problem that was written in Python, or, of a saved file, in a file.
        memory: At a site of a run over Flower: the directory in which it remembers, to
            have its parameters of its own with the model that all share.

    Raises:
        FileNotFoundError: If there is no such file or directory.
        ValueError: If there is no run or model, it is damaged, mixed with another one
            or of a newer version, the problem is not the one that was trained, or the
            site remembers nothing of its end.
    """
    result = _loaded(Path(path), problem)
    if memory is None:
        return result
    flower = result.configuration.get("flower")
    if not isinstance(flower, Mapping):
        raise ValueError(
            f"The run in {path} was in one process, which keeps what is each client's "
            "own in the model itself: leave memory out."
        )
    personal = own(memory, str(flower["run"]), len(result.history))
    return replace(result, personal={**result.personal, **personal})


def _loaded(path: Path, problem: Problem | None) -> Result:
    """The result as it was written."""
    if problem is not None and not isinstance(problem, Problem):
        raise ValueError(
            f"load needs a Problem, not its name; got {problem!r}. Leave it out, or "
            "write load(path, problem=fedsciml.problems.load(NAME, ...))."
        )
    if not path.is_dir():
        return _result(read(path), problem, None)
    record = RunDirectory.resume(path)
    if not record.finished:
        return _unfinished(record, problem)
    content = read(path / MODEL)
    written, there = content["configuration"], record.configuration
    if any(there.get(k) != value for k, value in written.items() if k not in FREE):
        raise ValueError(
            f"{path / MODEL} is of another run than the run.json beside it: problem, "
            "method, seed or another part of the configuration differs. Put back what "
            "was there, or load the file itself."
        )
    return _result(content, problem, path)


def _result(
    content: dict[str, Any], problem: Problem | None, out: Path | None
) -> Result:
    """The result that a file holds."""
    configuration, theta = content["configuration"], content["theta"]
    problem = problem or _made(configuration, files=out is not None)
    _check(identity(problem, theta, content["public"]) == content[HASH], problem)
    return Result(
        problem,
        theta,
        history=content["history"],
        out=out,
        outcome=Outcome(*content["outcome"]),
        configuration=configuration,
        personal=content["personal"],
        **{key: content[key] for key in KEPT},
    )


def _unfinished(record: RunDirectory, problem: Problem | None) -> Result:
    """The model of a run's checkpoint."""
    configuration: dict[str, Any] = record.configuration
    where, rounds = record.directory, configuration["rounds"]
    again = f"run(..., out={str(where)!r}, resume=True), or fedsciml resume {where}"
    found = record.reached()
    if found is None or not found[0]:
        raise ValueError(
            f"The run in {where} has no model yet: it ended before its first round "
            f"was kept. Continue it with {again}."
        )
    done, theta = found
    history = record.history(done)
    problem = problem or _made(configuration, files=True)
    begun = fingerprint(problem, configuration["seed"])
    _check(begun == configuration[HASH], problem)
    warning = (
        f"The run in {where} is not finished: this is its model after round {done} of "
        f"{rounds}. Continue it with {again}."
    )
    log.warning("%s", warning)
    return Result(
        problem,
        theta,
        history[-1].loss,
        history,
        where,
        warnings=[warning],
        outcome=Outcome("falling", f"Not finished: {done} of {rounds} rounds."),
        configuration=configuration,
    )


def _made(configuration: dict[str, Any], files: bool) -> Problem:
    """The problem of a configuration, made again; from a file only where allowed."""
    command = configuration.get("command") or {}
    name = str(command.get("problem", configuration["problem"]))
    parameters = command.get("parameters", configuration["problem_parameters"])
    if name.endswith(SUFFIX) and not files:
        raise ValueError(
            f"The problem is in the file {name}, and none is run because a model names "
            f"it: give load(path, problem=fedsciml.problems.load({name!r}, ...)), with "
            f"the parameters {parameters}."
        )
    try:
        return problems.load(name, **parameters)
    except (ValueError, TypeError, OSError) as error:
        if name.endswith(SUFFIX) and not Path(name).is_file():
            raise ValueError(
                f"There is no problem file {name} any more. Put it there, or pass the "
                "problem from where it is now: load(path, problem=fedsciml.problems."
                f"load('NEW/{Path(name).name}', ...))."
            ) from error
        raise ValueError(
            f"The problem '{name}' cannot be made again ({error}). If it was written "
            "in Python, make it as for the run and pass it: load(path, problem=...)."
        ) from error


def _check(same: bool, problem: Problem) -> None:
    if not same:
        raise ValueError(
            f"Problem '{problem.name}' is not the one that was trained: its equation, "
            "data, network or partition differs, or of an unfinished run the weights "
            "that its torch module began with. Pass the problem of the run, made as "
            "then: load(path, problem=...)."
        )
