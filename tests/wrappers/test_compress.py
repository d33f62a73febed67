"""Uploads in fewer bits: what is rounded, by how much, and what feedback gives back."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cases import scalar, small, theta
from faults import Connected, Faulty, opening
from torch import Generator, Tensor

from fedsciml import Result, methods, run
from fedsciml.federation.participation import Rules
from fedsciml.methods import (
    Exchanges,
    Expected,
    Field,
    Info,
    Method,
    Parts,
    Record,
    State,
    conclude,
    payload,
)
from fedsciml.methods._fipa import Sketched
from fedsciml.residual import System
from fedsciml.wrappers.compress import Changed, Compressed, Precision, compressed

U: dict[Precision, float] = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
"""Unit roundoffs."""

EVERY = pytest.mark.parametrize("dtype", U)


class Given(Record):
    """What clients are asked to send: rows [k, p], or a vector [p]."""

    rows: Tensor


class Sent(Record):
    """The same."""

    rows: Tensor


class Seen(State):
    """What came, by the number of the client."""

    rows: Mapping[str, Tensor]


class Echo(Method):
    """Clients send the rows that they are given; the server keeps them."""

    name = "echo"
    pooled = False
    kinds = (Seen, Given, Sent)

    @property
    def client(self) -> Parts:
        return {Given: lambda system, ask, memory: (Sent(ask.rows), memory)}

    def start(self, theta: Tensor, seed: int) -> Seen:
        del seed
        return Seen(theta, {})

    def round(self, state: Seen) -> Exchanges[Seen]:
        answers = yield Given(state.theta)
        rows = {f"{m}": answer.rows for m, answer in answers.items()}
        return Seen(state.theta, rows), Info(0.0)

    def expects(self, ask: Record, size: int) -> Expected:
        shape = ("k", size) if ask.rows.ndim == 2 else (size,)
        return Expected(Sent, {"rows": Field(shape, scale=True)})

    def renewed(self, state: Seen) -> Seen:
        return Seen(state.theta, {})


class Line:
    """A client and a server that talk through a compression of ``Echo``."""

    def __init__(self, dtype: Precision, feedback: bool = True) -> None:
        self.method = Compressed(Echo(), dtype, feedback)
        problem = scalar()
        self.system = System(problem, problem.shards()[0])
        self.state = self.method.start(theta(problem), 0)
        self.memory: Record | None = None

    def send(self, rows: Tensor) -> Record:
        """The client's answer."""
        part = self.method.client[Given]
        answer, self.memory = part(self.system, Given(rows), self.memory)
        return answer

    def read(self, answers: Mapping[int, Record]) -> list[Tensor]:
        """What the server makes of the answers of clients."""
        exchanges = self.method.round(self.state)
        self.state, _ = conclude(exchanges, lambda ask: answers)
        return list(self.state.inner.rows.values())

    def across(self, rows: Tensor) -> Tensor:
        return self.read({0: self.send(rows)})[0]


def graded(size: int, k: int = 6, seed: int = 0) -> Tensor:
    """Orthogonal rows [k, size] of lengths 1, 1e-2, ..., as those of a sketch."""
    generator = Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(
        torch.randn(size, k, generator=generator, dtype=torch.float64)
    )
    return q.mT * 100.0 ** -torch.arange(k, dtype=torch.float64)[:, None]


def lengths(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=-1)


@EVERY
def test_every_row_is_rounded_relative_to_itself_and_targets_are_not(
    dtype: Precision,
) -> None:
    problem, alone = scalar(), methods.load("fipa")
    method = Compressed(alone, dtype)
    for shard in problem.shards():
        system = System(problem, shard)
        ask = next(method.round(method.start(theta(problem), 0)))
        exact, _ = alone.client[type(ask)](system, ask, None)
        upload, _ = method.client[type(ask)](system, ask, None)
        assert isinstance(exact, Sketched)
        assert isinstance(upload, Sketched)
        k, p = exact.factor.shape
        size = torch.finfo(getattr(torch, dtype)).bits // 8
        assert payload(upload) == k * (p * size + 8) + 8
        assert torch.equal(upload.target, exact.target)
        assert upload.loss == exact.loss
        error = lengths(upload.factor.double() - exact.factor)
        assert (error <= U[dtype] * lengths(exact.factor)).all()
        assert error.max() > 0


def test_rounding_to_the_precision_of_theta_changes_nothing() -> None:
    problem = small("allen_cahn", points=0.05, width=6)
    fipa = methods.load("fipa")
    plain, rounded = (
        run(problem, method, 3, dtype=torch.float32)
        for method in (fipa, Compressed(fipa, "float32"))
    )
    assert torch.equal(plain.theta, rounded.theta)


