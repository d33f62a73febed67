"""Which arguments a run has.

The fields of ``Output``, ``Order``, ``Rules`` and ``Common``, and what the ``make`` of
method and problem take; types, defaults and help come from signatures and docstrings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import Parameter as Argument
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from fedsciml import methods, problems, wrappers
from fedsciml.command.arguments import OPTION, argument, metavar, positional
from fedsciml.command.order import Order
from fedsciml.federation import Rules
from fedsciml.network.activation import ACTIVATIONS
from fedsciml.registry import SUFFIX, Option, options_of, pair

SECTIONS = ("Method", "Problem", "Run", "Record", "Clients that fail")
"""Of the help, in this order."""


@dataclass(frozen=True)
class Output:
    """What is written and printed.

    Args:
        out: Run directory, new or empty; runs/PROBLEM-METHOD-N if not given.
        json: Print one JSON object instead of a line.
        until: End the run where its loss is as small as this; or relative_l2, mse,
            held_out or deviance, or accuracy as large: accuracy=0.98. Resumed without
            it, it goes on to its rounds.
        quiet: No progress bar.
        no_plots: Draw no pictures and write no report.
        tuned: Begin with the best options that a search found for the method on this
            problem; flags go before them.
    """

    out: Path | None = None
    until: str | None = None
    json: bool = False
    quiet: bool = False
    no_plots: bool = False
    tuned: bool = False


@dataclass(frozen=True)
class Common:
    """Arguments that most problems take; the others are given by ``set``.

    Args:
        clients: Number of clients; the published one if not given.
        partition: How the domain is divided: strips, slabs (of time), boxes, pieces:K,
            sectors; the problem's own if not given.
        edges: M + 1 edges of strips.
        initialisation: Of the weights: fan_in, glorot; fan_in if not given.
        data_seed: Seed of the points, 0 if not given.
        prior: lambda of lambda/2 |theta|^2 in the loss; the problem's own, mostly 0,
            if not given.
        personal_prior: lambda of lambda/2 |f - f_0|^2 for the parameters f of each
            client's own; the problem's own if not given.
    """

    clients: int | None = None
    partition: str | None = None
    edges: Sequence[float] | None = None
    initialisation: str | None = None
    data_seed: int | None = None
    prior: float | None = None
    personal_prior: float | None = None


SET = (
    "Another argument of the problem's make(), may be repeated; most problems take "
    "points, a factor of the published numbers (default 1.0; of the inverse problems "
    "the number itself), width and depth of the hidden layers (default the published "
    f"ones), activation: {', '.join(ACTIVATIONS)} (default tanh), first, a number or "
    "auto, for solutions of many waves."
)

RESUME = (
    "Continue the run in DIR to its rounds, or to --rounds, also one that is finished; "
    "what else is given must agree, but for clients that fail."
)

MOVED = "The problem's file, if it is no more where it was when the run began."


def of_run(words: Sequence[str], script: bool = False) -> list[Argument]:
    """All arguments of a run, of whatever problem and method.

    Args:
        words: Of the command line; they may name a method in a file.
        script: Whether ``--resume DIR`` is one of them.
    """
    found = [*general(script), *common(), *every_option()]
    known = {each.name for each in found}
    after = [b for a, b in pairwise(words) if a == "--method"]
    after += [w.removeprefix("--method=") for w in words if w.startswith("--method=")]
    for method in after:
        if method.endswith(SUFFIX):
            own = method_options(method)
            found += [each for each in own if each.name not in known]
    return found


def of_resume() -> list[Argument]:
    """The arguments of a run that goes on."""
    output = options_of(Output)
    few = {key: output[key] for key in ("until", "json", "quiet", "no_plots")}
    few["workers"] = options_of(Order)["workers"]
    few["rounds"] = Option(int, None, "So many in all; as before if not given.")
    few["problem"] = Option(str, None, MOVED)
    return [
        positional("resume", "Directory of the run.", "DIR"),
        *_section("Run", few),
        *_section("Clients that fail", options_of(Rules)),
    ]


def general(script: bool = False) -> list[Argument]:
    """The arguments that do not depend on problem and method.

    Args:
        script: Whether ``--resume DIR`` is one of them.
    """
    orders = {k: v for k, v in options_of(Order).items() if k != "problem"}
    output = options_of(Output)
    if script:
        output["resume"] = Option(Path, None, RESUME)
    return [
        positional("problem", "What to train: a name, or a file with make()."),
        *_section("Run", orders),
        *_section("Record", output),
        *_section("Clients that fail", options_of(Rules)),
    ]


def common() -> list[Argument]:
    """Arguments of a problem, whichever it is."""
    several = Parameter(
        help=SET,
        group=_group("Problem"),
        negative="",
        metavar="KEY=VALUE",
        show_default=False,
        converter=lambda _, tokens: [pair(token.value) for token in tokens],
    )
    kind = Annotated[list[str], several]
    last = Argument("set", Argument.KEYWORD_ONLY, default=(), annotation=kind)
    return [*_section("Problem", options_of(Common)), last]


def method_options(method: str) -> list[Argument]:
    """The options of a method, which are read by it later."""
    group = _group("Method", Path(method).stem)
    return [
        argument(f"{OPTION}{key}", option, group, brief=False, switch=False)
        for key, option in wrappers.options(method).items()
    ]


def problem_options(problem: str) -> list[Argument]:
    """What a problem's ``make`` takes, as it is given: for the help alone."""
    group, found = _group("Problem", Path(problem).stem), []
    flags = {key.removeprefix("data_"): key for key in options_of(Common)}
    for key, option in problems.options(problem).items():
        name, how = flags.get(key), dict[str, str]()
        if name is None:  # a flag may have the same name
            name = f"set_{key}"
            how = {"name": f"--set {key}={metavar(name, option)}", "value": ""}
        found.append(argument(name, option, group, brief=False, switch=False, **how))
    return found


def every_option() -> list[Argument]:
    """The options of all methods; which ones a method takes is seen to later."""
    group = _group("Method", "options")
    return [
        argument(
            f"{OPTION}{key}", Option(str, None, text), group, brief=False, value="X"
        )
        for key, text in _meanings().items()
    ]


def _section(title: str, options: Mapping[str, Option]) -> list[Argument]:
    group = _group(title)
    return [argument(key, option, group) for key, option in options.items()]


def _group(title: str, name: str = "") -> Group:
    return Group(f"{title} {name}".strip(), sort_key=SECTIONS.index(title))


def _meanings() -> dict[str, str]:
    """Help for each option of any method: meaning and the methods' defaults."""
    meanings: dict[str, dict[str, dict[str, str]]] = {}
    for method in methods.names():
        for name, option in wrappers.options(method).items():
            choices = f" One of {', '.join(option.choices)}." if option.choices else ""
            entry = meanings.setdefault(name, {}).setdefault(option.help + choices, {})
            entry[method] = option.default_text
    return {
        name: " ".join(f"{text} ({_defaults(of)})" for text, of in entries.items())
        for name, entries in sorted(meanings.items())
    }


def _defaults(of: Mapping[str, str]) -> str:
    """``adam, fedavg: default 100``; ``defaults: adam 0.001, fedavg 0.1``."""
    if len(set(of.values())) == 1:
        return f"{', '.join(of)}: default {next(iter(of.values()))}"
    return "defaults: " + ", ".join(f"{method} {value}" for method, value in of.items())
