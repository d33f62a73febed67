"""One run: train a problem with a method and record it."""

import argparse
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import _common  # before torch, see there
import torch

from fedsciml import Result, cli, problems, run, wrappers
from fedsciml.analysis.laplace import SENSORS, laplace
from fedsciml.analysis.metrics import measure
from fedsciml.federation.directory import UNSAVED, RunDirectory, environment
from fedsciml.methods import Method

EXAMPLES = """examples:
  run.py allen_cahn
  run.py poisson2d --method fedavg --clients 4 --tau 200 --learning-rate 1e-3
  run.py sine8 --method fipa --warmup fedavg:10 --out runs/eight --json
  run.py --resume runs/eight
  run.py --resume runs/eight --rounds 100"""


@_common.terminable()
def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    reader = cli.parser(problems, "run.py", f"{__doc__}\n\n{EXAMPLES}")
    reader.add_argument(
        "--tuned",
        action="store_true",
        help="Method options from figures/data/tuning.json; flags go before them",
    )
    reader.add_argument(
        "--no-plots", action="store_true", help="No pictures and no report"
    )
    given = reader.parse_all(arguments)
    out: Path | None = None
    made: Path | None = None
    try:
        # Whatever is printed on the way must not get between the lines of --json.
        with redirect_stdout(sys.stderr):
            if "resume" in given and "out" in given:
                raise ValueError("--resume DIR writes to DIR; leave --out away.")
            resumed = "resume" in given
            tuned = _common.tuned if "tuned" in given else None
            if resumed:
                todo, known = recorded(given, tuned)
            else:
                todo, known = cli.command(given, problems, tuned), {}
            rules = cli.rules(given, known)
            todo.check()
            torch.set_num_threads(todo.threads)
            problem, method = todo.made(problems)
            train = _trainer(todo.backend, method)
            if "out" in given:
                out = given.out
            elif resumed:
                out = given.resume
            else:
                out = made = _common.new_directory(f"{todo.problem}-{todo.method}")
            done = RunDirectory(out, {}).finished and "rounds" not in given
            quiet = "quiet" in given or done
            label = f"{todo.problem} {todo.method}"
            with _common.progress(label, todo.rounds, quiet) as show:
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
                    progress=show,
                    report="no_plots" not in given,
                    notes={"command": _command(todo)},
                )
        content = summary(result, todo, out)
        lines = [f"warning: {text}" for text in result.warnings]
        told = "\n".join([_sentence(content), *lines])
        print(json.dumps(content) if "json" in given else told)
        if "no_plots" not in given:
            _draw(result, todo, out)
    except KeyboardInterrupt as error:
        if out and (out / "run.json").exists():
            said = ["Interrupted.", *_noted(error, UNSAVED)]
            print(*said, f"Continue with: {_again(out)}", file=sys.stderr)
        return _common.status(error)
    except Exception as error:
        if kept := _noted(error, "Record kept in "):  # not before it began
            said = [str(error), *kept, *_noted(error, UNSAVED)]
            if not isinstance(error, FloatingPointError):
                traceback.print_exc()
                said.append(f"Continue with: {_again(out)}")
            print("run.py: failed:", *said, file=sys.stderr)
            return 1
        if isinstance(error, (ValueError, OSError, ModuleNotFoundError)):
            reader.error("\n".join([str(error), *_noted(error, "")]))
        raise
    finally:
        if made:  # whatever was refused leaves no empty directory
            with suppress(OSError):
                os.removedirs(made)
    return 0


def _noted(error: BaseException, start: str) -> list[str]:
    """The notes on an error that begin so."""
    return [n for n in getattr(error, "__notes__", []) if n.startswith(start)]