@EVERY
def test_feedback_makes_good_what_rounding_dropped_though_signs_change(
    dtype: Precision,
) -> None:
    line = Line(dtype)
    size = line.system.size
    rows = graded(size)
    k = len(rows)
    error = torch.full((k,), torch.inf, dtype=torch.float64)
    for seed in range(4):
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)[
            torch.randint(2, (k,), generator=Generator().manual_seed(seed))
        ]
        given = rows * signs[:, None]
        # Off the rows known by no more than they are wrong, and W is rounded too.
        off = torch.minimum(error, lengths(rows)) + 2.0**-24 * k * lengths(rows)
        error = lengths(line.across(given) - given)
        assert (error <= U[dtype] * off).all(), seed
    without = lengths(Line(dtype, feedback=False).across(rows) - rows)
    assert (error < 1e-3 * without).all()


@EVERY
def test_a_rotated_sketch_is_known_as_well(dtype: Precision) -> None:
    line = Line(dtype)
    rows = graded(line.system.size, 4) * 1e2 ** torch.arange(4)[:, None]
    generator = Generator().manual_seed(1)
    turn, _ = torch.linalg.qr(
        torch.randn(4, 4, generator=generator, dtype=torch.float64)
    )
    line.across(rows)
    rotated = turn @ rows
    error = (line.across(rotated) - rotated).norm()
    # |e| after the first upload is at most u |B|, after the second u (|e| + of W).
    assert error <= U[dtype] * (U[dtype] + 4 * 2.0**-24) * rows.norm()


def test_a_client_without_memory_sends_all_again() -> None:
    line = Line("bfloat16")
    rows = graded(line.system.size)
    first = line.across(rows)
    assert not torch.equal(line.across(rows), first)
    line.memory = None
    assert torch.equal(line.across(rows), first)


def test_the_rank_may_change_and_be_zero() -> None:
    line = Line("bfloat16")
    size = line.system.size
    for k in (3, 0, 6, 2):
        rows = graded(size, k)
        assert (
            lengths(line.across(rows) - rows) <= U["bfloat16"] * lengths(rows)
        ).all()


def test_an_update_is_a_sketch_of_one_row() -> None:
    line = Line("bfloat16")
    update = graded(line.system.size, 1)[0]
    errors = [float((line.across(update) - update).norm()) for _ in range(3)]
    assert errors[0] <= U["bfloat16"]
    assert errors[2] <= U["bfloat16"] ** 2


def test_a_server_knows_each_client_s_sketch_though_others_are_missing() -> None:
    lines = [Line("bfloat16") for _ in range(3)]
    server, size = lines[0], lines[0].system.size
    rows = [graded(size, 3, seed) for seed in range(3)]

    def errors(*present: int) -> list[float]:
        found = server.read({m: lines[m].send(rows[m]) for m in present})
        return [
            float((seen - rows[m]).norm())
            for m, seen in zip(present, found, strict=True)
        ]

    before = errors(0, 2)
    server.state = server.method.renewed(server.state)
    middle = errors(1, 2)
    after = errors(0, 1)
    assert middle[1] <= U["bfloat16"] * before[1]
    assert middle[0] > U["bfloat16"] / 10  # seen for the first time
    assert after[0] <= U["bfloat16"] * before[0]


def test_a_change_of_what_the_server_never_had_is_refused() -> None:
    line = Line("bfloat16")
    line.send(graded(line.system.size, 3))
    with pytest.raises(ValueError, match=r"change of a 'rows' of 3 rows.*knows one of"):
        line.read({0: line.send(graded(line.system.size, 3))})


def with_feedback(seed: int, rounds: int = 30) -> list[Result]:
    """Without compression, with it, and with feedback."""
    problem = small("allen_cahn", points=0.1, width=8)
    fipa = methods.load("fipa", basis="own")
    words = ("none", "bfloat16", "bfloat16,feedback")
    return [run(problem, compressed(fipa, w), rounds, seed=seed) for w in words]


@pytest.mark.slow
def test_feedback_reaches_more_digits_from_most_starts() -> None:
    """By a factor that differs from start to start, and with the last bits."""
    runs = [with_feedback(seed) for seed in range(5)]
    # Measured between 3e-8 and 4e-2, with other last bits 5e-10 and 1e-2.
    factors = [feedback.loss / plain.loss for _, plain, feedback in runs]
    assert sorted(factors)[2] < 1e-3


def test_feedback_reaches_more_digits_in_as_many_bytes() -> None:
    none, plain, feedback = with_feedback(seed=0)
    assert feedback.loss < 1e-3 * plain.loss  # measured 3e-9 and 3e-8
    sent = [result.history[-1].bytes_up for result in (none, plain, feedback)]
    assert sent[2] < 0.45 * sent[0]


def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    problem = small("allen_cahn", points=0.05, width=6)
    method = compressed(methods.load("fipa"), "bfloat16,feedback")
    whole = run(problem, method, 5)
    run(problem, method, 5, out=tmp_path / "run", stop=lambda lines: len(lines) == 2)
    resumed = run(problem, method, 5, out=tmp_path / "run", resume=True)
    assert torch.equal(resumed.theta, whole.theta)


