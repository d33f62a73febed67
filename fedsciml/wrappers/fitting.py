"""The wrappers that a problem asks for, whatever the method."""

from dataclasses import replace

from fedsciml.methods import Method
from fedsciml.problem import Problem
from fedsciml.wrappers._base import Wrapped
from fedsciml.wrappers.normalise import Normalised
from fedsciml.wrappers.personal import Personal
from fedsciml.wrappers.warmup import Warmup


def fitted(method: Method, problem: Problem) -> Method:
    """The method in what the problem needs around it; else as it is.

    That is ``Personal`` where clients have parameters of their own, and ``Normalised``
    where rows weigh less where the solution is steep: next to the method itself, inside
    of all other wrappers.

    Raises:
        ValueError: If the method can have none of that, or the problem needs both.
    """
    if problem.personal is not None:
        if problem.normalised:
            raise ValueError(
                f"Problem '{problem.name}' has parameters of each client's own, and a "
                "term with normalise='gradient'. A server could not tell the slopes of "
                "each client's solution: leave out one of them."
            )
        return _with_own(method, problem)
    return _normalised(method, problem) if problem.normalised else method


def _with_own(method: Method, problem: Problem) -> Method:
    if isinstance(method, Personal):
        return method
    if isinstance(method, Wrapped):
        if not method.carries:
            raise ValueError(
                f"{type(method).__name__} does not go with parameters of each client's "
                f"own, which problem '{problem.name}' has; leave it out."
            )
        inner = _with_own(method.method, problem)
        return method if inner is method.method else replace(method, method=inner)
    return Personal(method)


def _normalised(method: Method, problem: Problem) -> Method:
    if isinstance(method, Normalised):
        return method
    if isinstance(method, Warmup):
        first = _normalised(method.first, problem)
        return replace(method, first=first, then=_normalised(method.then, problem))
    if isinstance(method, Wrapped):
        return replace(method, method=_normalised(method.method, problem))
    if method.budget is not None:
        raise ValueError(
            f"Problem '{problem.name}' has a term with normalise='gradient', for whose "
            "rows the bounds of differential privacy are not derived: leave out one of "
            "them."
        )
    return Normalised(method)
