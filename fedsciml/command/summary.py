"""What a run came to: as plain data, and as a sentence."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedsciml import wrappers
from fedsciml.analysis import gradient_norm, laplace, measure, standard_errors
from fedsciml.analysis.personal import numbers
from fedsciml.command.arguments import flag
from fedsciml.command.order import Order
from fedsciml.federation import Result
from fedsciml.federation.traffic import size
from fedsciml.registry import Option


def summary(result: Result, order: Order, out: Path) -> dict[str, Any]:
    """The result as plain data; numbers that are not finite become None."""
    last = result.history[-1]
    theta, measured = result.theta, last.metrics
    personal, own = result.personal, result.problem.personal
    found = measure(result.problem, theta, personal)
    ranks = [rank for line in result.history for rank in line.ranks]
    configuration = json.loads((out / "run.json").read_text())
    content: dict[str, Any] = {
        "problem": order.problem,
        "method": order.method,
        "options": order.options,
        "warmup": order.warmup,
        "train": order.train,
        "personal": order.personal,
        "resample": order.resample,
        "compress": order.compress,
        "secure": order.secure,
        "groups": order.groups,
        "dp": order.dp,
        "epsilon": last.epsilon,
        "delta": last.delta,
        "clients": configuration["clients"],
        "rounds": len(result.history),
        "seed": order.seed,
        "parameters": configuration["parameters"],
        "first": result.history[0].first,
        "own_parameters": len(own.mine) if own else 0,
        "loss": result.loss,
        "relative_l2": found.relative_l2,
        "mse": found.mse,
        "accuracy": measured.get("accuracy"),
        "deviance": measured.get("deviance"),
        "gradient_norm": None
        if order.dp
        else gradient_norm(result.problem, theta, personal),
        "unknowns": _unknowns(result, found.each, order.dp is not None),
        "own": _own(result),
        "bytes_up": last.bytes_up,
        "bytes_down": last.bytes_down,
        "messages": last.messages,
        "absent": result.absent,
        "held_out": result.held_out,
        "terms": result.terms,
        "outcome": result.outcome._asdict(),
        "warnings": result.warnings,
        "dropped": sum(len(line.dropped) for line in result.history),
        "seconds": last.seconds,
        "max_rank": max(ranks, default=None),
        "basis": last.basis,
        "outside": last.outside,
        "mean_rank": sum(ranks) / len(ranks) if ranks else None,
        "backend": configuration["backend"],
        "device": order.device,
        "dtype": order.dtype,
        "threads": order.threads,
        "theta_sha256": result.theta_sha256(),
        "out": str(out),
    }
    return {
        key: None if isinstance(v, float) and not math.isfinite(v) else v
        for key, v in content.items()
    }


def sentence(content: Mapping[str, Any]) -> str:
    """A summary for people, in a line."""
    text = (
        f"{Path(str(content['problem'])).stem}, {manner(content)}, "
        f"{_counted(content['clients'], 'client')}, "
        f"{_counted(content['rounds'], 'round')}, "
        f"{content['dtype']}: loss {_number(content['loss'])}"
    )
    if content["relative_l2"] is not None:
        text += f", relative L2 error {_number(content['relative_l2'])}"
    if content["mse"] is not None:
        text += f", MSE {_number(content['mse'])}"
    if content.get("accuracy") is not None:
        text += f", accuracy {100 * content['accuracy']:.1f} %"
    if content.get("deviance") is not None:
        text += f", mean deviance {content['deviance']:.4g} on the tests"
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
    text += "".join(f", {k} = {v}" for k, v in ranges(content["own"]).items())
    if content.get("first") is not None:
        text += f", first layer begun with {content['first']:g}"
    if content["absent"]:
        text += f", without the loss of client(s) {', '.join(content['absent'])}"
    if content["dropped"]:
        text += f", {content['dropped']} uploads dropped (see history.jsonl)"
    up, down = size(content["bytes_up"]), size(content["bytes_down"])
    text += f"; {content['seconds']:.1f} s, {up} up, {down} down"
    return f"{text}; {content['out']}"


def ranges(own: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """How far numbers of the clients' own reach, by name.

    Args:
        own: The numbers, by client and name.
    """
    names = dict.fromkeys(name for one in own.values() for name in one)
    found = {name: [one[name] for one in own.values()] for name in names}
    return {
        name: f"{min(several):.4g} to {max(several):.4g} at the clients"
        for name, several in found.items()
    }


def manner(content: Mapping[str, Any]) -> str:
    """The method of a summary or an order, what is around it, and its options."""
    text = Path(str(content["method"])).stem
    if content["train"] is not None:
        text += f" of the last layers ({content['train']})"
    if content["personal"] is not None:
        text += f", personal parameters {content['personal']}"
    if content["warmup"] is not None:
        text += f" after {content['warmup']}"
    if content["resample"] is not None:
        text += f", points drawn again ({content['resample']})"
    if content["compress"] != "none":
        text += f", uploads in {content['compress']}"
    if content["secure"]:
        text += ", secure sums"
    if content["dp"] is not None:
        told = content["dp"]
        if "epsilon" in content:
            spent = content["epsilon"], content["delta"]
            told = "epsilon {:.3g}, delta {:.1g} spent".format(*spent)
        text += f", private ({told})"
    given = ", ".join(f"{flag(k)} {v}" for k, v in _changed(content).items())
    return f"{text} ({given})" if given else text


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
    elif problem.shared_unknowns and not problem.personal:
        with suppress(ValueError):  # too few measurements to know their noise, or none
            known = laplace(problem, result.theta)
            deviation, mixed = known.deviation, known.mixed
        if not problem.squares:
            with suppress(ValueError):  # several terms, or rows that do not tell
                deviation = _deviations(result)
    here = not problem.personal or len(result.personal) == problem.clients
    if mixed is None and problem.shared_unknowns and here and not problem.partial:
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


def _own(result: Result) -> dict[str, dict[str, float]]:
    """Unknown numbers of each client's own, where they are known here."""
    found = numbers(result.problem, result.theta, result.personal)
    return {str(m): own for m, own in found.items() if own}


def _deviations(result: Result) -> dict[str, float]:
    """Standard errors of the unknown numbers, in their units, by the likelihood."""
    problem, theta = result.problem, result.theta.double()
    moved = problem.numbers(theta + standard_errors(problem, theta))
    found = result.unknowns()
    return {name: abs(value - found[name]) for name, value in moved.items()}


def _changed(content: Mapping[str, Any]) -> dict[str, object]:
    """The method's options that are not the default ones."""
    known: Mapping[str, Option] = {}
    with suppress(ValueError):  # its file is gone
        known = wrappers.options(content["method"])
    return {
        key: value
        for key, value in content["options"].items()
        if key not in known or value != known[key].default
    }


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.2e}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
