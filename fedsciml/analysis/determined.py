r"""Which unknown numbers the rows determine, and which are mixed with what.

With J of all rows, A = J^T J + mu I is the precision of theta where each parameter has
a prior of its own, mu. The direction that an unknown e_i takes is x = A^-1 e_i, and its
variance splits into what rows and what the prior have to say:

    e_i^T A^-1 e_i = x^T A x = |J x|^2 + mu |x|^2.

Where most of it is the prior's, the rows hardly change along x: they do not determine
the unknown. With the network's parameters w, by the inverse of a block matrix,

    1 / (e_i^T A^-1 e_i) = mu + min over w of |J (e_i + w)|^2 + mu |w|^2,

so an unknown counts as not determined, too, where the network makes up for a change of
it; null directions of the network alone do not matter. Measured on the problems of the
suite and small ones: shares of at most 0.1 where an unknown is determined, from 0.8 on
where it is not, for mu from 1e-14 to 1e-8 of the largest eigenvalue.

The columns of unknowns are scaled to the length of all the others together, so that the
unit of a number does not matter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedsciml.linalg.sketch import Sketch
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.problem import Problem
from fedsciml.residual import System, Together

DAMPING = 1e-10
"""mu over the largest eigenvalue of J^T J."""

NETWORK = "the network"
"""Stands for the network's parameters among what an unknown is mixed with."""

SHARE = 0.5
"""Of the variance of an unknown, from which on the prior alone bounds it."""

PART = 0.1
"""Of a direction's own unknown, from which on another one takes part in it."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """A = J^T J + mu I, with the columns of unknowns scaled.

    Attributes:
        scales: What each column of J was multiplied by, shape [p]; 0 for none.
        whole: SVD of the scaled J.
        mu: Absolute.
    """

    scales: Tensor
    whole: Spectrum
    mu: float

    @property
    def filtered(self) -> Tensor:
        """1 / (s^2 + mu), shape [k]."""
        return 1 / (self.whole.s**2 + self.mu)

    @property
    def variance(self) -> Tensor:
        """Diagonal of A^-1 in the units of theta, shape [p]."""
        seen = self.whole.basis.square()
        unseen = 1 - seen.sum(0)  # or a rounding error of 1
        unseen[unseen < 10 * torch.finfo(unseen.dtype).eps] = 0
        return (self.filtered @ seen + unseen / self.mu) * self.scales**2

    def mixed(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Of the last parameters, by name, those that the rows do not determine.

        Each with the others that take part in its direction, maybe ``NETWORK``.
        """
        basis, count = self.whole.basis, len(self.scales) - len(names)
        ends = basis[:, count:]
        own = torch.eye(len(self.scales), dtype=basis.dtype, device=basis.device)
        own = own[count:]
        along = (ends * self.filtered.unsqueeze(1)).mT @ basis  # x = A^-1 e_i
        along += (own - ends.mT @ basis) / self.mu
        result: dict[str, tuple[str, ...]] = {}
        for k, x in enumerate(along):
            if self.mu * float(x @ x) < SHARE * float(x[count + k]):
                continue
            least = PART * float(x[count + k].abs())
            parts = zip(names, x[count:].abs().tolist(), strict=True)
            others = [name for name, part in parts if part > least and name != names[k]]
            takes_part = float(x[:count].norm()) > least
            result[names[k]] = (*others, *([NETWORK] if takes_part else []))
        return result


def posterior(sketch: Sketch, unknowns: int, damping: float = DAMPING) -> Posterior:
    """From the merged sketch of all rows, whose last columns are of unknowns.

    Raises:
        ValueError: If the damping is not positive.
    """
    if not damping > 0:
        raise ValueError(
            f"The damping, relative to the largest eigenvalue, must be positive, got "
            f"{damping}; try {DAMPING}."
        )
    factor, count = sketch.factor, sketch.factor.shape[1] - unknowns
    lengths = factor.norm(dim=0)
    # Where a parameter takes no part, its column is a rounding error of the others.
    seen = lengths > 100 * torch.finfo(factor.dtype).eps * lengths.norm()
    scales = seen.to(factor)
    most = float((lengths * scales)[:count].norm()) or 1.0
    scales[count:] *= most / torch.where(seen, lengths, 1.0)[count:]
    found = spectrum(sketch._replace(factor=factor * scales))
    return Posterior(scales, found, damping * found.top**2)


