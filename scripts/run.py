"""One run: train a problem with a method and record it."""

import argparse
import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import _common  # before torch, see there
import torch

import problems
from fedsciml import Problem, Result, methods, policies, run
from fedsciml.analysis.laplace import SENSORS, laplace
from fedsciml.analysis.metrics import measure
from fedsciml.federation.participation import Rules
from fedsciml.federation.record import environment
from fedsciml.methods import Method, Option
from fedsciml.network.activation import ACTIVATIONS
from fedsciml.registry import suggestion
from fedsciml.wrappers.compress import compressed
from fedsciml.wrappers.resample import Resampled, chosen
from fedsciml.wrappers.warmup import Warmup

DTYPES = {"float64": torch.float64, "float32": torch.float32}
RULES = asdict(Rules())


@dataclass(frozen=True)
class Command:
    """What is run; ``command`` in run.json, from which a run is rebuilt.

    ``parameters`` are those of the problem's ``make``, ``options`` the method's.
    """

    problem: str
    parameters: dict[str, object]
    method: str
    options: dict[str, object]
    warmup: str | None
    rounds: int
    seed: int
    device: str
    dtype: str
    gn_gap: bool
    threads: int
    resample: str | None = None
    compress: str = "none"
    backend: str = "inprocess"


EXAMPLES = """examples:
  run.py allen_cahn
  run.py poisson2d --method fedavg --clients 4 --tau 200 --learning-rate 1e-3
  run.py sine8 --method fipa --warmup fedavg:10 --out runs/eight --json
  run.py --resume runs/eight"""

DEFAULTS: dict[str, object] = {
    "method": "fipa",
    "warmup": None,
    "rounds": 50,
    "seed": 0,
    "device": "cpu",
    "dtype": "float64",
    "gn_gap": False,
    "resample": None,
    "compress": "none",
    "backend": "inprocess",
}


