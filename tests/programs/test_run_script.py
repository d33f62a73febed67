"""``scripts/run.py``: what it prints, where it writes, what it refuses."""

import json
import os
import re
import signal
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import run
from cases import MEASURED
from safetensors.torch import load_file

from fedsciml import methods, policies, problems
from fedsciml.analysis import quantity
from fedsciml.command import execution, tuning
from fedsciml.command.summary import sentence
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.history import Round
from fedsciml.federation.loop import Result
from fedsciml.federation.participation import Rules
from fedsciml.federation.progress import shown
from fedsciml.methods import Method
from fedsciml.network.activation import ACTIVATIONS
from fedsciml.problem import Problem

KEYS = {
    "problem", "method", "clients", "rounds", "seed", "parameters", "loss",
    "relative_l2", "mse", "bytes_up", "bytes_down", "messages", "seconds", "max_rank",
    "mean_rank", "backend", "theta_sha256", "out",
}  # fmt: skip
SMALL = (
    *("allen_cahn", "--rounds", "2", "--set", "points=0.05", "--set", "width=5"),
    *("--quiet", "--no-plots"),
)
FEDAVG = (*SMALL, "--method", "fedavg", "--tau", "3")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(*arguments: str) -> int:
    """The exit status of the program."""
    try:
        return run.main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def result(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What a good run prints with ``--json``: one object, alone on stdout."""
    assert status(*arguments, "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, object] = json.loads(line)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What bad input is answered with: one line on stderr, and nothing is written."""
    before = snapshot(Path())
    assert status(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("run.py: error: ")
    assert snapshot(Path()) == before
    return line


def snapshot(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


def test_json_is_one_object_with_the_promised_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = result(capsys, *FEDAVG, "--seed", "3")
    assert found.keys() >= KEYS
    assert (found["problem"], found["method"]) == ("allen_cahn", "fedavg")
    assert (found["clients"], found["rounds"], found["seed"]) == (2, 2, 3)
    assert found["max_rank"] is None
    p = found["parameters"]
    assert p == 5 * 2 + 2 * 5 * 6 + 6
    assert found["messages"] == 2 * 2 * 2
    assert found["bytes_down"] == 2 * 2 * 8 * p


def test_ranks_are_those_of_the_history(capsys: pytest.CaptureFixture[str]) -> None:
    found = result(capsys, *SMALL, "--gn-gap")
    lines = Path(str(found["out"]), "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    ranks = [rank for line in history for rank in line["ranks"]]
    assert len(ranks) == 2 * 2
    assert found["method"] == "fipa"
    assert found["max_rank"] == max(ranks)
    assert found["mean_rank"] == sum(ranks) / 4
    assert all(line["gn_gap"] >= 0 for line in history)


def test_the_run_directory_holds_model_history_and_configuration(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = result(capsys, *FEDAVG, "--out", "here/run")
    assert found["out"] == "here/run"
    out = Path("here/run")
    theta = load_file(out / "model.safetensors")["theta"]
    data = theta.numpy().astype("<f8").tobytes()
    assert sha256(data).hexdigest() == found["theta_sha256"]
    history = (out / "history.jsonl").read_text().splitlines()
    assert json.loads(history[-1])["mse"] == found["mse"]
    content = json.loads((out / "run.json").read_text())
    assert content["command"]["parameters"] == {"points": 0.05, "width": 5}
    assert content["command"]["options"]["tau"] == 3
    assert content["environment"]["threads"] == content["command"]["threads"]


def test_a_run_draws_its_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [word for word in FEDAVG if word != "--no-plots"]
    assert status(*arguments, "--out", "run") == 0
    names = {path.name for path in Path("run").glob("*.png")}
    assert names == {"solution.png", "convergence.png", "partition.png"}
    line, ended = capsys.readouterr().out.splitlines()
    assert ended.startswith("The loss still falls")
    start = "allen_cahn, fedavg (--tau 3), 2 clients, 2 rounds, float64: loss"
    assert line.startswith(start)


def test_runs_without_out_get_directories_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outs = [result(capsys, *FEDAVG)["out"] for _ in range(2)]
    assert outs == ["runs/allen_cahn-fedavg-1", "runs/allen_cahn-fedavg-2"]


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(True, "a label", 2) as show:
        for k in (1, 2):
            show(Round(k, loss=1e-3, relative_l2=0.5, ranks=(3, 4)))
    output = capsys.readouterr()
    assert output.out == ""


def test_problem_options_reach_the_problem(capsys: pytest.CaptureFixture[str]) -> None:
    edges = ("--clients", "3", "--partition", "strips", "--edges", "0,.2,.6,1")
    found = result(
        capsys, *FEDAVG, *edges, "--data-seed", "4", "--initialisation", "glorot"
    )
    assert found["clients"] == 3
    content = json.loads((Path(str(found["out"])) / "run.json").read_text())
    made = content["problem_parameters"]
    assert made["edges"] == [0, 0.2, 0.6, 1]
    assert (made["seed"], made["initialisation"]) == (4, "glorot")
    assert content["seed"] == 0


def test_precision_and_threads_are_as_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = result(capsys, *FEDAVG, "--dtype", "float32", "--threads", "1")
    assert (found["dtype"], found["threads"]) == ("float32", 1)
    theta = load_file(Path(str(found["out"])) / "model.safetensors")["theta"]
    assert str(theta.dtype) == "torch.float32"


def test_several_workers_end_at_the_same_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = [result(capsys, *FEDAVG, "--workers", w)["theta_sha256"] for w in "12"]
    assert found[0] == found[1]


def test_tuned_options_come_from_the_search_and_flags_go_before_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    best = {"allen_cahn": {"fedavg": {"tau": 4, "learning_rate": 0.5}}}
    (tmp_path / "tuned.json").write_text(json.dumps(best))
    monkeypatch.setattr(tuning, "BEST", tmp_path / "tuned.json")
    found = result(capsys, *FEDAVG, "--tuned")
    content = json.loads((Path(str(found["out"])) / "run.json").read_text())
    options = content["command"]["options"]
    assert (options["tau"], options["learning_rate"]) == (3, 0.5)
    line = refusal(capsys, *SMALL, "--method", "adam", "--tuned")
    assert "no tuned options of method 'adam' for problem 'allen_cahn'" in line


def test_methods_like_fedavg_take_its_options_where_they_were_not_searched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    searched = {"fedavg": {"tau": 4}, "fedadam": {"tau": 5}}
    best = {"sine2": searched}
    (tmp_path / "tuned.json").write_text(json.dumps(best))
    monkeypatch.setattr(tuning, "BEST", tmp_path / "tuned.json")
    assert tuning.tuned("sine2", "fedadam") == {"tau": 5}
    assert tuning.tuned("sine2", "feddyn") == {"tau": 4}
    for problem, method in (("sine2", "fedpm"), ("sine4", "feddyn")):
        with pytest.raises(ValueError, match=f"'{method}' for problem '{problem}'"):
            tuning.tuned(problem, method)


def test_help_lists_problems_methods_and_their_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert status("--help") == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in problems.names():
        assert f"{name} {' '.join(problems.summary(name).split())}" in text
    for name in methods.names():
        assert f"{name} {' '.join(methods.summary(name).split())}" in text
        for option in methods.options(name):
            assert f"--{option.replace('_', '-')} X" in text
    for name in policies.names():
        assert f"{name} {' '.join(policies.summary(name).split())}" in text
    assert "line_search damping=0.0, cutoff=1e-10, memory=0" in text
    assert "acceleration=false" in text
    taus = {name: methods.options(name).get("tau") for name in methods.names()}
    defaults = ", ".join(f"{n} {o.default}" for n, o in taus.items() if o)
    assert re.search(rf"--tau X .*\((defaults: {defaults}|.*default \d+)\)", text)
    for word in ("points", "width", "activation", *ACTIVATIONS):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["Which problem?", "allen_cahn"]),
        (("alen_cahn",), ["Did you mean 'allen_cahn'?"]),
        ((*SMALL, "--method", "fedavgg"), ["'fedavgg'", "Did you mean 'fedavg'?"]),
        (
            (*SMALL, "--metod", "adam"),
            ["unknown argument --metod", "Did you mean '--method'?"],
        ),
        ((*FEDAVG, "--rounds", "0"), ["--rounds must be at least 1, got 0"]),
        ((*SMALL, "--rounds", "ten"), ["--rounds", "'ten'"]),
        ((*FEDAVG, "--threads", "0"), ["--threads must be at least 1, got 0"]),
        ((*FEDAVG, "--threads", "99999"), ["--threads must be at most 1024"]),
        ((*FEDAVG, "--workers", "0"), ["--workers must be at least 1, got 0"]),
        (
            (*FEDAVG, "--workers", "2", "--backend", "flower-local"),
            ["--workers 2 is for clients that are function calls"],
        ),
        ((*SMALL, "--dtype", "float16"), ["--dtype", "float16"]),
        ((*SMALL, "--device", "tpu"), ["--device", "tpu"]),
        ((*FEDAVG, "--tau", "0"), ["tau >= 1", "got 0"]),
        ((*FEDAVG, "--tau", "many"), ["--tau must be a whole number, got 'many'"]),
        ((*FEDAVG, "--keep-state", "perhaps"), ["--keep-state must be true or false"]),
        ((*FEDAVG, "--local", "newton"), ["newton", "gauss_newton"]),
        ((*FEDAVG, "--learning-rate", "-1"), ["learning rate", "-1"]),
        ((*FEDAVG, "--proximal", "1"), ["fedavg does not take --proximal", "--tau"]),
        ((*FEDAVG, "--clients", "0"), ["at least 1 client, got 0"]),
        (("sine2", "--method", "lbfgs", "--clients", "3"), ["lbfgs is centralised"]),
        ((*FEDAVG, "--clients", "5000"), ["client", "without any point"]),
        ((*FEDAVG, "--partition", "circle"), ["circle", "strips"]),
        ((*FEDAVG, "--edges", "0,half,1"), ["--edges", "'0,half,1'"]),
        ((*FEDAVG, "--edges", "0,.7,.4,1", "--clients", "3"), ["increasing"]),
        ((*FEDAVG, "--set", "witdh=3"), ["witdh", "Did you mean 'width'?"]),
        ((*FEDAVG, "--set", "width"), ["'width' is not KEY=VALUE"]),
        ((*FEDAVG, "--warmup", "adam"), ["METHOD:ROUNDS", "'adam'"]),
        ((*FEDAVG, "--warmup", "adm:3"), ["'adm'", "Did you mean 'adam'?"]),
        ((*FEDAVG, "--warmup", "adam:1", "--rounds", "3"), ["centralised"]),
        ((*SMALL, "--warmup", "fedavg:2"), ["fedavg:2 takes all of the 2 rounds"]),
        ((*SMALL, "--warmup", "fedavg:60"), ["fedavg:60", "fipa would never begin"]),
        ((*FEDAVG, "--seed", "99999999999999999999"), ["--seed must be", "below 2^63"]),
        ((*FEDAVG, "--seed", "-1"), ["--seed must be at least 0", "got -1"]),
        ((*FEDAVG, "--data-seed", "99999999999999999999"), ["seed must", "below 2^63"]),
        ((*FEDAVG, "--set", "width=abc"), ["'width'", "a whole number", "'abc'"]),
        ((*FEDAVG, "--set", "width=0"), ["width", "at least 1, got 0"]),
        ((*FEDAVG, "--set", "points=abc"), ["'points'", "a number", "'abc'"]),
        ((*FEDAVG, "--set", "points=NaN"), ["points", "finite, got nan"]),
        (("heat", "--set", "seed=abc"), ["'seed' of problem 'heat'", "'abc'"]),
        (
            (*SMALL, "--policy", "lin_search"),
            ["no policy 'lin_search'", "Did you mean 'line_search'?"],
        ),
        (
            (*SMALL, "--policy", "line_search:dampin=1"),
            ["no option 'dampin'", "Did you mean 'damping'?"],
        ),
        ((*SMALL, "--policy", "natural:up=1.5"), ["up must be a whole number", "1.5"]),
        ((*SMALL, "--policy", "fixed:damping=-1"), ["damping must be at least 0"]),
        ((*SMALL, "--damping", "1"), ["fipa does not take --damping", "--policy"]),
        (
            (*FEDAVG, "--warmup", "fipa:1,policy=spring:damping=1,memory=2"),
            ["'spring' has no option 'memory'"],
        ),
        (
            (*SMALL, "--method", "lbfgs", "--backend", "flower-local"),
            ["lbfgs is centralised"],
        ),
        ((*SMALL, "--train", "all"), ["classifier or dense; got 'all'"]),
        (
            (*SMALL, "--resample", "often"),
            ["EVERY[,power=K,offset=C,ratio=R]", "'often'"],
        ),
        (
            (*SMALL, "--resample", "5,powr=2"),
            ["no option 'powr'", "Did you mean 'power'?"],
        ),
        ((*SMALL, "--compress", "float16"), ["float32, bfloat16", "'float16'"]),
        ((*SMALL, "--dp", "epsilon=3"), ["delta is missing", "epsilon=E,delta=D"]),
        ((*SMALL, "--resample", "0"), ["at least 1 round, got every = 0"]),
        (
            ("terrain", "--resample", "5"),
            ["Targets of term 'elevation' are values at its own points"],
        ),
        ((*FEDAVG, "--min-clients", "9"), ["A round of 9 clients was asked for"]),
        ((*FEDAVG, "--min-clients", "9", "--out", "a/b"), ["A round of 9 clients"]),
        ((*FEDAVG, "--staleness", "1"), ["all 2 are needed; allow fewer"]),
        (("--resume", "nowhere"), ["There is no run in nowhere"]),
        (("--resume", "nowhere", "--out", "x"), ["leave --out away"]),
    ],
)
def test_bad_input_is_refused_in_one_line_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: list[str]
) -> None:
    line = refusal(capsys, *arguments)
    assert all(word in line for word in words), line


def test_cuda_is_refused_where_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no CUDA device" in refusal(capsys, *FEDAVG, "--device", "cuda")


def test_a_directory_of_something_else_is_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("important")
    assert "thesis is not empty" in refusal(capsys, *FEDAVG, "--out", "thesis")
    assert "no run.json" in refusal(capsys, "--resume", "thesis")
    Path("thesis/run.json").write_text("{}")
    assert "not of a run of run.py" in refusal(capsys, "--resume", "thesis")


def test_a_directory_of_a_failed_run_is_refused_as_any_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    diverging = (*FEDAVG, "--local", "sgd", "--learning-rate", "1e200")
    assert status(*diverging, "--out", "run") == 1
    assert Path("run/failure.json").exists()
    capsys.readouterr()
    assert "run is not empty" in refusal(capsys, *FEDAVG, "--out", "run")
    assert "seed = 0, not 1" in refusal(capsys, "--resume", "run", "--seed", "1")


def test_a_run_that_diverges_in_its_last_round_fails_with_a_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--local", "sgd", "--learning-rate", "1e200", "--tau", "1")
    assert status(*FEDAVG, *options, "--rounds", "1", "--out", "run") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "failed: In round 1 of fedavg" in output.err
    assert "Traceback" not in output.err
    assert Path("run/failure.json").exists()
    assert not Path("run/model.safetensors").exists()


def test_numbers_that_are_not_finite_can_be_said() -> None:
    content = dict.fromkeys(KEYS, 0)
    content |= {"method": "fedavg", "options": {}, "warmup": None, "dtype": "float64"}
    content |= {
        "train": None,
        "personal": None,
        "resample": None,
        "compress": "none",
        "dp": None,
        "secure": False,
        "absent": {},
        "dropped": 0,
        "unknowns": {},
        "own": {},
    }
    content |= {"loss": None, "relative_l2": 0.5, "mse": None}
    line = sentence(content)
    assert "loss not finite, relative L2 error 5.00e-01;" in line


def test_warm_up_and_options_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (*SMALL, "--method", "fedprox", "--tau", "3", "--warmup", "fedavg:1")
    found = result(capsys, *arguments)
    assert found["warmup"] == "fedavg:1"
    defaults = {k: o.default for k, o in methods.options("fedprox").items()}
    assert found["options"] == {**defaults, "tau": 3}
    assert status(*arguments) == 0
    line = capsys.readouterr().out
    assert line.startswith("allen_cahn, fedprox after fedavg:1 (--tau 3), 2 clients")


def test_points_are_drawn_again_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    fixed = result(capsys, *SMALL)
    found = result(capsys, *SMALL, "--resample", "1,power=2")
    assert found["resample"] == "1,power=2"
    assert found["theta_sha256"] != fixed["theta_sha256"]
    content = json.loads((Path(str(found["out"])) / "run.json").read_text())
    options = content["method_options"]
    assert (options["every"], options["power"], options["offset"]) == (1, 2, 1)


def test_uploads_are_compressed_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    whole = result(capsys, *FEDAVG)
    found = result(capsys, *FEDAVG, "--compress", "bfloat16,feedback")
    assert found["compress"] == "bfloat16,feedback"
    p = found["parameters"]
    # Two uploads of p numbers, a loss and a share; the second has W too, one number.
    assert whole["bytes_up"] == 2 * 2 * (8 * p + 16)
    assert found["bytes_up"] == 2 * (2 * (2 * p + 16) + 4)
    content = json.loads((Path(str(found["out"])) / "run.json").read_text())
    options = content["method_options"]
    assert (options["dtype"], options["feedback"]) == ("bfloat16", True)
    assert options["method"]["local"]["epochs"] == 3


def test_sums_get_noise_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    private = ("--clients", "3", "--dp", "epsilon=1e4,delta=1e-5,releases=1")
    found = result(capsys, *SMALL, *private)
    assert found["dp"] == private[-1]
    options = {"basis": "shared", "upload": "sums", "policy": "hindsight"}
    assert options.items() <= found["options"].items()
    assert "is spent after 1 releases" in found["warnings"][-1]
    lines = (Path(str(found["out"])) / "history.jsonl").read_text().splitlines()
    (line,) = map(json.loads, lines)
    assert line["epsilon"] == pytest.approx(1e4, rel=1e-6)
    assert line["delta"] == 1e-5


@pytest.mark.parametrize(
    "options",
    [
        ("--warmup", "fedavg:1,tau=2"),
        ("--resample", "1", "--compress", "float32"),
        ("--dtype", "float32", "--min-clients", "1", "--deadline", "60"),
    ],
)
def test_a_run_over_flower_ends_where_one_in_process_does(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    here = result(capsys, *SMALL, *options)
    there = result(capsys, *SMALL, *options, "--backend", "flower-local", "--out", "f")
    own = ("backend", "seconds", "out")
    assert {**there, **{key: here[key] for key in own}} == here
    assert there["backend"] == "flower"
    again = result(capsys, "--resume", "f", "--quiet", "--no-plots")
    assert again["theta_sha256"] == here["theta_sha256"]


def test_flower_is_asked_for_where_it_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fedsciml

    for name in [n for n in sys.modules if n.startswith("fedsciml.flower")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(fedsciml, "flower", raising=False)
    monkeypatch.setitem(sys.modules, "flwr.app", None)
    line = refusal(capsys, *SMALL, "--backend", "flower-local", "--out", "none")
    assert "needs Flower: pip install" in line


def test_a_problem_that_has_changed_is_not_resumed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result(capsys, *FEDAVG, "--out", "run")
    load = problems.load

    def changed(name: str, **parameters: object) -> Problem:
        problem = load(name, **parameters)
        pde, edge = problem.terms
        residual = lambda u, row: pde.residual(u, row) + 1e-3 * u.value  # noqa: E731
        return replace(problem, terms=[replace(pde, residual=residual), edge])

    monkeypatch.setattr("fedsciml.problems.load", changed)
    assert "The problem is not the one" in refusal(capsys, "--resume", "run")


@pytest.mark.parametrize(
    ("name", "keep", "word"),
    [
        ("checkpoint.safetensors", 50, "checkpoint.safetensors is damaged"),
        ("history.jsonl", 0, "history.jsonl, line 1 is damaged"),
        ("run.json", 30, "run.json is not of a run of run.py"),
    ],
)
def test_a_damaged_run_is_refused(
    capsys: pytest.CaptureFixture[str], name: str, keep: int, word: str
) -> None:
    result(capsys, *FEDAVG, "--out", "run")
    path = Path("run", name)
    path.write_bytes(path.read_bytes()[:keep] or b"{\n{\n")
    assert word in refusal(capsys, "--resume", "run")


def test_a_run_killed_before_its_configuration_was_written_is_begun_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("run").mkdir()
    Path("run/run.json.tmp").write_text('{"probl')
    assert result(capsys, *FEDAVG, "--out", "run")["out"] == "run"


def test_a_run_whose_pictures_fail_is_still_good(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError("no ink")

    monkeypatch.setattr("fedsciml.plot.pictures", fail)
    arguments = [word for word in FEDAVG if word != "--no-plots"]
    assert status(*arguments, "--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["problem"] == "allen_cahn"
    assert "warning: the run is complete but its pictures are not" in output.err
    assert "no ink" in output.err


def test_a_policy_and_its_options_are_one_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = "line_search:damping=0.5,memory=3"
    found = result(capsys, *SMALL, "--policy", policy, "--out", "run")
    assert found["options"]["policy"] == policy
    content = json.loads(Path("run/run.json").read_text())["method_options"]["policy"]
    assert (content["type"], content["damping"]) == ("LineSearch", 0.5)
    assert (content["memory"], content["cutoff"]) == (3, 1e-10)
    line = Path("run/history.jsonl").read_text().splitlines()[0]
    assert json.loads(line)["damping"] == 0.5
    assert result(capsys, "--resume", "run", "--quiet", "--no-plots") == found
    refused = refusal(capsys, "--resume", "run", "--policy", "natural")
    assert f"method option policy = '{policy}', not 'natural'" in refused


def test_a_warm_up_may_have_a_policy_with_several_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warmup = "fipa:1,policy=line_search:damping=0.5,memory=3,sketch=svd"
    result(capsys, *FEDAVG, "--warmup", warmup, "--out", "run")
    content = json.loads(Path("run/run.json").read_text())
    first = content["method_options"]["first"]
    assert (first["policy"]["damping"], first["policy"]["memory"]) == (0.5, 3)
    assert first["sketch"] == "svd"


@pytest.mark.parametrize("name", problems.names())
def test_the_usual_error_is_the_mean_square_of_regressions(name: str) -> None:
    sines = {"sine2", "sine4", "sine8"}
    regression = {*sines, "gaussians2d", "gramacy_lee", "schaffer", "terrain"}
    regression |= MEASURED | {"gauges"}
    expected = "mse" if name in regression else "relative_l2"
    assert quantity(problems.load(name)) == expected


def test_a_finished_run_is_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    first = result(capsys, *FEDAVG, "--out", "run")
    before = Path("run/model.safetensors").stat().st_mtime_ns
    again = result(capsys, "--resume", "run", "--quiet", "--no-plots")
    assert again == first
    several = result(capsys, "--resume", "run", "--workers", "2", "--no-plots")
    assert several == first
    agreeing = ("allen_cahn", "--method", "fedavg", "--tau", "3", "--seed", "0")
    more = ("--clients", "2", "--data-seed", "0", "--local", "adam", "--threads", "1")
    assert result(capsys, *agreeing, *more, "--resume", "run", "--no-plots") == first
    assert Path("run/model.safetensors").stat().st_mtime_ns >= before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("sine2",), "problem = 'allen_cahn', not 'sine2'"),
        (("--method", "adam"), "method = 'fedavg', not 'adam'"),
        (("--rounds", "1"), "has done 2 rounds, and 1 were asked for"),
        (("--seed", "1"), "seed = 0, not 1"),
        (("--data-seed", "1"), "problem option seed = 0, not 1"),
        (("--clients", "3"), "problem option clients = 2, not 3"),
        (("--set", "width=6"), "problem option width = 5, not 6"),
        (("--tau", "4"), "method option tau = 3, not 4"),
        (("--threads", "7"), "threads = 1, not 7"),
        (("--dtype", "float32"), "dtype = 'float64', not 'float32'"),
        (("--warmup", "adam:1"), "warmup = None, not 'adam:1'"),
    ],
)
def test_a_run_is_resumed_only_as_it_was(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], word: str
) -> None:
    result(capsys, *FEDAVG, "--threads", "1", "--out", "run")
    assert word in refusal(capsys, *arguments, "--resume", "run")


def test_a_finished_run_goes_on_to_more_rounds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    result(capsys, *FEDAVG, "--out", "run")
    more = result(capsys, "--resume", "run", "--rounds", "4", "--no-plots")
    whole = result(capsys, *FEDAVG, "--rounds", "4")
    assert more["rounds"] == 4
    assert more["theta_sha256"] == whole["theta_sha256"]
    again = result(capsys, "--resume", "run", "--no-plots")
    assert again == more


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_ends_a_run_that_then_goes_on(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
) -> None:
    kinds = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    append = RunDirectory.append

    def signalled(record: RunDirectory, line: Round) -> None:
        append(record, line)
        os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "append", signalled)
        assert status(*FEDAVG, "--out", "run") == code
    told = "Interrupted. Continue with: python scripts/run.py --resume run"
    assert capsys.readouterr().err.splitlines() == [told]
    assert not Path("run/failure.json").exists()
    assert kinds == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    found = result(capsys, "--resume", "run", "--no-plots")
    assert found["theta_sha256"] == result(capsys, *FEDAVG)["theta_sha256"]


