"""The round loop: broadcast, exchange, aggregate, record, until the rounds are done."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from fedsciml.backends import Backend
from fedsciml.backends.inprocess import InProcess
from fedsciml.jet import Jet
from fedsciml.method import Method, State
from fedsciml.metrics import errors, gauss_newton_gap
from fedsciml.problem import Problem
from fedsciml.record import Checkpoint, Line, Record
from fedsciml.residual import System

CHECKPOINT_SECONDS = 2.0
"""At least so long between checkpoints: what a killed run has to do again."""


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
        problem: What was trained.
        theta: The trained parameters, shape [p].
        loss: Loss at theta, summed over the clients.
        history: One line per round: ``round``, ``loss`` (at the round's start),
            ``relative_l2`` and ``mse`` (after it, on the test points), ``step``,
            ``damping``, ``cutoff``, ``ranks``, ``epochs``, ``gn_gap`` where asked for,
            and the running totals ``bytes_up``, ``bytes_down``, ``messages`` and
            ``seconds``. Seconds are those of clients, messages and server; measuring
            the error is not counted.
        out: The run directory, if the run was recorded.
    """

    problem: Problem
    theta: Tensor
    loss: float
    history: list[Line]
    out: Path | None = None

    def solution(self, points: Tensor) -> Jet:
        """The trained u at points [n, d]: ``.value``, ``.x``, ``.xx``, ..."""
        return self.problem.solution(self.theta, points)

    def errors(self) -> tuple[float, float]:
        """Relative L2 error and mean squared error on the test points."""
        return errors(self.problem, self.theta)

    def theta_sha256(self) -> str:
        """Hash of theta's bytes as little-endian float64."""
        array = self.theta.detach().cpu().double().numpy().astype("<f8")
        return hashlib.sha256(array.tobytes()).hexdigest()


def run(
    problem: Problem,
    method: Method,
    rounds: int = 50,
    seed: int = 0,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    backend: Backend | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    gn_gap: bool = False,
    progress: Callable[[Line], None] | None = None,
    notes: dict[str, object] | None = None,
) -> Result:
    """Train a problem with a method.

    The same arguments and number of threads give the same bytes of theta.

    Args:
        problem: What to train.
        method: How; see ``fedsciml.methods``.
        rounds: Number of communication rounds, or of steps of a centralised method.
        seed: Draws the start theta and whatever is random in the method.
        out: Directory to record the run in, new or empty; nothing is recorded without.
        resume: Continue the run that ``out`` holds; its configuration must agree.
        backend: Door to the clients; all in this process by default.
        device: Where to compute, ``cpu`` or ``cuda``.
        dtype: ``torch.float64`` or ``torch.float32``.
        gn_gap: Compare every step with the centralised Gauss-Newton step. This pools
            the clients' rows: for study, not for use.
        progress: Called with each line of the history as it comes.
        notes: Further configuration for the record.

    Raises:
        ValueError: If an argument is out of range, or the directory to resume holds a
            run of another configuration.
        FileExistsError: If ``out`` is not empty and ``resume`` is off.
        FloatingPointError: If theta or the loss stops being finite. The record then
            ends at the last good round and says why.
    """
    if rounds < 1:
        raise ValueError(f"A run needs at least 1 round, got {rounds}.")
    device = torch.device(device)
    door = backend or InProcess(problem, method, device, dtype)
    configuration = {
        "problem": problem.name,
        "problem_parameters": problem.parameters,
        "method": method.name,
        "method_options": describe(method),
        "clients": 1 if method.pooled else problem.clients,
        "rounds": rounds,
        "seed": seed,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "gn_gap": gn_gap,
        "backend": door.name,
        "parameters": problem.network.size,
        **(notes or {}),
    }
    record, found = None, None
    history: list[Line] = []
    if out is not None:
        opened = Record.resume if resume else Record.create
        record = opened(out, configuration)
        found = record.load(device)
        history = record.rewind(found.round if found else 0)
    if found is None:
        start = problem.network.init(Generator().manual_seed(seed), dtype).to(device)
        state, broadcast = method.init(start, seed)
        memories = list(door.memories)
        found = Checkpoint(0, state, broadcast, memories, door.traffic, 0.0)
    door.memories, door.traffic = list(found.memories), found.traffic
    whole = System(problem, problem.pooled(), device, dtype) if gn_gap else None

    # What to continue from if the run is interrupted: the last round that is complete
    # and in the history.
    latest, saved = found, time.monotonic()
    try:
        while latest.round < rounds:
            line, reached = _round(problem, method, door, latest, whole)
            history.append(line)
            if record:
                record.append(line)
            latest = reached
            if record and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                record.save(latest)
                saved = time.monotonic()
            if progress:
                progress(line)
    except BaseException as error:
        if record:
            record.save(latest)
            if not isinstance(error, KeyboardInterrupt):
                record.fail(error)
        raise
    theta = _theta(latest.state)
    if record:
        record.save(latest)
        record.finish(theta)
    shards = [problem.pooled()] if method.pooled else problem.shards()
    loss = sum(System(problem, s, device, dtype).loss(theta) for s in shards)
    return Result(problem, theta, loss, history, record.directory if record else None)


def _round(
    problem: Problem,
    method: Method,
    door: Backend,
    last: Checkpoint,
    whole: System | None,
) -> tuple[Line, Checkpoint]:
    """One round, from the last one's checkpoint to the next."""
    before, begin = _theta(last.state), time.perf_counter()
    broadcast = last.broadcast
    state, info = last.state, None
    while info is None:
        uploads = door.exchange(broadcast)
        state, broadcast, info = method.server(state, uploads)
    theta = _theta(state)
    if theta.is_cuda:
        torch.cuda.synchronize()
    seconds = last.seconds + time.perf_counter() - begin
    finite = bool(theta.isfinite().all())
    if not (finite and math.isfinite(info.loss)):
        raise FloatingPointError(
            f"In round {last.round + 1} of {method.name} on {problem.name} the loss is "
            f"{info.loss:.3e}, theta {'finite' if finite else 'not finite'} after it. "
            "Try a smaller learning rate or step, or more damping."
        )
    relative_l2, mse = errors(problem, theta)
    line: Line = {"round": last.round + 1, **asdict(info)}
    line |= {"relative_l2": relative_l2, "mse": mse}
    line |= {**door.traffic._asdict(), "seconds": seconds}
    if whole is not None:
        line["gn_gap"] = gauss_newton_gap(
            whole, before, theta - before, info.step, info.damping, info.cutoff
        )
    return line, Checkpoint(
        last.round + 1, state, broadcast, list(door.memories), door.traffic, seconds
    )


def describe(method: object) -> dict[str, object]:
    """A method's options as plain data, for the record; functions by their names."""
    if not is_dataclass(method) or isinstance(method, type):
        return {}
    named = asdict(method)
    options = {k: v for k, v in named.items() if k not in ("name", "pooled")}
    text = json.dumps(options, default=lambda v: getattr(v, "__qualname__", str(v)))
    plain: dict[str, object] = json.loads(text)
    return plain


def _theta(state: State) -> Tensor:
    theta: Tensor = state["theta"]
    return theta
