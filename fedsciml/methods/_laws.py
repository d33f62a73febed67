r"""Laws that the answers of every honest client obey, in any unit, with any weights.

A client's residual is r, its sketch B D ~ c with B = U^T J and c = -U^T r, where the
columns of U are orthonormal. Norms of B and c have units, and clients with boundary
rows have others than those without: nothing follows from comparing them. But of one
client's numbers

    |c|^2 <= 2 loss,      |c(theta + t D)|^2 <= 2 loss(theta + t D),

as a projection is not longer than what it projects, and next to theta, where the
residual is linear,

    c(theta + t D)    =  c - t B D,
    loss(theta + t D) =  loss - t c . B D + t^2 |B D|^2 / 2      but for t s |D| |r|,

where s is the largest singular value that the sketch leaves out. Second order and
rounding bound how well that holds: with the absolute values of all entries, both are
about

    eps (| |B| |theta| | + |c|)      at      | |J| |t D| | = sqrt(eps) | |J| |theta| |,

the change of the target where the last digits of theta change. Where a network has
kinks, rows may sit on one (biases begin at zero, so the origin does): there it only
follows that next to theta nothing has changed by more than such a step can change.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from fedsciml.linalg.solve import Spectrum
from fedsciml.policies import resolved
from fedsciml.problem import Problem

EXCESS = 1e4
"""Rounding units by which |c|^2 may exceed 2 loss; 15 were measured."""

ROUNDING = {torch.float64: 2e-11, torch.float32: 1e-3}
"""Times | |B| |theta| | + |c| by which a target next to theta may miss: 1e5 and 1e4
rounding units. Mostly below 10 were measured; 3e4 where raw coordinates saturate all
neurons and second derivatives are what their last digits leave."""

SHARE = 1e-2
"""Part of the predicted change by which what is found next to theta may miss."""


AGREE = 1e-13
"""Part of |c|^2 left of all clients' linear problem, up to which their data agree."""

MANY = 1000
"""Rows of all sketches above which this is not looked for: it takes too long."""

ALONE = 1e3
"""Factor by which a client whose data contradict the others' stands out."""


class Inconsistent(ValueError):
    """Answers of a client that contradict each other: not all of them are true."""


def bounded(problem: Problem) -> bool:
    """Whether |r|^2 <= 2 loss of all rows, so that |c|^2 <= 2 loss."""
    return all(term.likelihood.bounded for term in problem.terms)


def exact(problem: Problem) -> bool:
    """Whether, next to theta, the residual changes as the sketch says."""
    return all(term.likelihood.exact for term in problem.terms)


def near_length(theta: Tensor, step: Tensor, lengths: Tensor) -> float:
    """t <= 1 at which theta + t D is next to theta.

    Args:
        theta: Shape [p].
        step: D, shape [p].
        lengths: Of the columns of J, all clients' rows, shape [p]: they tell what a
            parameter's unit is.
    """
    small = torch.finfo(theta.dtype).eps ** 0.5
    norm, size = float((lengths * step).norm()), float((lengths * theta).norm())
    moved = float(step.norm()) / len(step) ** 0.5
    if not (0 < norm < math.inf and 0 < moved < math.inf):
        return 0.0
    # Where outputs are large, so are the last weights: what is little for them turns
    # the weights before upside down.
    usual = float(theta.abs().median()) or float(theta.abs().mean()) or 1.0
    return min(1.0, small * (size or 1.0) / norm, small * usual / moved)


def target_violation(
    targets: Tensor, losses: Tensor, bounded: bool = True
) -> str | None:
    """Which law targets and losses at the same points break, if any.

    Besides that of the norm: a loss is not a number only where the residual is not,
    and finite only where the residual is; then so is the target.

    Args:
        targets: Shape [N, k].
        losses: Shape [N], not negative.
        bounded: Whether the law of the norm holds.
    """
    found, losses = targets.double(), losses.double()
    if not targets.shape[-1]:
        return None
    known = found.isfinite().all(-1)
    if bool((known & losses.isnan()).any()):
        return "a loss is not a number, but the target is"
    if bool((losses.isfinite() & ~known).any()):
        return "a loss is finite, but the target is not"
    if not bounded:
        return None
    some = known & losses.isfinite()
    squares, twice = found[some].square().sum(-1), 2 * losses[some]
    over = squares > twice * (1 + EXCESS * torch.finfo(targets.dtype).eps)
    if bool(over.any()):
        i = int(over.nonzero()[0])
        return (
            f"its target has the squared norm {float(squares[i]):.2e}, more than twice "
            f"its loss, {float(twice[i]):.2e}"
        )
    return None


