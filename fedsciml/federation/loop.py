"""The round loop: broadcast, exchange, aggregate, record, until the rounds are done."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import partial
from logging import getLogger
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from fedsciml.analysis.determined import undetermined
from fedsciml.analysis.metrics import errors, gauss_newton_gap, measure
from fedsciml.federation.backend import Backend
from fedsciml.federation.checkpoint import Checkpoint
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.exchange import Federation, Spent
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.participation import Rules
from fedsciml.federation.review import exposed, review
from fedsciml.federation.traffic import Traffic
from fedsciml.methods import Method, payload, unique
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.fingerprint import fingerprint
from fedsciml.residual.start import unsuitable

log = getLogger(__name__)

HELD_OUT = 10
"""Every so many rounds the clients are asked for their residual at other points."""

LITTLE = 0.01
"""Part of all bytes that this may cost; else it is asked for in fewer rounds."""

CHECKPOINT_SECONDS = 2.0
"""At least so long between checkpoints: what a killed run has to do again."""

SHOWN = 5
"""Unknown numbers in what is printed of a result."""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A finished run; printed, what is known of it in three lines.

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
    """

    problem: Problem
    theta: Tensor
    loss: float
    history: list[Round]
    out: Path | None = None
    absent: dict[str, str] = field(default_factory=dict)
    held_out: float | None = None
    warnings: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        rounds, last = len(self.history), self.history[-1]
        error = "error not known, there is no reference"
        if not math.isnan(last.mse):
            error = f"relative L2 error {last.relative_l2:.2e}, MSE {last.mse:.2e}"
        numbers = [f"{name} = {value:.6g}" for name, value in self.unknowns().items()]
        found = ", ".join([*numbers[:SHOWN], *["..."][: len(numbers) > SHOWN]])
        where = f"recorded in {self.out}" if self.out else "not recorded: out=None"
        if self.warnings:
            where += f"; {len(self.warnings)} warning(s), see .warnings"
        return (
            f"{self.problem.name}: loss {self.loss:.2e} after {rounds} rounds of "
            f"{self.problem.clients} client(s), {len(self.theta)} parameters\n"
            f"{error}{f'; {found}' if found else ''}\n"
            f"{where}"
        )

    def solution(self, points: Tensor) -> Jet:
        """The trained u at points [n, d]: ``.value``, ``.x``, ``.xx``, ..."""
        return self.problem.solution(self.theta, points)

    def errors(self) -> tuple[float, float]:
        """Relative L2 error and mean squared error on the test points."""
        return errors(self.problem, self.theta)

    def unknowns(self) -> dict[str, float]:
        """The unknown numbers found, by name."""
        return self.problem.numbers(self.theta)

    def undetermined(self) -> dict[str, tuple[str, ...]]:
        """Unknown numbers that the rows do not determine, and what they are mixed with.

        See ``fedsciml.analysis.undetermined``.
        """
        return undetermined(self.problem, self.theta)

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
    rules: Rules | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float64,
    gn_gap: bool = False,
    progress: Callable[[Round], None] | None = None,
    stop: Callable[[list[Round]], bool] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    notes: dict[str, object] | None = None,
) -> Result:
    """Train a problem with a method.

    The same arguments and number of threads give the same bytes of theta.

    Args:
        problem: What to train.
        method: How; see ``fedsciml.methods``.
        rounds: Number of communication rounds, or of steps of a centralised method.
        seed: Draws the start theta and whatever is random in the method; at least 0
            and below 2^63.
        out: Directory to record the run in, new or empty; nothing is recorded without.
        resume: Continue the run that ``out`` holds, also a finished one to more
            rounds; its configuration must agree, but for ``rounds`` and ``rules``.
        backend: Way to the clients; all in this process by default.
        rules: Which rounds count when clients fail; by default all clients are needed.
        device: Where to compute, ``cpu`` or ``cuda``.
        dtype: ``torch.float64`` or ``torch.float32``.
        gn_gap: Compare every step with the centralised Gauss-Newton step. This pools
            the clients' rows: for study, not for use.
        progress: Called with each line of the history as it comes.
        stop: Called with the history between rounds; the run ends early where it says
            yes, also when it is resumed.
        clock: Gives the history's ``seconds``; ``time.process_time`` counts the work of
            all clients, whatever else the machine does.
        notes: Further configuration for the record.

    Raises:
        ValueError: If an argument is out of range or the rules do not suit, or the
            directory to resume holds a run of another configuration or problem, of more
            rounds, or one that is damaged.
        BlockingIOError: If another run is writing to ``out``.
        TooFewClients: If clients fail and fewer than the rules ask for are left.
        FileExistsError: If ``out`` is not empty and ``resume`` is off.
        FloatingPointError: If theta or the loss stops being finite. The record then
            ends at the last good round and says why. Whatever ends a recorded run
            before its last round carries the note "Record kept in DIRECTORY.", how to
            continue, and what could not be saved.
    """
    if rounds < 1:
        raise ValueError(f"A run needs at least 1 round, got {rounds}.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"The seed must be at least 0 and below 2^63, got {seed}.")
    if gn_gap and problem.partial:
        raise ValueError(
            "gn_gap compares with the step on all rows, but here are not those of all "
            "clients; leave it out."
        )
    if gn_gap and method.silent:
        raise ValueError(
            "gn_gap tells of all rows what differential privacy is to hide; leave out "
            "one of them."
        )
    device = torch.device(device)
    bound = method.bound(problem, device, dtype)
    clients = (backend or InProcess()).connect(problem, bound, device, dtype)
    federation = Federation(problem, bound, clients, rules or Rules(), seed=seed)
    configuration = {
        "problem": problem.name,
        "problem_parameters": problem.parameters,
        "method": method.name,
        "method_options": describe(bound),
        "clients": 1 if method.pooled else problem.clients,
        "rounds": rounds,
        "seed": seed,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "gn_gap": gn_gap,
        "backend": clients.name,
        "rules": _plain(asdict(federation.rules)),
        "parameters": problem.network.size,
        **(notes or {}),
        **clients.notes,
    }
    theta = problem.network.init(Generator().manual_seed(seed), dtype).to(device)
    latest, history = federation.start(theta, seed), list[Round]()
    whole = System(problem, problem.pooled(), device, dtype) if gn_gap else None
    kinds = unique(bound.kinds)
    warnings = method.advice(problem)
    if not bound.silent:  # what they say of points is not paid for
        warnings = unsuitable(problem, problem.pooled()) + warnings
    for warning in warnings:
        log.warning("%s", warning)
    ended = list[str]()
    with ExitStack() as held:
        record = None
        if out is not None:
            configuration["problem_sha256"] = fingerprint(problem, seed, device)
            record = held.enter_context(RunDirectory.opened(out, configuration, resume))
            finished = record.finished
            latest = record.load((*kinds, *clients.kinds), device) or latest
            latest = latest._replace(state=bound.again(latest.state))
            history = _rewound(record, latest.round, rounds)
            if resume and not finished:
                state = bound.interrupted(latest.state)
                if state is not latest.state:
                    latest = latest._replace(state=state)
                    record.save(latest)
        # ``latest`` is what to continue from if the run is interrupted: the last round
        # that is complete and in the history.
        saved = time.monotonic()
        try:
            while latest.round < rounds and not (stop and history and stop(history)):
                try:
                    line, reached = _round(federation, latest, whole, clock)
                except Spent as spent:
                    if not history:
                        raise ValueError(str(spent)) from spent
                    latest = latest._replace(state=spent.since.state)
                    ended.append(str(spent))
                    break
                history.append(line)
                if record:
                    record.append(line)
                latest = reached
                # What is lost of a private run is spent all the same.
                due = clients.remote or bound.silent
                if record and (due or time.monotonic() - saved >= CHECKPOINT_SECONDS):
                    record.save(latest)
                    saved = time.monotonic()
                if progress:
                    progress(line)
            theta = latest.state.theta
            loss, absent, held_out = history[-1].loss, dict[str, str](), None
            if not bound.silent:
                told, absent = federation.loss(latest)
                loss = loss if told is None else told
                held_out, _ = federation.held_out(latest)
            federation.check(latest.round, loss, theta)
            if record:
                record.save(latest)
                record.finish(theta)
        except BaseException as error:
            if record:
                record.ended(error, latest)
            raise
    directory = record.directory if record else None
    dropped = any(line.dropped for line in history)
    ended += review(problem, history, federation.terms if dropped else {})
    if bound.sums_only and not bound.silent:
        ended += exposed(history, bound.least, problem.total)
    if held_out and held_out.warning:
        ended.append(held_out.warning)
    for warning in ended:
        log.warning("%s", warning)
    warnings += ended
    fresh = held_out.known if held_out else None
    return Result(problem, theta, loss, history, directory, absent, fresh, warnings)


def _rewound(record: RunDirectory, done: int, rounds: int) -> list[Round]:
    """The history of the rounds that are done, of a record that goes on from there.

    Raises:
        ValueError: If more are done than asked for, or the history is damaged.
    """
    if done > rounds:
        raise ValueError(
            f"The run in {record.directory} has done {done} rounds, and {rounds} were "
            f"asked for: ask for {done} to have it as it is, or more to continue it, "
            "or start another run in a new directory."
        )
    history = record.rewind(done)
    if done < rounds:
        record.aim(rounds)
    return history


def _round(
    federation: Federation,
    last: Checkpoint,
    whole: System | None,
    clock: Callable[[], float],
) -> tuple[Round, Checkpoint]:
    """One round, from the last one's checkpoint to the next."""
    begin = clock()
    reached, info, dropped, stale, joined = federation.advance(last)
    theta = reached.state.theta
    if theta.is_cuda:
        torch.cuda.synchronize()
    reached = reached._replace(seconds=last.seconds + clock() - begin)
    found, held_out, gap = measure(federation.problem, theta), None, None
    if not federation.method.silent and reached.round % _interval(reached) == 0:
        held_out, traffic = federation.held_out(reached)
        total = map(sum, zip(reached.traffic, traffic, strict=True))
        reached = reached._replace(traffic=Traffic(*total))
    if whole is not None:
        before, after = last.state.point, reached.state.point
        gap = gauss_newton_gap(
            whole, before, after - before, info.step, info.damping, info.cutoff
        )
    told = asdict(info)
    del told["refuted"]
    for name in ("losses", "gradients", "suspects"):
        told[name] = {str(m): value for m, value in told[name].items()}
    line = Round(
        reached.round,
        **told,
        relative_l2=found.relative_l2,
        mse=found.mse,
        errors=found.each if len(found.each) > 1 else {},
        **reached.traffic._asdict(),
        seconds=reached.seconds,
        dropped=dropped,
        stale={str(m): age for m, age in stale.items()},
        joined={str(m): list(own) for m, own in joined.items()},
        held_out=held_out.known if held_out else None,
        gn_gap=gap,
    )
    return line, reached


def _interval(reached: Checkpoint) -> int:
    """Rounds from one question for the held-out residual to the next.

    It costs each client that takes part the bytes of theta.
    """
    if reached.participation is None or not reached.traffic.sent:
        return HELD_OUT
    cost = payload(reached.state.theta) * len(reached.participation.members)
    a_round = reached.traffic.sent / reached.round
    return HELD_OUT * max(1, math.ceil(cost / a_round / LITTLE / HELD_OUT))


_TOLD = ("name", "pooled")
"""What a record has elsewhere."""


def describe(method: object) -> dict[str, object]:
    """A method's options as plain data, for the record.

    Functions and classes are there by name, other objects as their type's name and
    their fields, but for those that are made from the problem: not in the ``repr``.
    """
    if not is_dataclass(method) or isinstance(method, type):
        return {}
    names = [f.name for f in fields(method) if f.repr and f.name not in _TOLD]
    return {name: _plain(getattr(method, name)) for name in names}


def _plain(value: object) -> object:
    """A value as JSON knows it, the same in every process."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v) for v in value), key=repr)
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    if hasattr(value, "_asdict"):  # a named tuple
        content = value._asdict()
    elif isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    elif is_dataclass(value):
        content = {f.name: getattr(value, f.name) for f in fields(value) if f.repr}
    elif isinstance(value, partial):
        content = {"function": value.func, "args": value.args, **value.keywords}
    elif hasattr(value, "__dict__"):
        content = vars(value)
    else:
        content = {}
    return {
        "type": type(value).__qualname__,
        **{key: _plain(v) for key, v in content.items()},
    }
