"""Secure sums where clients are gone, are far larger than the others, or lie."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import CASES, sampled, scalar, theta
from faults import Connected, Faulty, advanced, gone

from fedsciml import methods, run, wrappers
from fedsciml.collocation import strips
from fedsciml.federation.exchange import Federation
from fedsciml.federation.history import Round
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.participation import Rules, TooFewClients
from fedsciml.federation.result import Result
from fedsciml.methods import Addressed, Inconsistent, Method, Record
from fedsciml.methods._base import ClientPart, Parts
from fedsciml.methods._fipa import CurveLosses
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers._masked import At, Keys, Open, Part
from fedsciml.wrappers.secure import Secure

ROUNDS, BAD = 3, 2
"""Rounds of a run, and the one with a fault."""

RULES = Rules(min_clients=3)

NAMES: dict[str, dict[str, object]] = {
    "fipa": {"basis": "shared", "upload": "sums"},
    "fedavg": {"tau": 2},
    "gradient_only": {},
}

SLOW = pytest.mark.slow

SOME = [pytest.param((1,), marks=SLOW), (1, 3)]
"""Of five clients, those that are gone."""

EACH = ["fipa", *(pytest.param(name, marks=SLOW) for name in NAMES if name != "fipa")]


@cache
def cut(clients: int) -> Problem:
    """The problem ``scalar`` in so many strips."""
    edges = [i / clients for i in range(clients + 1)]
    return replace(sampled(scalar()), partition=strips(edges))


def plain(name: str) -> Method:
    return methods.load(name, **NAMES[name])


def part(ask: Record) -> Any:  # noqa: ANN401
    """What a client is asked."""
    return next(iter(ask.parts.values())) if isinstance(ask, Addressed) else ask


class Late(Faulty):
    """Clients that are gone in one exchange of a round, after they did their part.

    Args:
        name: Of the method.
        gone: Who.
        kind: Of what is asked: keys, a part or an opening.
        number: Which one of these in the round, from 1.
        rounds: When.
    """

    def __init__(
        self,
        name: str,
        missing: Iterable[int],
        kind: type[Record],
        number: int,
        rounds: Iterable[int] = (BAD,),
    ) -> None:
        method = Secure(plain(name)).bound(cut(5))
        faults = dict.fromkeys(missing, gone)
        super().__init__(cut(5), method, faults, list(rounds), self.now)
        self.kind, self.number, self.count = kind, number, {0: 0}

    def now(self, ask: Record) -> bool:
        """Called once for each client that has a fault."""
        return isinstance(part(ask), self.kind) and self.seen == self.number

    def ask(
        self,
        ask: Record,
        memories: Mapping[int, Record | None],
        number: int,
        deadline: float | None = None,
    ) -> Any:  # noqa: ANN401
        if isinstance(part(ask), self.kind):
            self.count[number] = self.count.get(number, 0) + 1
        self.seen = self.count.get(number, 0)
        return super().ask(ask, memories, number, deadline)


def trained(clients: LocalClients, rounds: int = ROUNDS, **how: Any) -> Result:  # noqa: ANN401
    backend = Connected(clients)
    how.setdefault("rules", RULES)
    return run(cut(5), clients.method, rounds, backend=backend, **how)


@cache
def clean(name: str) -> Result:
    return run(cut(5), Secure(plain(name)), ROUNDS, rules=RULES)


def dropped(result: Result) -> dict[int, set[int]]:
    """By round, who was left out."""
    return {x.round: {int(m) for m in x.dropped} for x in result.history if x.dropped}


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("missing", SOME)
@pytest.mark.parametrize("number", [1, 2])
def test_clients_that_are_gone_after_masking_cost_nothing(
    name: str, missing: tuple[int, ...], number: int
) -> None:
    if number == 2 and name == "fedavg":
        pytest.skip("has one sum in a round")
    clients = Late(name, missing, Open, number)
    result = trained(clients)
    assert dropped(result) == {BAD: set(missing)}
    assert result.theta_sha256() == clean(name).theta_sha256()
    assert [x.loss for x in result.history] == [x.loss for x in clean(name).history]


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("missing", SOME)
@pytest.mark.parametrize("kind", [pytest.param(Keys, marks=SLOW), Part])
def test_clients_that_are_gone_before_are_not_in_the_sum(
    name: str, missing: tuple[int, ...], kind: type[Record]
) -> None:
    first = 1 if kind is Keys else BAD
    clients = Late(name, missing, kind, 1, [first])
    method, points = clients.method, list[torch.Tensor]()
    assert isinstance(method, Secure)
    asked = clients.ask

    def ask(ask: Record, memories: Any, number: int, *rest: Any) -> Any:  # noqa: ANN401
        if number == first and isinstance(part(ask), Part) and not part(ask).later:
            points.append(part(ask).ask.theta)
        return asked(ask, memories, number, *rest)

    clients.ask = ask  # type: ignore[method-assign]
    result = trained(clients)
    assert dropped(result) == {first: set(missing)}
    left = [m for m in range(5) if m not in missing]
    systems = [System(cut(5), cut(5).shard(m)) for m in left]
    exact = sum(system.loss(points[-1]) for system in systems)
    assert result.history[first - 1].loss == pytest.approx(exact, rel=1e-12)
    # They are back in the next round, and all are in its sum.
    everyone = [System(cut(5), shard) for shard in cut(5).shards()]
    exact = sum(system.loss(result.theta) for system in everyone)
    assert result.loss == pytest.approx(exact, rel=1e-12)
    assert not result.absent


@pytest.mark.parametrize("name", ["fipa", pytest.param("gradient_only", marks=SLOW)])
@pytest.mark.parametrize("missing", SOME)
def test_clients_that_are_gone_at_the_candidates_end_the_round(
    name: str, missing: tuple[int, ...]
) -> None:
    """No sum over the others is asked for; a short step is taken, or none."""
    result = trained(Late(name, missing, Part, 2))
    assert dropped(result) == {BAD: set(missing)}
    before, after = result.history[BAD - 1 : BAD + 1]
    assert before.probes == 0
    assert before.loss == clean(name).history[BAD - 1].loss
    assert after.loss < 2 * before.loss
    assert result.loss < result.history[0].loss


def test_the_run_ends_where_fewer_are_left_than_open_a_sum() -> None:
    with pytest.raises(TooFewClients, match=r"needs 3 of 5 clients, 2 are left"):
        trained(Late("fipa", (0, 1, 3), Open, 1))
    with pytest.raises(TooFewClients, match=r"needs 3 of 5 clients, 2 are left"):
        trained(Late("fipa", (0, 1, 3), Part, 1))


def test_the_run_ends_where_all_are_needed_and_one_is_gone() -> None:
    with pytest.raises(ConnectionError, match="the node is gone"):
        trained(Late("fipa", (1,), Part, 1), rules=Rules())


@pytest.mark.parametrize("kind", [pytest.param(Keys, marks=SLOW), Part, Open])
def test_patience_waits_for_who_is_gone_and_loses_nothing(kind: type[Record]) -> None:
    first = 1 if kind is Keys else BAD
    missing = (1, 2, 4) if kind is Open else (1,)
    clients, seconds = Late("fipa", missing, kind, 1, [first]), [0.0]

    def sleep(time: float) -> None:
        seconds[0] += time

    federation = Federation(
        cut(5),
        clients.method,
        clients,
        Rules(min_clients=5, patience=10),
        lambda: seconds[0],
        sleep,
    )
    start = torch.Generator().manual_seed(0)
    theta = cut(5).network.init(start, torch.float64)
    reached = advanced(federation, theta, ROUNDS)
    assert seconds[0] > 0
    assert torch.equal(reached.state.theta, clean("fipa").theta)


@pytest.mark.parametrize(
    "rounds", [range(2, 4), pytest.param(range(2, 99), marks=SLOW)]
)
def test_a_client_may_be_away_and_come_back(rounds: range) -> None:
    method = Secure(plain("fipa")).bound(cut(5))
    clients = Faulty(cut(5), method, away={1: rounds, 3: rounds})
    result = trained(clients, 6)
    expected = {n: {1, 3} for n in range(1, 7) if n in rounds}
    assert dropped(result) == expected
    assert result.loss < result.history[0].loss
    assert not {*result.absent} - {"1", "3"}


def test_who_leaves_alone_is_told_to_be_given_away() -> None:
    result = trained(Late("fedavg", (1,), Part, 1))
    told = [text for text in result.warnings if "left or came back alone" in text]
    assert len(told) == 1
    assert told[0].startswith("Client(s) 1 left")
    assert not any("left or came back" in text for text in clean("fedavg").warnings)


def test_a_client_that_is_gone_at_the_end_leaves_the_last_known_loss() -> None:
    method = Secure(plain("fipa")).bound(cut(5))

    def ending(ask: Record) -> bool:
        return isinstance(getattr(part(ask), "ask", None), At)

    result = trained(Faulty(cut(5), method, {1: gone}, when=ending))
    assert result.loss == clean("fipa").history[-1].loss
    assert result.theta_sha256() == clean("fipa").theta_sha256()
    assert "1" in result.absent


Spoiling = Callable[[Any], Any]


def lying(method: Method, faults: Mapping[int, Spoiling]) -> Method:
    """A method some of whose clients tell something else, before it is masked."""

    class Lying(type(method)):  # type: ignore[misc]
        """The same but for that."""

        @property
        def client(self) -> Parts:
            """The parts, spoilt."""

            def spoilt(part: ClientPart) -> ClientPart:
                def told(system: System, ask: Any, memory: Any) -> Any:  # noqa: ANN401
                    answer, memory = part(system, ask, memory)
                    fault = faults.get(system.shard.client)
                    return (fault(answer) if fault else answer), memory

                return told

            return {ask: spoilt(part) for ask, part in super().client.items()}

    made: Method = Lying(**{f.name: getattr(method, f.name) for f in fields(method)})  # type: ignore[arg-type]
    return made


def scaled(factor: float, *names: str, answers: int = 0) -> Spoiling:
    """These fields of an answer times a factor, by default all; at first it is true."""
    count = [0]

    def fault(answer: Any) -> Any:  # noqa: ANN401
        count[0] += 1
        if count[0] <= answers:
            return answer
        given = {f.name: getattr(answer, f.name) for f in fields(answer)}
        some = {
            name: factor * value
            for name, value in given.items()
            if value is not None and (name in names or not names) and name != "check"
        }
        return replace(answer, **some)

    return fault


def both(
    problem: Problem, name: str, fault: Callable[[], Spoiling], rounds: int = ROUNDS
) -> tuple[Result, Result]:
    """The run of sums under masks, and of plain ones, where client 1 has a fault."""
    return (
        run(problem, Secure(lying(plain(name), {1: fault()})), rounds),
        run(problem, lying(plain(name), {1: fault()}), rounds),
    )


def alike(found: Result, expected: Result, far: float) -> None:
    """Same losses and theta, to a relative difference."""
    a, b = (torch.tensor([x.loss for x in r.history]) for r in (found, expected))
    assert torch.allclose(a.double(), b.double(), rtol=far, atol=0)
    assert (found.theta - expected.theta).norm() <= far * expected.theta.norm()


@pytest.mark.parametrize("answers", [pytest.param(0, marks=SLOW), 3])
@pytest.mark.parametrize(
    "factor", [1e30, *(pytest.param(x, marks=SLOW) for x in (1e12, 1e-30, 0.0))]
)
@pytest.mark.parametrize("name", ["gradient_only", "fedavg"])
def test_numbers_of_another_size_are_added_as_they_are(
    name: str, factor: float, answers: int
) -> None:
    """At first or in a later round, when units are agreed already."""
    names = ("loss", "losses", "gradient") if name == "gradient_only" else ("loss",)
    found, expected = both(
        cut(3), name, lambda: scaled(factor, *names, answers=answers)
    )
    alike(found, expected, 1e-9)  # measured 2e-13


@pytest.mark.parametrize("size", [pytest.param(1e6, marks=SLOW), 1e15])
def test_a_client_with_data_of_another_size_is_no_liar(size: float) -> None:
    pde, ends = cut(5).terms

    def target(x: torch.Tensor) -> torch.Tensor:
        return torch.where((x[:, 0] > 0.2) & (x[:, 0] < 0.4), size, 1.0)

    large = replace(cut(5), terms=[replace(pde, target=target), ends])
    alike(run(large, Secure(plain("fipa")), 3), run(large, plain("fipa"), 3), 1e-9)


def test_numbers_that_fit_no_unit_end_the_run_with_what_they_are() -> None:
    method = Secure(lying(plain("gradient_only"), {1: scaled(1e290)}))
    with pytest.raises(Inconsistent, match="fit into no unit"):
        run(cut(3), method, 2)


@pytest.mark.parametrize("bad", [math.inf, pytest.param(math.nan, marks=SLOW)])
def test_a_candidate_that_one_client_cannot_use_is_not_taken(bad: float) -> None:
    def fault(answer: Any) -> Any:  # noqa: ANN401
        if not hasattr(answer, "losses"):
            return answer
        losses = answer.losses.clone()
        losses[:-2] = bad
        return replace(answer, losses=losses)

    found, expected = both(cut(3), "gradient_only", lambda: fault)
    if bad == math.inf:
        alike(found, expected, 1e-9)
    assert found.loss < found.history[0].loss


def test_what_must_be_finite_and_is_not_is_said_by_the_client() -> None:
    method = Secure(lying(plain("fipa"), {1: scaled(math.nan, "target")}))
    with pytest.raises(FloatingPointError, match="its target is not finite"):
        run(cut(3), method, 2)


@pytest.mark.parametrize("name", EACH)
def test_a_run_in_single_precision_is_the_plain_one_to_its_rounding(name: str) -> None:
    found, expected = (
        run(cut(3), method, 2, dtype=torch.float32)
        for method in (Secure(plain(name)), plain(name))
    )
    assert found.theta.dtype == torch.float32
    alike(found, expected, 1e-3)


@pytest.mark.parametrize("name", EACH)
def test_sums_that_are_zero_are_zero(name: str) -> None:
    """No unit is fine enough for zero: it is not asked for for ever."""
    zero = scaled(0.0, "loss", "losses", "gradient", "gramian", "target", "products")
    method = Secure(lying(plain(name), dict.fromkeys(range(3), zero)))
    result = run(cut(3), method, 2)
    assert [x.loss for x in result.history] == [0, 0]


LIES: dict[str, Spoiling] = {
    "a gramian of the other sign": scaled(-1.0, "gramian"),
    "a target that is too long": scaled(1000.0, "target"),
    "a loss below zero": scaled(-1.0, "loss"),
    "everything of the other sign": scaled(-1.0),
}


@pytest.mark.parametrize("name", LIES)
def test_of_four_clients_a_liar_ends_the_run(name: str) -> None:
    method = Secure(lying(plain("fipa"), {2: LIES[name]}))
    with pytest.raises(Inconsistent, match="breaks a law that every sum of honest"):
        run(cut(4), method, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIES)
def test_of_nine_clients_a_liar_is_found_and_asked_no_more(name: str) -> None:
    found(name, 4, 12)


def test_of_nine_clients_one_that_lies_of_its_target_is_found() -> None:
    found("a target that is too long", 4, 4)


def found(name: str, liar: int, rounds: int) -> None:
    method = Secure(lying(plain("fipa"), {liar: LIES[name]}))
    result = run(cut(9), method, rounds, rules=Rules(min_clients=6))
    named = [line.round for line in result.history if line.dropped]
    assert named == list(range(4, rounds + 1))
    last: Round = result.history[-1]
    assert [*last.dropped] == [str(liar)]
    assert "is asked no more: " in last.dropped[str(liar)]
    assert "in round 3." in last.dropped[str(liar)]
    # What is minimised then is the loss of the others.
    others = [System(cut(9), cut(9).shard(m)) for m in range(9) if m != liar]
    exact = sum(system.loss(result.theta) for system in others)
    assert result.loss == pytest.approx(exact, rel=1e-12)
    if rounds > 10:
        assert result.loss < 0.1 * result.history[0].loss


def test_who_lied_once_has_all_in_one_sum_again() -> None:
    """Two rounds in groups: the bad one, and the one that finds nobody."""
    count = [0]

    def once(answer: Any) -> Any:  # noqa: ANN401
        if isinstance(answer, CurveLosses):
            return answer
        count[0] += 1
        return LIES["a target that is too long"](answer) if count[0] == 3 else answer

    method = Secure(lying(plain("fipa"), {4: once})).bound(cut(9))
    clients = LocalClients(cut(9), method)
    federation = Federation(cut(9), method, clients, Rules(min_clients=6))
    reached = federation.start(theta(cut(9)), 0)
    groups = []
    for _ in range(5):
        reached = federation.advance(reached).checkpoint
        groups.append(len(set(reached.state.sets.tolist())))  # type: ignore[attr-defined]
    assert groups == [1, 1, 3, 1, 1]


def test_honest_clients_are_never_objected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    never_objected("system", 0, 3, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_honest_clients_are_never_objected_to_in_long_runs(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        never_objected(name, seed, 8, monkeypatch)


def never_objected(
    name: str, seed: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = replace(sampled(CASES[name]()), partition=strips([0, 0.3, 0.6, 1]))
    said: list[str] = []
    law = Secure._wrong

    def kept(self: Secure, inner: Any, told: Any) -> str:  # noqa: ANN401
        if wrong := law(self, inner, told):
            said.append(wrong)
        return wrong

    monkeypatch.setattr(Secure, "_wrong", kept)
    run(edges, Secure(plain("fipa")), rounds, seed)
    assert not said


@pytest.mark.parametrize("name", ["fipa", pytest.param("fedavg", marks=SLOW)])
def test_a_run_that_was_killed_ends_as_if_it_were_not(
    name: str, tmp_path: Path
) -> None:
    """Its clients have new identities and keys then: seats live in the process."""

    def method() -> Method:
        options: dict[str, object] = {"tau": 2} if name == "fedavg" else {}
        return wrappers.load(name, secure=True, **options)  # type: ignore[arg-type]

    def killed(line: Round) -> None:
        if line.round == 2:
            raise KeyboardInterrupt

    whole = run(cut(3), method(), ROUNDS)
    with pytest.raises(KeyboardInterrupt):
        run(cut(3), method(), ROUNDS, out=tmp_path / "run", progress=killed)
    resumed = run(cut(3), method(), ROUNDS, out=tmp_path / "run", resume=True)
    assert resumed.theta_sha256() == whole.theta_sha256()
    assert [x.loss for x in resumed.history] == [x.loss for x in whole.history]
    longer = run(cut(3), method(), ROUNDS + 1, out=tmp_path / "run", resume=True)
    assert longer.theta_sha256() == run(cut(3), method(), ROUNDS + 1).theta_sha256()
