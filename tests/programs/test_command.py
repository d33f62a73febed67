"""The console command ``fedsciml``: what each subcommand says, writes and refuses."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import run as script

import fedsciml
from fedsciml import methods, problems
from fedsciml.command import COMMANDS, main

SMALL = ("allen_cahn", "--set", "points=0.05", "--set", "width=5", "--rounds", "2")
QUIET = ("--quiet", "--no-plots")
HOME = Path(fedsciml.__file__).parent / "command"
KNOWN = [name for name, module in COMMANDS.items() if (HOME / f"{module}.py").exists()]

Say = Callable[..., str]


@pytest.fixture
def say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Say:
    """What a command that succeeds prints, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def said(*words: str) -> str:
        assert main(words) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return said


@pytest.fixture
def refuse(say: Say, capsys: pytest.CaptureFixture[str]) -> Say:
    """The one line with which a command refuses; nothing is written."""

    def said(*words: str) -> str:
        before = sorted(Path().rglob("*"))
        assert main(words) == 2
        output = capsys.readouterr()
        (line,) = output.err.splitlines()
        assert output.out == ""
        assert sorted(Path().rglob("*")) == before
        return line

    return said


def test_the_help_of_all_needs_no_torch_and_threads_wait_asleep() -> None:
    program = (
        "import os, sys; from fedsciml.command import main; main(['--help']);"
        "assert 'torch' not in sys.modules; assert 'scipy' not in sys.modules;"
        "assert os.environ['OMP_WAIT_POLICY'] == 'passive'\n"
        "assert os.environ['OPENBLAS_NUM_THREADS'] == '1'"
    )
    root = str(HOME.parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": root, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 40  # a screen
    assert max(map(len, lines)) <= 80
    for name in KNOWN:
        assert f"\n  {name.split()[0]} " in done.stdout


@pytest.mark.parametrize("name", KNOWN)
def test_every_subcommand_shows_its_help(name: str, say: Say) -> None:
    text = " ".join(say(*name.split(), "--help").split())
    module = (HOME / f"{COMMANDS[name]}.py").read_text()
    about = (ast.get_docstring(ast.parse(module)) or "").partition("\n")[0]
    assert f"Usage: fedsciml {name}" in text
    assert about in text
    assert about in " ".join(say(*name.split()[:-1], "--help").split())


def test_no_words_are_answered_with_help(say: Say) -> None:
    assert say() == say("--help")


def test_the_command_ends_where_the_script_does(
    say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = json.loads(say("run", *SMALL, *QUIET, "--json"))
    assert script.main([*SMALL, *QUIET, "--json"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert list(mine) == list(other)
    assert mine["theta_sha256"] == other["theta_sha256"]
    assert (
        Path(mine["out"], "run.json").read_text()
        == Path(other["out"], "run.json").read_text()
    )


def test_help_on_a_run_has_the_options_of_that_method_alone(say: Say) -> None:
    text = say("run", "--method", "fipa", "--help")
    for option in methods.options("fipa"):
        assert f"--{option.replace('_', '-')} " in text
    assert "--rank WORD" in text
    assert "(default rows)" in text
    others = {o for name in methods.names() for o in methods.options(name)}
    for option in others - {*methods.options("fipa")} - {"seed"}:
        assert f"--{option.replace('_', '-')} " not in text
    plain = say("run", "--help")
    assert "--rank" not in plain
    assert "fedsciml run --method fipa --help" in " ".join(plain.split())


@pytest.mark.parametrize(
    "problem",
    ["heat_inverse", "poisson_lshape", "euler_beam", "digits", "oscillations"],
)
def test_help_on_a_run_has_what_the_problem_takes(problem: str, say: Say) -> None:
    text = say("run", problem, "--help")
    flags = {"seed": "--data-seed "}
    own = ("clients", "partition", "edges", "initialisation", "prior", "personal_prior")
    flags |= {k: f"--{k.replace('_', '-')} " for k in own}
    for key in problems.options(problem):
        assert flags.get(key, f"--set {key}=") in text
    assert text.count("{together,alternate") == 1  # of --personal, no problem's


@pytest.mark.parametrize("name", problems.names())
def test_every_option_of_a_problem_is_explained(name: str) -> None:
    assert all(option.help for option in problems.options(name).values())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "fedsciml: error: there is no command 'rnu'; .* Did you mean 'run'?"),
        (["new", "problm"], "fedsciml new: error: there is no command 'problm'"),
        (["frobnicate"], r"there is no command 'frobnicate'; [^?]*$"),
        (["run", *SMALL, "extra"], "'extra' is one word too many. --help shows"),
        (["run", *SMALL, "--metod", "fipa"], "run: error: unknown .* mean '--method'?"),
        (["run", "heat", "--points", "3"], "of the problem: --set points=VALUE."),
        (["run", "--help", "--method", "fip"], "no method 'fip'; .* mean 'fipa'?"),
        (["run"], "Which problem?.* fedsciml resume DIR"),
        (["run", "--resume", "x"], "another command: fedsciml resume DIR"),
        (["resume"], "fedsciml resume: error: DIR is missing"),
        (["resume", "x", "--seed", "1"], "unknown argument --seed"),
        (["show"], "fedsciml show: error: DIRECTORY is missing"),
        (["show", "x"], "fedsciml show: error: There is no directory x"),
        (["show", "."], "no run in .: it has no run.json"),
        (["compare", "x"], "Give two directories or more"),
        (["compare", "x", "y", "--out", "z.bmp"], "picture is one of .png"),
        (["compare", "x", "y", "--quantity", "l2"], "--quantity"),
        (["methods", "fedavgg"], "Did you mean 'fedavg'?"),
        (["problems", "heta"], "Did you mean 'heat'?"),
        (["new", "problem"], "NAME is missing"),
        (["new", "problem", "a/b"], "letters, digits and underscores"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    words: list[str], message: str, refuse: Say
) -> None:
    assert re.search(message.replace("?", r"\?"), refuse(*words))


@pytest.fixture
def rod(say: Say) -> tuple[str, ...]:
    """Words that train the file which ``new problem`` writes, quickly."""
    say("new", "problem", "rod")
    return ("run", "rod.py", "--set", "points=40", "--rounds", "2", *QUIET)


def test_a_new_problem_runs_as_it_is_and_is_never_overwritten(
    rod: tuple[str, ...], say: Say, refuse: Say
) -> None:
    text = Path("rod.py").read_text()
    assert text == (HOME / "template.py").read_text().replace("NAME", "rod")
    found = json.loads(say(*rod, "--json"))
    assert found["out"] == "runs/rod-fipa-1"
    assert found["problem"] == str(Path("rod.py").resolve())
    assert found["relative_l2"] < 1
    assert "rod.py is there already" in refuse("new", "problem", "rod")
    assert Path("rod.py").read_text() == text
    assert "Did you mean the file rod.py?" in refuse("run", "rod")


@pytest.mark.slow
def test_the_problem_to_start_from_is_solved_to_eight_digits() -> None:
    problem = problems.load(str(HOME / "template.py"), points=150)
    result = fedsciml.run(problem, methods.load("fipa"), rounds=40)
    assert result.errors()[0] < 1e-8


def test_a_run_of_a_file_goes_on_from_another_folder_and_after_a_move(
    rod: tuple[str, ...], say: Say, refuse: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(*rod, "--out", "run")
    whole = json.loads(say(*rod, "--rounds", "4", "--json"))["theta_sha256"]
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    more = ("resume", "../run", "--no-plots", "--quiet", "--json", "--rounds")
    assert json.loads(say(*more, "3"))["rounds"] == 3
    Path("../rod.py").rename("bar.py")
    line = refuse(*more, "4")
    assert "began with the problem file" in line
    assert line.endswith("fedsciml resume ../run --problem FILE.py.")
    assert " --problem FILE.py\n" in say("show", "../run")
    other = Path("bar.py").read_text().replace("A = 0.1", "A = 0.2")
    Path("other.py").write_text(other)
    refused = refuse(*more, "4", "--problem", "other.py")
    assert "The problem is not the one" in refused
    found = json.loads(say(*more, "4", "--problem", "bar.py"))
    assert found["theta_sha256"] == whole


def test_a_model_of_a_file_comes_back_with_what_its_make_was_given(
    rod: tuple[str, ...], say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = re.sub(r"parameters=\{.*?\},", "", Path("rod.py").read_text(), flags=re.S)
    Path("rod.py").write_text(text)
    found = json.loads(say(*rod, "--json"))
    monkeypatch.chdir("runs")
    result = fedsciml.load("rod-fipa-1")
    assert result.theta_sha256() == found["theta_sha256"]
    assert len(result.problem.terms[0].points) == 40


def test_a_folder_of_data_is_found_from_where_one_stands_and_recorded_from_the_root(
    rod: tuple[str, ...], say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("sites").mkdir()
    for m in range(3):
        x, u = (m + 0.5) / 3, 0.1
        Path("sites", f"{m}.csv").write_text(f"x,t,u\n{x},0.5,{u}\n")
    say(*rod, "--set", "data=sites", "--out", "run")
    plain = json.loads(say(*rod, "--json"))["theta_sha256"]
    command = json.loads(Path("run/run.json").read_text())["command"]
    assert command["parameters"]["data"] == str(Path("sites").resolve())
    monkeypatch.chdir("sites")
    again = json.loads(say("resume", "../run", "--no-plots", "--json"))
    assert again["theta_sha256"] != plain


def test_a_method_may_be_a_file(rod: tuple[str, ...], say: Say) -> None:
    source = Path(methods.__path__[0], "fedavg.py").read_text()
    Path("mine.py").write_text(source)
    found = json.loads(say(*rod, "--method", "mine.py", "--tau", "2", "--json"))
    named = json.loads(say(*rod, "--method", "fedavg", "--tau", "2", "--json"))
    assert found["theta_sha256"] == named["theta_sha256"]
    assert found["out"] == "runs/rod-mine-1"
    assert "--tau N" in say("run", "--method", "mine.py", "--help")


def test_what_a_run_was_is_shown_whatever_became_of_it(
    say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    say("run", *SMALL, *QUIET, "--out", "good")
    text = say("show", "good")
    assert text.startswith("good: finished\n")
    for word in ("allen_cahn (points = 0.05, width = 5)", "fipa", "2 of 2"):
        assert word in text
    assert "fedsciml resume good --rounds 4" in text
    assert 'fedsciml.load("good")' in text
    Path("good/model.safetensors").unlink()
    text = say("show", "good")
    assert text.startswith("good: not finished, round 2 of 2\n")
    assert "fedsciml resume good\n" in text
    diverging = ("--method", "fedavg", "--tau", "2", "--local", "sgd")
    rate = ("--learning-rate", "1e200", "--out", "bad")
    assert main(["run", *SMALL, *QUIET, *diverging, *rate]) == 1
    assert "fedsciml run: failed: In round" in capsys.readouterr().err
    text = say("show", "bad")
    assert text.startswith("bad: failed after round 0 of 2\n")
    assert "FloatingPointError: " in text


def test_unknown_numbers_are_shown(say: Say) -> None:
    few = ("--set", "points=40", "--set", "measurements=20", "--rounds", "2")
    made = say("run", "heat_inverse", *few, *QUIET, "--out", "run")
    nu = re.search(r"nu = (\S+)", made)
    assert nu
    assert re.search(rf"  nu +{re.escape(nu[1])}\n", say("show", "run"))


def test_runs_are_compared_at_the_digits_that_all_share(say: Say) -> None:
    for method in (("fipa",), ("fedavg", "--tau", "9")):
        words = ("--method", *method, "--rounds", "6", "--out", method[0])
        say("run", *SMALL, *QUIET, *words)
    text = say("compare", "fipa", "fedavg", "--out", "both.png")
    shared = re.search(r"Until the relative L2 error is at most (\S+),", text)
    assert shared
    errors, reached = {}, {}
    for name in ("fipa", "fedavg"):
        lines = Path(name, "history.jsonl").read_text().splitlines()
        errors[name] = [json.loads(line)["relative_l2"] for line in lines]
        at = [k for k, e in enumerate(errors[name], 1) if e <= float(shared[1])]
        reached[name] = at[0]
        row = re.findall(rf"^{name} +{name}.*? +(\d+) ", text, re.M)
        assert row[-1] == str(reached[name])
    assert "fedavg (--tau 9)" in text
    worst = max(map(min, errors.values()))
    assert worst <= float(shared[1]) <= 2 * worst
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    assert "relative L2 error" not in say("compare", *errors, "--quantity", "loss")


def test_classifiers_are_told_of_and_compared_by_their_accuracy(say: Say) -> None:
    few = ("digits", "--set", "size=60", "--set", "width=4", *QUIET)
    say("run", *few, "--rounds", "4", "--out", "fipa")
    fedavg = ("--method", "fedavg", "--tau", "5", "--learning-rate", "0.05")
    text = say("run", *few, *fedavg, "--until", "accuracy=0.1", "--out", "fedavg")
    assert "as asked (accuracy >= 0.1)" in text
    best = {}
    for name in ("fipa", "fedavg"):
        lines = Path(name, "history.jsonl").read_text().splitlines()
        told = [json.loads(line)["metrics"]["accuracy"] for line in lines]
        best[name] = max(told)
        assert f"{told[-1]:.2%}" in say("show", name)
    text = say("compare", *best)
    assert f"{best['fipa']:.1%}" in text
    shared = re.search(r"Until the accuracy is at least (\S+),", text)
    assert shared
    assert float(shared[1]) <= min(best.values()) < 1
    assert "mean deviance is at most" in say("compare", *best, "--quantity", "deviance")


def test_runs_of_different_problems_are_said_to_be(say: Say) -> None:
    for problem in ("allen_cahn", "bratu"):
        say("run", problem, *SMALL[1:], *QUIET, "--out", problem)
    assert "of different problems: allen_cahn, bratu" in say(
        "compare", "allen_cahn", "bratu"
    )


def test_problems_and_methods_are_listed_with_a_line_each(say: Say) -> None:
    for registry, word in ((problems, "problems"), (methods, "methods")):
        text = " ".join(say(word).split())
        for name in registry.names():
            assert f"{name} {registry.summary(name)}" in text
    assert "--set measurements=N" in say("problems", "terrain")
    assert "--tau N" in say("methods", "fedavg")