BOTH = pytest.mark.parametrize("precision", [torch.float32, torch.float64])


@BOTH
@pytest.mark.parametrize("word", ["float32,feedback", "bfloat16,feedback"])
def test_a_run_ends_at_the_same_bytes_every_time(
    word: str, precision: torch.dtype
) -> None:
    problem, method = scalar(), compressed(methods.load("fipa"), word)
    first, *others = (run(problem, method, 4, dtype=precision) for _ in range(3))
    assert all(torch.equal(first.theta, other.theta) for other in others)


@BOTH
def test_over_flower_the_bytes_are_those_in_process(precision: torch.dtype) -> None:
    flower = pytest.importorskip("fedsciml.flower", exc_type=ImportError)
    problem = small("allen_cahn", points=0.05, width=6)
    method = compressed(methods.load("fipa"), "bfloat16,feedback")
    here = run(problem, method, 3, dtype=precision)
    there = flower.run(problem, method, 3, dtype=precision)
    assert torch.equal(here.theta, there.theta)
    assert here.history[-1].bytes_up == there.history[-1].bytes_up


def test_a_word_names_a_compression() -> None:
    fipa = methods.load("fipa")
    assert compressed(fipa, "none") is fipa
    assert compressed(fipa, "float32") == Compressed(fipa)
    assert compressed(fipa, "bfloat16,feedback") == Compressed(fipa, "bfloat16", True)
    for word in ("float16", "float32,", "feedback", "float32,echo"):
        with pytest.raises(ValueError, match="A compression is none, float32, bfloat1"):
            compressed(fipa, word)


def test_nothing_is_compressed_where_nothing_is_sent() -> None:
    with pytest.raises(ValueError, match="gauss_newton is centralised: nothing is sen"):
        compressed(methods.load("gauss_newton"), "float32")
    with pytest.raises(ValueError, match="rounded to one of float32, bfloat16; got"):
        Compressed(methods.load("fipa"), "float64")  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["float32", "bfloat16,feedback"])
def test_a_client_that_scales_its_sketch_is_dropped(word: str) -> None:
    problem = small("allen_cahn", points=0.1, width=8, clients=3)
    method = compressed(methods.load("fipa", basis="own"), word)

    def scaled(answer: Sketched | Changed) -> Record:
        if isinstance(answer, Sketched):
            return replace(answer, factor=1e6 * answer.factor)
        weights = {name: 1e6 * w for name, w in answer.weights.items()}
        assert list(weights) == ["factor"]
        return Changed(scaled(answer.answer), weights)

    clients = Faulty(problem, method, {1: scaled}, rounds=range(2, 4), when=opening)
    backend = Connected(clients)
    history = run(problem, method, 4, backend=backend, rules=Rules(2)).history
    # What contradicts itself twice is not asked again.
    dropped = [[], ["1"], ["1"], ["1"]]
    assert [list(line.dropped) for line in history] == dropped


@pytest.mark.parametrize(("name", "key"), [("fipa", "factor"), ("fedavg", "delta")])
def test_a_client_that_scales_all_that_is_new_is_never_merged(
    name: str, key: str
) -> None:
    problem = small("allen_cahn", points=0.1, width=8, clients=3)
    alone = methods.load(name, **({"tau": 2} if name == "fedavg" else {}))
    method = compressed(alone, "float32,feedback")

    def scaled(answer: Changed) -> Changed:
        change = 1e6 * getattr(answer.answer, key)
        return replace(answer, answer=replace(answer.answer, **{key: change}))

    backend = Connected(Faulty(problem, method, {1: scaled}, when=opening))
    history = run(problem, method, 2, backend=backend, rules=Rules(2)).history
    assert [list(line.dropped) for line in history] == [["1"], ["1"]]
    told = {"factor": "its target misses", "delta": "its delta moves theta"}[key]
    assert told in history[0].dropped["1"]


def test_with_feedback_clients_come_and_go() -> None:
    problem = small("allen_cahn", points=0.1, width=8, clients=3)
    method = compressed(methods.load("fipa"), "bfloat16,feedback")
    away = {0: range(4, 6), 2: range(5, 9)}
    backend = Connected(Faulty(problem, method, away=away))
    found = run(problem, method, 50, backend=backend, rules=Rules(1))
    assert found.loss < 1e-16 * found.history[0].loss


def test_with_feedback_the_server_knows_the_prior() -> None:
    problem = replace(small("digits"), prior=1e-3)
    feedback = Compressed(methods.load("fipa"), "float32", feedback=True)
    assert feedback.bound(problem).method == methods.load("fipa").bound(problem)  # type: ignore[attr-defined]
