"""What a run was asked for, as a record that makes it again."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from fedsciml import methods, problems, wrappers
from fedsciml.methods import Method
from fedsciml.problem import Problem

AROUND = (
    "resample",
    "train",
    "personal",
    "warmup",
    "compress",
    "secure",
    "groups",
    "dp",
)
"""What ``wrappers.load`` puts around a method, beside its options."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is run; all but rounds and workers is ``command`` in run.json.

    Args:
        problem: Name of the problem, or the absolute path of its file.
        parameters: Arguments of the problem's ``make``.
        method: Name of the method, or the path of its file.
        options: The method's options.
        warmup: Another method for the first K0 rounds.
        train: Only the last layer is trained, all dense ones, or so many; after a
            warm-up, which trains all.
        personal: How local training moves parameters of each client's own, where a
            problem has some: with the shared ones together, as is usual, or alternate,
            its own first, by as many epochs or K.
        rounds: Communication rounds.
        seed: Seed of the start parameters.
        device: Where to compute.
        dtype: Precision.
        gn_gap: Record how far each step is from the centralised Gauss-Newton step.
        threads: CPU threads, which the last digits depend on; all cores by default.
        workers: Clients that compute at a time, each with so many threads; the digits
            do not depend on it.
        resample: Clients draw their points again every so many rounds, more of them
            where the residual is large; power and offset are 1 if not given.
        compress: Clients send sketches and updates in float32 or bfloat16, with
            feedback as changes since the round before.
        secure: The server is told sums over at least three clients and of none its own.
        groups: With secure: groups of clients, of which it is told a sum each.
        dp: Differential privacy of each point, for the whole run: sums alone, with
            noise; also releases=K, residual, follow, gramian, told.
        backend: What carries the messages: function calls, or Flower's records between
            a ServerApp and ClientApps in this process.
    """

    problem: str
    parameters: dict[str, Any]
    method: str = "fipa"
    options: dict[str, Any]
    warmup: str | None = None
    train: str | None = None
    personal: str | None = None
    rounds: int = 50
    seed: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float64", "float32"] = "float64"
    gn_gap: bool = False
    threads: int
    workers: int = 1
    resample: str | None = None
    compress: str = "none"
    secure: bool = False
    groups: int = 1
    dp: str | None = None
    backend: Literal["inprocess", "flower-local"] = "inprocess"

    __hash__ = None  # type: ignore[assignment]

    @property
    def label(self) -> str:
        """Problem and method, for people and directories."""
        return f"{Path(self.problem).stem}-{Path(self.method).stem}"

    @property
    def record(self) -> dict[str, Any]:
        """For run.json; the rounds may become more, and the workers any."""
        own = ("rounds", "workers")
        return {key: value for key, value in asdict(self).items() if key not in own}

    def check(self) -> None:
        """Refuse what this machine cannot do.

        Raises:
            ValueError: If a number is out of range, or there is no such device.
        """
        if self.rounds < 1:
            raise ValueError(f"--rounds must be at least 1, got {self.rounds}.")
        if not 0 <= self.seed < 2**63:
            raise ValueError(
                f"--seed must be at least 0 and below 2^63, got {self.seed}."
            )
        if self.threads < 1:
            raise ValueError(f"--threads must be at least 1, got {self.threads}.")
        if self.threads > 1024:  # more than it can, OpenMP ends the process
            raise ValueError(f"--threads must be at most 1024, got {self.threads}.")
        if self.workers < 1:
            raise ValueError(f"--workers must be at least 1, got {self.workers}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("This machine has no CUDA device; use --device cpu.")

    def made(self, moved: str | None = None) -> tuple[Problem, Method]:
        """The problem and the method in its wrappers.

        Args:
            moved: Where the problem's file is now, if it was moved.

        Raises:
            ValueError: If they cannot be made.
        """
        pooled = methods.load(self.method).pooled
        if self.parameters.get("clients", 1) != 1 and pooled:
            raise ValueError(
                f"Method {self.method} is centralised: all rows are in one place, and "
                f"--clients {self.parameters['clients']} says nothing. Leave it out, "
                "or take a federated method."
            )
        problem = problems.load(moved or self.problem, **self.parameters)
        around = {key: getattr(self, key) for key in AROUND}
        method = wrappers.load(self.method, **around, **self.options)
        if self.resample is not None:  # complain now if no point can be drawn again
            wrappers.chosen(problem, everywhere=method.pooled)
        if self.warmup is not None and wrappers.first(self.warmup)[1] >= self.rounds:
            raise ValueError(
                f"--warmup {self.warmup} takes all of the {self.rounds} rounds, so "
                f"{self.method} would never begin. Give it fewer than --rounds."
            )
        return problem, method
