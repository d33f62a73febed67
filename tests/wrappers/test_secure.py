"""Secure sums: what is added up, what is refused, and what a server cannot ask for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import sampled, scalar, theta
from exchanges import begin, play

from fedsciml import MLP, Term, methods, run, wrappers
from fedsciml.analysis import gradient_norm
from fedsciml.collocation import in_box, strips
from fedsciml.federation.inprocess import LocalClients
from fedsciml.federation.result import Result
from fedsciml.federation.site import Content, Order, Site
from fedsciml.likelihoods import Poisson
from fedsciml.methods import Addressed, Method, Record, addressed
from fedsciml.network import Jet
from fedsciml.problem import Problem, Row, SiteError
from fedsciml.residual import System
from fedsciml.secure import keys
from fedsciml.secure.seat import ServerError
from fedsciml.wrappers import Balanced, Compressed, Resampled, Warmup
from fedsciml.wrappers._masked import Keys, Open, Part, Upload
from fedsciml.wrappers.secure import Secure

SLOW = pytest.mark.slow

RUNS: dict[str, dict[str, object]] = {
    "fipa": {},
    "gradient_only": {},
    "fedavg": {"tau": 2},
    "fedprox": {"tau": 2},
    "fedadam": {"tau": 2},
}
"""Methods whose server only adds up, with little local training."""

AROUND: dict[str, dict[str, object]] = {"fipa warmed up": {"warmup": "fedavg:2,tau=2"}}
ALL = {**RUNS, **AROUND}
ROUNDS = 3

FAR = {"fipa": 1e-9, "fipa warmed up": 1e-10}
"""By how much theta differs from that without masks, relative: measured 4e-12, 5e-14
and 2e-14 with five clients; 1e-15 for methods that solve no equations."""


QUICK = ("fipa", "gradient_only", "fedavg", "fipa warmed up")
EACH = [name if name in QUICK else pytest.param(name, marks=SLOW) for name in ALL]


@cache
def problem() -> Problem:
    return sampled(scalar())


def of(name: str, **further: object) -> Method:
    return wrappers.load(name.split()[0], **{**ALL[name], **further})  # type: ignore[arg-type]


def secure(name: str, **further: object) -> Method:
    return of(name, secure=True, **further)


@cache
def masked(name: str) -> Result:
    return run(problem(), secure(name), ROUNDS)


def zeros(key: bytes, count: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Masks that hide nothing."""
    del key
    return np.zeros((count, 2), np.uint64)


@pytest.mark.parametrize("name", EACH)
def test_masks_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = masked(name)
    monkeypatch.setattr(keys, "stream", zeros)
    found = run(problem(), secure(name), ROUNDS)
    assert found.theta_sha256() == expected.theta_sha256()
    assert found.loss == expected.loss
    for a, b in zip(found.history, expected.history, strict=True):
        assert replace(a, seconds=0) == replace(b, seconds=0)


@pytest.mark.parametrize("name", EACH)
def test_a_secure_run_is_the_plain_one_to_rounding(name: str) -> None:
    further = {"basis": "shared", "upload": "sums"} if "fipa" in name else {}
    plain, found = run(problem(), of(name, **further), ROUNDS), masked(name)
    far = float((found.theta - plain.theta).norm() / plain.theta.norm())
    assert far <= FAR.get(name, 1e-14)
    assert found.loss == pytest.approx(plain.loss, rel=100 * FAR.get(name, 1e-14))