def test_a_full_disk_does_not_hide_why_a_run_ended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    def trouble(record: RunDirectory, line: Round) -> None:
        monkeypatch.setattr("os.fsync", full)
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(RunDirectory, "append", trouble)
    assert status(*FEDAVG, "--out", "run") == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("run.py: failed: disk on fire Record kept in run. What came")
    assert "No space left on device" in last
    assert last.endswith("Continue with: python scripts/run.py --resume run")


def test_a_run_is_resumed_under_the_rules_that_are_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result(capsys, *FEDAVG, "--outlier", "inf", "--patience", "2", "--out", "run")
    rules: list[Rules] = []
    train = execution.run

    def told(problem: Problem, method: Method, *counts: int, **others: Any) -> Result:  # noqa: ANN401
        rules.append(others["rules"])
        return train(problem, method, *counts, **others)

    monkeypatch.setattr(execution, "run", told)
    result(capsys, "--resume", "run")
    result(capsys, "--resume", "run", "--min-clients", "1", "--outlier", "9")
    inherited = Rules(patience=2.0, outlier=float("inf"))
    assert rules == [inherited, replace(inherited, min_clients=1, outlier=9.0)]


def test_a_run_that_diverges_ends_with_status_one_and_its_record(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ("--local", "sgd", "--learning-rate", "1e9", "--rounds", "5")
    assert status(*FEDAVG, *options, "--out", "run", "--json") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "failed: In round" in output.err
    assert "Record kept in run." in output.err
    assert "not finite" in json.loads(Path("run/failure.json").read_text())["message"]
    assert status("--resume", "run", "--quiet") == 1


def test_other_versions_are_pointed_out(capsys: pytest.CaptureFixture[str]) -> None:
    result(capsys, *FEDAVG, "--out", "run")
    content = json.loads(Path("run/run.json").read_text())
    content["environment"]["torch"] = "1.0"
    Path("run/run.json").write_text(json.dumps(content))
    assert status("--resume", "run", "--quiet", "--no-plots") == 0
    assert "began with torch 1.0" in capsys.readouterr().err


def test_a_run_ends_where_it_is_good_enough_and_goes_on_without_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def until() -> object:
        return json.loads(Path("run/run.json").read_text()).get("until")

    whole = result(capsys, *FEDAVG, "--rounds", "4")
    first = result(capsys, *FEDAVG, "--rounds", "4", "--out", "run", "--until", "1e9")
    assert (first["rounds"], until()) == (1, "1e9")
    again = ("--resume", "run", "--quiet", "--no-plots")
    error = result(capsys, *again, "--until", "relative_l2=1e9")
    assert (error["rounds"], until()) == (1, "relative_l2=1e9")
    assert "as asked (relative_l2 <= 1e+09)" in error["outcome"]["sentence"]  # type: ignore[index]
    last = result(capsys, *again)
    assert (last["rounds"], until()) == (4, None)
    assert last["theta_sha256"] == whole["theta_sha256"]
    assert sum(last["terms"].values()) == pytest.approx(last["loss"])  # type: ignore[attr-defined]
    assert "no 'speed' to wait for" in refusal(capsys, *FEDAVG, "--until", "speed=1")
