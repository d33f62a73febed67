"""Federated scientific machine learning by Gauss-Newton on data that stays put.

    problem = Problem(...)                    # the equation, the network, who owns what
    result = run(problem, methods.load("fipa"), rounds=50)
    result.solution(points).xx                # u_xx of the trained solution

The packages ``plot`` (matplotlib), ``deepxde`` and ``flower`` are imported when asked
for.
"""

from fedsciml import collocation, methods, policies, wrappers
from fedsciml.analysis.laplace import laplace
from fedsciml.federation import InProcess, Result, Round, Rules, run
from fedsciml.network import MLP, ModuleNetwork, Parallel
from fedsciml.problem import Problem, Term, load_points
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
    "run",
    "wrappers",
]

__version__ = "0.1.0"
