"""The command line of a run: its arguments, and what they ask for.

The program hands in the problems, of which nothing here knows one by name. What is not
given on the command line is not in the namespace: defaults come in with ``command``.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import torch

from fedsciml import methods, policies, wrappers
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method
from fedsciml.network.activation import ACTIVATIONS
from fedsciml.problem import Problem
from fedsciml.registry import Option, options_of, pair, suggestion

Tuned = Callable[[str, str], Mapping[str, object]]
"""The best options known of a method, from the problem's and the method's names."""

METAVARS = {
    "method": "METHOD",
    "warmup": "METHOD:K0[,OPTION=VALUE...]",
    "resample": "EVERY[,power=K,offset=C]",
    "compress": "DTYPE[,feedback]",
    "dp": "epsilon=E,delta=D[,clip=C,...]",
}

AROUND = ("resample", "warmup", "compress", "secure", "groups", "dp")
"""What ``wrappers.load`` puts around a method, beside its options."""

EDGES = Option(Sequence[float])


class Problems(Protocol):
    """The problems there are, as ``fedsciml.registry.Registry``."""

    def names(self) -> list[str]:
        """Names of all problems."""

    def summary(self, name: str) -> str:
        """What a problem is, in one line."""

    def load(self, name: str, **parameters: object) -> Problem:
        """The problem of a name."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What is run; but for rounds ``command`` in run.json, which rebuilds a run.

    Args:
        problem: Name of the problem.
        parameters: Arguments of the problem's ``make``.
        method: Name of the method.
        options: The method's options.
        warmup: Another method for the first K0 rounds.
        rounds: Communication rounds.
        seed: Seed of the start parameters.
        device: Where to compute.
        dtype: Precision.
        gn_gap: Record how far each step is from the centralised Gauss-Newton step.
        threads: CPU threads, which the last digits depend on; all cores by default.
        resample: Clients draw their points again every so many rounds, more of them
            where the residual is large; power and offset are 1 if not given.
        compress: Clients send sketches and updates in float32 or bfloat16, with
            feedback as changes since the round before.
        secure: The server is told sums over at least three clients and of none its own.
        groups: With secure: groups of clients, of which it is told a sum each.
        dp: Differential privacy of each point, for the whole run: sums alone, with
            noise; also releases=K, residual, follow, gramian, told.
        backend: What carries the messages: function calls, or Flower's records between
            a ServerApp and ClientApps in this process.
    """

    problem: str
    parameters: dict[str, Any]
    method: str = "fipa"
    options: dict[str, Any]
    warmup: str | None = None
    rounds: int = 50
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float64", "float32"] = "float64"
    gn_gap: bool = False
    threads: int
    resample: str | None = None
    compress: str = "none"
    secure: bool = False
    groups: int = 1
    dp: str | None = None
    backend: Literal["inprocess", "flower-local"] = "inprocess"

    def check(self) -> None:
        """Refuse what this machine cannot do.

        Raises:
            ValueError: If a number is out of range, or there is no such device.
        """
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(
                f"--seed must be at least 0 and below 2^63, got {self.seed}."
            )
        if self.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {self.threads}.")
        if self.threads > 1024:  # more than it can, OpenMP ends the process
            raise ValueError(f"--threads must be at most 1024, got {self.threads}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("This machine has no CUDA device; use --device cpu.")

    def made(self, problems: Problems) -> tuple[Problem, Method]:
        """The problem and the method in its wrappers.

        Raises:
            ValueError: If they cannot be made.
        """
        if self.parameters.get("clients", 1) != 1 and _pooled(self.method):
            raise ValueError(
                f"Method {self.method} is centralised: all rows are in one place, and "
                f"--clients {self.parameters['clients']} says nothing. Leave it out, "
                "or take a federated method."
            )
        problem = problems.load(self.problem, **self.parameters)
        around = {key: getattr(self, key) for key in AROUND}
        method = wrappers.load(self.method, **around, **self.options)
        if self.resample is not None:  # complain now if no point can be drawn again
            wrappers.chosen(problem, everywhere=method.pooled)
        if self.warmup is not None and wrappers.first(self.warmup)[1] >= self.rounds:
            raise ValueError(
                f"--warmup {self.warmup} takes all of the {self.rounds} rounds, so "
                f"{self.method} would never begin. Give it fewer than --rounds."
            )
        return problem, method

    __hash__ = None  # type: ignore[assignment]


class Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest flag where one is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_all(self, arguments: list[str] | None) -> argparse.Namespace:
        """Parse; unknown arguments are errors."""
        parsed, unknown = self.parse_known_args(arguments)
        for word in unknown:
            name = word.partition("=")[0]
            hint = suggestion(name, self._option_string_actions)
            self.error(f"unknown argument {word}.{hint or ' --help shows all.'}")
        return parsed


def parser(problems: Problems, prog: str, description: str) -> Parser:
    """The arguments of a run. Nothing has a default here, to tell what was given.

    Args:
        problems: That can be trained.
        prog: Name of the program.
        description: For ``--help``.
    """
    plain = {
        name: ", ".join(
            f"{k}={o.default_text}" for k, o in policies.options(name).items()
        )
        for name in policies.names()
    }
    result = Parser(
        prog=prog,
        usage="%(prog)s PROBLEM [--method METHOD] [option ...]\n"
        "       %(prog)s --resume DIR [--rounds K]",
        description=description,
        epilog=_listed("problems", {n: problems.summary(n) for n in problems.names()})
        + _listed("methods", {n: methods.summary(n) for n in methods.names()})
        + _listed("policies", {n: policies.summary(n) for n in policies.names()})
        + _listed("policy options", plain),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("problem", nargs="?", metavar="PROBLEM", help="What to train, see below")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="Run directory, new or empty (default runs/PROBLEM-METHOD-N)",
    )
    add(
        "--resume",
        type=Path,
        metavar="DIR",
        help="Continue the run in DIR to its rounds, or to --rounds, also one that is "
        "finished; what else is given must agree, but for clients that fail",
    )
    add("--json", action="store_true", help="Print one JSON object instead of a line")
    add("--quiet", action="store_true", help="No progress bar")
    for key, option in options_of(Command).items():
        if key != "problem":
            _add(result, key, option)
    failing = result.add_argument_group("clients that fail")
    for key, option in options_of(Rules).items():
        _add(failing, key, option)

    add = result.add_argument_group("problem options").add_argument
    add(
        "--clients",
        type=int,
        metavar="M",
        help="Number of clients (default the published M)",
    )
    add(
        "--partition",
        metavar="NAME",
        help="How the domain is divided: strips, slabs (of time), boxes, pieces:K, "
        "sectors (default the problem's own)",
    )
    add(
        "--edges",
        type=_said(EDGES.read),
        metavar="E0,E1,...",
        help="M + 1 edges of strips",
    )
    add(
        "--initialisation",
        metavar="NAME",
        help="Initialisation of the weights: fan_in, glorot (default fan_in)",
    )
    add("--data-seed", type=int, metavar="S", help="Seed of the points (default 0)")
    add(
        "--set",
        action="append",
        type=_said(pair),
        metavar="KEY=VALUE",
        help="Another argument of the problem's make(), may be repeated; most "
        "problems take points, a factor of the published numbers (default 1.0; of the "
        "inverse problems the number itself), width "
        "of the hidden layers (default the published one), activation: "
        f"{', '.join(ACTIVATIONS)} (default tanh)",
    )
    add = result.add_argument_group("method options").add_argument
    for key, text in _method_options().items():
        add(flag(key), dest=f"option_{key}", metavar="X", help=text.replace("%", "%%"))
    return result


def command(
    given: argparse.Namespace, problems: Problems, tuned: Tuned | None = None
) -> Command:
    """What the arguments ask for.

    Args:
        given: The arguments.
        problems: That can be trained.
        tuned: As for ``method_options``.

    Raises:
        ValueError: If something is missing, or given for another method.
    """
    if "problem" not in given:
        raise ValueError(
            f"Which problem? Choose one of {', '.join(problems.names())}, or continue "
            "a run with --resume DIR."
        )
    problems.summary(given.problem)  # complain of a misspelt name first
    known = options_of(Command)
    asked: dict[str, Any] = {"threads": torch.get_num_threads()}
    asked |= {key: value for key, value in vars(given).items() if key in known}
    method = asked.get("method", Command.method)
    options = {k: option.default for k, option in wrappers.options(method).items()}
    if asked.get("dp"):
        asked["secure"] = True  # its noise is added there
        options |= {k: v for k, v in wrappers.PRIVATE.items() if k in options}
    elif asked.get("secure"):
        options |= {k: v for k, v in wrappers.SUMS.items() if k in options}
    options |= method_options(given, given.problem, method, tuned)
    return Command(parameters=parameters(given), options=options, **asked)


def parameters(given: argparse.Namespace) -> dict[str, object]:
    """What was given for the problem's ``make``."""
    names = ("clients", "partition", "edges", "initialisation")
    result = {name: getattr(given, name) for name in names if name in given}
    if "data_seed" in given:
        result["seed"] = given.data_seed
    return result | dict(getattr(given, "set", []))