class Parser(argparse.ArgumentParser):
    """Errors in one line, with the nearest flag where one is misspelt."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_all(self, arguments: list[str] | None) -> argparse.Namespace:
        """Parse; unknown arguments are errors."""
        parsed, unknown = self.parse_known_args(arguments)
        for word in unknown:
            flag = word.partition("=")[0]
            hint = suggestion(flag, self._option_string_actions)
            self.error(f"unknown argument {word}.{hint or ' --help shows all.'}")
        return parsed


def parser() -> Parser:
    """The command line. Nothing has a default here, to tell what was given."""
    result = Parser(
        prog="run.py",
        usage="%(prog)s PROBLEM [--method METHOD] [option ...]\n"
        "       %(prog)s --resume DIR",
        description=f"{__doc__}\n\n{EXAMPLES}",
        epilog=_listed("problems", {n: problems.summary(n) for n in problems.names()})
        + _listed("methods", {n: methods.summary(n) for n in methods.names()})
        + _listed("policies", {n: policies.summary(n) for n in policies.names()})
        + _listed("policy options", {n: _plain(n) for n in policies.names()}),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("problem", nargs="?", metavar="PROBLEM", help="what to train, see below")
    add("--method", metavar="METHOD", help="how, see below (default fipa)")
    add("--rounds", type=int, metavar="K", help="communication rounds (default 50)")
    add("--seed", type=int, metavar="S", help="of the start parameters (default 0)")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="run directory, new or empty (default runs/PROBLEM-METHOD-N)",
    )
    add(
        "--resume",
        type=Path,
        metavar="DIR",
        help="continue the run in DIR to its rounds; what else is given must agree",
    )
    add("--json", action="store_true", help="print one JSON object instead of a line")
    add("--device", choices=("cpu", "cuda"), help="where to compute (default cpu)")
    add("--dtype", choices=tuple(DTYPES), help="precision (default float64)")
    add(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads, which the last digits depend on (default all cores)",
    )
    add(
        "--warmup",
        metavar="METHOD:K0[,OPTION=VALUE...]",
        help="another method for the first K0 rounds (default none)",
    )
    add(
        "--resample",
        metavar="EVERY[,power=K,offset=C]",
        help="clients draw their points again every so many rounds, more of them where "
        "the residual is large (default never; power and offset 1)",
    )
    add(
        "--compress",
        metavar="DTYPE[,feedback]",
        help="clients send sketches and updates in float32 or bfloat16, with feedback "
        "as changes since the round before (default none)",
    )
    add(
        "--tuned",
        action="store_true",
        help="method options from figures/data/tuning.json; flags go before them",
    )
    add(
        "--gn-gap",
        action="store_true",
        help="record how far each step is from the centralised Gauss-Newton step",
    )
    add(
        "--backend",
        choices=("inprocess", "flower-local"),
        help="what carries the messages: function calls, or Flower's records between "
        "a ServerApp and ClientApps in this process (default inprocess)",
    )
    add("--no-plots", action="store_true", help="draw no pictures")
    add("--quiet", action="store_true", help="no progress bar")

    group = result.add_argument_group("clients that fail").add_argument
    group(
        "--min-clients",
        type=int,
        metavar="M",
        help="a round goes on with so many, without those that fail, are late or send "
        "what cannot be merged (default all are needed)",
    )
    group(
        "--deadline",
        type=float,
        metavar="S",
        help="seconds that clients have for an exchange (default no limit)",
    )
    group(
        "--patience",
        type=float,
        metavar="S",
        help="seconds for which a round is tried again that too few clients answer "
        "(default 0)",
    )
    group(
        "--outlier",
        type=float,
        metavar="X",
        help="largest norm of a sketch, target or update that is merged, as a multiple "
        f"of what is usual; inf for any (default {RULES['outlier']:g})",
    )
    group(
        "--staleness",
        type=int,
        metavar="K",
        help="for so many rounds an absent client's last sketch stands in for it "
        "(default 0, never)",
    )

    group = result.add_argument_group("problem options").add_argument
    group("--clients", type=int, metavar="M", help="clients (default the published M)")
    group(
        "--partition",
        metavar="NAME",
        help="how the domain is divided: strips, slabs (of time), boxes, pieces:K, "
        "sectors (default the problem's own)",
    )
    group("--edges", type=_edges, metavar="E0,E1,...", help="M + 1 edges of strips")
    group(
        "--initialisation",
        metavar="NAME",
        help="of the weights: fan_in, glorot (default fan_in)",
    )
    group("--data-seed", type=int, metavar="S", help="of the points (default 0)")
    group(
        "--set",
        action="append",
        type=_pair,
        metavar="KEY=VALUE",
        help="another argument of the problem's make(), may be repeated; most "
        "problems take points, a factor of the published numbers (default 1.0; of the "
        "inverse problems the number itself), width "
        "of the hidden layers (default the published one), activation: "
        f"{', '.join(ACTIVATIONS)} (default tanh)",
    )

    group = result.add_argument_group("method options").add_argument
    for option, text in _method_options().items():
        group(
            _flag(option),
            dest=f"option_{option}",
            metavar="X",
            help=text.replace("%", "%%"),
        )
    return result


def command(given: argparse.Namespace) -> Command:
    """What the arguments ask for.

    Raises:
        ValueError: If something is missing, or given for another method.
    """
    if "problem" not in given:
        raise ValueError(
            f"Which problem? Choose one of {', '.join(problems.names())}, or continue "
            "a run with --resume DIR."
        )
    problems.summary(given.problem)  # complain of a misspelt name first
    asked = {**DEFAULTS, "threads": torch.get_num_threads(), **vars(given)}
    method: str = asked["method"]
    defaults = {key: option.default for key, option in methods.options(method).items()}
    return Command(
        problem=given.problem,
        parameters=_parameters(given),
        options=defaults | _options(given, given.problem, method),
        **{key: asked[key] for key in (*DEFAULTS, "threads")},
    )


def rules(given: argparse.Namespace) -> Rules:
    """Which rounds count: as given, or as in the run that is resumed.

    Raises:
        ValueError: If a number is out of range.
    """
    known: dict[str, Any] = dict(RULES)
    if "resume" in given:
        content = json.loads((given.resume / "run.json").read_text())
        known |= content.get("rules", {})
    known |= {key: getattr(given, key) for key in RULES if key in given}
    if isinstance(known["outlier"], str):  # JSON knows no infinity
        known["outlier"] = float(known["outlier"])
    return Rules(**known)


def recorded(given: argparse.Namespace) -> Command:
    """The command of the run in ``given.resume``.

    Raises:
        ValueError: If there is none, or something was given that does not agree.
    """
    path: Path = given.resume / "run.json"
    if not path.is_file():
        raise ValueError(f"No run to resume in {given.resume}: it has no run.json.")
    try:
        content = json.loads(path.read_text())
        result = Command(**content["command"])
        made, began = dict(content["problem_parameters"]), dict(content["environment"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not of a run of run.py: {error!r}.") from error
    plain = asdict(result)
    _agree(given, "", plain, {k: v for k, v in vars(given).items() if k in plain})
    parameters = made | result.parameters
    _agree(given, "problem option ", parameters, _parameters(given))
    options = _options(given, result.problem, result.method)
    _agree(given, "method option ", result.options, options)
    now = environment()
    for key, value in began.items():
        if key != "threads" and now.get(key) != value:
            print(
                f"run.py: warning: the run began with {key} {value}, this is "
                f"{now.get(key)}; the last digits may differ.",
                file=sys.stderr,
            )
    return result


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


def summary(result: Result, todo: Command, out: Path) -> dict[str, Any]:
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
        "clients": configuration["clients"],
        "rounds": todo.rounds,
        "seed": todo.seed,
        "parameters": configuration["parameters"],
        "loss": result.loss,
        "relative_l2": relative_l2,
        "mse": mse,
        "unknowns": _unknowns(result, each),
        "bytes_up": last.bytes_up,
        "bytes_down": last.bytes_down,
        "messages": last.messages,
        "absent": result.absent,
        "dropped": sum(len(line.dropped) for line in result.history),
        "seconds": last.seconds,
        "max_rank": max(ranks, default=None),
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
    result: Result, each: Mapping[str, float]
) -> dict[str, dict[str, float | None]]:
    """The unknown numbers found, and what is known of their errors.

    Standard deviations where sensors tell them, relative errors where the truth is.
    """
    deviation: dict[str, float] = {}
    if any(term.name == SENSORS for term in result.problem.terms):
        with suppress(ValueError):  # too few measurements to know their noise
            deviation = laplace(result.problem, result.theta).deviation
    return {
        name: {
            "value": value,
            "deviation": deviation.get(name),
            "error": each[name] if math.isfinite(each[name]) else None,
        }
        for name, value in result.unknowns().items()
    }


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    reader = parser()
    given = reader.parse_all(arguments)
    out: Path | None = None
    try:
        # Whatever is printed on the way must not get between the lines of --json.
        with redirect_stdout(sys.stderr):
            if "resume" in given and "out" in given:
                raise ValueError("--resume DIR writes to DIR; leave --out away.")
            todo = recorded(given) if "resume" in given else command(given)
            problem, method = _made(todo)
            train = _trainer(todo.backend, method)
            if "resume" in given:
                out = given.resume
            elif "out" in given:
                out = given.out
            else:
                out = _common.new_directory(f"{todo.problem}-{todo.method}")
            label = f"{todo.problem} {todo.method}"
            quiet = "quiet" in given or (out / "model.safetensors").exists()
            with _common.progress(label, todo.rounds, quiet) as show:
                result = train(
                    problem,
                    method,
                    todo.rounds,
                    todo.seed,
                    out=out,
                    resume="resume" in given,
                    rules=rules(given),
                    device=todo.device,
                    dtype=DTYPES[todo.dtype],
                    gn_gap=todo.gn_gap,
                    progress=show,
                    notes={"command": asdict(todo)},
                )
        content = summary(result, todo, out)
        print(json.dumps(content) if "json" in given else _sentence(content))
        if "no_plots" not in given:
            _draw(result, todo, out)
    except KeyboardInterrupt:
        if out and (out / "run.json").exists():
            print(f"Interrupted. Continue with: {_again(out)}", file=sys.stderr)
        return 130
    except Exception as error:
        notes = getattr(error, "__notes__", [])
        kept = [note for note in notes if note.startswith("Record kept in ")]
        if kept:  # it failed on the way, not before it began
            if not isinstance(error, FloatingPointError):
                traceback.print_exc()
            print(f"run.py: failed: {error} {kept[0]}", file=sys.stderr)
            return 1
        if isinstance(error, (ValueError, OSError)):
            reader.error(str(error))
        raise
    return 0


def _draw(result: Result, todo: Command, out: Path) -> None:
    """The pictures; without them the run is as good, so trouble is only told."""
    try:
        with redirect_stdout(sys.stderr):
            _common.pictures(result, out, {todo.method: result.history})
    except Exception as error:
        print(
            f"run.py: warning: the run is complete but its pictures are not: {error!r}",
            file=sys.stderr,
        )


def _made(todo: Command) -> tuple[Problem, Method]:
    """The problem and the method, with the machine set up for them."""
    if todo.rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {todo.rounds}.")
    if not 0 <= todo.seed < 2**63:
        raise ValueError(f"--seed must be at least 0 and below 2^63, got {todo.seed}.")
    if todo.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {todo.threads}.")
    if todo.threads > 1024:  # more than it can, OpenMP ends the process
        raise ValueError(f"--threads must be at most 1024, got {todo.threads}.")
    if todo.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("This machine has no CUDA device; use --device cpu.")
    torch.set_num_threads(todo.threads)
    problem = problems.load(todo.problem, **todo.parameters)
    method = methods.load(todo.method, **todo.options)
    if todo.resample is not None:
        method = _resampled(method, todo.resample)
        chosen(problem, everywhere=method.pooled)  # complain now if none can be
    if todo.warmup is not None:
        first, rounds = _first(todo.warmup)
        if rounds >= todo.rounds:
            raise ValueError(
                f"--warmup {todo.warmup} takes all of the {todo.rounds} rounds, so "
                f"{todo.method} would never begin. Give it fewer than --rounds."
            )
        method = Warmup(first, rounds, method)
    return problem, compressed(method, todo.compress)


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


def _first(text: str) -> tuple[Method, int]:
    """The warm-up that METHOD:K0[,OPTION=VALUE...] stands for."""
    name, colon, rest = text.partition(":")
    rounds, *pairs = rest.split(",")
    if not colon or not rounds.isdigit():
        raise ValueError(
            f"--warmup needs METHOD:ROUNDS, for example fedavg:5; got '{text}'."
        )
    known = methods.options(name)
    options: dict[str, object] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        key = key.replace("-", "_")
        if key not in known and ":" in str(options.get("policy", "")):
            options["policy"] = f"{options['policy']},{pair}"  # one more of its own
            continue
        options[key] = _value(known[key], key, value) if key in known else value
    return methods.load(name, **options), int(rounds)


def _resampled(method: Method, text: str) -> Method:
    """The method with what EVERY[,power=K,offset=C] stands for."""
    every, *pairs = text.split(",")
    numbers = {"power": 1.0, "offset": 1.0}
    try:
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key not in numbers:
                raise ValueError(f"unknown option {key}")
            numbers[key] = float(value)
        return Resampled(method, int(every), numbers["power"], numbers["offset"])
    except ValueError as error:
        raise ValueError(
            "--resample needs EVERY[,power=K,offset=C], for example 20,power=2; got "
            f"'{text}': {error}"
        ) from error


def _parameters(given: argparse.Namespace) -> dict[str, object]:
    """What was given for the problem's ``make``."""
    names = ("clients", "partition", "edges", "initialisation")
    result = {name: getattr(given, name) for name in names if name in given}
    if "data_seed" in given:
        result["seed"] = given.data_seed
    return result | dict(getattr(given, "set", []))


