"""What the arguments of a run ask for: a new run, or one that goes on."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fedsciml import problems, wrappers
from fedsciml.command.arguments import OPTION, Caller, Given, flag
from fedsciml.command.order import Order
from fedsciml.federation import Rules, environment
from fedsciml.registry import SUFFIX, options_of, suggestion

Tuned = Callable[[str, str], Mapping[str, object]]
"""The best options known of a method, from the problem's and the method's names."""


def new(given: Given, caller: Caller, tuned: Tuned | None = None) -> Order:
    """The run that the arguments ask for.

    Args:
        given: The arguments.
        caller: The program.
        tuned: As for ``method_options``.

    Raises:
        ValueError: If something is missing, or given for another method.
    """
    if given.get("problem") is None:
        raise ValueError(
            f"Which problem? Choose one of {', '.join(problems.names())}, or continue "
            f"a run with {caller.again.format('DIR')}."
        )
    problem = absolute(given["problem"])
    problems.summary(problem)  # complain of a misspelt name first
    known = options_of(Order)
    asked: dict[str, Any] = {"threads": torch.get_num_threads()}
    asked |= {key: value for key, value in given.items() if key in known}
    method = asked["method"] = absolute(asked.get("method", Order.method))
    options = {k: option.default for k, option in wrappers.options(method).items()}
    if asked.get("dp"):
        asked["secure"] = True  # its noise is added there
        options |= {k: v for k, v in wrappers.PRIVATE.items() if k in options}
    elif asked.get("secure"):
        options |= {k: v for k, v in wrappers.SUMS.items() if k in options}
    options |= method_options(given, problem, method, tuned)
    asked |= {"problem": problem, "parameters": parameters(given, problem)}
    return Order(options=options, **asked)


def recorded(
    given: Given, caller: Caller, tuned: Tuned | None
) -> tuple[Order, dict[str, Any]]:
    """The order and the rules of the run in ``given["resume"]``.

    Raises:
        ValueError: If there is none, or something was given that does not agree.
    """
    directory = Path(given["resume"])
    path = directory / "run.json"
    if not path.is_file():
        raise ValueError(f"There is no run in {directory}: it has no run.json.")
    try:
        content = json.loads(path.read_text())
        rounds = given.get("rounds", int(content["rounds"]))
        own = {"rounds": rounds, "workers": given.get("workers", 1)}
        order = Order(**{**content["command"], **own})
        made, began = dict(content["problem_parameters"]), dict(content["environment"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not of a run of run.py or fedsciml run: {error!r}. A run that "
            "was begun in Python goes on there: run(..., out=DIR, resume=True)."
        ) from error
    plain = order.record
    asked = {k: v for k, v in given.items() if k in plain}
    words = {k: absolute(asked[k]) for k in ("problem", "method") if k in asked}
    place = moved(given) or order.problem
    if order.problem.endswith(SUFFIX) and not Path(place).is_file():
        raise ValueError(
            f"The run in {directory} began with the problem file {order.problem}, and "
            f"there is no {place}. Put it there, or say where it is: fedsciml resume "
            f"{directory} --problem FILE.py."
        )
    if moved(given) and order.problem.endswith(SUFFIX):
        del words["problem"], asked["problem"]  # its content is compared later
    _agree(directory, "", plain, asked | words)
    known = made | order.parameters
    _agree(directory, "problem option ", known, parameters(given, place))
    options = method_options(given, order.problem, order.method, tuned)
    _agree(directory, "method option ", order.options, options)
    now = environment()
    for key, value in began.items():
        if key != "threads" and now.get(key) != value:
            print(
                f"{caller.name}: warning: the run began with {key} {value}, this is "
                f"{now.get(key)}; the last digits may differ.",
                file=sys.stderr,
            )
    return order, content.get("rules", {})


def absolute(entry: str) -> str:
    """A name as it is, the path of a file from the root on."""
    return str(Path(entry).resolve()) if entry.endswith(SUFFIX) else entry


def moved(given: Given) -> str | None:
    """Where the file of a problem is now, if a file was given."""
    found = absolute(given.get("problem") or "")
    return found if found.endswith(SUFFIX) else None


def parameters(given: Given, problem: str) -> dict[str, object]:
    """What was given for the problem's ``make``; paths become absolute."""
    names = ("clients", "partition", "edges", "initialisation", *problems.PRIORS)
    result = {name: given[name] for name in names if name in given}
    if "data_seed" in given:
        result["seed"] = given["data_seed"]
    result |= dict(given.get("set", []))
    paths = [
        k for k, option in problems.options(problem).items() if Path in option.kinds
    ]
    return {k: _from_root(v) if k in paths else v for k, v in result.items()}


def _from_root(value: object) -> object:
    """Paths, or what else stands in their place, from where the user is."""
    if isinstance(value, list):
        return [_from_root(each) for each in value]
    return str(Path(value).absolute()) if isinstance(value, str) else value


def method_options(
    given: Given, problem: str, method: str, tuned: Tuned | None = None
) -> dict[str, object]:
    """What was given for the method's ``make``.

    Args:
        given: The arguments.
        problem: Name of the problem.
        method: Name of the method.
        tuned: Gives the options to begin with; what was given goes before them.

    Raises:
        ValueError: If the method does not take one, or its value cannot be read.
    """
    known = wrappers.options(method)
    result = dict(tuned(problem, method)) if tuned else {}
    for key, text in given.items():
        name = key.removeprefix(OPTION)
        if name == key:
            continue
        if name not in known:
            raise ValueError(
                f"Method {method} does not take {flag(name)}; it takes "
                f"{', '.join(map(flag, known)) or 'no options'}."
            )
        try:
            result[name] = known[name].read(text)
        except ValueError as error:
            near = suggestion(str(text), known[name].choices)
            raise ValueError(f"{flag(name)} {error}.{near}") from None
    return result


def rules(given: Given, recorded: Mapping[str, Any]) -> Rules:
    """Which rounds count: as given, or as in the run that is resumed.

    Args:
        given: The arguments.
        recorded: ``rules`` in the run.json of that run; empty for a new one.

    Raises:
        ValueError: If a number is out of range.
    """
    known: dict[str, Any] = {**asdict(Rules()), **recorded}
    known |= {key: given[key] for key in known if key in given}
    known["outlier"] = float(known["outlier"])  # "inf": JSON knows no infinity
    return Rules(**known)


def _agree(
    directory: Path, what: str, known: Mapping[str, Any], asked: Mapping[str, Any]
) -> None:
    """Refuse what was asked for and is not so."""
    for key, value in asked.items():
        if known.get(key) != value:
            raise ValueError(
                f"The run in {directory} has {what}{key} = {known.get(key)!r}, not "
                f"{value!r}. Resume it without that argument, or start another run."
            )
