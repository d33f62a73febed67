"""Federated scientific machine learning by Gauss-Newton on data that stays put.

    problem = Problem(...)                    # the equation, the network, who owns what
    result = run(problem, methods.load("fipa"), rounds=50)
    result.solution(points).xx                # u_xx of the trained solution

The wrappers, ``laplace`` and the packages ``wrappers``, ``plot`` (matplotlib),
``deepxde`` and ``flower`` are imported when asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedsciml import collocation, methods, policies
from fedsciml.federation import InProcess, Result, Round, Rules, run
from fedsciml.network import MLP, ModuleNetwork, Parallel
from fedsciml.problem import Problem, Term, load_points

if TYPE_CHECKING:
    from fedsciml import problems, wrappers
    from fedsciml.analysis.laplace import laplace
    from fedsciml.wrappers import Balanced, Compressed, Resampled, Warmup

__all__ = [
    "MLP",
    "Balanced",
    "Compressed",
    "InProcess",
    "ModuleNetwork",
    "Parallel",
    "Problem",
    "Resampled",
    "Result",
    "Round",
    "Rules",
    "Term",
    "Warmup",
    "collocation",
    "laplace",
    "load_points",
    "methods",
    "policies",
    "problems",
    "run",
    "wrappers",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """What is exported and takes a while to import."""
    if name in ("problems", "wrappers"):
        return import_module(f"fedsciml.{name}")
    if name == "laplace":
        return import_module("fedsciml.analysis.laplace").laplace
    if name in __all__:
        return getattr(import_module("fedsciml.wrappers"), name)
    raise AttributeError(f"module 'fedsciml' has no attribute '{name}'")