def _options(given: argparse.Namespace, problem: str, method: str) -> dict[str, object]:
    """What was given for the method's ``make``."""
    known = methods.options(method)
    result = _common.tuned(problem, method) if "tuned" in given else {}
    for option in _method_options():
        key = f"option_{option}"
        if key not in given:
            continue
        if option not in known:
            raise ValueError(
                f"Method {method} does not take {_flag(option)}; it takes "
                f"{', '.join(map(_flag, known)) or 'no options'}."
            )
        result[option] = _value(known[option], option, getattr(given, key))
    return result


def _value(option: Option, name: str, text: str) -> object:
    """A method option from the command line."""
    if text == "none" and option.default is None:
        return None
    try:
        if option.type is bool:
            return {"true": True, "false": False}[text.lower()]
        value: object = option.type(text)
    except (ValueError, KeyError):
        kind = "true or false" if option.type is bool else option.type.__name__
        raise ValueError(f"{_flag(name)} must be {kind}, got '{text}'.") from None
    return value


def _method_options() -> dict[str, str]:
    """Help for each option of any method: meaning and the methods' defaults."""
    meanings: dict[str, dict[str, dict[str, str]]] = {}
    for method in methods.names():
        for name, option in methods.options(method).items():
            default = str(option.default)
            if option.default is None or isinstance(option.default, bool):
                default = default.lower()
            choices = f" One of {', '.join(option.choices)}." if option.choices else ""
            entry = meanings.setdefault(name, {}).setdefault(option.help + choices, {})
            entry[method] = default
    return {
        name: " ".join(f"{text} ({_defaults(of)})" for text, of in entries.items())
        for name, entries in sorted(meanings.items())
    }


