"""Arguments of ``run`` that are of another kind: what came, and what to write."""

from collections.abc import Sequence
from os import PathLike
from types import ModuleType
from typing import TypeGuard

import torch

from fedsciml.federation.participation import Rules
from fedsciml.methods import Method
from fedsciml.problem import Problem

PRECISIONS = (torch.float64, torch.float32)


def check(
    problem: object,
    method: object,
    rounds: object,
    seed: object,
    backend: object,
    rules: object,
    device: object,
    dtype: object,
    out: object,
    progress: object,
    callbacks: object,
    stop: object,
) -> None:
    """Refuse arguments of ``run`` that are of another kind, or out of range.

    Raises:
        ValueError: Names the argument, what came and what to write.
    """
    if isinstance(problem, Method) and isinstance(method, Problem):
        raise ValueError(
            "run takes first the problem: run(problem, method, rounds=50)."
        )
    if not isinstance(problem, Problem):
        advice = "write run(Problem(...), ...) or run(problems.load(NAME), ...)"
        if isinstance(problem, str):
            advice = f"write run(fedsciml.problems.load({problem!r}), ...)"
        raise ValueError(f"run needs a Problem; got {_shown(problem)}: {advice}.")
    if not isinstance(method, Method):
        advice = 'write run(problem, methods.load("fipa"), ...)'
        if isinstance(method, str):
            advice = f"write run(problem, methods.load({method!r}), ...)"
        raise ValueError(f"run needs a method; got {_shown(method)}: {advice}.")
    if not _whole(rounds):
        raise ValueError(
            f"A run needs a whole number of rounds; got {_shown(rounds)}: write "
            "run(problem, method, rounds=50)."
        )
    if rounds < 1:
        raise ValueError(f"A run needs at least 1 round, got {rounds}.")
    if not _whole(seed) or not 0 <= seed < 2**63:
        raise ValueError(
            f"The seed must be at least 0 and below 2^63, got {_shown(seed)}."
        )
    if backend is not None and not hasattr(backend, "connect"):
        raise ValueError(
            f"backend= is an object with connect, as InProcess(); got "
            f"{_shown(backend)}. Over Flower write fedsciml.flower.run(problem, "
            "method)."
        )
    if rules is not None and not isinstance(rules, Rules):
        raise ValueError(
            f"rules= is a Rules; got {_shown(rules)}: write Rules(min_clients=2)."
        )
    if dtype not in PRECISIONS:
        raise ValueError(
            f"dtype= is torch.float64 or torch.float32; got {_shown(dtype)}."
        )
    if out is not None and not isinstance(out, (str, PathLike)):
        raise ValueError(
            f"out= is the path of a directory; got {_shown(out)}: write "
            'out="runs/first".'
        )
    if (
        progress is not None
        and not isinstance(progress, bool)
        and not callable(progress)
    ):
        raise ValueError(
            f"progress= is True, False or a function of each line of the history; got "
            f"{_shown(progress)}."
        )
    if stop is not None and not callable(stop):
        raise ValueError(
            f"stop= is a function of the history; got {_shown(stop)}. To end at a "
            "value write callbacks=[Until(1e-8)], from fedsciml.callbacks."
        )
    if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
        raise ValueError(
            f"callbacks= is a list of functions of the history; got "
            f"{_shown(callbacks)}. Write callbacks=[Until(1e-8)], from "
            "fedsciml.callbacks."
        )
    _device(device)


def _device(device: object) -> None:
    try:
        torch.zeros(0, device=torch.device(device))  # type: ignore[call-overload]
    except (AssertionError, RuntimeError, TypeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"device={device!r} cannot be used here; write 'cpu', or 'cuda' where "
            f"torch finds one. {reason}."
        ) from error


def _whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A value in short."""
    if value is None or isinstance(value, (str, int, float, torch.dtype)):
        return repr(value)
    if isinstance(value, ModuleType):
        return f"the module {value.__name__}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"a {type(value).__name__}"
