r"""FIPA: every direction of theta weighed by the clients' Fisher information.

Fisher-Informed Parameterwise Aggregation (Chang, He, Hao 2026, arXiv 2601.13608),

    theta += H^+ sum_m H_m delta_m,   H = sum_m H_m,   H_m = J_m^T J_m,

as a sum of small least-squares problems in square-root form: client m sends its sketch
B_m D ~ c_m (see ``sketch``) with c_m = B_m delta_m, the server stacks and solves them.
With the exact local Gauss-Newton step c_m = -U_m^T r_m, so delta_m is never formed, and
without truncation the result is the centralised Gauss-Newton (Levenberg-Marquardt)
step.
"""

# _fipa has the rounds with each client's own sketch, _shared those in a basis that all
# parties share; this module makes either from plain options.

from typing import Literal

from fedsciml import policies
from fedsciml.linalg.ranks import AboveCutoff, parse
from fedsciml.methods._fipa import Fipa
from fedsciml.methods._local import Local, Solver
from fedsciml.methods._shared import FEW, LAZY, Shared, Sharing, Upload
from fedsciml.methods._sketching import Sketcher
from fedsciml.methods._slopes import Slopes


def make(
    rank: str | None = None,
    sketch: Sketcher = "range",
    policy: str | None = None,
    local: Literal["exact", Solver] = "exact",
    tau: int | None = None,
    learning_rate: float | None = None,
    local_damping: float | None = None,
    keep_state: bool = False,
    basis: Literal["own", "shared"] | None = None,
    upload: Upload = "rows",
    gradient: bool | None = None,
    every: int | None = None,
    history: int | None = None,
) -> Fipa:
    """FIPA from plain options.

    Args:
        rank: Rank schedule: "cutoff" (singular values that matter in the round), a
            number, "energy:0.999", "published:1.0", "bytes:400000" (of the sketches of
            all clients in a round), or "predictive:0.1" (bound on the step's change).
            None stands for cutoff, and for 10 with gradients beside the sketches.
        sketch: Range finder, full SVD, or subspace iteration with J v and J^T w alone.
        policy: How far to step, NAME or NAME:OPTION=VALUE,...; the modules of
            fedsciml.policies are the names, for example line_search:damping=1e-6. None
            stands for natural, and for greedy with the gradient beside the sketch, or
            with own sketches where clients have parameters of their own.
        local: Local training: the exact Gauss-Newton step, or a local solver.
        tau: Local epochs of a local solver; 20 if not given.
        learning_rate: Of the local solvers adam and sgd; 1e-3 if not given.
        local_damping: Of the local solver gauss_newton; 1e-6 if not given.
        keep_state: Clients keep their solver's state over the rounds.
        basis: Each client's own sketch, p numbers a row; or shared, a basis that all
            parties find alike from public points, where all terms of the problem have
            a sample. None stands for what pays: shared, and own where it does not.
        upload: In a shared basis: a client's own rows, or a gramian that only needs to
            be added to those of the others.
        gradient: Clients send all of their gradient beside own sketches, p numbers:
            for sketches of few rows, as "--rank 20", of classes and counts. None stands
            for true where every or history is given; and where rank, policy, local and
            basis are not, there is no shared basis, the loss is no sum of squares, and
            there are more than 1000 parameters.
        every: Rounds from one sketch to the next; in between, clients send gradients
            alone. None stands for 1 if gradient is true, and else for 8.
        history: Curvature pairs from gradients that the server keeps; 10 if not given.

    Raises:
        ValueError: If an option is given that the others make no use of.
    """
    training = _training(local, tau, learning_rate, local_damping, keep_state)
    lazy = [n for n, v in (("every", every), ("history", history)) if v is not None]
    if gradient is False:
        _refuse("gradient false", lazy)
    slopes = bool(gradient or lazy)
    asked = policy is not None
    step = policies.parse(policy or ("greedy" if slopes else "natural"))
    schedule = parse(rank or (str(FEW) if slopes else "cutoff"))
    if slopes:
        given = [f"basis {basis}"] * (basis == "shared") + ["upload"] * (
            upload != "rows"
        )
        _refuse("a gradient beside the sketch", given)
        often = every if every is not None else 1 if gradient else LAZY
        pairs = 10 if history is None else history
        return Slopes(step, schedule, sketch, training, every=often, history=pairs)
    if basis != "shared":
        _refuse(f"basis {basis}", ["upload"] * (upload != "rows"))
        if basis is None and sketch == "range":
            said = [rank, policy, training, gradient]
            free = all(option is None for option in said)
            made = step, schedule, sketch, training
            return Sharing(*made, free=free, asked=asked)
        return Fipa(step, schedule, sketch, training, asked=asked)
    _refuse("basis shared", ["sketch"] * (sketch != "range"))
    if upload == "sums":
        _refuse("upload sums", ["rank"] * (schedule != AboveCutoff()))
    return Shared(step, schedule, sketch, training, upload=upload)


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
