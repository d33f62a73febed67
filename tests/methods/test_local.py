"""Local solvers against torch's optimisers on a naive loss, and dense algebra."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import reference
import torch
from cases import CASES, theta
from faults import same
from torch import Tensor

from fedsciml.federation import Checkpoint, RunDirectory
from fedsciml.methods import Local, State, mapped, minimise, train
from fedsciml.methods._local import CARRIED, Carried, Lbfgs, lbfgs_scale
from fedsciml.network import AtSite, Personal
from fedsciml.residual import System

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
ANY = [
    Local("adam", epochs=3, learning_rate=1e-2),
    Local("sgd", epochs=3, learning_rate=1e-4),
    Local("sgd", epochs=3, learning_rate=1e-4, momentum=0.9),
    Local("lbfgs", epochs=3),
    Local("gauss_newton", epochs=2),
]
KEPT = [
    Local("adam", epochs=4, learning_rate=1e-2, keep_state=True),
    Local("sgd", epochs=4, learning_rate=1e-4, momentum=0.9, keep_state=True),
    Local("lbfgs", epochs=4, keep_state=True, history=5),
]


def named(locals_: list[Local]) -> pytest.MarkDecorator:
    """Parametrise over local solvers."""
    names = [local.solver + "+" * (local.momentum > 0) for local in locals_]
    return pytest.mark.parametrize("local", locals_, ids=names)


def client(case: str = "scalar", number: int = 1) -> tuple[System, Tensor]:
    problem = CASES[case]()
    return System(problem, problem.shards()[number]), theta(problem)


def objective(
    system: System, start: Tensor, proximal: float, correction: Tensor
) -> Callable[[Tensor], Tensor]:
    """F_m of the module's docstring, for autograd."""

    def value(x: Tensor) -> Tensor:
        r = reference.residual(system.problem, system.shard, x)
        moved = x - start
        drift = proximal / 2 * moved @ moved + correction @ moved
        return r @ r / 2 / system.shard.share + drift

    return value