def method_options(
    given: argparse.Namespace, problem: str, method: str, tuned: Tuned | None = None
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
    for key, text in vars(given).items():
        name = key.removeprefix("option_")
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
            raise ValueError(f"{flag(name)} {error}.") from None
    return result


def rules(given: argparse.Namespace, recorded: Mapping[str, Any]) -> Rules:
    """Which rounds count: as given, or as in the run that is resumed.

    Args:
        given: The arguments.
        recorded: ``rules`` in the run.json of that run; empty for a new one.

    Raises:
        ValueError: If a number is out of range.
    """
    known: dict[str, Any] = {**asdict(Rules()), **recorded}
    known |= {key: getattr(given, key) for key in known if key in given}
    known["outlier"] = float(known["outlier"])  # "inf": JSON knows no infinity
    return Rules(**known)


def flag(option: str) -> str:
    """An option as on the command line: ``--learning-rate``."""
    return "--" + option.replace("_", "-")


def _add(
    group: argparse.ArgumentParser | argparse._ArgumentGroup, key: str, option: Option
) -> None:
    """Add an option as an argument, with the first sentence of its help."""
    help_ = option.help.partition(". ")[0].rstrip(".").replace("%", "%%")
    if option.kind is bool:
        group.add_argument(flag(key), action="store_true", help=help_)
        return
    if isinstance(option.default, (str, int, float)):
        help_ += f" (default {option.default_text})"
    choices = f"{{{','.join(option.choices)}}}" if option.choices else "X"
    group.add_argument(
        flag(key),
        type=_said(option.read),
        metavar=METAVARS.get(key, choices),
        help=help_,
    )


def _said(read: Callable[[str], object]) -> Callable[[str], object]:
    """The reader with an error whose words argparse passes on."""

    def told(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return told


def _method_options() -> dict[str, str]:
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


def _pooled(method: str) -> bool:
    """Whether a method is centralised."""
    return methods.load(method).pooled


def _listed(title: str, entries: Mapping[str, str]) -> str:
    lines = [f"  {name:20} {text}" for name, text in entries.items()]
    return "\n".join([f"\n{title}:", *lines, ""])
