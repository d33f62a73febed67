"""Federated scientific machine learning by Gauss-Newton on data that stays put.

    problem = Problem(...)                    # the equation, the network, who owns what
    result = run(problem, methods.load("fipa"), rounds=50)
    result.solution(points).xx                # u_xx of the trained solution

The submodule ``plot`` (matplotlib) is imported when asked for.
"""

from fedsciml import collocation, methods
from fedsciml.federation.loop import Result, run
from fedsciml.network import MLP, ModuleNetwork
from fedsciml.network.parallel import Parallel
from fedsciml.problem import Problem, Term

__all__ = [
    "MLP",
    "ModuleNetwork",
    "Parallel",
    "Problem",
    "Result",
    "Term",
    "collocation",
    "methods",
    "run",
]

__version__ = "0.1.0"
