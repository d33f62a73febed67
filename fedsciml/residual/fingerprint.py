"""Hashes of a problem: to resume a run, and for parties to agree on."""

import hashlib

import torch
from torch import Generator, Tensor

from fedsciml.problem import Problem, Shard
from fedsciml.problem.probes import probes
from fedsciml.residual.system import System

PROBES = 7
"""Points at which ``agreement`` evaluates the residuals."""


def fingerprint(
    problem: Problem,
    seed: int = 0,
    device: torch.device | str = "cpu",
    at: Tensor | None = None,
) -> str:
    """Hash of a whole problem, so that a run is not resumed on another.

    Covers coordinates and outputs, the network, every client's points, targets and row
    weights, the test points and reference, and the loss at the start theta, or ``at``
    another one [p], which depends on the residuals' code. Numbers count in float32 and
    the loss to 6 digits: the last digits of a float64 differ from machine to machine.
    """
    parts = _public(problem)
    for shard in problem.shards():
        parts += _contents(shard)
    parts += [problem.test_points, problem.reference]
    if problem.test_owners is not None:
        parts.append(problem.test_owners)
    if problem.testing is not None:
        parts += _contents(problem.testing.pooled())
    if at is None:
        at = problem.network.init(Generator().manual_seed(seed), torch.float64)
    return _hash(
        [*parts, _loss(System(problem, problem.pooled(), device), at.to(device))]
    )


def agreement(problem: Problem, at: Tensor | None = None) -> str:
    """Hash of what all parties must have in common, without any data.

    Covers coordinates, outputs, network, number of clients, the terms with their
    weights, the problem's parameters but for ``data``, which names a party's own files,
    and the residuals' code: their sum of squares at a start theta, or ``at`` another
    one [p], and at points that are drawn for this, with targets of 1 where those are
    data.
    """
    parts = _public(problem)
    parts += [problem.name, problem.clients]
    parts += sorted((k, v) for k, v in problem.parameters.items() if k != "data")
    parts += [(term.name, term.weight) for term in problem.terms]
    generator = Generator().manual_seed(0)
    shard = Shard(0, probes(problem, generator, PROBES), 1.0)
    if at is None:
        at = problem.network.init(generator, torch.float64)
    return _hash([*parts, _loss(System(problem, shard), at)])


def _loss(system: System, at: Tensor) -> str:
    """To as many digits as all machines agree in; or that it cannot be of this size."""
    if len(at) != system.size:
        return f"{len(at)} parameters"
    return f"{system.loss(at):.5e}"


def contents(shard: Shard) -> str:
    """Hash of a party's rows, to be kept secret: by it a guess could be checked."""
    return _hash(_contents(shard))


def _contents(shard: Shard) -> list[object]:
    """Points, targets and row weights."""
    parts: list[object] = []
    for rows in shard.rows:
        parts += [shard.client, rows.term, f"{rows.weight:.5e}"]
        parts += [rows.points, rows.target]
        if rows.partner is not None:
            parts.append(rows.partner)
    return parts


def _public(problem: Problem) -> list[object]:
    """Coordinates, outputs and network."""
    network = problem.network
    parts: list[object] = [tuple(problem.coordinates), tuple(problem.outputs)]
    if not problem.squares:
        parts += [repr(term.likelihood) for term in problem.terms]
    if problem.prior:
        parts.append(float(problem.prior))
    if problem.normalised:
        parts += [term.normalise for term in problem.terms]
    return [*parts, type(network).__qualname__, network.size, *network.description()]


def _hash(parts: list[object]) -> str:
    total = hashlib.sha256()

    def add(*parts: object) -> None:
        for part in parts:
            if isinstance(part, Tensor):
                plain = part.detach().cpu().float().numpy().astype("<f4") + 0.0
                add(part.shape, plain.tobytes())
            else:
                data = part if isinstance(part, bytes) else repr(part).encode()
                total.update(len(data).to_bytes(8, "little") + data)

    add(*parts)
    return total.hexdigest()