def _defaults(of: Mapping[str, str]) -> str:
    """``adam, fedavg: default 100``; ``defaults: adam 0.001, fedavg 0.1``."""
    if len(set(of.values())) == 1:
        return f"{', '.join(of)}: default {next(iter(of.values()))}"
    return "defaults: " + ", ".join(f"{method} {value}" for method, value in of.items())


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _edges(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        message = f"'{text}' is not a list of numbers such as 0,0.5,1"
        raise argparse.ArgumentTypeError(message) from None


def _pair(text: str) -> tuple[str, object]:
    """KEY=VALUE, the value read as JSON where it is JSON."""
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def _listed(title: str, entries: Mapping[str, str]) -> str:
    lines = [f"  {name:20} {text}" for name, text in entries.items()]
    return "\n".join([f"\n{title}:", *lines, ""])


def _plain(policy: str) -> str:
    """A policy's options and their defaults: ``damping=0.0, cutoff=1e-10``."""
    return ", ".join(f"{k}={v}" for k, v in policies.options(policy).items()).lower()


def _sentence(content: Mapping[str, Any]) -> str:
    """The result for people, in a line."""
    method = content["method"]
    if content["warmup"] is not None:
        method += f" after {content['warmup']}"
    if content["resample"] is not None:
        method += f", points drawn again every {content['resample']} rounds"
    if content["compress"] != "none":
        method += f", uploads in {content['compress']}"
    given = ", ".join(f"{_flag(k)} {v}" for k, v in _changed(content).items())
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
    known = methods.options(content["method"])
    return {
        key: value
        for key, value in content["options"].items()
        if key not in known or value != known[key].default
    }


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2e}"


def _again(out: Path) -> str:
    return f"python scripts/run.py --resume {out}"


if __name__ == "__main__":
    sys.exit(main())
