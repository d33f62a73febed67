"""Federated scientific machine learning by Gauss-Newton on data that stays put.

    problem = Problem(...)                    # the equation, the network, who owns what
    result = run(problem, methods.load("fipa"), rounds=50)
    result.solution(points).xx                # u_xx of the trained solution

What is exported is imported when it is asked for, torch with it: the command line shows
its help at once, and sets how threads wait before torch reads it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsciml import (
        callbacks,
        collocation,
        likelihoods,
        methods,
        policies,
        problems,
        wrappers,
    )
    from fedsciml.analysis.laplace import laplace
    from fedsciml.analysis.personal import personalise
    from fedsciml.federation import InProcess, Result, Round, Rules
    from fedsciml.network import MLP, ModuleNetwork, Parallel, Personal, lora
    from fedsciml.problem import Problem, Term, load_points
    from fedsciml.saved import load
    from fedsciml.training import run
    from fedsciml.wrappers import Balanced, Compressed, LastLayers, Resampled, Warmup

__all__ = [
    "MLP",
    "Balanced",
    "Compressed",
    "InProcess",
    "LastLayers",
    "ModuleNetwork",
    "Parallel",
    "Personal",
    "Problem",
    "Resampled",
    "Result",
    "Round",
    "Rules",
    "Term",
    "Warmup",
    "callbacks",
    "collocation",
    "laplace",
    "likelihoods",
    "load",
    "load_points",
    "lora",
    "methods",
    "personalise",
    "policies",
    "problems",
    "run",
    "wrappers",
]

__version__ = "0.1.0"

_HOMES = {
    "analysis.laplace": ("laplace",),
    "analysis.personal": ("personalise",),
    "federation": ("InProcess", "Result", "Round", "Rules"),
    "network": ("MLP", "ModuleNetwork", "Parallel", "Personal", "lora"),
    "problem": ("Problem", "Term", "load_points"),
    "saved": ("load",),
    "training": ("run",),
    "wrappers": ("Balanced", "Compressed", "LastLayers", "Resampled", "Warmup"),
}
"""Where what is exported is defined; packages are exported as they are."""


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """What is exported, imported now."""
    if name not in __all__:
        raise AttributeError(f"module 'fedsciml' has no attribute '{name}'")
    for home, names in _HOMES.items():
        if name in names:
            found = getattr(import_module(f"fedsciml.{home}"), name)
            globals()[name] = found
            return found
    return import_module(f"fedsciml.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
