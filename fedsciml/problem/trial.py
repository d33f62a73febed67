"""Residuals are tried at a few points, before anything is trained or sent."""

import re
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from fedsciml.network import Jet, Nested
from fedsciml.network.jet import Channel
from fedsciml.problem import evaluation
from fedsciml.problem.evaluation import evaluated
from fedsciml.problem.outward import SiteError
from fedsciml.problem.rows import Rows
from fedsciml.problem.term import Row

if TYPE_CHECKING:
    from fedsciml.problem.problem import Problem

HERE = (__file__, evaluation.__file__)
"""Lines of the library that an error is not told to be in."""

POINTS = 3
"""Rows of each term that are tried: enough to tell n from a number of columns."""

CLOSE = 1e-3
"""Of the largest residual, by which the same row may differ in another company."""

NUDGE = 1e-12
"""Change of theta that changes rounding alone: of u - u', where u is periodic by
construction, all that there is; of other residuals next to nothing."""

ADVICE = (
    (
        r"numpy\(\)|[Oo]nly one element|converted to Python scalars|to Scalar",
        "Use the functions of torch, not those of math or numpy: torch.sin(u.value).",
    ),
    (
        r"Boolean value",
        "All n points are computed at once: instead of `if u.value > 0` write "
        "torch.where(u.value > 0, a, b).",
    ),
    (
        r"does not require grad|not have been used in the graph",
        "Derivatives are u.x, u.xx, u.laplacian; a residual that differentiates by "
        "itself, with torch.autograd.grad or dde.grad, takes u.values [n, c] and "
        "row.points [n, d], and its Term is told: Term(..., autograd=True).",
    ),
    (r"second time", "Give torch.autograd.grad the argument create_graph=True."),
    (
        r"positional argument",
        "A residual is a function of the solution and the rows, residual(u, row).",
    ),
    (
        r"must match the size|must match the existing size|not broadcast|shape",
        "A residual is called with some of the points at a time: what it takes from "
        "outside, one value per point, belongs to Term(target=...) and is read as "
        "row.target.",
    ),
)
"""What to say of errors of Python and torch, by words in their messages."""


def check(problem: "Problem") -> None:
    """Evaluate each residual at its first points, as the clients will.

    Raises:
        SiteError: If a residual uses u or row as what they are not, returns another
            thing than one or several tensors [n], changes with the other points, cuts
            off u from its derivative, or raises another error, whose text is a note.
    """
    for rows in problem.pooled().rows:
        if not len(rows.points):
            continue
        few = rows.part(slice(POINTS))
        try:
            with warnings.catch_warnings(action="ignore"):
                _check(problem, few)
        except SiteError:
            raise
        except Exception as error:
            if not _whole(problem, rows.term):
                raise _explained(problem, few, error) from error


def _check(problem: "Problem", rows: Rows) -> None:
    r = _tried(problem, rows, 0.1)
    term = problem.terms[rows.term]
    where = f"The residual of term '{term.name}' of problem '{problem.name}'"
    whole = problem.target_of(rows.term)
    if wrong := term.likelihood.wrong(r.detach(), whole):
        raise SiteError(f"Term '{term.name}' of problem '{problem.name}': {wrong}.")
    middle = len(rows.points) // 2
    one = rows.part(slice(middle, middle + 1))
    alone = _tried(problem, one, 0.1)
    apart = len(alone) != len(r)
    if not apart:
        least = CLOSE * r.detach().abs().amax(1).nan_to_num(posinf=0.0)
        changed = _change(alone, r[:, middle, None]).amax(1) > least
        if changed.any():  # that may be chance, as memory that torch has not filled
            for some, before in ((rows, r), (one, alone)):
                again = _tried(problem, some, 0.1 + NUDGE)
                changed &= _change(again, before).amax(1) <= least
        apart = bool(changed.any())
    if apart:
        raise SiteError(
            f"{where} at a point changes with the other points, which other clients "
            "may hold; write it point by point, without means, maxima or single "
            "entries such as row.x[0]."
        )
    if not r.requires_grad and _change(_tried(problem, rows, 0.3), r).amax() > 0:
        raise SiteError(
            f"{where} takes the values of u without a derivative, so that nothing "
            "would be trained. Leave out detach(), item(), float() and numpy(), and "
            "give torch.autograd.grad create_graph=True."
        )


