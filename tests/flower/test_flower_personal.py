"""What sites of a run over Flower have of their own, read back at the site."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

from fedsciml import MLP, Parallel, Problem, Term, flower, load, methods, run
from fedsciml.collocation import explicit, in_box
from fedsciml.network.jet import Jet
from fedsciml.problem import Row
from fedsciml.wrappers import load as wrapped


def reading(u: Jet, row: Row) -> torch.Tensor:
    return u.value + u.offset - row.target


def shifted() -> Problem:
    """A line that three sites read with offsets of their own."""
    points = [torch.linspace(0, 1, 5 + m).double()[:, None] for m in range(3)]
    term = Term(
        "data",
        reading,
        points,
        [2 * x[:, 0] + m for m, x in enumerate(points)],
        sample=in_box([0.0], [1.0]),
    )
    network = Parallel([MLP((1, 4, 1))], personal={"offset": 0.0})
    return Problem("shifted", network, [term], explicit(3), coordinates="x")


def test_a_site_loads_its_own_beside_the_model(tmp_path: Path) -> None:
    problem, method = shifted(), wrapped("fipa", compress="float32")
    here = run(problem, method, 4)
    there = flower.run(problem, method, 4, out=tmp_path)
    assert there.personal == {}
    with pytest.raises(ValueError, match="Of client 1 no parameters"):
        there.unknowns(1)
    memory = tmp_path / "memories"
    back = load(tmp_path, problem, memory=memory)
    assert sorted(back.personal) == [0, 1, 2]
    for m, f in here.personal.items():
        assert torch.equal(back.personal[m], f)
    last = sorted(memory.glob("*.2-*.safetensors"))[-1]
    for path in memory.glob("*.2-4.*.safetensors"):
        path.rename(path.with_name(path.name.replace("-4.", "-3.")))
    with pytest.raises(ValueError, match="Client 2 last took part in round 3"):
        load(tmp_path, problem, memory=memory)
    assert not last.exists()
    with pytest.raises(ValueError, match="holds nothing of run"):
        load(tmp_path, problem, memory=tmp_path)


def test_a_site_that_was_not_told_of_the_end_is_refused(tmp_path: Path) -> None:
    problem = shifted()
    flower.run(problem, wrapped("fipa"), 3, out=tmp_path)
    memory = tmp_path / "memories"
    for path in [*memory.glob("*.1-3.3.*"), *memory.glob("*.1-3.4.*")]:
        path.unlink()  # of the questions after the last round
    assert [*memory.glob("*.1-3.2.*")]
    with pytest.raises(ValueError, match="Client 1 .* was not told how"):
        load(tmp_path, problem, memory=memory)


def test_memory_of_a_run_in_one_process_is_refused(tmp_path: Path) -> None:
    problem = shifted()
    result = run(problem, methods.load("fipa"), 2, out=tmp_path, report=False)
    assert load(tmp_path, problem).personal.keys() == result.personal.keys()
    with pytest.raises(ValueError, match="leave memory out"):
        load(tmp_path, problem, memory=tmp_path)
