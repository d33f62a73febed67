r"""Low-rank factors in the weight matrices of a network (LoRA).

Hu et al., ICLR 2022, arXiv 2106.09685. Each chosen weight W [out, in] becomes

    plain      W = W_0 + B A,                    A [r, in], B [out, r]
    diagonal   W = W_0 + B diag(m) A,            m [r]
    split      W = W_0 + B' diag(b) diag(a) A',  a, b [r]

where A' are the rows of A and B' the columns of B, each divided by its norm: directions
apart from magnitudes (FedLoRA-Optimizer, arXiv 2510.11274, splits each factor so). Only
the products a_j b_j count; how they are divided is left to those who train them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor

from fedsciml.network.base import Network
from fedsciml.network.factors import MAGNITUDES, Form, pulled, pushed, scaled
from fedsciml.network.jet import Layout
from fedsciml.network.low_rank_tape import FactorTape
from fedsciml.network.mapped import Mapped, MappedTape
from fedsciml.network.matrices import Layers, Matrix, matrices
from fedsciml.network.module import ModuleNetwork
from fedsciml.network.tape import Tape, Taped
from fedsciml.registry import suggestion


class Lora(Mapped):
    """A network with low-rank factors in its weights; ``lora`` makes it.

    Its parameters phi [q] list those of the base if they are trained, then A of every
    layer row by row, then B, then the magnitudes.

    Attributes:
        network: The base.
        form: How a change is made.
        matrices: The chosen weights.
        ranks: Of the change of each.
        theta: Parameters of the base to begin with, or to stay at, shape [p]; None for
            a start of the base's own.
        trained: Whether those of the base are parameters.
        zero: The group that is 0 at the start, or ``nothing``.
        groups: Numbers of the entries of phi by name: ``A``, ``B``; ``magnitudes``, or
            ``magnitudes_A`` and ``magnitudes_B``; and ``base`` if it is trained. Each
            entry is in one group.
    """

    def __init__(
        self,
        network: Network,
        chosen: Sequence[Matrix],
        rank: int,
        form: Form,
        theta: Tensor | None,
        trained: bool,
        zero: str,
        personal: Sequence[str],
    ) -> None:
        super().__init__(network)
        self.matrices, self.form, self.theta = tuple(chosen), form, theta
        self.ranks = [min(rank, m.out, m.into) for m in self.matrices]
        self.trained, self.zero = trained, zero
        pairs = list(zip(self.matrices, self.ranks, strict=True))
        self._shapes: dict[str, list[tuple[int, ...]]] = {
            "A": [(r, m.into) for m, r in pairs],
            "B": [(m.out, r) for m, r in pairs],
            **{name: [(r,) for r in self.ranks] for name in MAGNITUDES[form]},
        }
        self._sizes = [network.size if trained else 0]
        for shapes in self._shapes.values():
            self._sizes.append(sum(torch.Size(shape).numel() for shape in shapes))
        numbers = torch.arange(self.size, device="cpu").split(self._sizes)
        named = zip(("base", *self._shapes), numbers, strict=True)
        self.groups: Mapping[str, Tensor] = {k: v for k, v in named if len(v)}
        own = [n for name in personal for n in self.groups[name].tolist()]
        self._own = tuple(sorted(set(own)))

    @property
    def size(self) -> int:
        """Number of parameters q."""
        return sum(self._sizes)

    @property
    def own(self) -> Sequence[int]:
        """Numbers of the entries that are each client's own, sorted."""
        return self._own

    def description(self) -> Sequence[object]:
        """That of the base, what is made of it, and its parameters that are given."""
        own = [self.form, self.matrices, self.ranks, self.trained, self.zero]
        given = [] if self.theta is None else [self.theta]
        return [*super().description(), *own, self.own, *given]

    def init(self, generator: Generator, dtype: torch.dtype = torch.float64) -> Tensor:
        """Start parameters phi [q]; drawn in float64 whatever the dtype.

        Rows of A and columns of B have norms of about 1, magnitudes are 1; or all of a
        group is 0.
        """
        parts = list[Tensor]()
        if self.trained:
            start = self.theta
            parts.append(
                self.network.init(generator, dtype) if start is None else start
            )
        for name, shapes in self._shapes.items():
            for shape in shapes:
                like = torch.ones(shape, dtype=torch.float64, device="cpu")
                if name in ("A", "B"):
                    length = shape[1] if name == "A" else shape[0]
                    drawn = torch.randn(
                        shape,
                        generator=generator,
                        device=generator.device,
                        dtype=torch.float64,
                    )
                    like = drawn.cpu() / length**0.5
                parts.append((0 * like if name == self.zero else like).flatten())
        return torch.cat([part.to("cpu", dtype) for part in parts])

    def factors(self, phi: Tensor) -> list[tuple[Tensor, Tensor]]:
        """A [..., r, in] and B [..., out, r] of each chosen weight: W - W_0 = B A.

        They have their magnitudes; those of ``diagonal`` are in B.
        """
        return [scaled(self.form, parts) for parts in self.parts(phi)]

    def whole(self, phi: Tensor) -> Tensor:
        """The parameters of the base, theta [..., p], that phi [..., q] stands for."""
        if self.trained:
            base = phi[..., : self._sizes[0]]
        else:
            assert self.theta is not None  # seen to by ``lora``
            base = self.theta.to(phi).expand(*phi.shape[:-1], -1)
        parts, last = list[Tensor](), 0
        for matrix, (a, b) in zip(self.matrices, self.factors(phi), strict=True):
            changed = base[..., matrix.where] + (b @ a).flatten(-2)
            parts += [base[..., last : matrix.start], changed]
            last = matrix.where.stop
        return torch.cat([*parts, base[..., last:]], -1)

    def __call__(self, theta: Tensor, x: Tensor) -> Tensor:
        """Values [n, c] at points [n, d], on the autograd graph."""
        base, network = self.theta, self.network
        if self.trained or base is None or not isinstance(network, ModuleNetwork):
            return super().__call__(theta, x)
        # Not by ``whole``: points that have their own phi would have their own base.
        base = base.to(theta)
        pairs = zip(self.matrices, self.factors(theta), strict=True)
        weights = {m.start: base[m.where].view(m[1:]) + b @ a for m, (a, b) in pairs}
        return network.changed(base, weights, x)

    def tangent(self, phi: Tensor, v: Tensor) -> Tensor:
        """dtheta/dphi v, shape [..., p], at phi [q] along v [..., q]."""
        result = v.new_zeros(*v.shape[:-1], self.network.size)
        if self.trained:
            result += v[..., : self._sizes[0]]
        triples = zip(self.matrices, self.parts(phi), self.parts(v), strict=True)
        for matrix, parts, along in triples:
            (a, b), (da, db) = scaled(self.form, parts), pushed(self.form, parts, along)
            result[..., matrix.where] += (db @ a + b @ da).flatten(-2)
        return result

    def cotangent(self, phi: Tensor, rows: Tensor) -> Tensor:
        """Rows [..., p] times dtheta/dphi, shape [..., q], at phi [q]."""
        found = list[tuple[Tensor, ...]]()
        for matrix, parts in zip(self.matrices, self.parts(phi), strict=True):
            bar = rows[..., matrix.where].unflatten(-1, matrix[1:])
            a, b = scaled(self.form, parts)
            found.append(pulled(self.form, parts, b.mT @ bar, bar @ a.mT))
        before = rows.shape[:-1]
        flat = [part.reshape(*before, -1) for part in _by_group(found)]
        return torch.cat([*([rows] if self.trained else []), *flat], -1)

    def forward(
        self,
        theta: Tensor,
        inputs: Any,  # noqa: ANN401
        layout: Layout,
        keep: bool = True,
    ) -> Taped:
        """As of any ``Mapped``; rows of a fixed ``MLP`` are made of the factors."""
        found = super().forward(theta, inputs, layout, keep)
        assert isinstance(found, MappedTape)
        if self.trained or not isinstance(found.tape, Tape):
            return found
        return FactorTape(self, theta, found.tape, found.output)

    def joined(self, found: Sequence[Sequence[Tensor]], out: Tensor) -> None:
        """Write gradients by the parts of each weight [n, ...] into ``out`` [n, q]."""
        start = 0
        for part in _by_group(found):
            flat = part.flatten(1)
            out[:, start : start + flat.shape[1]] = flat
            start += flat.shape[1]

    def parts(self, phi: Tensor) -> list[tuple[Tensor, ...]]:
        """A, B and magnitudes of each chosen weight, views of phi [..., q]."""
        _, *groups = phi.split(self._sizes, -1)
        several = list[list[Tensor]]()
        for group, shapes in zip(groups, self._shapes.values(), strict=True):
            flat = group.split([torch.Size(shape).numel() for shape in shapes], -1)
            pairs = zip(flat, shapes, strict=True)
            several.append([part.unflatten(-1, shape) for part, shape in pairs])
        return list(zip(*several, strict=True))


