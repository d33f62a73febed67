"""What a problem and its terms are made of: kinds, and what to write instead.

Whether shapes and values fit is for ``checks``.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fedsciml.collocation import Partition
from fedsciml.likelihoods import Gaussian, Likelihood
from fedsciml.problem.outline import outline

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem

EXAMPLE = 'Term("pde", residual, points)'


def check(problem: "Problem", kind: type) -> None:
    """Refuse parts that are of another kind than a problem's.

    Args:
        problem: As it was written.
        kind: ``Term``.

    Raises:
        ValueError: Names the part, what came, and what to write.
    """
    if not isinstance(problem.name, str):
        raise ValueError(
            f"A problem starts with its name, Problem('mine', network, ...); got "
            f"{outline(problem.name)}."
        )
    where = f"Problem '{problem.name}'"
    _terms(where, problem.terms, kind)
    _terms(where, problem.tests, kind, "tests")
    _partition(where, problem.partition)
    _names(where, "coordinates", problem.coordinates, ("x", "t"))
    _names(where, "outputs", problem.outputs, ("u", "v"))
    truth: object = problem.truth
    if not isinstance(truth, Mapping):
        raise ValueError(
            f"{where} needs truth= to have true values by name, {{'k': 0.1}}, or "
            f"{{'k': [0.1, 0.2]}} with one for each client; got {outline(truth)}."
        )
    exact = problem.exact
    several = isinstance(exact, (list, tuple)) and all(map(callable, exact))
    if exact is not None and not callable(exact) and not several:
        raise ValueError(
            f"{where} needs exact= to be a function of points [n, d], or a list with "
            f"one for each client; got {outline(exact)}. Give values as reference=, "
            "and as test_points= where they hold."
        )


def _terms(where: str, terms: Any, kind: type, name: str = "terms") -> None:  # noqa: ANN401
    if isinstance(terms, kind):
        raise ValueError(
            f"{where} needs a list of terms, also of one; got a single Term "
            f"'{getattr(terms, 'name', '')}'. Write {name}=[{EXAMPLE}]."
        )
    if isinstance(terms, (str, Mapping)) or not hasattr(terms, "__iter__"):
        raise ValueError(
            f"{where} needs a list of terms; got {outline(terms)}. Write "
            f"{name}=[{EXAMPLE}]."
        )


def term(where: str, value: Any, kind: type) -> None:  # noqa: ANN401
    """Refuse what is no ``Term``, or one with a name, residual or weight that is none.

    Raises:
        ValueError: Names the term, what came, and what to write.
    """
    if not isinstance(value, kind):
        advice = f"write {EXAMPLE}"
        if type(value).__module__.startswith("deepxde."):
            advice += (
                "; a model of DeepXDE becomes a problem by fedsciml.deepxde.problem"
            )
        raise ValueError(f"The {where} has {outline(value)} among its terms; {advice}.")
    made: Any = value
    if not isinstance(made.name, str):
        raise ValueError(
            f"A term of {where} starts with its name, {EXAMPLE}; got "
            f"{outline(made.name)}."
        )
    named = f"Term '{made.name}' of {where}"
    if not callable(made.residual) or isinstance(made.residual, Tensor):
        raise ValueError(
            f"{named} needs a function as residual, residual(u, row) -> [n]; got "
            f"{outline(made.residual)}. Write for example def pde(u, row): return u.xx "
            f"- row.target, and {EXAMPLE}."
        )
    if not isinstance(made.likelihood, Likelihood):
        raise ValueError(
            f"{named} needs an object as likelihood; got {outline(made.likelihood)}. "
            "Write for example likelihood=likelihoods.Poisson(), from fedsciml."
        )
    if made.normalise not in (None, "gradient"):
        raise ValueError(
            f"{named} has normalise={made.normalise!r}; write normalise='gradient' for "
            "rows that weigh less where the solution is steep, or leave it out."
        )
    if made.normalise and not isinstance(made.likelihood, Gaussian):
        raise ValueError(
            f"{named} has normalise='gradient' and a likelihood other than squares: "
            "what was observed has its own weights. Leave out one of them."
        )
    weight = made.weight
    if isinstance(weight, Tensor) and weight.numel() != 1:
        raise ValueError(
            f"{named} has a weight of shape {list(weight.shape)}; it is one number for "
            "all points. To weigh points, multiply the residual by the root of what "
            "they weigh."
        )
    if isinstance(weight, bool) or not isinstance(weight, (Real, Tensor)):
        raise ValueError(
            f"{named} has weight {weight!r}, of type {type(weight).__name__}; write a "
            "positive number, weight=10."
        )


def _partition(where: str, partition: Any) -> None:  # noqa: ANN401
    if isinstance(partition, Partition):
        return
    advice = "partition=strips([0, 0.5, 1]) for two clients, or strips([0, 1]) for one"
    if isinstance(partition, int) and partition > 1:
        advice = (
            f"partition=strips(torch.linspace(lower, upper, {partition + 1})) for "
            f"{partition} strips along the first coordinate"
        )
    elif isinstance(partition, (list, tuple, Tensor, np.ndarray)):
        advice = "partition=strips(edges), or boxes(edges of each axis)"
    raise ValueError(
        f"{where} needs a partition, who owns which points; got {outline(partition)}. "
        f"Write {advice}, from fedsciml.collocation; explicit(m) where each term "
        "brings a list of points per client."
    )


def _names(where: str, what: str, names: Any, example: tuple[str, str]) -> None:  # noqa: ANN401
    listed = list(names) if isinstance(names, (str, Sequence)) else [names]
    short = "".join(example)
    if not listed or not all(isinstance(name, str) for name in listed):
        raise ValueError(
            f"{where} needs {what} as names, {what}={short!r} or "
            f"{example!r}; got {names!r}."
        )
    twice = len(set(listed)) < len(listed)
    if isinstance(names, str) and (twice or not names.isidentifier()):
        raise ValueError(
            f"{where} has {what}={names!r}, where every letter is a name of its own; "
            f"write {what}={short!r}, and names of several letters as a tuple, "
            f"{what}=({names.split(',')[0].split()[0]!r},)."
        )


def domain(problem: "Problem") -> None:
    """Refuse a domain that is no box of d coordinates.

    Raises:
        ValueError: Tells what came, and what to write.
    """
    d = len(problem.coordinates)
    if problem.domain is None:
        return
    try:
        lower, upper = (
            torch.as_tensor(corner, dtype=torch.float64, device="cpu")
            for corner in problem.domain
        )
        fits = list(lower.shape) == list(upper.shape) == [d]
        fits = fits and bool((lower < upper).all())
    except (TypeError, ValueError, RuntimeError):
        fits = False
    if not fits:
        box = f"({[0.0] * d}, {[1.0] * d})"
        raise ValueError(
            f"Problem '{problem.name}' needs domain= as two corners of a box, (lower, "
            f"upper) of {d} numbers each, every lower one smaller; got "
            f"{outline(problem.domain)}. Write for example domain={box}."
        )


def arranged(values: Any, where: str) -> Tensor | np.ndarray | tuple[Any, ...]:  # noqa: ANN401
    """Points as one array, or a tuple with one for each client.

    Args:
        values: A tensor or an array; a list of numbers, or of lists of numbers, which
            is one; or a list with a tensor, an array or such a list for each client.
        where: Whose points, for messages.

    Raises:
        ValueError: If they are something else; says what to write.
    """
    if isinstance(values, (Tensor, np.ndarray)):
        return values
    if isinstance(values, (str, Path)):
        raise ValueError(
            f"Points of {where} are {values!r}; read files by fedsciml.load_points("
            f"[{str(values)!r}], ['x'], ['u']), which gives points and target."
        )
    if callable(values):
        raise ValueError(
            f"Points of {where} are a function; give a tensor [n, d]. A function that "
            "draws points of the term is its sample=."
        )
    if not isinstance(values, (list, tuple)):
        raise ValueError(
            f"Points of {where} are {outline(values)}; give a tensor [n, d], or a list "
            "of such tensors, one per client. fedsciml.collocation has uniform, "
            "interior and boundary to draw some."
        )
    depths = {_depth(part) for part in values}
    if depths <= {0} or (depths == {1} and not any(map(_is_array, values))):
        try:
            return np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Points of {where} are a list of {len(values)} lists that are not "
                "equally long, or not of numbers. Give every point d numbers, "
                "[[0.1, 0.2], [0.3, 0.4]], or one tensor [n, d] per client."
            ) from error
    return tuple(values)


def _is_array(value: object) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _depth(value: Any) -> int:  # noqa: ANN401
    """How many lists are around a number."""
    if isinstance(value, (Tensor, np.ndarray)):
        return value.ndim
    if not isinstance(value, (list, tuple)):
        return 0
    return 1 + max((_depth(part) for part in value), default=0)


def advice(where: str, shape: Sequence[int], names: Sequence[str]) -> str:
    """What to write where points have another shape than [n, d]."""
    d, default = len(names), tuple(names) == ("x",)
    if len(shape) == 1 and d == 1:
        return " Write points[:, None]."
    if len(shape) == 1:
        return f" Write torch.stack([{', '.join(names)}], 1) of the coordinates [n]."
    if len(shape) == 2 and shape[0] == d < shape[1]:
        return " Write points.T, one point per row."
    if len(shape) != 2 or shape[1] <= d or not where.startswith("term"):
        return ""
    if default:
        return (
            f' Name the {shape[1]} coordinates, coordinates="xt" or ("x1", "x2", '
            "...). If a column holds values of u, write Term(..., points[:, :1], "
            "target=points[:, 1])."
        )
    return (
        f" If more columns hold values of u, write Term(..., points[:, :{d}], "
        f"target=points[:, {d}]); else name all coordinates."
    )


def called(function: Callable[..., Any], points: Tensor, what: str) -> Any:  # noqa: ANN401
    """What a function of points returns.

    Raises:
        ValueError: If it raises another error; says how it is called.
    """
    try:
        return function(points)
    except ValueError as error:
        if "Python scalars" not in str(error):
            raise
        raise _uncallable(what, points, error) from error
    except Exception as error:
        raise _uncallable(what, points, error) from error


def _uncallable(what: str, points: Tensor, error: Exception) -> ValueError:
    d = points.shape[1]
    return ValueError(
        f"{what} raises {type(error).__name__}: {str(error).rstrip('.')}. It is a "
        f"function of all points at once, a tensor [n, {d}], and returns a tensor [n]: "
        "for example lambda x: torch.sin(x[:, 0])."
    )


def numbered(name: str, count: int) -> tuple[str, ...]:
    """Names of so many coordinates or outputs: ``x0``, ``x1``, ..."""
    return tuple(f"{name}{i}" for i in range(count))


def prior(problem: "Problem") -> None:
    """Refuse a prior that is no number of at least 0."""
    given: dict[str, Any] = {"|theta|^2": problem.prior}
    given["|f - f_0|^2"] = problem.personal_prior
    for what, value in given.items():
        fine = isinstance(value, Real) and not isinstance(value, bool)
        if not (fine and 0 <= float(value) < float("inf")):
            raise ValueError(
                f"The prior of problem '{problem.name}' is {value!r}; it is lambda of "
                f"lambda/2 {what}, at least 0, such as 1e-4."
            )
