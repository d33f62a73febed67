"""A finished run: the model, its history, what is known of it."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from fedsciml.analysis.determined import undetermined
from fedsciml.analysis.metrics import errors
from fedsciml.analysis.personal import unknowns
from fedsciml.federation.files import replace_file
from fedsciml.federation.history import Round
from fedsciml.federation.outcome import UNKNOWN, Outcome
from fedsciml.federation.saving import packed
from fedsciml.network import Solution
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem

SHOWN = 5
"""Unknown numbers in what is printed of a result."""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A finished run; printed, what is known of it in four lines.

    Attributes:
        problem: What was trained.
        theta: The trained parameters, shape [p].
        loss: Loss at theta, summed over the clients but those in ``absent``; where they
            do not tell it, under differential privacy, that of the last round.
        history: One record per round.
        out: The run directory, if the run was recorded.
        absent: Clients that did not tell their loss in the end, and why.
        held_out: Loss at points that are not trained on, of the terms that have such
            points; None if a client did not tell it.
        warnings: Why the result may be wrong though the run was completed.
        terms: Loss by the terms' names, of the clients that were there in the end; it
            adds up to theirs. Empty where one did not tell it, as under differential
            privacy.
        outcome: Whether the run has converged, still falls or has stalled.
        configuration: What was run, as in run.json.
        personal: Parameters of each client's own, [p_f], by its number, where clients
            are in this process; empty where they are elsewhere, or have none.
    """

    problem: Problem
    theta: Tensor
    loss: float
    history: list[Round]
    out: Path | None = None
    absent: dict[str, str] = field(default_factory=dict)
    held_out: float | None = None
    warnings: list[str] = field(default_factory=list)
    terms: dict[str, float] = field(default_factory=dict)
    outcome: Outcome = UNKNOWN
    configuration: Mapping[str, object] = field(default_factory=dict)
    personal: Mapping[int, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        rounds, last = len(self.history), self.history[-1]
        view = self.problem.personal
        error = "error not known, there is no reference"
        if view and not self.personal and self.problem.reference is not None:
            error = "error not known, clients have parameters of their own elsewhere"
        if not math.isnan(last.mse):
            error = f"relative L2 error {last.relative_l2:.2e}, MSE {last.mse:.2e}"
        elif last.metrics:
            told = (f"{name} {value:.4g}" for name, value in last.metrics.items())
            error = f"on the tests {', '.join(told)}"
        numbers = [f"{name} = {value:.6g}" for name, value in self.unknowns().items()]
        found = ", ".join([*numbers[:SHOWN], *["..."][: len(numbers) > SHOWN]])
        own = f" and {len(view.mine)} of each client's own" if view else ""
        where = f"recorded in {self.out}" if self.out else "not recorded: out=None"
        if self.warnings:
            where += f"; {len(self.warnings)} warning(s), see .warnings"
        return (
            f"{self.problem.name}: loss {self.loss:.2e} after {rounds} rounds of "
            f"{self.problem.clients} client(s), {len(self.theta)} parameters{own}\n"
            f"{error}{f'; {found}' if found else ''}\n"
            f"{self.outcome}\n"
            f"{where}"
        )

    def solution(self, points: Tensor, client: int | None = None) -> Jet:
        """The trained u at points [n, d]: ``.value``, ``.x``, ``.xx``, ...

        Args:
            points: Shape [n, d].
            client: Whose u, where clients have parameters of their own.

        Raises:
            ValueError: If clients have, and it is not said whose, or what is that
                client's own is not known here.
        """
        return self.problem.solution(self.theta, points, self._own(client))

    def module(self, client: int | None = None) -> Solution:
        """The trained u as a ``torch.nn.Module``, in the problem's own units.

        It takes points [n, d] and returns values [n, c], see ``network.Solution``.

        Args:
            client: As for ``solution``.

        Raises:
            ValueError: As ``solution``.
        """
        network = self.problem.at(self._own(client))
        return Solution(network, self.theta, len(self.problem.coordinates))

    def _own(self, client: int | None) -> Tensor | None:
        """A client's own parameters; None without a client."""
        if client is None:
            return None
        if client not in self.personal:
            known = ", ".join(map(str, self.personal)) or "none"
            raise ValueError(
                f"Of client {client} no parameters of its own are known here (of "
                f"clients: {known}). Sites keep theirs; where nothing is personal "
                "leave client out."
            )
        return self.personal[client]

    def save(self, path: Path | str, personal: bool = True) -> None:
        """Write the result to one safetensors file; ``fedsciml.load`` reads it.

        A file that is there is replaced, as a whole.

        Args:
            path: The file.
            personal: Whether parameters of the clients' own go along, where they are
                known here.

        Raises:
            OSError: If it cannot be written, or there is no such folder.
            ValueError: If the problem's parameters are nothing that JSON knows.
        """
        path = Path(path)
        if path.is_dir():
            raise IsADirectoryError(
                f"{path} is a directory; a result is saved as a file: "
                f"result.save('{path / 'model.safetensors'}')."
            )
        if not path.parent.is_dir():
            raise FileNotFoundError(
                f"There is no directory {path.parent} to save {path.name} in; make it."
            )
        replace_file(path, packed(self if personal else replace(self, personal={})))

    def errors(self) -> tuple[float, float]:
        """Relative L2 error and mean squared error on the test points."""
        return errors(self.problem, self.theta, self.personal)

    def unknowns(self, client: int | None = None) -> dict[str, float]:
        """The unknown numbers found, by name.

        Args:
            client: Whose own go along; None for the shared ones alone.
        """
        own = self._own(client)
        if own is None:
            return self.problem.numbers(self.theta)
        return unknowns(self.problem, self.theta, own)

    def undetermined(self) -> dict[str, tuple[str, ...]]:
        """Unknown numbers that the rows do not determine, and what they are mixed with.

        See ``fedsciml.analysis.undetermined``.
        """
        return undetermined(self.problem, self.theta, personal=self.personal)

    def theta_sha256(self) -> str:
        """Hash of theta's bytes as little-endian float64."""
        array = self.theta.detach().cpu().double().numpy().astype("<f8")
        return hashlib.sha256(array.tobytes()).hexdigest()