def near_violation(
    theta: Tensor,
    factor: Tensor,
    target: Tensor,
    loss: float,
    step: Tensor,
    found: tuple[Tensor, float],
    top: float,
    cutoff: float,
    unit: float,
    kinked: bool = False,
    slope: float | None = None,
    squares: bool = True,
) -> str | None:
    """What of a client's answer next to theta contradicts its sketch, if anything.

    Args:
        theta: Where the sketch was made, shape [p].
        factor: B, shape [k, p].
        target: c, shape [k].
        loss: At theta.
        step: t D, shape [p].
        found: Target, shape [k], and loss at theta + t D.
        top: Largest singular value of all clients' problem, or of this one's.
        cutoff: Singular value down to which the sketch is complete.
        unit: To which the numbers of B were rounded on their way, relative.
        kinked: Whether the residual may be linear on either side of theta only.
        slope: J^T r . t D where the client told of J^T r, not of a sketch of it alone.
        squares: Whether the loss is 1/2 |r|^2: it then tells how long r is, and so by
            how much the loss may change outside of the sketch.
    """
    there, loss_there = found
    if not (math.isfinite(loss_there) and bool(there.isfinite().all())):
        return "next to theta its loss or target is not finite"
    eps, moved = torch.finfo(theta.dtype).eps, factor @ step
    length, gain, size = (float(x.norm()) for x in (step, moved, target))
    rounded = unit * float(factor.norm()) * length
    terms = float((factor.abs() @ theta.abs()).norm())
    # Not below what is rounding for the whole: where a client's rows are tiny, as of
    # neurons that are saturated, they are differences of numbers that are not.
    terms = max(terms, top * float(theta.norm()))
    noise = ROUNDING[theta.dtype] * (terms + size)
    share = SHARE
    if kinked:
        share, noise = 1.0, noise + eps**0.5 * terms
    miss = float((there - (target - moved)).norm())
    allowed = share * gain + rounded + noise
    if miss > allowed:
        return (
            f"next to theta its target misses what its sketch predicts by {miss:.1e}, "
            f"with at most {allowed:.1e} for rounding and curvature"
        )
    if slope is None and not (squares and (len(target) or cutoff < math.inf)):
        return None
    rows = factor.norm(dim=1).tolist()
    left_out = max(cutoff, min(rows)) if rows else min(cutoff, top)
    outside = left_out * length + noise + rounded
    residual = math.sqrt(2 * min(loss, loss_there)) if slope is None else size
    allowed = share * size * gain + outside * (residual + outside)
    allowed += ROUNDING[theta.dtype] * min(loss, loss_there)
    change = gain**2 / 2 - float(target @ moved)
    if slope is not None:
        change = gain**2 / 2 + slope
        allowed += share * abs(slope) + unit * float(factor.norm()) * size * length
    miss = abs(loss_there - loss - change)
    if not miss <= allowed:
        return (
            f"its loss is {loss:.6g}, but {loss_there:.6g} next to theta, where its "
            f"sketch predicts a change of {change:.1e}"
        )
    return None


def contradicting(problem: Spectrum, targets: Mapping[int, Tensor]) -> dict[int, float]:
    """The client whose data contradict the others', if one stands out.

    All clients' linear problem is solved together, then without each of them in turn.
    What is left of the *others'* problem falls by a factor where one is left out: by
    next to nothing for honest clients whose data agree, by all for one with other data.
    It is no proof: the one client in whose part the solution is hardest stands out
    likewise.

    Args:
        problem: The merged problem B D ~ c.
        targets: c_m by client, in the order of the rows of B.

    Returns:
        The factor by client; empty if all agree, or none stands out by ``ALONE``.
    """
    if len(targets) < 3 or len(problem.left) > MANY:
        return {}
    whole = torch.cat(list(targets.values()))
    owner = torch.cat(
        [
            target.new_full((len(target),), i)
            for i, target in enumerate(targets.values())
        ]
    )
    rows, size = problem.left * problem.s, float(whole @ whole)
    eps = torch.finfo(whole.dtype).eps
    together = _left_over(problem.left, problem.s, whole)
    if float(together @ together) <= max(AGREE, (100 * eps) ** 2) * size:
        return {}
    floor, found = (100 * eps) ** 2 * size, dict[int, float]()
    for i, m in enumerate(targets):
        others = owner != i
        left, s, _ = torch.linalg.svd(rows[others], full_matrices=False)
        without = _left_over(left, s, whole[others])
        before = float(together[others] @ together[others])
        found[m] = (before + floor) / (float(without @ without) + floor)
    second, first = sorted(found.values())[-2:]
    alone = first >= ALONE * max(second, 1.0)
    return {m: x for m, x in found.items() if alone and x == first}


def _left_over(left: Tensor, s: Tensor, target: Tensor) -> Tensor:
    """c - B D for the D that makes it shortest, B = left diag(s) V^T."""
    left = left[:, s > resolved(1e-11, torch.finfo(s.dtype).eps) * s[:1]]
    for _ in range(2):  # once more for what rounding left
        target = target - left @ (left.mT @ target)
    return target
