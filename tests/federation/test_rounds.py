"""The round loop: what a run reports, and that nothing can stop it half-way."""

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from cases import CASES
from torch import Tensor

import fedsciml.federation.directory
from fedsciml import methods, run
from fedsciml.collocation import strips
from fedsciml.federation import loop as rounds
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.history import Round
from fedsciml.methods import (
    ClientPart,
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Opening,
    State,
)
from fedsciml.methods import Record as Message
from fedsciml.network import MLP
from fedsciml.network.jet import Jet
from fedsciml.problem import Problem, Residual, Row, Term
from fedsciml.residual import System


class Gradient(Message):
    """A client's gradient, shape [p], and its loss."""

    gradient: Tensor
    loss: float


class Check(Message):
    """Asks for the loss at theta, shape [p]."""

    theta: Tensor


class Checked(Message):
    """A client's loss, and how many exchanges it has seen."""

    loss: float
    count: int


class Count(Message):
    """How many exchanges a client has seen."""

    count: int


@dataclass(frozen=True)
class Descent(Method):
    """Gradient descent in two exchanges a round: gradients, then losses.

    Clients count their exchanges.
    """

    rate: float = 1e-5
    name: str = "descent"
    pooled: bool = False

    kinds = (State, Opening, Gradient, Check, Checked, Count)

    def start(self, theta: Tensor, seed: int) -> State:
        return State(theta)

    def round(self, state: State) -> Exchanges[State]:
        answers = yield Opening(state.theta)
        theta = state.theta - self.rate * sum(a.gradient for a in answers.values())
        loss = sum(a.loss for a in answers.values())
        checked = yield Check(theta)
        ranks = tuple(a.count for a in checked.values())
        return State(theta), Info(loss=loss, ranks=ranks)

    @property
    def client(self) -> Mapping[type[Message], ClientPart]:
        return {Opening: self.descend, Check: self.check}

    def descend(
        self, system: System, ask: Opening, memory: Count | None
    ) -> tuple[Gradient, Count]:
        linear = system.linearise(ask.theta)
        return Gradient(linear.gradient, linear.loss), counted(memory)

    def check(
        self, system: System, ask: Check, memory: Count | None
    ) -> tuple[Checked, Count]:
        memory = counted(memory)
        linear = system.linearise(ask.theta)
        if system.shard.client == 1:
            self.in_round(memory.count // 2)
        return Checked(linear.loss, memory.count), memory

    def in_round(self, k: int) -> None:
        """For trouble, in client 1's second exchange: as half-finished as can be."""

    def expects(self, ask: Message, size: int) -> Expected:
        if isinstance(ask, Check):
            return Expected(Checked, {"loss": Field(finite=False), "count": Field()})
        gradient = Field((size,), scale=True)
        return Expected(Gradient, {"gradient": gradient, "loss": Field()})


def counted(memory: Count | None) -> Count:
    """With an exchange more."""
    return Count(memory.count + 1 if memory else 1)


@cache
def problem() -> Problem:
    return CASES["scalar"]()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint after every round."""
    monkeypatch.setattr(rounds, "CHECKPOINT_SECONDS", 0.0)


def troubled(when: int, trouble: BaseException) -> Descent:
    """Descent, of equal configuration, that is stopped in round ``when``."""

    class Troubled(Descent):
        def in_round(self, k: int) -> None:
            if k == when:
                raise trouble

    return Troubled()


def essence(history: list[Round]) -> list[Round]:
    """A history without its seconds."""
    return [replace(line, seconds=0.0) for line in history]


def test_a_run_of_a_plain_method_is_its_formula() -> None:
    whole = System(problem(), problem().pooled())
    theta = problem().network.init(torch.Generator().manual_seed(3), torch.float64)
    expected = theta
    for _ in range(4):
        expected = expected - 1e-5 * whole.linearise(expected).gradient
    result = run(problem(), Descent(), 4, seed=3)
    torch.testing.assert_close(result.theta, expected, rtol=1e-13, atol=1e-13)
    assert result.loss == pytest.approx(whole.loss(expected), rel=1e-12)
    assert result.history[0].loss == pytest.approx(whole.loss(theta), rel=1e-12)


def test_the_history_tells_every_round() -> None:
    shown: list[Round] = []
    result = run(problem(), Descent(), 3, progress=shown.append)
    assert shown == result.history
    assert [line.round for line in shown] == [1, 2, 3]
    last = shown[-1]
    reference = problem().reference
    assert problem().test_points is not None
    assert reference is not None
    error = problem().network(result.theta, problem().test_points) - reference
    assert last.mse == pytest.approx(float((error**2).mean()), rel=1e-13)
    assert last.relative_l2 == pytest.approx(float(error.norm() / reference.norm()))
    assert result.errors() == (last.relative_l2, last.mse)
    assert 0 < shown[0].seconds < shown[1].seconds < last.seconds
    assert (last.step, last.damping, last.ranks) == (1.0, 0.0, (6, 6, 6))


def test_seconds_are_those_of_the_given_clock() -> None:
    ticks = iter(range(100))
    result = run(problem(), Descent(), rounds=3, clock=lambda: float(next(ticks)))
    assert [line.seconds for line in result.history] == [1.0, 2.0, 3.0]


def test_bytes_are_what_was_sent() -> None:
    p, clients, k = problem().network.size, problem().clients, 3
    last = run(problem(), Descent(), k).history[-1]
    assert last.bytes_up == k * clients * (8 * (p + 1) + 8 * 2)
    assert last.bytes_down == k * clients * 2 * 8 * p
    assert last.messages == k * 2 * 2 * clients
    half = run(problem(), Descent(), k, dtype=torch.float32).history[-1]
    assert half.bytes_down == last.bytes_down / 2
    central = run(problem(), methods.load("adam", tau=2), k).history[-1]
    assert central.bytes_up == central.bytes_down == central.messages == 0


def test_a_problem_without_reference_has_no_error() -> None:
    result = run(CASES["hard"](), Descent(), 1)
    assert math.isnan(result.history[0].relative_l2)
    assert all(map(math.isnan, result.errors()))


def test_equal_arguments_give_equal_bytes_and_another_seed_others() -> None:
    def trained(seed: int) -> str:
        return run(problem(), Descent(), 2, seed).theta_sha256()

    assert trained(0) == trained(0) != trained(1)


def test_the_hash_is_of_little_endian_doubles() -> None:
    for dtype in (torch.float64, torch.float32):
        result = run(problem(), Descent(), 1, dtype=dtype)
        assert result.theta.dtype == dtype
        data = b"".join(struct.pack("<d", value) for value in result.theta.tolist())
        assert result.theta_sha256() == sha256(data).hexdigest()


def test_the_solution_and_its_derivatives_can_be_evaluated() -> None:
    result, h = run(problem(), Descent(), 1), 1e-5
    x = torch.tensor([[0.2], [0.7]], dtype=torch.float64)
    u = result.solution(x)
    right, left = (result.solution(x + s).value for s in (h, -h))
    torch.testing.assert_close(u.x, (right - left) / (2 * h), rtol=1e-8, atol=1e-8)
    assert u.xx.shape == (2,)


def test_nothing_is_written_without_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(problem(), Descent(), 1).out is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("often")
def test_a_record_holds_the_run(tmp_path: Path) -> None:
    notes: dict[str, object] = {"site": "north"}
    result = run(
        problem(), Descent(), 2, 7, out=tmp_path / "run", gn_gap=True, notes=notes
    )
    assert result.out == tmp_path / "run"
    found = json.loads((result.out / "run.json").read_text())
    assert found["problem"] == "scalar"
    assert found["method"] == "descent"
    assert found["method_options"]["rate"] == 1e-5
    assert (found["rounds"], found["seed"], found["site"]) == (2, 7, "north")
    assert (found["clients"], found["backend"]) == (3, "inprocess")
    assert (found["dtype"], found["parameters"]) == ("float64", len(result.theta))
    assert RunDirectory.resume(result.out).history() == result.history
    assert result.history[0].gn_gap > 0
    assert not list(result.out.glob("*.tmp"))


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    first = run(problem(), Descent(), 3, out=tmp_path / "run")
    never = troubled(1, AssertionError("trained again"))
    again = run(problem(), never, 3, out=tmp_path / "run", resume=True)
    assert again.theta_sha256() == first.theta_sha256()
    assert again.history == first.history
    assert again.loss == first.loss


def third(history: list[Round]) -> bool:
    return len(history) >= 3


def test_a_run_ends_early_where_it_is_told_to(tmp_path: Path) -> None:
    whole, out = run(problem(), Descent(), 3), tmp_path / "run"
    result = run(problem(), Descent(), 9, out=out, stop=third)
    assert essence(result.history) == essence(whole.history)
    assert result.theta_sha256() == whole.theta_sha256()
    assert result.loss == whole.loss
    # The record is as whole as that of any run that has ended.
    names = {"run.json", "history.jsonl", "checkpoint.safetensors"}
    assert {p.name for p in out.iterdir()} == names | {"model.safetensors"}
    assert RunDirectory.resume(out).history() == result.history
    assert json.loads((out / "run.json").read_text())["rounds"] == 9


def test_a_run_that_ended_early_is_over_or_goes_on_without_that_end(
    tmp_path: Path,
) -> None:
    out = tmp_path / "run"
    first = run(problem(), Descent(), 9, out=out, stop=third)
    never = troubled(1, AssertionError("trained again"))
    again = run(problem(), never, 9, out=out, resume=True, stop=third)
    assert again.history == first.history
    assert again.theta_sha256() == first.theta_sha256()
    on = run(problem(), Descent(), 9, out=out, resume=True)
    whole = run(problem(), Descent(), 9)
    assert essence(on.history) == essence(whole.history)
    assert on.theta_sha256() == whole.theta_sha256()


@pytest.mark.usefixtures("often")
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    tmp_path: Path,
) -> None:
    for when in (2, 3):
        out = tmp_path / str(when)
        with pytest.raises(KeyboardInterrupt):
            run(problem(), troubled(when, KeyboardInterrupt()), 9, out=out, stop=third)
        result = run(problem(), Descent(), 9, out=out, resume=True, stop=third)
        assert len(result.history) == 3

    def after_three(line: Round) -> None:
        if line.round == 3:
            raise KeyboardInterrupt

    out = tmp_path / "told"  # killed after its last round, before it was over
    with pytest.raises(KeyboardInterrupt):
        run(problem(), Descent(), 9, out=out, stop=third, progress=after_three)
    result = run(problem(), Descent(), 9, out=out, resume=True, stop=third)
    assert len(result.history) == 3
    assert (out / "model.safetensors").exists()


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("when", [1, 3])
def test_an_interrupted_run_goes_on_from_its_last_whole_round(
    tmp_path: Path, when: int
) -> None:
    whole = run(problem(), Descent(), 5)
    with pytest.raises(KeyboardInterrupt):
        run(problem(), troubled(when, KeyboardInterrupt()), 5, out=tmp_path / "run")
    found = RunDirectory.resume(tmp_path / "run").load(Descent.kinds)
    assert found is not None
    assert found.round == when - 1
    assert not (tmp_path / "run" / "failure.json").exists()
    resumed = run(problem(), Descent(), 5, out=tmp_path / "run", resume=True)
    assert resumed.theta_sha256() == whole.theta_sha256()
    assert essence(resumed.history) == essence(whole.history)


def test_a_diverging_run_keeps_its_record_and_says_why(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(FloatingPointError, match="In round 2 of descent on scalar"):
        run(problem(), Descent(rate=1e200), 9, out=out)
    failure = json.loads((out / "failure.json").read_text())
    assert failure["error"] == "FloatingPointError"
    record = RunDirectory.resume(out)
    found = record.load(Descent.kinds)
    assert found is not None
    assert found.round == len(record.history()) == 1
    assert bool(found.state.theta.isfinite().all())
    assert not (out / "model.safetensors").exists()


def test_a_run_that_diverges_in_its_last_round_fails(tmp_path: Path) -> None:
    out, method = tmp_path / "run", Descent(rate=1e200)
    for resume in (False, True):
        with pytest.raises(FloatingPointError, match="In round 1 of desc") as caught:
            run(problem(), method, 1, out=out, resume=resume)
        assert f"Record kept in {out}." in caught.value.__notes__
        assert (out / "failure.json").exists()
        assert not (out / "model.safetensors").exists()


def test_a_client_s_error_names_the_client(tmp_path: Path) -> None:
    method = troubled(2, RuntimeError("disk on fire"))
    with pytest.raises(RuntimeError, match="disk on fire") as caught:
        run(problem(), method, 5, out=tmp_path / "run")
    assert "client 1" in "".join(caught.value.__notes__)
    failure = json.loads((tmp_path / "run" / "failure.json").read_text())
    assert failure == {"error": "RuntimeError", "message": "disk on fire"}
    resumed = run(problem(), Descent(), 5, out=tmp_path / "run", resume=True)
    assert resumed.theta_sha256() == run(problem(), Descent(), 5).theta_sha256()
    assert not (tmp_path / "run" / "failure.json").exists()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rounds": 2}, "has done 3 rounds, and 2 were asked for: ask for 3"),
        ({"seed": 1}, "seed = 0, not 1"),
        ({"dtype": torch.float32}, "dtype = 'float64'"),
        ({"method": Descent(rate=1.0)}, "method_options"),
        ({"method": methods.load("adam")}, "method = 'descent'"),
        ({"problem": CASES["beam"]()}, "problem = 'scalar'"),
        ({"gn_gap": True}, "gn_gap = False"),
    ],
)
def test_a_run_of_another_configuration_is_not_resumed(
    tmp_path: Path, change: dict[str, object], word: str
) -> None:
    arguments = {"problem": problem(), "method": Descent(), "rounds": 3}
    run(**arguments, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=word):
        run(**{**arguments, **change}, out=tmp_path, resume=True)
    with pytest.raises(FileExistsError):
        run(**arguments, out=tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


class Foreign(State):
    """A state that the method does not know."""


def test_a_run_is_not_resumed_from_a_checkpoint_of_another_kind(tmp_path: Path) -> None:
    whole = run(problem(), Descent(), 3, out=tmp_path)
    record, path = RunDirectory.resume(tmp_path), tmp_path / "checkpoint.safetensors"
    found, content = record.load(Descent.kinds), path.read_bytes()
    assert found is not None
    record.save(found._replace(state=Foreign(found.state.theta)))
    said = (
        r"checkpoint\.safetensors is damaged: it is a 'test_rounds\.Foreign', not one"
    )
    with pytest.raises(ValueError, match=said):
        run(problem(), Descent(), 3, out=tmp_path, resume=True)
    path.write_bytes(content)
    again = run(problem(), Descent(), 3, out=tmp_path, resume=True)
    assert again.theta_sha256() == whole.theta_sha256()


def square_root(u: Jet, row: Row) -> Tensor:
    return u.value**2 - row.x


def simple(
    residual: Residual = square_root,
    points: float = 1.0,
    weight: float = 1.0,
    edges: tuple[float, ...] = (0.0, 0.5, 1.0),
    coordinate: str = "x",
    **network: object,
) -> Problem:
    """Problems of one name, number of clients and number of parameters."""
    x = points * torch.linspace(0, 1, 8, dtype=torch.float64).unsqueeze(-1)
    term = Term("only", residual, x, target=2.0, weight=weight)
    mlp = MLP((1, 3, 1), **network)  # type: ignore[arg-type]
    return Problem("simple", mlp, [term], strips(edges), coordinates=[coordinate])


def other_root(u: Jet, row: Row) -> Tensor:
    return u.value**2 - 1.001 * row.x


def root_of_y(u: Jet, row: Row) -> Tensor:
    return u.value**2 - row.y


@pytest.mark.parametrize(
    "change",
    [
        {"residual": other_root},
        {"points": 0.999},
        {"weight": 1.001},
        {"edges": (0.0, 0.6, 1.0)},
        {"coordinate": "y", "residual": root_of_y},
        {"activation": "sin"},
        {"initialisation": "glorot"},
        {"distance": lambda x: x[:, 0]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_run_is_not_resumed_on_another_problem(
    tmp_path: Path, change: dict[str, object]
) -> None:
    first = run(simple(), Descent(), 2, out=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="The problem is not the one") as caught:
        run(simple(**change), Descent(), 2, out=tmp_path, resume=True)  # type: ignore[arg-type]
    assert str(tmp_path) in str(caught.value)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = run(simple(), Descent(), 2, out=tmp_path, resume=True)
    assert again.theta_sha256() == first.theta_sha256()


def test_a_problem_is_the_same_whatever_its_last_digits() -> None:
    nearly = simple(points=1 - 1e-15, weight=1 + 1e-15)
    assert rounds.fingerprint(nearly) == rounds.fingerprint(simple())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_is_in_range(seed: int) -> None:
    with pytest.raises(ValueError, match=rf"below 2\^63, got {seed}"):
        run(problem(), Descent(), 1, seed)


def test_a_run_needs_a_round() -> None:
    with pytest.raises(ValueError, match="at least 1 round, got 0"):
        run(problem(), Descent(), 0)


def test_options_that_are_functions_are_described_by_name() -> None:
    @dataclass
    class Fancy:
        schedule: Callable[[float], float] = math.sqrt
        sizes: tuple[int, ...] = (1, 2)
        inner: Descent = field(default_factory=Descent)
        name: str = "fancy"

    described = rounds.describe(Fancy())
    assert json.loads(json.dumps(described)) == described
    assert described["schedule"] == "sqrt"
    assert described["sizes"] == [1, 2]
    assert "name" not in described


def test_options_are_described_with_their_types() -> None:
    @dataclass(frozen=True)
    class Empty:
        pass

    class Plain:
        def __init__(self) -> None:
            self.factor = 2

    class Pair(NamedTuple):
        a: object
        b: float = math.inf

    @dataclass
    class Fancy:
        schedule: object = field(default_factory=Empty)
        choice: object = field(default_factory=lambda: [Plain(), Pair(Empty)])
        bound: object = partial(math.pow, 2.0)
        table: object = field(default_factory=lambda: {1: torch.ones(2)})
        nothing: object = field(default_factory=object)

    here = "test_options_are_described_with_their_types.<locals>."
    described = rounds.describe(Fancy())
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    assert described == {
        "schedule": {"type": f"{here}Empty"},
        "choice": [
            {"type": f"{here}Plain", "factor": 2},
            {"type": f"{here}Pair", "a": f"{here}Empty", "b": "inf"},
        ],
        "bound": {"type": "partial", "function": "pow", "args": [2.0]},
        "table": {"1": [1.0, 1.0]},
        "nothing": {"type": "object"},
    }


@pytest.mark.parametrize("name", methods.names())
def test_no_description_holds_an_address(name: str) -> None:
    text = json.dumps(rounds.describe(methods.load(name)), allow_nan=False)
    assert " at 0x" not in text
    assert "{}" not in text


class Killed(BaseException):
    """Stands for the end of the process."""


class Killer:
    """Ends a process at its n-th write: before, in the middle, or after it.

    Nothing can be written afterwards, not even by the loop's own handlers.
    """

    def __init__(self, patch: pytest.MonkeyPatch, n: int, moment: str) -> None:
        self.left, self.moment, self.dead = n, moment, False
        self.replace, self.append = (
            fedsciml.federation.directory.replace_file,
            RunDirectory.append,
        )
        for module in (fedsciml.federation.directory, fedsciml.federation.journal):
            patch.setattr(module, "replace_file", self._on_replace)
        patch.setattr(RunDirectory, "append", lambda r, line: self._on_append(r, line))

    def _due(self) -> bool:
        if self.dead:
            raise Killed
        self.left -= 1
        self.dead = self.left == 0
        return self.dead

    def _on_replace(self, path: Path, content: str | bytes) -> None:
        if self._due():
            if self.moment == "middle":
                data = content.encode() if isinstance(content, str) else content
                path.with_name(path.name + ".tmp").write_bytes(data[: len(data) // 2])
            elif self.moment == "after":
                self.replace(path, content)
            raise Killed
        self.replace(path, content)

    def _on_append(self, record: RunDirectory, line: Round) -> None:
        if self._due():
            if self.moment == "middle":
                with (record.directory / "history.jsonl").open("a") as file:
                    file.write(line.line()[:17])
            elif self.moment == "after":
                self.append(record, line)
            raise Killed
        self.append(record, line)


def crashes(method: Method, out: Path, moment: str) -> Iterator[Path]:
    """Run directories of runs that were killed at their first, second, ... write."""
    for n in range(1, 100):
        directory = out / str(n)
        with pytest.MonkeyPatch.context() as patch:
            killer = Killer(patch, n, moment)
            with suppress(Killed):
                run(problem(), method, 3, out=directory)
        if not killer.dead:
            return
        yield directory


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("method", "moment"),
    [
        pytest.param(
            *(method, moment),
            # What a client remembers is in a checkpoint whenever that is written.
            marks=pytest.mark.slow if moment != "middle" else (),
            id=f"{method.name}-{moment}",
        )
        for method in (
            methods.load("fedavg", tau=2, keep_state=True),
            methods.load("fipa"),
        )
        for moment in ("before", "middle", "after")
    ],
)
def test_a_run_killed_at_any_write_ends_as_if_it_were_not(
    tmp_path: Path, moment: str, method: Method
) -> None:
    whole = run(problem(), method, 3)
    seen = 0
    for directory in crashes(method, tmp_path, moment):
        seen += 1
        if not (directory / "run.json").exists():  # killed before there was a run
            with pytest.raises(ValueError, match="There is no run"):
                run(problem(), method, 3, out=directory, resume=True)
            again = run(problem(), method, 3, out=directory)
            assert again.theta_sha256() == whole.theta_sha256(), directory
            continue
        resumed = run(problem(), method, 3, out=directory, resume=True)
        assert resumed.theta_sha256() == whole.theta_sha256(), directory
        assert essence(resumed.history) == essence(whole.history), directory
    # run.json, an empty history, three lines and checkpoints, the last one, the model.
    assert seen == 10