def test_secure_sums_stand_around_all_other_wrappers() -> None:
    inner = secure("fedavg")
    around: list[Callable[[], Method]] = [
        lambda: Warmup(inner, 1, of("fipa")),
        lambda: Warmup(of("fedavg"), 1, inner),
        lambda: Resampled(inner, 2),
        lambda: Compressed(inner),
        lambda: Balanced(inner, "terms"),
    ]
    for make in around:
        with pytest.raises(ValueError, match="Secure sums stand around all other"):
            make()


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    **{
        name: ({}, "is centralised: there is nothing to hide. Leave out secure sums")
        for name in ("adam", "lbfgs", "gauss_newton")
    },
    "fedfisher": ({}, "reads each client's curvature .* take a method whose server"),
    "fedpm": ({}, "every client's answers by themselves. .* take a method whose"),
    "fipa_paper": ({}, "every client's answers by themselves. .* take a method whose"),
    "fipa rows": ({"basis": "shared", "upload": "rows"}, "take upload sums"),
    "fipa own": ({"basis": "own"}, "take a method whose server only adds up"),
    "fipa balanced": ({"balance": "terms"}, "take a method whose server only adds up"),
    "fipa compressed": ({"compress": "float32"}, "leave the compression out"),
    "scaffold": ({}, "remember from round to round"),
    "feddyn": ({}, "remember from round to round"),
    "fedavg keeps": ({"keep_state": True}, "remember from round to round"),
    "fipa trains": (
        {"basis": "shared", "upload": "sums", "local": "adam"},
        "remember from round to round",
    ),
    "fipa resampled": ({"resample": "2"}, "draw points of their own"),
    "fedavg compressed": ({"compress": "bfloat16"}, "take a method whose server only"),
}
"""By method, with options, what is told where secure sums are of no use."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_method_that_reads_answers_one_by_one_is_refused(name: str) -> None:
    options, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        wrappers.load(name.split()[0], secure=True, **options)  # type: ignore[arg-type]


def test_every_method_is_accepted_or_refused_with_a_reason() -> None:
    known = {*RUNS, *(name for name in REFUSED if " " not in name)}
    elsewhere = {
        "fedrcl",
        "fedlora",
    }  # FedAvg, on classes, and with personal parameters
    assert known | elsewhere == {*methods.names()}


def test_fipa_without_anchors_is_refused_with_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"cannot do with sums here.*Term\(sample="):
        run(scalar(), wrappers.load("fipa", secure=True), 1)


def test_fewer_than_three_clients_or_three_a_group_are_refused() -> None:
    two = replace(problem(), partition=strips([0, 0.5, 1]))
    with pytest.raises(ValueError, match="at least 3 clients, .* here are 2"):
        run(two, secure("fipa"), 1)
    with pytest.raises(ValueError, match=r"in 2 group\(s\) need at least 6 clients"):
        run(problem(), secure("fipa", groups=2), 1)
    with pytest.raises(ValueError, match="1 group or more, got 0"):
        secure("fipa", groups=0)


def test_nothing_of_one_client_is_in_the_record(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(problem(), secure("fipa"), ROUNDS, out=out)
    run(
        problem(), of("fipa", basis="shared", upload="sums"), ROUNDS, out=tmp_path / "p"
    )
    lines = (out / "history.jsonl").read_text().splitlines()
    plain = (tmp_path / "p" / "history.jsonl").read_text().splitlines()
    for line, other in zip(map(json.loads, lines), map(json.loads, plain), strict=True):
        # What stands there for each client in a run without masks.
        assert {"losses", "gradients"} <= other.keys()
        assert not {"losses", "gradients", "suspects", "against"} & line.keys()
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-6)
    told = (out / "run.json").read_text()
    systems = [System(problem(), shard) for shard in problem().shards()]
    start = problem().network.init(torch.Generator().manual_seed(0), torch.float64)
    for loss in (system.loss(start) for system in systems):
        for text in (told, *lines):
            assert f"{loss:.8g}"[:8] not in text


class Between:
    """A server between an honest one and the clients, that changes what it asks.

    Args:
        lie: From the part of a client, its number and the number of the exchange to
            what it is asked instead.
        around: What is run; of ``problem`` with five clients.
    """

    def __init__(
        self, lie: Callable[[Any, int, int], Record], around: Method | None = None
    ) -> None:
        self.problem = five()
        self.method = (around or secure("fipa")).bound(self.problem)
        self.clients = LocalClients(self.problem, self.method)
        self.lie, self.count = lie, 0
        self.log: list[tuple[Record, dict[int, Any]]] = []

    def answer(self, ask: Record) -> dict[int, Any]:
        self.count += 1
        parts = {str(m): self.lie(addressed(ask, m), m, self.count) for m in range(5)}
        told = self.clients.exchange(Addressed(parts))
        self.log.append((ask, told))
        return told

    def play(self) -> Any:  # noqa: ANN401
        return play(self.method, begin(self.problem, self.method), self.answer)


@cache
def five() -> Problem:
    edges = [0, 0.2, 0.4, 0.6, 0.8, 1]
    return replace(sampled(scalar()), partition=strips(edges))


def honest(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
    del m, count
    return ask


def changed(**fields: Callable[[Any], object]) -> Callable[[Any, int, int], Record]:
    """Client 2 is asked for something else in every sum."""

    def lie(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
        del count
        if m != 2 or not isinstance(ask, Part):
            return ask
        return replace(ask, **{name: change(ask) for name, change in fields.items()})

    return lie


def inner(**fields: Callable[[Any], object]) -> Callable[[Any, int, int], Record]:
    """Likewise, in the ask of the method."""
    return changed(
        ask=lambda part: replace(
            part.ask, **{name: change(part.ask) for name, change in fields.items()}
        )
    )


LIES: dict[str, Callable[[Any, int, int], Record]] = {
    "another theta": inner(theta=lambda ask: 1.5 * ask.theta),
    "a theta close by": inner(theta=lambda ask: (1 + 1e-9) * ask.theta),
    "another seed": inner(seed=lambda ask: ask.seed + 1),
    "another unit": changed(fractions=lambda part: part.fractions + 1),
    "a unit that tells nothing": changed(fractions=lambda part: part.fractions - 200),
    "another name": changed(sum=lambda part: part.sum.flip(0)),
    "that it is asked again": changed(again=lambda part: 1),
}


@pytest.mark.parametrize("name", LIES)
def test_a_client_that_is_asked_for_something_else_is_not_told_apart(name: str) -> None:
    """Of two sums in which it alone is asked otherwise the difference is its own."""
    server = Between(LIES[name])
    with pytest.raises(
        ServerError, match="refuses: .*site 2|Site 2 refuses|masked none"
    ):
        server.play()
    assert isinstance(next(iter(server.log[-1][1].values())), Upload)  # none was opened


def test_a_server_that_tells_clients_nothing_untrue_is_not_refused() -> None:
    server = Between(honest)
    played = server.play()
    assert played.info.loss == pytest.approx(
        sum(s.loss(theta(five())) for s in server.clients.systems), rel=1e-12
    )


def test_a_client_that_is_told_other_totals_is_not_told_apart() -> None:
    """They weigh its rows: told half of them, it adds twice its loss."""
    server = Between(honest)
    counts = [2 * len(term.points) for term in five().terms]
    other = System(five(), five().shard(2, counts))
    server.clients.systems[2] = other
    with pytest.raises(ServerError, match="site 2 did not write for it"):
        server.play()


def test_a_client_whose_memory_is_turned_back_is_not_told_apart() -> None:
    """It remembers the point of the round before, where it would find other losses."""
    old: list[Record | None] = []

    def lie(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
        if m == 2 and isinstance(ask, Part) and ask.later:
            old.append(server.clients.memories[2])
            server.clients.memories[2] = old[0]
        return ask

    server = Between(lie, secure("gradient_only"))
    second = server.play().state
    with pytest.raises(ServerError, match="site 2 did not write for it"):
        play(server.method, second, server.answer)
    first, then = (memory.inner for memory in old[-2:])  # type: ignore[union-attr]
    assert not torch.equal(first.theta, then.theta)  # type: ignore[union-attr]


DIRECT = [lambda part: part.ask, lambda part: methods.Opening(part.ask.theta)]


@pytest.mark.parametrize("made", DIRECT)
def test_a_client_answers_no_ask_of_the_method_itself(
    made: Callable[[Any], Record],
) -> None:
    def lie(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
        return made(ask) if m == 2 and isinstance(ask, Part) else ask

    with pytest.raises(ValueError, match="never asks a client for (Anchored|Opening)"):
        Between(lie).play()


def test_a_part_in_a_part_is_no_way_around() -> None:
    def lie(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
        return replace(ask, ask=ask) if m == 2 and isinstance(ask, Part) else ask

    with pytest.raises(ValueError, match="never asks a client for Part"):
        Between(lie).play()


def test_letters_that_were_swapped_open_nothing() -> None:
    def lie(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
        if m != 2 or not isinstance(ask, Open):
            return ask
        return replace(ask, letters=ask.letters[[1, 0, 2, 3, 4]])

    with pytest.raises(ServerError, match="Site 2 refuses: .*site 0 did not write"):
        Between(lie).play()


def test_a_new_key_in_the_middle_of_a_round_ends_the_session() -> None:
    server = Between(honest)

    def lie(ask: Any, m: int, count: int) -> Record:  # noqa: ANN401
        if m == 2 and isinstance(ask, Open) and count == 3:
            server.method.part(Keys())(server.clients.systems[2], Keys(), None)
        return ask

    server.lie = lie
    with pytest.raises(ServerError, match="Site 2 refuses: .*before it told who is in"):
        server.play()


def test_a_client_without_a_seat_says_so() -> None:
    method = secure("fipa").bound(five())
    assert isinstance(method, Secure)
    assert method.seats is not None
    part = replace(method, seats=method.seats[:2]).part(Keys())
    with pytest.raises(SiteError, match="Client 4 has no seat"):
        part(System(five(), five().shard(4)), Keys(), None)


def test_a_site_gives_nothing_twice_whatever_stamp_it_is_told() -> None:
    """The same ask again, from the memory before it: no other masks, and no answer."""
    method = secure("fipa").bound(five())
    totals = [len(term.points) for term in five().terms]
    sites = {m: Site(five(), method, m) for m in range(5)}
    memories: Mapping[int, dict[str, Content]] = {m: {} for m in range(5)}
    stamps = iter(range(1, 9))

    def answer(ask: Record) -> dict[int, Any]:
        n = next(stamps)
        order = Order(f"1.{n}", f"1.{n - 1}" if n > 1 else "", "")
        return {
            m: site.exchange(addressed(ask, m), totals, order, memories[m])[0]
            for m, site in sites.items()
        }

    exchanges = method.round(begin(five(), method))
    ask = exchanges.send(answer(next(exchanges)))
    assert isinstance(ask, Addressed)
    answer(ask)
    for base in ("1.1", "1.2"):
        order = Order("1.9", base, base)
        with pytest.raises(ServerError, match="Site 2 refuses.*ended|twice|old key"):
            sites[2].exchange(addressed(ask, 2), totals, order, memories[2])
        again = replace(addressed(ask, 2), members=None)  # type: ignore[type-var]
        with pytest.raises(ServerError, match="twice for its part of the same sum"):
            sites[2].exchange(again, totals, order, memories[2])


def test_gradients_that_cancel_at_the_minimum_of_counts_obey_the_laws() -> None:
    """Each is as it was; their sum is the rounding of all of them."""
    x = torch.linspace(0, 1, 60, dtype=torch.float64)[:, None]
    y = torch.poisson(5 * x[:, 0], torch.Generator().manual_seed(0))

    def log_mean(u: Jet, row: Row) -> torch.Tensor:
        return u.value

    sample, likelihood = in_box([0.0], [1.0]), Poisson()
    visits = Term("visits", log_mean, x, y, sample=sample, likelihood=likelihood)
    counts = Problem("counts", MLP((1, 1)), [visits], strips([0, 0.3, 0.6, 1]))
    result = run(counts, secure("fipa"), rounds=10)
    assert not any(line.dropped for line in result.history)
    assert result.outcome.state == "converged"
    assert (gradient_norm(counts, result.theta) or 0.0) < 1e-13  # 1e-15 was measured
