"""JAX beside this library, each on the same core, in turn.

JAX lives in an environment of its own, which ``make peer`` makes; the project does not
depend on it. ``Peer`` starts a program there and speaks to it over pipes.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from experiments._pipes import Head, receive, send
from experiments._record import ROOT
from experiments._turns import threads

PYTHON = ROOT / ".peer" / "bin" / "python"
"""Of the environment that has JAX."""

SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "JAX_ENABLE_X64": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "NPROC": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "8000000000",
}
"""One thread; and memory in huge pages, as this library takes it for its own Jacobians,
that is kept from call to call: without, 5200 rows and 2241 parameters take JAX 1.4
times as long."""


class Part(NamedTuple):
    """Rows of a term: weight * (sign * Laplacian - target), or of values for sign 0.

    Attributes:
        sign: See above.
        weight: Of the rows.
        points: Shape [n, d].
        target: Shape [n].
    """

    sign: float
    weight: float
    points: Tensor
    target: Tensor


@contextmanager
def one_core() -> Iterator[None]:
    """This process and those that it starts on one core, with one thread of torch."""
    if not hasattr(os, "sched_setaffinity"):  # Linux alone has it
        with threads(1):
            yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        with threads(1):
            yield
    finally:
        os.sched_setaffinity(0, before)


class Peer:
    """JAX on the rows of a problem; a context manager, within ``one_core``.

    Args:
        widths: Of a tanh network.
        parts: The terms.
        python: Of its environment.

    Attributes:
        version: Of JAX.
        ways: Names of its ways to the residual with its Jacobian.
        steps: Names of its steps.
    """

    def __init__(
        self, widths: Sequence[int], parts: Sequence[Part], python: Path = PYTHON
    ) -> None:
        scripts = Path(__file__).parents[1]
        self._process = subprocess.Popen(
            [python, "-m", "experiments._jax_peer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **SETTINGS, "PYTHONPATH": str(scripts)},
        )
        head = {
            "widths": list(widths),
            "signs": [part.sign for part in parts],
            "weights": [part.weight for part in parts],
        }
        arrays = [a.numpy() for part in parts for a in (part.points, part.target)]
        answer, _ = self._asked(head, arrays)
        self.version: str = answer["version"]
        self.ways: list[str] = answer["ways"]
        self.steps: list[str] = answer["steps"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the program."""
        self._ended()

    def _ended(self) -> int:
        """Its status, when it has heard that there are no more requests."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()
        return self._process.wait()

    def seconds(self, way: str, theta: Tensor, *more: float) -> float:
        """CPU seconds of a call."""
        head, _ = self._called(way, theta, more, tell=False)
        return float(head["seconds"])

    def found(self, way: str, theta: Tensor, *more: float) -> list[Tensor]:
        """What a call returns."""
        _, arrays = self._called(way, theta, more, tell=True)
        return [torch.from_numpy(array.copy()) for array in arrays]

    def _called(
        self, way: str, theta: Tensor, more: Sequence[float], tell: bool
    ) -> tuple[Head, list[np.ndarray]]:
        arrays = [theta.numpy(), *map(np.asarray, more)]
        return self._asked({"way": way, "tell": tell}, arrays)

    def _asked(
        self, head: Head, arrays: Sequence[np.ndarray]
    ) -> tuple[Head, list[np.ndarray]]:
        """An answer.

        Raises:
            RuntimeError: If the program has ended; it has said why.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            send(stdin, head, arrays)
            return receive(stdout)
        except (BrokenPipeError, EOFError) as error:
            raise RuntimeError(
                f"The program with JAX ended, status {self._ended()}; what it wrote is "
                "above."
            ) from error


def check() -> None:
    """Raise ValueError if there is no environment with JAX."""
    if sys.platform == "win32" or not PYTHON.is_file():
        raise ValueError(
            f"There is no {PYTHON.relative_to(ROOT)}, which has JAX; `make peer` makes "
            "it."
        )