def recorded(
    given: argparse.Namespace, tuned: cli.Tuned | None
) -> tuple[cli.Command, dict[str, Any]]:
    """The command and the rules of the run in ``given.resume``.

    Raises:
        ValueError: If there is none, or something was given that does not agree.
    """
    path: Path = given.resume / "run.json"
    if not path.is_file():
        raise ValueError(f"No run to resume in {given.resume}: it has no run.json.")
    try:
        content = json.loads(path.read_text())
        rounds = getattr(given, "rounds", int(content["rounds"]))
        result = cli.Command(**{**content["command"], "rounds": rounds})
        made, began = dict(content["problem_parameters"]), dict(content["environment"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not of a run of run.py: {error!r}.") from error
    plain = _command(result)
    _agree(given, "", plain, {k: v for k, v in vars(given).items() if k in plain})
    parameters = made | result.parameters
    _agree(given, "problem option ", parameters, cli.parameters(given))
    options = cli.method_options(given, result.problem, result.method, tuned)
    _agree(given, "method option ", result.options, options)
    now = environment()
    for key, value in began.items():
        if key != "threads" and now.get(key) != value:
            print(
                f"run.py: warning: the run began with {key} {value}, this is "
                f"{now.get(key)}; the last digits may differ.",
                file=sys.stderr,
            )
    return result, content.get("rules", {})


def _command(todo: cli.Command) -> dict[str, Any]:
    """What is run, for the record; its rounds may become more."""
    return {key: value for key, value in asdict(todo).items() if key != "rounds"}


def _agree(
    given: argparse.Namespace,
    what: str,
    known: Mapping[str, Any],
    asked: Mapping[str, Any],
) -> None:
    """Refuse what was asked for and is not so."""
    for key, value in asked.items():
        if known.get(key) != value:
            raise ValueError(
                f"The run in {given.resume} has {what}{key} = {known.get(key)!r}, "
                f"not {value!r}. Resume it without that argument, or start another run."
            )


def _trainer(backend: str, method: Method) -> Callable[..., Result]:
    """``fedsciml.run``, or what does the same over Flower."""
    if backend == "inprocess":
        return run
    if method.pooled:
        raise ValueError(
            f"Method {method.name} is centralised and has no clients; leave out "
            f"--backend {backend}."
        )
    try:
        from fedsciml import flower  # an extra, and it takes a while
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--backend {backend} needs Flower: pip install -c constraints.txt -e "
            f"'.[flower]' ({error})."
        ) from error
    return flower.run


def summary(result: Result, todo: cli.Command, out: Path) -> dict[str, Any]:
    """The result as plain data; numbers that are not finite become None."""
    last = result.history[-1]
    found = measure(result.problem, result.theta)
    relative_l2, mse, each = found.relative_l2, found.mse, found.each
    ranks = [rank for line in result.history for rank in line.ranks]
    configuration = json.loads((out / "run.json").read_text())
    content: dict[str, Any] = {
        "problem": todo.problem,
        "method": todo.method,
        "options": todo.options,
        "warmup": todo.warmup,
        "resample": todo.resample,
        "compress": todo.compress,
        "secure": todo.secure,
        "groups": todo.groups,
        "dp": todo.dp,
        "epsilon": last.epsilon,
        "delta": last.delta,
        "clients": configuration["clients"],
        "rounds": len(result.history),
        "seed": todo.seed,
        "parameters": configuration["parameters"],
        "loss": result.loss,
        "relative_l2": relative_l2,
        "mse": mse,
        "unknowns": _unknowns(result, each, todo.dp is not None),
        "bytes_up": last.bytes_up,
        "bytes_down": last.bytes_down,
        "messages": last.messages,
        "absent": result.absent,
        "held_out": result.held_out,
        "warnings": result.warnings,
        "dropped": sum(len(line.dropped) for line in result.history),
        "seconds": last.seconds,
        "max_rank": max(ranks, default=None),
        "basis": last.basis,
        "outside": last.outside,
        "mean_rank": sum(ranks) / len(ranks) if ranks else None,
        "backend": configuration["backend"],
        "device": todo.device,
        "dtype": todo.dtype,
        "threads": todo.threads,
        "theta_sha256": result.theta_sha256(),
        "out": str(out),
    }
    return {
        key: None if isinstance(v, float) and not math.isfinite(v) else v
        for key, v in content.items()
    }


def _unknowns(
    result: Result, each: Mapping[str, float], private: bool
) -> dict[str, dict[str, object]]:
    """The unknown numbers found, and what is known of their errors.

    Standard deviations where sensors tell them, relative errors where the truth is, and
    whether all rows determine a number, or with what it is mixed; null where not known,
    or where the run was ``private``.
    """
    problem = result.problem
    deviation: dict[str, float] = {}
    mixed: dict[str, tuple[str, ...]] | None = None
    if private:  # what all rows tell of their errors is not paid for
        mixed = {}
    elif problem.unknowns and any(term.name == SENSORS for term in problem.terms):
        with suppress(ValueError):  # too few measurements to know their noise
            known = laplace(problem, result.theta)
            deviation, mixed = known.deviation, known.mixed
    if mixed is None and problem.unknowns and not problem.partial:
        mixed = result.undetermined()
    return {
        name: {
            "value": value,
            "deviation": _finite(deviation.get(name, math.inf)),
            "error": _finite(each[name]),
            "determined": None if mixed is None or private else name not in mixed,
            "mixed_with": list((mixed or {}).get(name, ())),
        }
        for name, value in result.unknowns().items()
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _sentence(content: Mapping[str, Any]) -> str:
    """The result for people, in a line."""
    method = content["method"]
    if content["warmup"] is not None:
        method += f" after {content['warmup']}"
    if content["resample"] is not None:
        method += f", points drawn again every {content['resample']} rounds"
    if content["compress"] != "none":
        method += f", uploads in {content['compress']}"
    if content["secure"]:
        method += ", secure sums"
    if content["dp"] is not None:
        spent = f"epsilon {content['epsilon']:.3g}, delta {content['delta']:.1g}"
        method += f", private ({spent} spent)"
    given = ", ".join(f"{cli.flag(k)} {v}" for k, v in _changed(content).items())
    text = (
        f"{content['problem']}, {method}{f' ({given})' if given else ''}, "
        f"{content['clients']} client(s), {content['rounds']} rounds, "
        f"{content['dtype']}: loss {_number(content['loss'])}"
    )
    if content["relative_l2"] is not None:
        text += f", relative L2 error {_number(content['relative_l2'])}"
    if content["mse"] is not None:
        text += f", MSE {_number(content['mse'])}"
    for name, number in content["unknowns"].items():
        text += f", {name} = {number['value']:.6g}"
        if number["determined"] is False:
            text += " not determined"
            if number["mixed_with"]:
                text += f" (mixed with {', '.join(number['mixed_with'])})"
        if number["deviation"] is not None:
            text += f" +- {number['deviation']:.1e}"
        if number["error"] is not None:
            text += f" (relative error {number['error']:.1e})"
    if content["absent"]:
        text += f", without the loss of client(s) {', '.join(content['absent'])}"
    if content["dropped"]:
        text += f", {content['dropped']} uploads dropped (see history.jsonl)"
    up, down = _common.size(content["bytes_up"]), _common.size(content["bytes_down"])
    text += f"; {content['seconds']:.1f} s, {up} up, {down} down"
    return f"{text}; {content['out']}"


def _changed(content: Mapping[str, Any]) -> dict[str, object]:
    """The method's options that are not the default ones."""
    known = wrappers.options(content["method"])
    return {
        key: value
        for key, value in content["options"].items()
        if key not in known or value != known[key].default
    }


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2e}"


def _draw(result: Result, todo: cli.Command, out: Path) -> None:
    """The pictures; without them the run is as good, so trouble is only told."""
    try:
        with redirect_stdout(sys.stderr):
            _common.pictures(result, out, {todo.method: result.history})
    except Exception as error:
        print(
            f"run.py: warning: the run is complete but its pictures are not: {error!r}",
            file=sys.stderr,
        )


def _again(out: Path | None) -> str:
    return f"python scripts/run.py --resume {out}"


if __name__ == "__main__":
    sys.exit(main())
