"""A residual function is called, and what it returns is checked."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fedsciml.likelihoods import Gaussian
from fedsciml.network import Jet
from fedsciml.network.stand_in import Misread
from fedsciml.problem.outward import SiteError
from fedsciml.problem.term import Row

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem


def evaluated(problem: "Problem", number: int, u: Jet, row: Row) -> Tensor:
    """What the residual of term ``number`` returns for n rows, as one tensor [q, n].

    Raises:
        SiteError: If it uses u or row as what they are not, or does not return one
            tensor [n] of real numbers, or several.
    """
    term = problem.terms[number]
    where = f"The residual of term '{term.name}' of problem '{problem.name}'"
    try:
        found: object = term.residual(u, row)
    except Misread as error:
        raise SiteError(f"{where} cannot be evaluated. {error}") from error
    n = len(row.points)
    several = isinstance(found, Tensor) and found.ndim == 2 and len(found) == n
    if several and not isinstance(term.likelihood, Gaussian):
        assert isinstance(found, Tensor)
        found = found.unbind(1)
    parts = list(found) if isinstance(found, (tuple, list)) else [found]
    fits = [isinstance(p, Tensor) and list(p.shape) == [n] for p in parts]
    if not parts or not all(fits):
        returned = ", ".join(_shown(part) for part in parts[:4]) or "nothing"
        more = ", ..." if len(parts) > 4 else ""
        wrong = parts[fits.index(False)] if parts else None
        raise SiteError(
            f"{where} must return one tensor [n], or a tuple of such tensors, one "
            f"entry per point; for n = {n} points it returned {returned}{more}. "
            f"{_instead(wrong, n)}"
        )
    stacked = torch.stack([part for part in parts if isinstance(part, Tensor)])
    if not stacked.is_floating_point():
        raise SiteError(
            f"{where} must return real numbers that change with u; it returned "
            f"{stacked.dtype}. Of a complex residual return the parts, (r.real, "
            "r.imag); a comparison has no derivative."
        )
    return stacked


def _shown(part: object) -> str:
    """What a residual returned: a shape, or a kind."""
    if isinstance(part, Tensor):
        return f"shape {list(part.shape)}"
    if isinstance(part, (float, int, complex)):
        return f"a number of Python ({type(part).__name__})"
    if isinstance(part, np.ndarray):
        return "an array of NumPy"
    return "None" if part is None else f"a {type(part).__name__}"


def _instead(part: object, n: int) -> str:
    """What to write instead of what was returned."""
    if isinstance(part, Jet):
        return "Did you mean u.value?"
    if part is None:
        return "Does the function end with return?"
    if not isinstance(part, Tensor):
        return (
            "Compute with tensors, by functions of torch: u.value, u.x, row.x, "
            "row.target are of shape [n]."
        )
    shape = list(part.shape)
    if shape == []:
        return (
            "Leave out sum and mean: squares are taken and averaged over the points "
            "afterwards."
        )
    if shape == [n, 1]:
        return "Write u.value instead of u.values; of a column [n, 1] take [:, 0]."
    if len(shape) == 2:
        return (
            "A column [n, 1] beside a row [n] makes a matrix: take [:, 0] of it. Of "
            "several outputs or targets take one each, (u.p.value - row.target[:, 0], "
            "...)."
        )
    return "Use u.value, u.x, row.x, row.target."
