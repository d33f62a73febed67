"""The round loop: broadcast, exchange, aggregate, record, until the rounds are done."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from logging import getLogger
from pathlib import Path

import torch
from torch import Generator

from fedsciml.analysis.metrics import gauss_newton_gap, measure, metrics
from fedsciml.federation import arguments
from fedsciml.federation.backend import Backend
from fedsciml.federation.checkpoint import Checkpoint
from fedsciml.federation.description import describe, plain
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.exchange import Federation, Spent
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.outcome import missing, outcome
from fedsciml.federation.participation import Rules
from fedsciml.federation.progress import Progress, shown
from fedsciml.federation.result import Result
from fedsciml.federation.review import exposed, review
from fedsciml.federation.saving import HASH, packed
from fedsciml.federation.traffic import Traffic
from fedsciml.methods import Method, payload, unique
from fedsciml.network.frequency import FREQUENCIES
from fedsciml.network.starts import automatic, starts
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.residual.fingerprint import fingerprint
from fedsciml.residual.start import unsuitable
from fedsciml.wrappers import fitted

log = getLogger(__name__)

HELD_OUT = 10
"""Every so many rounds the clients are asked for their residual at other points, and
for the loss of each term."""

LITTLE = 0.01
"""Part of all bytes that this may cost; else it is asked for in fewer rounds."""

CHECKPOINT_SECONDS = 2.0
"""At least so long between checkpoints: what a killed run has to do again."""

Callback = Callable[[list[Round]], object]
"""Is given the history; true ends the run."""


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
    progress: Progress = None,
    callbacks: Sequence[Callback] = (),
    stop: Callable[[list[Round]], bool] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    notes: dict[str, object] | None = None,
) -> Result:
    """``fedsciml.run`` without its report, for the floors below it.

    Arguments, what is returned and what is raised are told there.
    """
    arguments.check(
        *(problem, method, rounds, seed, backend, rules, device, dtype),
        *(out, progress, callbacks, stop),
    )
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
    device, method = torch.device(device), fitted(method, problem)
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
        "rules": plain(asdict(federation.rules)),
        "parameters": problem.network.size,
        **({"own_parameters": len(own.mine)} if (own := problem.personal) else {}),
        **(notes or {}),
        **clients.notes,
    }
    theta = problem.network.init(Generator().manual_seed(seed), dtype).to(device)
    latest, history = federation.start(theta, seed), list[Round]()
    whole = System(problem, problem.pooled(), device, dtype) if gn_gap else None
    kinds = unique(bound.kinds)
    warnings = method.advice(problem)
    if automatic(problem.network) and not bound.chooses:
        warnings.append(
            f"first='auto': {method.name} as it is here chooses no frequency and "
            f"starts with {FREQUENCIES[0]:g}. fipa and gauss_newton choose, with a "
            "policy that probes, and not with balance, a warm-up by another method, "
            "differential privacy or last layers alone. Give the frequency that such a "
            "run took, MLP(first=5) or --set first=5."
        )
    if not bound.silent:  # what they say of points is not paid for
        warnings = unsuitable(problem, problem.pooled()) + warnings
    for warning in warnings:
        log.warning("%s", warning)
    ended = list[str]()
    callbacks = [*callbacks, *([stop] if stop else [])]
    with ExitStack() as held:
        record = None
        if out is not None:
            configuration[HASH] = fingerprint(problem, seed, device)
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
            show = held.enter_context(
                shown(progress, f"{problem.name} {method.name}", rounds)
            )
            asked = _asked(callbacks, history)
            while latest.round < rounds and not asked:
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
                show(line)
                asked = _asked(callbacks, history)
            theta = latest.state.theta
            told, absent, parts = None, dict[str, str](), None
            if not bound.silent:
                told, absent = federation.loss(latest)
                parts, _ = federation.breakdown(latest)
            if told is not None:
                told += problem.penalty(theta)
            loss = history[-1].loss if told is None else told
            federation.check(latest.round, loss, theta)
            dropped = any(line.dropped for line in history)
            ended += review(problem, history, federation.terms if dropped else {})
            if bound.sums_only and not bound.silent:
                ended += exposed(history, bound.least, problem.total)
            if parts and parts.held_out.warning:
                ended.append(parts.held_out.warning)
            terms = problem.by_term(parts.terms) if parts else {}
            result = Result(
                problem,
                theta,
                loss,
                history,
                record.directory if record else None,
                absent,
                parts.held_out.known if parts else None,
                warnings + ended,
                terms,
                outcome(
                    history,
                    told if _alike(problem, absent, history) else None,
                    torch.finfo(dtype).eps,
                    terms,
                    asked,
                ),
                record.configuration if record else configuration,
                federation.personal(latest),
            )
            if record:
                record.save(latest)
                record.finish(packed(result))
        except BaseException as error:
            if record:
                record.ended(error, latest)
            raise
    for warning in ended:
        log.warning("%s", warning)
    return result


def _alike(
    problem: Problem, absent: Mapping[str, str], history: Sequence[Round]
) -> bool:
    """Whether the model's loss is of the same rows as those of the last round."""
    return not problem.normalised and absent.keys() == missing(history[-1])


def _asked(callbacks: Sequence[Callback], history: list[Round]) -> list[Callback]:
    """The callbacks that end the run after this history; all of them are called."""
    return [asked for asked in callbacks if history and asked(history)]


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
    problem = federation.problem
    personal = federation.personal(reached)
    found, parts, gap = measure(problem, theta, personal), None, None
    if not federation.method.silent and reached.round % _interval(reached) == 0:
        parts, traffic = federation.breakdown(reached)
        total = map(sum, zip(reached.traffic, traffic, strict=True))
        reached = reached._replace(traffic=Traffic(*total))
    before = last.state.point
    if info.first is not None:
        chosen = starts(problem.network, federation.seed, theta.dtype)
        before = chosen[info.first].to(theta.device)
    if whole is not None:
        after = reached.state.point
        whole = federation.method.pooling(whole, last.state, reached.memories)
        gap = gauss_newton_gap(
            whole, before, after - before, info.step, info.damping, info.cutoff
        )
    told = asdict(info)
    del told["refuted"]
    told["loss"] += problem.penalty(before)
    for name in ("losses", "gradients", "suspects"):
        told[name] = {str(m): value for m, value in told[name].items()}
    line = Round(
        reached.round,
        **told,
        relative_l2=found.relative_l2,
        mse=found.mse,
        errors=found.each if _several(found.each) else {},
        **reached.traffic._asdict(),
        seconds=reached.seconds,
        dropped=dropped,
        stale={str(m): age for m, age in stale.items()},
        joined={str(m): list(own) for m, own in joined.items()},
        held_out=parts.held_out.known if parts else None,
        terms=problem.by_term(parts.terms) if parts else {},
        metrics=metrics(problem, theta, personal),
        gn_gap=gap,
    )
    return line, reached


def _several(each: Mapping[str, float]) -> bool:
    """Whether there are several errors, one of which is known."""
    return len(each) > 1 and any(map(math.isfinite, each.values()))


def _interval(reached: Checkpoint) -> int:
    """Rounds from one question for the parts of the loss to the next.

    It costs each client that takes part the bytes of theta.
    """
    if reached.participation is None or not reached.traffic.sent:
        return HELD_OUT
    cost = payload(reached.state.theta) * len(reached.participation.members)
    a_round = reached.traffic.sent / reached.round
    return HELD_OUT * max(1, math.ceil(cost / a_round / LITTLE / HELD_OUT))
