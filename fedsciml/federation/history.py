"""The history of a run: a record of each round, and its line of JSON."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

RISES = frozenset({"accuracy"})
"""Metrics of which more is better, parts of 1."""


@dataclass(frozen=True)
class Round:
    """One round of a history.

    Seconds are those of clients, messages and server; that for measuring the error is
    not counted. The loss is that of the point from which the round steps, which may
    rise for some rounds; the errors are those of the model, which stays at the lowest
    loss meanwhile.

    Attributes:
        round: Its number, from 1.
        loss: At the round's start, summed over the clients.
        step: Length of the step taken, as a fraction of the full one; 0 if none was.
        damping: mu of the step, absolute; 0 for none.
        cutoff: Relative cut-off of singular values in the step; 0 for none.
        ranks: Rank of each client's sketch, in the order of ``losses``.
        losses: Of each client that took part, by its number.
        gradients: Norm of the gradient that each told of, likewise.
        suspects: Clients whose data seem to contradict the others', and how strongly:
            the factor by which what is left of the others' linear problem falls
            without it.
        against: Clients that alone kept the round from a step: without one of them,
            the others' loss falls at some candidate.
        epochs: Local epochs of each client.
        probes: Candidate steps whose losses the clients were asked for.
        relative_l2: Error of the model on the test points; NaN if not known.
        mse: Likewise, mean squared.
        errors: Of each output and unknown number, where there are several.
        bytes_up: Sent by the clients until the end of the round.
        bytes_down: Sent to them.
        messages: Messages both ways.
        seconds: Until the end of the round.
        dropped: Clients whose uploads were not merged, and why.
        stale: Clients for whom an earlier sketch stood in, and its age in rounds.
        joined: Clients whose points were not counted before, and how many of each term
            they have. The rows' weights changed with them, and the round began as a
            first one does, at the model of the last.
        basis: Directions of the basis that all parties share; None without one.
        outside: Part of the gradient that lies outside of it, in [0, 1].
        condition: Of the sum of whitened gramians; NaN if it is not finite.
        promised: Part of the loss that the best of the round's steps would remove if
            the residual were linear, in [0, 1]; None where no step is computed so.
        curve: Length of the bend t^2 C over that of the step t D, where the step was
            bent; None for a straight one.
        first: Frequency of the network's first layer that this round chose to start
            with; None where there was no choice.
        tried: The frequencies that it tried, and the part of the loss that each start
            promised to remove.
        epsilon: Privacy spent until the end of the round, of the run's (epsilon,
            delta); None in a run without noise.
        delta: Likewise.
        held_out: Loss of the model at points that are not trained on, summed over the
            clients, of the terms that have such points; None in rounds in which it was
            not asked for.
        terms: Loss of the model by the terms' names, summed over the clients that were
            there; empty in rounds in which it was not asked for, or one did not tell.
        metrics: Of the model on the problem's tests, by name, such as ``accuracy``;
            empty without tests.
        gn_gap: Distance of the step from the centralised Gauss-Newton step, relative;
            None where it was not asked for.
    """

    round: int
    loss: float
    step: float = 1.0
    damping: float = 0.0
    cutoff: float = 0.0
    ranks: tuple[int, ...] = ()
    epochs: int = 0
    probes: int = 0
    relative_l2: float = math.nan
    mse: float = math.nan
    errors: Mapping[str, float] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int = 0
    messages: int = 0
    seconds: float = 0.0
    losses: Mapping[str, float] = field(default_factory=dict)
    gradients: Mapping[str, float] = field(default_factory=dict)
    suspects: Mapping[str, float] = field(default_factory=dict)
    against: tuple[int, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, int] = field(default_factory=dict)
    joined: Mapping[str, Sequence[int]] = field(default_factory=dict)
    basis: int | None = None
    outside: float | None = None
    condition: float | None = None
    promised: float | None = None
    curve: float | None = None
    first: float | None = None
    tried: tuple[tuple[float, float], ...] = ()
    epsilon: float | None = None
    delta: float | None = None
    held_out: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    gn_gap: float | None = None

    __hash__ = None  # type: ignore[assignment]

    @property
    def sent(self) -> int:
        """Sent both ways."""
        return self.bytes_up + self.bytes_down

    def value(self, quantity: str) -> float:
        """A field or a metric, by its name, as a number; NaN where it is not known."""
        found = getattr(self, quantity, self.metrics.get(quantity))
        return float(found) if isinstance(found, (int, float)) else math.nan

    def line(self) -> str:
        """Strict JSON with a line break; null for what is not finite."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        told = {
            name: value
            for name, value in plain.items()
            if name == "ranks" or value not in (None, {}, ())
        }
        return json.dumps(_swapped(told, _finite), allow_nan=False) + "\n"

    @classmethod
    def read(cls, line: str | bytes) -> "Round":
        """The round that a line holds.

        Raises:
            ValueError: If it holds none, or what this version does not know.
        """
        found = json.loads(line)
        if not isinstance(found, dict):
            raise ValueError("not an object")
        unknown = sorted(found.keys() - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(
                f"it holds {', '.join(map(repr, unknown))}, of which this version of "
                "fedsciml does not know: it was written by a newer one, which can read "
                "it, or edited"
            )
        found = _swapped(found, _known)
        for f in fields(cls):
            value = found.get(f.name, 0)
            if f.type in (int, float) and type(value) not in (int, float):
                raise ValueError(f"'{f.name}' is {value!r}, not a number")
        for name in ("ranks", "against"):
            found[name] = tuple(found.get(name, ()))
        found["tried"] = tuple(map(tuple, found.get("tried", ())))
        try:
            return cls(**found)
        except TypeError as error:
            raise ValueError(f"no round: {error}") from error


def chained(digest: str, line: bytes) -> str:
    """Hash of a history from that of the lines before and its last line."""
    return hashlib.sha256(digest.encode() + line).hexdigest()


def _finite(value: Any) -> Any:  # noqa: ANN401
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _known(value: Any) -> Any:  # noqa: ANN401
    return math.nan if value is None else value


def _swapped(line: Mapping[str, Any], swap: Callable[[Any], Any]) -> dict[str, Any]:
    """The line with other values, also in the dictionaries in it."""
    return {
        key: _swapped(value, swap) if isinstance(value, dict) else swap(value)
        for key, value in line.items()
    }
