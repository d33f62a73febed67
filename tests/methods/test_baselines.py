"""FedAvg, FedProx, SCAFFOLD and centralised Adam and L-BFGS: their laws and limits."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from cases import CASES, linear, optimum, theta
from exchanges import opened, rounds
from torch import Tensor

from fedsciml import methods
from fedsciml.collocation import strips
from fedsciml.federation import Round, run
from fedsciml.federation.admission import refusal
from fedsciml.methods import Local, Method, minimise, train
from fedsciml.methods.scaffold import Scaffold
from fedsciml.problem import Problem
from fedsciml.residual import System

BASELINES: dict[str, dict[str, object]] = {
    "fedavg": {"keep_state": True},
    "fedprox": {"keep_state": True, "proximal": 0.5},
    "scaffold": {"keep_state": True},
    "fedadam": {"keep_state": True},
    "feddyn": {"keep_state": True},
    "gradient_only": {},
    "fedpm": {"damping": 1.0, "learning_rate": 1e-3},
    "fedfisher": {"keep_state": True},
    "adam": {},
    "lbfgs": {},
}
"""Methods with options that give them the most to remember."""

VECTORS = {"fedavg": 1, "fedprox": 1, "scaffold": 2, "fedadam": 1, "feddyn": 1}
"""How many vectors [p] cross each way in a round; centralised methods send nothing."""


@cache
def scalar() -> Problem:
    """Three unequal shards, one without boundary points."""
    return CASES["scalar"]()


def load(name: str, tau: int) -> Method:
    """A method with its options above, and tau if it has local epochs."""
    epochs = {"tau": tau} if "tau" in methods.options(name) else {}
    return methods.load(name, **epochs, **BASELINES[name])


def descent(problem: Problem, count: int, rate: float) -> Tensor:
    """Gradient descent on the whole loss."""
    pooled, x = System(problem, problem.pooled()), theta(problem)
    for _ in range(count):
        x = x - rate * pooled.linearise(x).gradient
    return x


def test_fedavg_of_one_client_is_its_local_training() -> None:
    problem = replace(scalar(), partition=strips([0, 1]))
    method = methods.load("fedavg", tau=20, learning_rate=1e-2)
    state, _ = rounds(problem, method, 1)
    local, start = Local("adam", 20, 1e-2), theta(problem)
    delta, _, _ = train(System(problem, problem.pooled()), start, local, None)
    torch.testing.assert_close(state.theta, start + delta, rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", ["fedavg", "scaffold"])
@pytest.mark.parametrize("case", ["scalar", "system"])
def test_one_epoch_of_descent_on_each_client_is_descent_on_the_whole(
    name: str, case: str
) -> None:
    problem = CASES[case]()
    method = methods.load(name, tau=1, local="sgd", learning_rate=1e-4)
    state, _ = rounds(problem, method, 5)
    expected = descent(problem, 5, 1e-4)
    torch.testing.assert_close(state.theta, expected, rtol=1e-12, atol=1e-12)


def test_the_server_step_scales_the_mean_update() -> None:
    start = theta(scalar())
    half, whole = (
        rounds(scalar(), methods.load("fedavg", tau=3, server_step=s), 1)[0].theta
        for s in (0.5, 1.0)
    )
    torch.testing.assert_close(half, (start + whole) / 2, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("local", ["adam", "sgd", "lbfgs", "gauss_newton"])
def test_fedprox_without_proximal_term_is_fedavg(local: str) -> None:
    options = {"tau": 3, "local": local, "learning_rate": 1e-4}
    prox = methods.load("fedprox", proximal=0.0, **options)
    plain = methods.load("fedavg", **options)
    assert (prox.name, plain.name) == ("fedprox", "fedavg")
    ends = [rounds(scalar(), method, 3)[0].theta for method in (prox, plain)]
    assert torch.equal(*ends)


def test_a_stronger_proximal_term_holds_the_clients_nearer() -> None:
    start = theta(scalar())
    moved = [
        float((rounds(scalar(), methods.load(
            "fedprox", tau=50, local="sgd", learning_rate=1e-4, proximal=mu
        ), 1)[0].theta - start).norm())
        for mu in (0.0, 10.0, 100.0, 1000.0)
    ]  # fmt: skip
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < moved[0] / 2


def test_scaffold_starts_as_fedavg() -> None:
    ends = [
        rounds(scalar(), methods.load(name, tau=7), 1)[0].theta
        for name in ("scaffold", "fedavg")
    ]
    assert torch.equal(*ends)


@pytest.mark.parametrize("local", ["adam", "sgd"])
def test_scaffold_s_control_variate_is_the_mean_of_the_clients(local: str) -> None:
    method = methods.load("scaffold", tau=5, local=local, learning_rate=1e-4)
    state, memories = rounds(scalar(), method, 4)
    shares = [shard.share for shard in scalar().shards()]
    expected = sum(s * m.variate for s, m in zip(shares, memories, strict=True))
    torch.testing.assert_close(state.variate, expected, rtol=1e-11, atol=1e-11)


def test_scaffold_s_control_variates_are_the_paper_s_option_two() -> None:
    rate, tau = 1e-4, 6
    method = methods.load("scaffold", tau=tau, local="sgd", learning_rate=rate)
    state, memories = rounds(scalar(), method, 2)
    for shard, memory in zip(scalar().shards(), memories, strict=True):
        system = System(scalar(), shard)
        start, c, own = state.theta, state.variate, memory.variate
        ask = next(method.round(state))
        answer, after = method.client[type(ask)](system, ask, memory)
        expected = own - c - answer.delta / (tau * rate)
        # delta / (tau rate) loses as many digits as delta is smaller than theta.
        torch.testing.assert_close(after.variate, expected, rtol=1e-8, atol=1e-8)
        drift = Local("sgd", tau, rate)
        trained = minimise(system, start, drift, None, c - own)
        assert torch.equal(answer.delta, trained.theta - start)


@pytest.mark.slow
def test_scaffold_reaches_the_optimum_that_fedavg_drifts_away_from() -> None:
    problem = linear()
    distance = {
        name: float((rounds(problem, methods.load(
            name, tau=10, local="sgd", learning_rate=0.3
        ), 100)[0].theta - optimum(problem)).norm())
        for name in ("fedavg", "scaffold")
    }  # fmt: skip
    assert distance["fedavg"] > 1e-2
    assert distance["scaffold"] < 1e-6


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_a_centralised_method_s_rounds_are_one_uninterrupted_run(name: str) -> None:
    few, _ = rounds(scalar(), methods.load(name, tau=5), 4)
    once, _ = rounds(scalar(), methods.load(name, tau=20), 1)
    assert torch.equal(few.theta, once.theta)


@pytest.mark.parametrize("name", BASELINES)
def test_a_run_lowers_the_loss(name: str) -> None:
    result = run(scalar(), load(name, tau=20), 3)
    assert result.loss < result.history[0].loss


@pytest.mark.parametrize("name", [*VECTORS, "adam", "lbfgs"])
def test_a_run_counts_its_bytes_and_epochs(name: str) -> None:
    line = run(scalar(), load(name, tau=3), 5).history[-1]
    p, m, vectors = scalar().network.size, scalar().clients, VECTORS.get(name, 0)
    up = 5 * m * (vectors * p + 2) * 8 if vectors else 0  # loss and share
    assert (line.bytes_up, line.bytes_down) == (up, 5 * m * vectors * p * 8)
    assert line.epochs == 3


@pytest.mark.parametrize("name", BASELINES)
def test_a_resumed_run_is_bit_identical(name: str, tmp_path: Path) -> None:
    method = load(name, tau=4)
    whole = run(scalar(), method, 6)

    def stop(line: Round) -> None:
        if line.round == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(scalar(), method, 6, out=tmp_path / "run", progress=stop)
    resumed = run(scalar(), method, 6, out=tmp_path / "run", resume=True)
    assert resumed.theta_sha256() == whole.theta_sha256()


def test_an_ask_or_an_answer_of_another_method_is_refused() -> None:
    fedavg, scaffold = (load(name, tau=1) for name in ("fedavg", "scaffold"))
    ask, answers = opened(scalar(), fedavg)
    with pytest.raises(ValueError, match=r"it is a 'averaging.Opening', not one of"):
        methods.rebuild(methods.flatten(ask), scaffold.kinds)
    assert type(ask) not in scaffold.client
    expected = scaffold.expects(opened(scalar(), scaffold).ask, len(ask.theta))
    wrong = refusal(answers[0], expected, {}, ask.theta)
    assert "not a scaffold.Update" in str(wrong)


def test_scaffold_refuses_solvers_without_gradients() -> None:
    with pytest.raises(ValueError, match="must be one of adam, sgd"):
        methods.load("scaffold", local="lbfgs")
    with pytest.raises(ValueError, match="must be sgd or adam"):
        Scaffold(Local("lbfgs"))


def test_a_server_step_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        methods.load("fedavg", server_step=0.0)


KINDS = (int, float, bool, str, int | None, float | None, str | None, bool | None)


@pytest.mark.parametrize("name", methods.names())
def test_every_method_says_what_it_and_its_options_are(name: str) -> None:
    assert methods.summary(name).endswith(".")
    for option in methods.options(name).values():
        assert option.help
        assert option.kind in KINDS or option.choices


def test_options_are_read_from_the_signature_and_the_docstring() -> None:
    options = methods.options("fedprox")
    tau, proximal = options["tau"], options["proximal"]
    assert tau == (int, 100, "Local epochs per round.")
    assert tau.choices == ()
    assert proximal.help == "Factor mu of the proximal term; 0 is FedAvg."
    assert options["local"].choices == ("adam", "sgd", "lbfgs", "gauss_newton")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fedagv", {}, "Did you mean 'fedavg'"),
        ("_central", {}, "no method '_central'; choose one of adam, "),
        ("fedavg", {"tua": 3}, "no option 'tua'; its options are tau, .* mean 'tau'"),
        ("fedavg", {"proximal": 1.0}, "no option 'proximal'"),
        ("fedavg", {"tau": "3"}, "must be a whole number, got '3'"),
        ("fedavg", {"tau": True}, "must be a whole number, got True"),
        ("fedavg", {"keep_state": 1}, "must be true or false, got 1"),
        ("fedavg", {"local": "adm"}, "must be one of adam, sgd"),
        ("fedavg", {"tau": 0}, "tau >= 1"),
    ],
)
def test_bad_names_and_options_are_refused(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        methods.load(name, **options)


def test_whole_numbers_do_for_floats() -> None:
    assert methods.load("fedavg", server_step=1) == methods.load("fedavg")