@pytest.mark.parametrize("case", ["scalar", "system", "module"])
@named(ANY[:4])
def test_first_order_solvers_are_torch_s_on_the_local_objective(
    local: Local, case: str
) -> None:
    system, start = client(case)
    local = replace(local, epochs=5, proximal=0.7)
    correction = torch.linspace(-1, 1, len(start), dtype=start.dtype)
    value = objective(system, start, 0.7, correction)
    x = torch.nn.Parameter(start.clone())
    scale = 1.0
    optimiser: torch.optim.Optimizer
    if local.solver == "adam":
        optimiser = torch.optim.Adam([x], lr=local.learning_rate)
    elif local.solver == "sgd":
        optimiser = torch.optim.SGD(
            [x], lr=local.learning_rate, momentum=local.momentum
        )
    else:
        scale = lbfgs_scale(start.dtype)
        optimiser = torch.optim.LBFGS(
            [x], max_iter=1, max_eval=99, line_search_fn="strong_wolfe"
        )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = scale * value(x)
        loss.backward()
        return loss

    for _ in range(5):
        optimiser.step(closure)
    trained = minimise(system, start, local, None, correction)
    # Two ways to the same gradient differ in its last digits, Adam's first steps and
    # L-BFGS's pairs magnify that a little; measured 1e-13 to 1e-10.
    torch.testing.assert_close(trained.theta, x.detach(), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("case", ["scalar", "system"])
@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_gauss_newton_steps_solve_the_damped_normal_equations(
    case: str, proximal: float
) -> None:
    system, start = client(case)
    share = system.shard.share
    local = Local("gauss_newton", epochs=3, damping=1e-2, proximal=proximal)
    x, eye = start, torch.eye(len(start), dtype=start.dtype)
    for _ in range(3):
        linear = system.linearise(x)
        jacobian = linear.jacobian()
        gradient = jacobian.T @ linear.residual + share * proximal * (x - start)
        hessian = jacobian.T @ jacobian + (1e-2 + share * proximal) * eye
        x = x - torch.linalg.solve(hessian, gradient)
    delta, _, _ = train(system, start, local, None)
    # Condition number of the gramian up to 1e5.
    torch.testing.assert_close(delta, x - start, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", ["scalar", "system"])
def test_undamped_gauss_newton_is_a_least_squares_step(case: str) -> None:
    system, start = client(case)
    linear = system.linearise(start)
    delta, _, _ = train(system, start, Local("gauss_newton", 1, damping=0.0), None)
    left = linear.vjp(linear.residual + linear.jvp(delta))
    assert left.norm() < 1e-9 * linear.gradient.norm()


@named(ANY)
@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_some_parameters_move_as_those_of_a_network_without_the_others(
    local: Local, proximal: float
) -> None:
    system, start = client()
    part = Personal(system.problem.network, 1)
    fewer = replace(system.problem, network=part, prior=0.1)
    view = fewer.network
    assert isinstance(view, AtSite)
    local = replace(local, proximal=proximal)
    own = replace(fewer, network=view.at(start[view.mine]))
    expected, loss, _ = train(
        System(own, system.shard), start[view.shared], local, None
    )
    whole = System(replace(system.problem, prior=0.1), system.shard)
    found, same_loss, _ = train(whole, start, local, None, moving=view.shared)
    assert bool((found[view.mine] == 0).all())
    assert float(found.norm()) > 0
    assert same_loss == pytest.approx(loss, rel=1e-12)
    torch.testing.assert_close(found[view.shared], expected, rtol=1e-8, atol=1e-8)


def test_gauss_newton_refuses_corrected_gradients() -> None:
    system, start = client()
    with pytest.raises(ValueError, match="use sgd or adam"):
        train(system, start, Local("gauss_newton", 1), None, start)


@named(ANY)
def test_training_leaves_what_it_was_given_alone(local: Local) -> None:
    system, start = client()
    before = start.clone()
    delta, loss, after = train(system, start, local, None)
    assert torch.equal(start, before)
    assert after is None
    assert loss == system.loss(start)
    assert system.loss(start + delta) < loss


@named([ANY[0], ANY[2], ANY[4]])
def test_the_mean_gradient_of_one_epoch_is_the_local_gradient(local: Local) -> None:
    system, start = client()
    trained = minimise(system, start, replace(local, epochs=1), None)
    expected = system.linearise(start).gradient / system.shard.share
    assert torch.equal(trained.gradient, expected)


def through_disk(
    carried: Carried, theta: Tensor, directory: Path
) -> tuple[Carried, Tensor]:
    """What a checkpoint makes of what a client keeps."""
    record = RunDirectory.create(directory, {})
    record.save(Checkpoint(0, State(theta), [carried]))
    found = record.load((State, *CARRIED))
    assert found is not None
    return found.memories[0], found.state.theta


@pytest.mark.parametrize("case", ["scalar", "module"])
@pytest.mark.parametrize("saved", [False, True], ids=["in memory", "through a file"])
@named(KEPT)
def test_rounds_with_kept_state_are_one_uninterrupted_run(
    local: Local, saved: bool, case: str, tmp_path: Path
) -> None:
    system, start = client(case)
    whole = replace(local, epochs=12)
    end = minimise(system, start, whole, None).theta
    x, carried = start, None
    for k in range(3):
        before = mapped(carried, Tensor.clone) if carried else None
        trained = minimise(system, x, local, carried)
        assert before is None or same(carried, before)
        x, carried = trained.theta, trained.carried
        if saved:
            carried, x = through_disk(carried, x, tmp_path / str(k))
    assert torch.equal(x, end)


@named(KEPT)
def test_reset_state_makes_rounds_independent(local: Local) -> None:
    system, start = client()
    reset = replace(local, keep_state=False)
    _, _, carried = train(system, start, local, None)
    assert carried is not None
    fresh = minimise(system, start, reset, None)
    again = minimise(system, start, reset, carried)
    assert torch.equal(fresh.theta, again.theta)


def test_lbfgs_starts_afresh_from_a_theta_where_it_did_not_stop() -> None:
    system, start = client()
    local = KEPT[2]
    carried = minimise(system, start, local, None).carried
    moved = start + 0.1
    fresh, kept = (minimise(system, moved, local, c) for c in (None, carried))
    assert torch.equal(fresh.theta, kept.theta)


def test_lbfgs_starts_afresh_on_other_rows() -> None:
    system, start = client()
    local = KEPT[2]
    trained = minimise(system, start, local, None)
    rows = [replace(r, points=0.9 * r.points) for r in system.shard.rows]
    moved, end = system.on(rows), trained.theta
    fresh, kept = (minimise(moved, end, local, c) for c in (None, trained.carried))
    assert torch.equal(fresh.theta, kept.theta)


def test_lbfgs_keeps_its_pairs_where_the_loss_is_tiny() -> None:
    """torch's own drops those with s . y <= 1e-10."""
    system, start = client("scalar", 0)
    x = start
    for _ in range(4):
        x = minimise(system, x, Local("gauss_newton", 5, damping=1e-9), None).theta
    x = x + 1e-7
    assert system.loss(x) < 1e-9
    local = Local("lbfgs", 20, keep_state=True)
    carried = minimise(system, x, local, None).carried
    assert isinstance(carried, Lbfgs)
    assert len(carried.ro) == 19


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lbfgs_scale_cannot_overflow_its_line_search(dtype: torch.dtype) -> None:
    """Which takes fourth powers; gradients may be almost as long as the scale."""
    scale = torch.tensor(lbfgs_scale(dtype), dtype=dtype)
    assert torch.isfinite((scale * 0.9 * scale) ** 4)
    assert torch.isinf((scale * 1.1 * scale) ** 4)
    assert torch.frexp(scale).mantissa == 0.5


def test_lbfgs_goes_down_in_single_precision() -> None:
    """Whose numbers overflowed by the scale of double precision."""
    system, start = client("scalar", 0)
    system = System(system.problem, system.shard, dtype=torch.float32)
    start = start.float()
    trained = minimise(system, start, Local("lbfgs", 50), None)
    assert system.loss(trained.theta) < 1e-2 * system.loss(start)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@named(ANY + KEPT)
def test_solvers_keep_device_and_precision(
    local: Local, dtype: torch.dtype, device: str
) -> None:
    problem = CASES["scalar"]()
    system = System(problem, problem.shards()[0], device, dtype)
    start = theta(problem).to(device, dtype)
    x, carried = start, None
    for _ in range(2):
        trained = minimise(system, x, local, carried)
        x, carried = trained.theta, trained.carried
    assert (x.dtype, x.device) == (start.dtype, start.device)
    assert system.loss(x) < system.loss(start)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "adm"}, "Did you mean 'adam'"),
        ({"solver": "newton-krylov"}, "choose one of adam, sgd"),
        ({"epochs": 0}, "tau >= 1"),
        ({"learning_rate": 0.0}, "positive"),
        ({"learning_rate": float("nan")}, "positive"),
        ({"solver": "sgd", "momentum": 1.0}, r"\[0, 1\)"),
        ({"solver": "adam", "momentum": 0.9}, "is for sgd"),
        ({"damping": -1.0}, "damping factor must be at least 0"),
        ({"proximal": float("inf")}, "proximal factor must be at least 0"),
        ({"history": 0}, "history of 1 or more"),
        ({"batch": 0}, "batch needs 1 or more points, got 0"),
        ({"decay": 0.0}, r"decay of the learning rate must be in \(0, 1\], got 0.0"),
        ({"solver": "lbfgs", "batch": 3}, "Option batch is for sgd and adam"),
        ({"solver": "lbfgs", "decay": 0.9}, "Option decay is for sgd and adam"),
    ],
)
def test_options_out_of_range_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Local(**options)  # type: ignore[arg-type]
