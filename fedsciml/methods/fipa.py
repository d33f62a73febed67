r"""FIPA: every direction of theta weighed by the clients' Fisher information.

Fisher-Informed Parameterwise Aggregation (Chang, He, Hao 2026, arXiv 2601.13608),

    theta += H^+ sum_m H_m delta_m,   H = sum_m H_m,   H_m = J_m^T J_m,

as a sum of small least-squares problems in square-root form: client m sends its sketch
B_m D ~ c_m (see ``sketch``) with c_m = B_m delta_m, the server stacks and solves them.
With the exact local Gauss-Newton step c_m = -U_m^T r_m, so delta_m is never formed, and
without truncation the result is the centralised Gauss-Newton (Levenberg-Marquardt)
step.

A round has two exchanges: sketches up; candidate steps down, losses and targets up.
With a policy that does not probe, the second is left out. Where a policy lets the loss
rise for a while, theta stays at the lowest loss known, and ``at`` is where it stands.
"""

from dataclasses import dataclass, field, fields
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor

from fedsciml import policies
from fedsciml.linalg.ranks import (
    AboveCutoff,
    Budget,
    Context,
    Predictive,
    Schedule,
    parse,
)
from fedsciml.linalg.sketch import Sketch, gather, truncate
from fedsciml.linalg.solve import Spectrum, spectrum
from fedsciml.methods._base import Field, Fields, Info, Message, Method, State
from fedsciml.methods._local import Local, Solver, train
from fedsciml.methods._sketching import (
    FIRST_RANK,
    Sketcher,
    generator,
    limit,
    limits,
    sketched,
)
from fedsciml.methods._uploads import number, tensor, total
from fedsciml.policies import MARGIN, Candidates, Policy, Probed
from fedsciml.policies.natural import Natural
from fedsciml.residual import System
from fedsciml.wrappers.balance import Balance, balanced

_POLICY = "policy."  # prefix of the policy's own state

_KEPT = ("seed", "top", "gradient", "limits")  # from round to round, as far as known