def undetermined(
    problem: Problem,
    theta: Tensor,
    damping: float = DAMPING,
    personal: Mapping[int, Tensor] | None = None,
) -> dict[str, tuple[str, ...]]:
    """The unknown numbers that the rows do not determine at the trained theta [p].

    Each with what it is mixed with: other unknowns, and ``NETWORK`` where the network's
    parameters make up for a change of it; nothing where no row depends on it. To first
    order: a number whose square alone matters counts as determined.

    A number of each client's own is there if it is not determined at one of them; what
    else is their own counts as the network.

    All rows are looked at in one process; sites send sketches, see ``laplace``.

    Args:
        problem: What was trained.
        theta: Shape [p].
        damping: mu over the largest eigenvalue of J^T J, positive.
        personal: Parameters of all clients' own, [p_f], by number, where they have any.

    Raises:
        ValueError: If theta is not of the problem, rows of it or clients' parameters
            are elsewhere, or the damping is not positive.
    """
    if problem.personal is not None and personal:
        return _beside(problem, theta, personal, damping)
    check_theta(problem, theta)
    if problem.partial:
        raise ValueError(
            f"Problem '{problem.name}' has rows that are elsewhere; let every client "
            "send laplace.evidence, and combine it: `mixed` tells what all the rows "
            "together do not determine."
        )
    if not problem.shared_unknowns:
        return {}
    at = System(problem, problem.pooled(), theta.device).linearise(theta.double())
    sketch = Sketch(at.jacobian(), -at.residual)
    names = problem.shared_unknowns
    return posterior(sketch, len(names), damping).mixed(names)


def _beside(
    problem: Problem, theta: Tensor, personal: Mapping[int, Tensor], damping: float
) -> dict[str, tuple[str, ...]]:
    """The same beside parameters of the clients' own, all of which are known."""
    whole = Together(System(problem, problem.pooled(), theta.device))
    at = whole.joined(theta.double(), stacked(problem, personal))
    linear = whole.linearise(at)
    shared, own = whole.split(torch.arange(whole.size, device="cpu"))
    names = list(problem.shared_unknowns)
    numbers = [*shared[len(shared) - len(names) :].tolist()]
    for mine in own[:, own.shape[1] - len(whole.view.names) :].tolist():
        names += whole.view.names
        numbers += mine
    if not names:
        return {}
    rest = sorted(set(range(whole.size)) - set(numbers))
    sketch = Sketch(linear.jacobian()[:, [*rest, *numbers]], -linear.residual)
    keys = {str(k): name for k, name in enumerate(names)}
    result: dict[str, tuple[str, ...]] = {}
    for key, others in posterior(sketch, len(names), damping).mixed([*keys]).items():
        name = keys[key]
        found = [*result.get(name, ()), *(keys.get(other, other) for other in others)]
        result[name] = tuple(dict.fromkeys(x for x in found if x != name))
    return result


def stacked(problem: Problem, personal: Mapping[int, Tensor]) -> Tensor:
    """Parameters of all clients' own, [S, p_f], float64.

    Raises:
        ValueError: If they have none, or those of some are not there.
    """
    if problem.personal is None or sorted(personal) != list(range(problem.clients)):
        raise ValueError(
            f"Give the parameters of each of the {problem.clients} clients of problem "
            f"'{problem.name}', result.personal; got those of {sorted(personal)}."
        )
    return torch.stack([personal[m] for m in range(problem.clients)]).double()


def check_theta(problem: Problem, theta: Tensor) -> None:
    """Raise ValueError if theta is not of the problem, or is not all there is."""
    if problem.personal is not None:
        raise ValueError(
            f"Each client of problem '{problem.name}' has parameters of its own, which "
            "theta does not tell. Take undetermined(problem, result.theta, "
            "personal=result.personal), or analysis.deviations(problem, result.theta, "
            "result.personal, data=...)."
        )
    if len(theta) != problem.network.size:
        raise ValueError(
            f"theta has {len(theta)} numbers, but problem '{problem.name}' has "
            f"{problem.network.size} parameters; give the theta that it was trained to."
        )