def _by_group(found: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Parts of each weight in the order of phi: A of all, B of all, magnitudes."""
    return [part for group in zip(*found, strict=True) for part in group]


def lora(
    network: Network,
    rank: int,
    layers: Layers = "all",
    *,
    base: Literal["fixed", "trained"] = "fixed",
    form: Form = "diagonal",
    personal: str | Sequence[str] = (),
    theta: Tensor | None = None,
    zero: str | None = None,
) -> Lora:
    """A network whose weight matrices are W_0 and a change of low rank.

        found = run(problem, methods.load("fedavg"), rounds=50)
        small = lora(problem.network, 2, theta=found.theta, personal="magnitudes")
        tuned = run(replace(problem, network=small), methods.load("fipa"))

    Args:
        network: An ``MLP``; a ``ConvNet``, of which the dense layers have such weights;
            or a ``ModuleNetwork``, of which every ``torch.nn.Linear`` has. Of several
            networks side by side write ``Parallel([lora(...), ...])``.
        rank: Of every change, at least 1; clipped to the smaller side of its matrix.
        layers: ``all``; ``classifier``, the last one; or their numbers from 0, negative
            ones from the end, or the names of linear modules.
        base: ``fixed``: all other parameters stay. ``trained``: they are trained too.
        form: ``plain``: W_0 + B A; ``diagonal``: W_0 + B diag(m) A; ``split``:
            directions apart from magnitudes, W_0 + B' diag(b) diag(a) A', with the
            columns of B and the rows of A over their norms.
        personal: Names of ``groups`` that belong to each client: ``magnitudes``, or
            ``B`` as in FedSA-LoRA (ICLR 2025), in which A alone is averaged.
        theta: Parameters of the network to begin with, shape [p], as a run gives them.
            None for the network's own start; where that differs from seed to seed, the
            base must be trained.
        zero: The group that is zero at the start, so that this is the base network:
            ``B``, or a group of magnitudes; ``nothing`` for none. None for ``B``, of
            ``split`` for ``magnitudes_A``.

    Raises:
        ValueError: If there is no such layer, form or group, the rank is below 1, theta
            has another shape, or a base that is held fixed is not given.
    """
    if form not in MAGNITUDES:
        raise ValueError(
            f"There is no form '{form}' of LoRA; choose one of "
            f"{', '.join(MAGNITUDES)}.{suggestion(str(form), MAGNITUDES)}"
        )
    if base not in get_args(Literal["fixed", "trained"]):
        raise ValueError(f"The base is 'fixed' or 'trained'; got {base!r}.")
    if rank < 1:
        raise ValueError(f"The rank of a change is at least 1, got {rank}.")
    chosen = matrices(network, layers)
    if theta is not None and list(theta.shape) != [network.size]:
        raise ValueError(
            f"The network has {network.size} parameters, but theta has shape "
            f"{list(theta.shape)}. Give the theta of a run of this network."
        )
    if theta is None and base == "fixed":
        theta = _start(network)
    trained = base == "trained"
    names = ["A", "B", *MAGNITUDES[form], *(["base"] if trained else [])]
    own = [personal] if isinstance(personal, str) else list(personal)
    if not set(own) <= set(names):
        raise ValueError(
            f"Of form {form} the groups {', '.join(names)} may be personal; got "
            f"{personal!r}."
        )
    zeros = [*MAGNITUDES[form], "nothing"] + (["A", "B"] if form != "split" else [])
    if zero is None:
        zero = "magnitudes_A" if form == "split" else "B"
    if zero not in zeros:
        raise ValueError(
            f"Of form {form} {', '.join(zeros)} can be zero at the start; got {zero!r}."
        )
    theta = None if theta is None else theta.detach().clone()
    return Lora(network, chosen, rank, form, theta, trained, zero, own)


def _start(network: Network) -> Tensor:
    """Where the network starts, whatever the seed."""
    theta, other = (
        network.init(Generator().manual_seed(s), torch.float64) for s in (0, 1)
    )
    if not torch.equal(theta, other):
        raise ValueError(
            "A base that is held fixed must be one that all parties know, and this "
            "network starts elsewhere for every seed. Give theta, as a run found it: "
            "lora(network, rank, theta=result.theta); or train the base with the rest: "
            "base='trained'."
        )
    return theta