@dataclass(frozen=True)
class Fipa:
    """FIPA by square-root sketches with a step policy.

    Args:
        policy: How far to step.
        rank: How many singular vectors a client sends.
        sketch: How a client finds them: ``range``, ``svd`` or ``subspace``.
        local: Local training that gives delta_m; None for the exact Gauss-Newton step.
        name: As in records.
        pooled: Centralised: one client holds all rows.

    Raises:
        ValueError: In a round, if ``rank`` is a ``Budget`` too small for the clients,
            or ``Predictive`` and a step that the policy proposes has a cut-off or no
            damping.
    """

    policy: Policy[Any] = field(default_factory=Natural)
    rank: Schedule = field(default_factory=AboveCutoff)
    sketch: Sketcher = "range"
    local: Local | None = None
    name: str = "fipa"
    pooled: bool = False

    def init(self, theta: Tensor, seed: int) -> tuple[State, Message]:
        """theta, the policy's state, and what the clients' ranks depend on."""
        state: State = {"theta": theta, "at": theta, "seed": seed, "round": 1}
        state |= {"top": 0.0, "gradient": 0.0}  # of B and of the loss, as last known
        state |= _prefixed(self.policy.start(torch.finfo(theta.dtype).eps))
        return state, self._opening(state)

    def _opening(self, state: State) -> Message:
        """The first broadcast of a round."""
        opening = {k: state[k] for k in ("round", *_KEPT) if k in state}
        opening["theta"] = state["at"]
        eps = torch.finfo(tensor(state, "theta").dtype).eps
        return {**opening, "reach": max(self.policy.reach(self._record(state)), eps)}

    def client(
        self, system: System, broadcast: Message, memory: State
    ) -> tuple[Message, State]:
        """First exchange: the sketch. Second: losses and targets at the candidates."""
        if "steps" in broadcast:
            return _probe(system, broadcast, memory)
        theta = tensor(broadcast, "theta")
        round_, client = int(number(broadcast, "round")), system.shard.client
        found, cutoff, loss = sketched(
            system,
            theta,
            self.sketch,
            number(broadcast, "reach"),
            number(broadcast, "top"),
            int(number(memory, "rank")) if "rank" in memory else FIRST_RANK,
            generator(int(number(broadcast, "seed")), round_, client),
        )
        values, aim = found.singular_values, found.target
        if self.local is not None:
            delta, _, memory = train(system, theta, self.local, memory)
            aim = found.factor @ delta
        clients = system.problem.clients
        rows = self._rows(theta, clients)
        # Of the steps that the policy will propose; 0 in a first round, not known.
        least = number(broadcast, "reach") * number(broadcast, "top") / MARGIN
        context = Context(
            round_,
            cutoff,
            damping=least**2 / clients,
            gradient_norm=float(found.gradient.norm()),
            total_gradient_norm=number(broadcast, "gradient"),
            limit=limit(system, broadcast, rows),
        )
        rank = self.rank(values, aim, context)
        complete = int((values > cutoff).sum())
        found = truncate(found, rank)
        assert found.left is not None
        memory = {**memory, "rank": max(complete, 1)}
        upload: Message = {"factor": found.factor, "target": found.target, "loss": loss}
        if self.local is not None:
            upload["aim"] = aim[:rank]
        if rows:
            upload["spectrum"] = values[:rows]
        if self.policy.probes:
            memory |= {"left": found.left, "theta": theta}
        return upload, memory

    def _rows(self, theta: Tensor, clients: int) -> int:
        """Rows of all clients that a byte budget pays for; 0 without one."""
        if not isinstance(self.rank, Budget):
            return 0
        numbers = len(theta) + (1 if self.local is None else 2)  # target, aim
        return self.rank.rows(clients, numbers, theta.element_size(), fixed=8)

    def expects(self, broadcast: Message, size: int) -> Fields:
        """The sketch; then losses and targets at the candidates, which may overflow.

        With local training also the aim B delta; with a byte budget the spectrum.
        """
        if "steps" in broadcast:
            shape = tuple(len(tensor(broadcast, key)) for key in ("steps", "lengths"))
            return {
                "losses": Field(shape, finite=False, least=0),
                "targets": Field((*shape, "k"), finite=False),
            }
        expected = {
            "factor": Field(("k", size), scale=True),
            "target": Field(("k",), scale=True),
            "loss": Field(least=0),
        }
        if self.local is not None:
            expected["aim"] = Field(("k",), scale=True)
        if isinstance(self.rank, Budget):
            expected["spectrum"] = Field(("values",))
        return expected

    def server(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """Merge and solve the sketches and propose steps; then choose one."""
        if "losses" in uploads[0]:
            return self._step(state, uploads)
        sketches = [
            Sketch(tensor(upload, "factor"), tensor(upload, "target"))
            for upload in uploads
        ]
        whole = gather(sketches)
        problem = spectrum(whole)
        if whole.left is not None:
            problem = problem._replace(left=whole.left @ problem.left)
        state = {**state, "top": problem.top, "gradient": float(whole.gradient.norm())}
        state |= {"loss": total(uploads, "loss"), **problem._asdict()}
        state |= {"ranks": torch.tensor([s.rank for s in sketches], device="cpu")}
        aims = [tensor(upload, "aim") for upload in uploads if "aim" in upload]
        state |= limits(uploads, self._rows(tensor(state, "theta"), len(uploads)))
        # B delta where the clients trained, else the target itself.
        state["aim"] = torch.cat(aims) @ problem.left if aims else problem.c
        if not self.policy.probes:
            return self._step(state, [])
        candidates = self._candidates(problem, state)
        steps = candidates.steps(problem.basis)
        lengths = steps.new_tensor(candidates.lengths)
        return state, {"steps": steps, "lengths": lengths}, None

    def _candidates(self, problem: Spectrum, state: State) -> Candidates:
        aimed = problem._replace(c=tensor(state, "aim"))
        found = self.policy.propose(aimed, self._record(state))
        damped = all(found.dampings) and not any(found.cutoffs)
        if isinstance(self.rank, Predictive) and not damped:
            raise ValueError(
                "The rank schedule 'predictive' is for damped steps; this policy "
                "proposes one with a cut-off or without damping. Take another rank "
                "schedule, or another policy such as natural."
            )
        return found

    def _step(
        self, state: State, uploads: list[Message]
    ) -> tuple[State, Message, Info | None]:
        """Take the policy's choice; close the round."""
        problem = Spectrum(*(tensor(state, key) for key in Spectrum._fields))
        before, loss = self._record(state), number(state, "loss")
        candidates = self._candidates(problem, state)
        probed = None
        if uploads:
            losses = torch.stack([tensor(u, "losses") for u in uploads]).sum(0)
            targets = torch.cat([tensor(u, "targets") for u in uploads], dim=-1)
            probed = Probed(losses, targets @ problem.left)
        choice, after = self.policy.choose(problem, loss, candidates, probed, before)
        at, best = tensor(state, "at"), tensor(state, "theta")
        lowest = number(state, "lowest") if "lowest" in state else loss
        length = damping = cutoff = 0.0
        if choice is not None:
            length = candidates.lengths[choice.length]
            damping = candidates.dampings[choice.step]
            cutoff = candidates.cutoffs[choice.step]
            at = at + length * candidates.steps(problem.basis)[choice.step]
            there = inf  # not known
            if choice.correction is not None:
                at = at + choice.correction @ problem.basis
            elif probed is not None:
                there = float(probed.losses[choice.step, choice.length])
            if there <= lowest or there == inf:
                best, lowest = at, there
        ranks = tuple(int(rank) for rank in tensor(state, "ranks"))
        epochs = self.local.epochs if self.local else 1
        probes = 0 if probed is None else probed.losses.numel()
        info = Info(loss, length, damping, cutoff, ranks, epochs, probes)
        kept = {key: state[key] for key in _KEPT if key in state}
        round_ = int(number(state, "round")) + 1
        state = {**kept, "theta": best, "at": at, "round": round_, **_prefixed(after)}
        if lowest < inf:
            state["lowest"] = lowest
        return state, self._opening(state), info

    def renewed(self, state: State, broadcast: Message) -> tuple[State, Message]:
        """From theta, with what the policy knows but for losses.

        The lowest loss is forgotten, and the clients' limits of a byte budget, which
        are shared anew. The policy keeps its damping: from the first one it would take
        several rounds back.
        """
        del broadcast
        theta = tensor(state, "theta")
        fresh, _ = self.init(theta, int(number(state, "seed")))
        eps = torch.finfo(theta.dtype).eps
        policy = _prefixed(self.policy.renewed(self._record(state), eps))
        lost = {"at", "lowest", "limits"}
        after = {**fresh, **{k: v for k, v in state.items() if k not in lost}, **policy}
        return after, self._opening(after)

    def _record(self, state: State) -> Any:  # noqa: ANN401
        """The policy's record from the server's state."""
        for kind in self.policy.kinds:
            return kind(**{f.name: state.get(_POLICY + f.name) for f in fields(kind)})
        return None

    def stand_in(self, broadcast: Message, last: State) -> tuple[Message, State]:
        """An absent client's upload, as if its residual were linear in theta.

        From the last theta on, by D, the target is c - B D, and of the loss that part
        changes which the sketch sees, |c|^2/2. With local training the aim B delta
        becomes B (delta - D): the client still wants to get where it wanted to.

        Args:
            broadcast: What the client is asked.
            last: Its last sketch and the ``theta`` of that; or what was returned here.

        Returns:
            The upload; the sketch moved to the theta of the broadcast.
        """
        factor, target = tensor(last, "factor"), tensor(last, "target")
        unseen = number(last, "loss") - float(target @ target) / 2
        if "steps" in broadcast:
            steps, lengths = tensor(broadcast, "steps"), tensor(broadcast, "lengths")
            targets = target - lengths[:, None] * (steps @ factor.mT)[:, None]
            losses = (unseen + targets.square().sum(-1) / 2).clamp(min=0)
            return {"losses": losses, "targets": targets}, last
        theta = tensor(broadcast, "theta")
        moved = factor @ (theta - tensor(last, "theta"))
        upload = {k: last[k] for k in self.expects(broadcast, len(theta))}
        upload["target"] = target - moved
        upload["loss"] = max(unseen + float(upload["target"].square().sum()) / 2, 0.0)
        if "aim" in upload:
            upload["aim"] = upload["aim"] - moved
        return upload, {**upload, "theta": theta}


def _probe(system: System, broadcast: Message, memory: State) -> tuple[Message, State]:
    """Losses [T, S] and targets [T, S, k] at theta + t D for all steps and lengths."""
    theta, left = tensor(memory, "theta"), tensor(memory, "left")
    steps, lengths = tensor(broadcast, "steps"), tensor(broadcast, "lengths")
    candidates = theta + lengths[:, None] * steps[:, None]
    residuals = system.residuals(candidates.flatten(0, 1))
    losses = residuals.square().sum(1) / 2
    shape = (len(steps), len(lengths))
    upload: Message = {
        "losses": losses.view(shape),
        "targets": -(residuals @ left).view(*shape, -1),
    }
    return upload, {k: v for k, v in memory.items() if k not in ("theta", "left")}


def _prefixed(record: Any) -> State:  # noqa: ANN401
    """The policy's record, flat and without what is None."""
    names = [] if record is None else [f.name for f in fields(record)]
    found = {_POLICY + name: getattr(record, name) for name in names}
    return {key: value for key, value in found.items() if value is not None}


def make(
    rank: str = "cutoff",
    sketch: Sketcher = "range",
    policy: str = "natural",
    local: Literal["exact", Solver] = "exact",
    tau: int | None = None,
    learning_rate: float | None = None,
    local_damping: float | None = None,
    keep_state: bool = False,
    balance: Balance = "none",
) -> Method:
    """FIPA from plain options.

    Args:
        rank: Rank schedule: "cutoff" (singular values that matter in the round), a
            number, "energy:0.999", "published:1.0", "bytes:400000" (of the sketches of
            all clients in a round), or "predictive:0.1" (bound on the step's change).
        sketch: Range finder, full SVD, or subspace iteration with J v and J^T w alone.
        policy: How far to step, NAME or NAME:OPTION=VALUE,...; the modules of
            fedsciml.policies are the names, for example line_search:damping=1e-6.
        local: Local training: the exact Gauss-Newton step, or a local solver.
        tau: Local epochs of a local solver; 20 if not given.
        learning_rate: Of the local solvers adam and sgd; 1e-3 if not given.
        local_damping: Of the local solver gauss_newton; 1e-6 if not given.
        keep_state: Clients keep their solver's state over the rounds.
        balance: Scales rows for the step, so that all terms, or all clients, weigh the
            same at the start; the loss reported stays the problem's own.
    """
    training = _training(local, tau, learning_rate, local_damping, keep_state)
    return balanced(
        Fipa(policies.parse(policy), parse(rank), sketch, training), balance
    )


def _training(
    local: Literal["exact", Solver],
    tau: int | None,
    learning_rate: float | None,
    damping: float | None,
    keep_state: bool,
) -> Local | None:
    given = {"tau": tau, "learning_rate": learning_rate, "local_damping": damping}
    if local == "exact":
        unused = [key for key, value in given.items() if value is not None]
        _refuse("local training exact", unused + ["keep_state"] * keep_state)
        return None
    return Local(
        solver=local,
        epochs=20 if tau is None else tau,
        learning_rate=1e-3 if learning_rate is None else learning_rate,
        keep_state=keep_state,
        damping=1e-6 if damping is None else damping,
    )


def _refuse(what: str, unused: list[str]) -> None:
    if unused:
        raise ValueError(
            f"{', '.join(unused)} cannot be given with {what}, which makes no use of "
            "it; leave it out, or choose another."
        )
