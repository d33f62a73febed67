"""What a client tells of a shared basis must agree with what it told before.

All of it follows from its rows at theta: check numbers from the basis, products from
the gradient, the gradient in the span from rows or sums, and the part outside from what
the products say of it. Each law holds for every honest client, to rounding.
"""

import torch
from torch import Tensor

from fedsciml.linalg.basis import Basis
from fedsciml.methods._anchored import TINY, Anchored, Beyond, Told, draws
from fedsciml.methods._laws import Inconsistent
from fedsciml.methods._sketching import generator

AGREE = {torch.float64: 1e-10, torch.float32: 1e-3}
"""Difference of check numbers, relative, up to which two bases are the same. Rounding
makes 1e-15 of it; a step realised in a basis that differs by so much is that step to
four digits and better."""

ROUNDED = {torch.float64: 1e-7, torch.float32: 1e-2}
"""Part of the products by which rounding may make them differ; 1e-13 was seen."""


def differs(basis: Basis, ask: Anchored, check: Tensor) -> ValueError | None:
    """Why a client's basis is another one."""
    own = basis.check(generator(ask.seed, ask.round, -1))
    size = float(basis.triangle.norm()) * basis.size**0.5
    differ = float((check - own).abs().max()) / max(size, TINY)
    if differ <= AGREE[own.dtype]:
        return None
    return ValueError(
        f"its basis is not that of the server, the check numbers differ by "
        f"{differ:.1e}: it computes another Jacobian at the anchors. Give it the same "
        "problem, versions and dtype"
    )


def unlike(
    ask: Anchored,
    told: Told,
    gradient: Tensor,
    missed: float,
    unit: float,
    summand: float = 0.0,
) -> str | None:
    """How the products contradict the gradient [p] in the span, if they do.

    Args:
        ask: The server's.
        told: The client's answer.
        gradient: As its rows or sums have it.
        missed: Singular value below which these are not complete.
        unit: To which they were rounded.
        summand: About how long the gradients are of which this may be the sum, |J| |r|:
            where they cancel, at a minimum, the rounding of each is left.
    """
    inside = told.products[0] - told.products[1]
    miss = float((inside - draws(ask) @ gradient).abs().max())
    size = float(told.products.abs().max()) + float(gradient.norm())
    allowed = max(ROUNDED[gradient.dtype], 1e3 * unit) * size
    allowed += 1e3 * max(unit, torch.finfo(gradient.dtype).eps) * summand
    if missed:
        allowed += 10 * missed * (2 * told.loss) ** 0.5
    if miss <= allowed:
        return None
    return (
        f"products of its gradient differ by {miss:.1e} from those of its rows or "
        f"sums, with at most {allowed:.1e} for rounding"
    )


def another(
    ask: Anchored, basis: Basis, told: Told, answer: Beyond, unit: float, summand: float
) -> ValueError | None:
    """Why an outside gradient is not the one whose products the client told.

    Arguments as for ``unlike``.
    """
    size, dtype = float(told.products.abs().max()), answer.gradient.dtype
    allowed = max(ROUNDED[dtype], 1e3 * unit) * size
    allowed += 1e3 * max(unit, torch.finfo(dtype).eps) * summand
    miss = float((draws(ask) @ answer.gradient - told.products[1]).abs().max())
    within = float(basis.coordinates(answer.gradient).norm())
    if max(miss, within) <= allowed:
        return None
    return Inconsistent(
        f"the part of its gradient outside of the basis differs by {miss:.1e} from its "
        f"products, and {within:.1e} of it lie inside"
    )