def _whole(problem: "Problem", number: int) -> bool:
    """Whether a residual that cannot have a few points can have those of each client.

    As one that takes from outside what is known at its own points alone.
    """
    held = [shard.rows[number] for shard in problem.shards()]
    try:
        with warnings.catch_warnings(action="ignore"):
            for rows in held:
                if len(rows.points):
                    _tried(problem, rows, 0.1)
    except Exception:  # what is wrong is told of the few
        return False
    return True


def _change(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).detach().abs().nan_to_num(posinf=0.0)


def _tried(problem: "Problem", rows: Rows, noise: float) -> Tensor:
    """Residuals [q, n] near the start; their jets are on the graph of autograd.

    Points are so too where they will be in a run: where the residual is told to
    differentiate by itself, or derivatives of the network are taken so.
    """
    network, n = problem.network, len(rows.points)
    jets = network.jets
    live = problem.terms[rows.term].autograd or jets is None or jets.transform
    generator = Generator().manual_seed(0)
    theta = network.init(generator, torch.float64)
    draw = torch.randn(
        len(theta), generator=generator, dtype=torch.float64, device="cpu"
    )
    theta = (theta + noise * draw).requires_grad_()
    points, partner = (
        None if x is None else x.detach().clone().requires_grad_()
        for x in (rows.points, rows.partner)
    )
    assert points is not None
    known: dict[Channel, Tensor] = {}
    with torch.enable_grad():
        x = points if partner is None else torch.cat([points, partner])
        numbers = network.numbers(theta).expand(len(x), -1)
        nested = Nested(torch.cat([network(theta, x), numbers], 1), x)

        def read(channel: Channel) -> Tensor:
            if live:
                return nested(channel)
            if channel not in known:
                known[channel] = nested(channel).detach().requires_grad_()
            return known[channel]

        names = problem.coordinates, problem.outputs, problem.unknowns
        there = None if partner is None else Jet(lambda c: read(c)[n:], *names)
        u = Jet(lambda c: read(c)[:n], *names, there)
        own = (points, partner) if live else (rows.points, rows.partner)
        row = Row(own[0], rows.target, problem.coordinates, own[1])
        return evaluated(problem, rows.term, u, row)


def _explained(problem: "Problem", rows: Rows, error: Exception) -> SiteError:
    """An error of Python or torch in a residual, with what it was given.

    Its own text may hold data: it is a detail.
    """
    term, n = problem.terms[rows.term], len(rows.points)
    target = "" if rows.target is None else f", row.target {list(rows.target.shape)}"
    text = str(error)
    advice = [words for pattern, words in ADVICE if re.search(pattern, text)]
    sizes = re.search("must match|broadcast|shape", text)
    if sizes and rows.target is not None and rows.target.ndim == 2:
        columns = rows.target.shape[1]
        advice = [
            f"The target of the term has {columns} columns: read row.target[:, 0] to "
            f"row.target[:, {columns - 1}], and return as many residuals as there are "
            "equations."
        ]
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename and frame.filename not in HERE
    ]
    place = f" in {Path(own[-1].filename).name}, line {own[-1].lineno}" if own else ""
    return SiteError(
        f"The residual of term '{term.name}' of problem '{problem.name}' raises "
        f"{type(error).__name__}{place}. It was given u.value and coordinates of shape "
        f"[{n}]{target}. {' '.join(advice[:1])}".rstrip(),
        f"{type(error).__name__}: {text}",
    )
