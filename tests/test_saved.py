"""Models that come back: from a run's directory, and from a file."""

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import classes, draw, scalar, small

from fedsciml import ModuleNetwork, Result, load, methods, problems
from fedsciml.analysis import predicted
from fedsciml.federation import run
from fedsciml.federation.checkpoint import pack, unpack
from fedsciml.problem import Problem

FIPA = methods.load("fipa")


def trained(out: Path | None = None, rounds: int = 11, **options: object) -> Result:
    """Rounds in which held-out losses are told, of a problem in Python."""
    return run(scalar(), FIPA, rounds, out=out, **options)


def stopped(out: Path, rounds: int = 3) -> None:
    """A run that is interrupted after so many rounds."""

    def interrupt(history: list[object]) -> None:
        if len(history) == rounds:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(out, callbacks=[interrupt])


def module(seed: int, width: int = 3) -> Problem:
    """A problem on a torch module with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = torch.nn.Linear(1, width), torch.nn.Tanh(), torch.nn.Linear(width, 1)
    return replace(scalar(), network=ModuleNetwork(torch.nn.Sequential(*layers)))


def alike(found: Result, result: Result) -> bool:
    """Whether all that is known of a run is the same, bit for bit."""
    keys = ("loss", "absent", "held_out", "terms", "warnings", "outcome")
    return (
        torch.equal(found.theta, result.theta)
        and found.theta.dtype == result.theta.dtype
        and [line.line() for line in found.history]
        == [line.line() for line in result.history]
        and all(getattr(found, key) == getattr(result, key) for key in keys)
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_result_comes_back_from_its_directory_and_from_a_file(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    result = trained(tmp_path / "run", dtype=dtype)
    result.save(tmp_path / "model.safetensors")
    for path in (tmp_path / "run", str(tmp_path / "model.safetensors")):
        found = load(path, scalar())
        assert alike(found, result)
        x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
        assert torch.equal(found.solution(x).xx, result.solution(x).xx)
        assert found.errors() == result.errors()
    assert load(tmp_path / "run", scalar()).out == tmp_path / "run"
    assert found.out is None


def test_a_problem_of_the_library_is_made_again(tmp_path: Path) -> None:
    problem = problems.load("heat_inverse", measurements=40, points=20, noise=0.01)
    result = run(problem, FIPA, 2)
    result.save(tmp_path / "model")
    found = load(tmp_path / "model")
    assert found.problem.parameters == problem.parameters
    assert found.unknowns() == result.unknowns() != {}
    assert found.configuration["method"] == "fipa"


def test_a_problem_in_a_file_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "rod.py"
    path.write_text(
        '"""A rod."""\n\nfrom cases import scalar\n\n\n'
        "def make(factor: float = 1.0):\n"
        '    """A rod."""\n'
        "    from dataclasses import replace\n"
        "    return replace(scalar(), name='rod', parameters={'factor': factor})\n"
    )
    problem = problems.load(str(path), factor=2.0)
    notes = {"command": {"problem": str(path)}}
    result = run(problem, FIPA, 1, out=tmp_path / "run", notes=notes)
    found = load(tmp_path / "run")
    assert alike(found, result)
    assert found.problem.parameters == {"factor": 2.0}
    # A model alone runs no file, as it may come from anybody.
    result.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"none is run.*rod\.py', \.\.\.\)\), with"):
        load(tmp_path / "model")
    assert alike(load(tmp_path / "model", problem), result)
    path.unlink()
    with pytest.raises(
        ValueError, match=r"There is no problem file .*load\(path, problem"
    ):
        load(tmp_path / "run")


def test_what_is_no_problem_place_or_point_is_refused(tmp_path: Path) -> None:
    result = trained(tmp_path / "run", 1)
    with pytest.raises(ValueError, match="needs a Problem, not its name; got 'scalar'"):
        load(tmp_path / "run", "scalar")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no directory .*no to save a in"):
        result.save(tmp_path / "no" / "a")
    with pytest.raises(IsADirectoryError, match="is saved as a file"):
        result.save(tmp_path)
    with pytest.raises(ValueError, match=r"takes points \[n, 1\]; got shape \[3, 2\]"):
        result.module()(torch.zeros(3, 2))


def test_a_module_may_be_built_with_other_weights(tmp_path: Path) -> None:
    result = run(module(0), FIPA, 2)
    result.save(tmp_path / "model")
    found = load(tmp_path / "model", module(1))
    assert torch.equal(found.theta, result.theta)
    with pytest.raises(ValueError, match="not the one that was trained"):
        load(tmp_path / "model", module(0, width=4))


def equation() -> Problem:
    (first, second) = scalar().terms
    other = replace(first, residual=lambda u, row: u.xx - row.target)
    return replace(scalar(), terms=[other, second])


def data() -> Problem:
    (first, second) = scalar().terms
    return replace(scalar(), terms=[first, replace(second, target=0.2)])


@pytest.mark.parametrize("other", [equation, data, lambda: small("allen_cahn")])
@pytest.mark.parametrize("finished", [True, False])
def test_another_problem_is_refused(
    tmp_path: Path, other: Callable[[], Problem], finished: bool
) -> None:
    trained(tmp_path, 1) if finished else stopped(tmp_path, 1)
    load(tmp_path, scalar())
    with pytest.raises(ValueError, match="not the one that was trained"):
        load(tmp_path, other())
    with pytest.raises(ValueError, match=r"no problem 'scalar'.*load\(path, problem"):
        load(tmp_path)


def test_an_unfinished_run_gives_the_model_of_its_checkpoint_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stopped(tmp_path, 3)
    with caplog.at_level(logging.WARNING, "fedsciml"):
        found = load(tmp_path, scalar())
    (warning,) = found.warnings
    assert "after round 3 of 11. Continue it with run(" in warning
    assert warning in caplog.text
    assert len(found.history) == 3
    assert torch.equal(found.theta, trained(rounds=3).theta)


def test_a_run_without_a_round_has_no_model(tmp_path: Path) -> None:
    def broken(line: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(ValueError, match="no run.json"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no .*result.save"):
        load(tmp_path / "nothing")
    stopped(tmp_path / "run", 1)
    (tmp_path / "run" / "checkpoint.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model yet.*resume=True"):
        load(tmp_path / "run", scalar())


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def other(path: Path) -> None:
    path.write_bytes(pack({"theta": torch.zeros(3)}))


def newer(path: Path) -> None:
    path.write_bytes(pack({**unpack(path), "format": 2, "version": "9.0"}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flipped, "no model of fedsciml, or damaged: its checksum"),
        (cut, "no model of fedsciml, or damaged"),
        (other, "no model of fedsciml.*holds something else"),
        (newer, r"written by fedsciml 9\.0.*pip install --upgrade"),
    ],
)
def test_a_file_that_is_not_as_it_was_written_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    result = trained(tmp_path / "run", 1)
    result.save(tmp_path / "model")
    spoil(tmp_path / "model")
    spoil(tmp_path / "run" / "model.safetensors")
    for path in (tmp_path / "run", tmp_path / "model"):
        with pytest.raises(ValueError, match=said):
            load(path, scalar())


def test_the_model_of_another_run_is_refused(tmp_path: Path) -> None:
    trained(tmp_path / "run", 1)
    trained(tmp_path / "other", 1, seed=1)
    model = "model.safetensors"
    (tmp_path / "run" / model).write_bytes((tmp_path / "other" / model).read_bytes())
    with pytest.raises(ValueError, match=r"of another run than the run\.json"):
        load(tmp_path / "run", scalar())


def test_a_continued_run_is_loaded_as_it_is_now(tmp_path: Path) -> None:
    trained(tmp_path, 2)
    result = trained(tmp_path, 3, resume=True)
    assert alike(load(tmp_path, scalar()), result)
    assert load(tmp_path, scalar()).configuration["rounds"] == 3


def test_what_json_does_not_know_cannot_be_saved(tmp_path: Path) -> None:
    strange: dict[str, object] = {"shape": torch.zeros(2)}
    result = run(replace(scalar(), parameters=strange), FIPA, 1)
    with pytest.raises(ValueError, match=r"cannot be saved.*Problem\(parameters=...\)"):
        result.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_private_model_has_no_hash_of_data(tmp_path: Path) -> None:
    result = trained(tmp_path / "run", 1)
    sha256 = str(result.configuration["problem_sha256"]).encode()
    assert sha256 in (tmp_path / "run" / "model.safetensors").read_bytes()
    paid = [replace(line, epsilon=1.0) for line in result.history]
    replace(result, history=paid).save(tmp_path / "model")
    assert sha256 not in (tmp_path / "model").read_bytes()
    first, second = scalar().terms
    moved = replace(scalar(), terms=[replace(first, points=draw(9, 1, 5)), second])
    assert torch.equal(load(tmp_path / "model", moved).theta, result.theta)
    with pytest.raises(ValueError, match="not the one that was trained"):
        load(tmp_path / "run", moved)
    with pytest.raises(ValueError, match="not the one that was trained"):
        load(tmp_path / "model", equation())


def test_a_file_has_no_pickle_and_plain_metadata(tmp_path: Path) -> None:
    result = trained(rounds=1)
    result.save(tmp_path / "model.safetensors")
    data = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    plain = json.loads(header["__metadata__"]["plain"])
    assert plain["configuration"]["problem"] == "scalar"
    assert plain["loss"] == result.loss
    tensors = header.keys() - {"__metadata__"}
    assert tensors == {"theta", "history"}


def test_a_classifier_comes_back_and_its_module_gives_logits(tmp_path: Path) -> None:
    problem = classes(1e-3)
    result = run(problem, FIPA, 3)
    result.save(tmp_path / "classes.safetensors")
    found = load(tmp_path / "classes.safetensors", problem=classes(1e-3))
    assert alike(found, result)
    assert found.history[-1].metrics == result.history[-1].metrics
    assert f"accuracy {result.history[-1].metrics['accuracy']:.4g}" in repr(found)
    ((z, y),) = predicted(problem, result.theta)
    (term,) = problem.tests
    assert torch.equal(found.module()(term.points).mT, z)
    assert torch.equal(found.solution(term.points).values.mT, z)
    right = (found.module()(term.points).argmax(1) == y).double().mean()
    assert float(right) == result.history[-1].metrics["accuracy"]
    with pytest.raises(ValueError, match="not the one that was trained"):
        load(tmp_path / "classes.safetensors", problem=classes(1e-2))
