"""What clients send is what methods expect, and any of them may be missing."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pytest
import torch
from cases import small, theta
from faults import Faulty
from torch import Tensor

from fedsciml import methods
from fedsciml.federation.admission import outliers, refusal, usual
from fedsciml.federation.backend import payload
from fedsciml.federation.inprocess import InProcess
from fedsciml.federation.participation import Federation, Rules
from fedsciml.linalg.ranks import share
from fedsciml.methods import Message, Method, State
from fedsciml.methods._sketching import limit, limits
from fedsciml.problem import Problem
from fedsciml.residual import System
from fedsciml.wrappers.balance import Balanced
from fedsciml.wrappers.compress import Compressed
from fedsciml.wrappers.resample import Resampled
from fedsciml.wrappers.warmup import Warmup

EXACT = methods.load("fipa", sketch="svd")  # nothing in it depends on a client's number
BUDGET = "bytes:16000"

OTHERS: dict[str, Method] = {
    "fipa with local training": methods.load("fipa", sketch="svd", local="sgd", tau=2),
    "fipa without probes": methods.load(
        "fipa", sketch="svd", policy="fixed:damping=1e-3"
    ),
    "fipa of a budget": methods.load("fipa", rank=BUDGET),
    "balanced terms": Balanced(EXACT, "terms"),
    "balanced clients": Balanced(EXACT, "clients"),
    "warm-up": Warmup(methods.load("fedavg", tau=2), 1, EXACT),
    "resampled": Resampled(EXACT, every=1),
    "compressed": Compressed(EXACT),
    "compressed with feedback": Compressed(EXACT, "bfloat16", feedback=True),
    "compressed updates": Compressed(
        methods.load("fedavg", tau=2), "bfloat16", feedback=True
    ),
    "fedfisher of diagonals": methods.load("fedfisher", tau=2, fisher="diagonal"),
    "fedpm of gramians": methods.load("fedpm", tau=2, preconditioner="gramian"),
    "fipa_paper of a budget": methods.load("fipa_paper", tau=2, rank=BUDGET),
    "fipa_paper, adaptive": methods.load(
        "fipa_paper", tau=2, rank="published", sketch="svd"
    ),
}


def quick(name: str) -> Method:
    """A method by name with little local training."""
    tau = methods.options(name).get("tau")
    return methods.load(name, **({"tau": 2} if tau and tau.default else {}))


METHODS = {name: quick(name) for name in methods.names()} | OTHERS


@cache
def problem() -> Problem:
    return small("allen_cahn", clients=3, points=0.05, width=8)


def systems(method: Method) -> list[System]:
    """Of all parties."""
    made = problem()
    shards = [made.pooled()] if method.pooled else made.shards()
    return [System(made, shard) for shard in shards]


def exchanges(
    method: Method, clients: dict[int, System], rounds: int
) -> Iterator[tuple[State, Message, list[Message]]]:
    """The server's state, its broadcast and the uploads, and what it ends with."""
    memories: dict[int, State] = {m: {} for m in clients}
    state, broadcast = method.init(theta(problem()), 0)
    while rounds:
        uploads = []
        for m, system in clients.items():
            upload, memories[m] = method.client(system, broadcast, memories[m])
            uploads.append({**upload, "client": m})
        yield state, broadcast, uploads
        state, broadcast, info = method.server(state, uploads)
        rounds -= info is not None
    yield state, broadcast, []


@pytest.mark.parametrize("name", METHODS)
def test_clients_send_what_the_method_expects(name: str) -> None:
    method = METHODS[name]
    words: dict[int, dict[str, int]] = {}
    parties = dict(enumerate(systems(method)))
    for state, broadcast, uploads in exchanges(method, parties, 2):
        expected = method.expects(broadcast, problem().network.size)
        for upload in uploads:
            m = upload.pop("client")
            if "theta" in broadcast:
                words[m] = {}  # a round begins
            assert refusal(upload, expected, words[m], state["theta"]) is None


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.pooled]
)
def test_a_client_that_scales_one_part_of_its_upload_is_an_outlier(name: str) -> None:
    # A spectrum shares out bytes alone, traces differ by squares, and what a client
    # says of candidates can only keep the others from a step.
    free = {"spectrum", "balance.traces", "losses", "targets"}
    method, measured = METHODS[name], set()
    parties = dict(enumerate(systems(method)))
    for _, broadcast, uploads in exchanges(method, parties, 2):
        expected = method.expects(broadcast, problem().network.size)
        good = dict(enumerate(uploads))
        for key, value in good.get(1, {}).items():
            if isinstance(value, Tensor) and value.is_floating_point() and value.any():
                scaled = {**good, 1: {**good[1], key: 1e6 * value}}
                found = outliers(scaled, usual(good, expected), 500)
                assert list(found) == ([] if key in free else [1]), key
                measured.add(key)
    assert measured - free


class Alone:
    """A method whose server takes those who answer for the whole federation."""

    def __init__(self, method: Method) -> None:
        self.method = method

    def __getattr__(self, name: str) -> object:
        return getattr(self.method, name)

    def server(self, state: State, uploads: list[Message]) -> object:
        whole = sum(upload.get("share", 0.0) for upload in uploads)
        own = [
            {k: v / whole if k == "share" else v for k, v in u.items() if k != "client"}
            for u in uploads
        ]
        return self.method.server(state, own)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, method in METHODS.items()
        # A client's number draws its points and its sketch; a budget, and the control
        # variates of who is missing, have their own tests.
        if not (
            method.pooled
            or name in ("fipa", "fipa_paper", "resampled", "scaffold", "feddyn")
        )
        and "budget" not in name
    ],
)
def test_with_a_client_missing_the_step_is_that_of_the_others(name: str) -> None:
    method, (first, _, last) = METHODS[name], systems(METHODS[name])
    moved = System(problem(), replace(last.shard, client=1))
    *_, (found, _, _) = exchanges(method, {0: first, 2: last}, 2)
    *_, (expected, _, _) = exchanges(Alone(method), {0: first, 1: moved}, 2)
    # Sums of shares round, which the second round makes larger: measured 2e-14.
    torch.testing.assert_close(found["theta"], expected["theta"], rtol=0, atol=1e-11)


def test_control_variates_of_missing_clients_stay() -> None:
    scaffold, feddyn = METHODS["scaffold"], METHODS["feddyn"]
    first, _, last = systems(scaffold)
    shares = torch.tensor([s.shard.share for s in (first, last)], dtype=torch.float64)
    for method, change, kept in (
        (scaffold, "change", "variate"),
        (feddyn, "delta", "gradient"),
    ):
        (before, _, uploads), (after, _, _) = exchanges(method, {0: first, 2: last}, 1)
        deltas, changes = (
            torch.stack([u[key] for u in uploads]) for key in ("delta", change)
        )
        moved = before["theta"] + shares @ deltas / shares.sum()
        variate = shares @ changes
        if method is feddyn:  # h = -alpha sum of share_m delta_m, theta less h / alpha
            moved, variate = moved + variate, -0.1 * variate
        torch.testing.assert_close(after["theta"], moved, rtol=1e-13, atol=1e-15)
        torch.testing.assert_close(after[kept], variate, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "kept"), [("scaffold", "variate"), ("feddyn", "gradient")]
)
def test_a_forgotten_control_variate_is_missed_in_every_later_round(
    name: str, kept: str
) -> None:
    method = methods.load(name, tau=3)
    door = InProcess(problem(), method)
    shares = torch.tensor(door.shares, dtype=torch.float64)
    federation = Federation(problem(), method, door)
    state, broadcast = method.init(theta(problem()), 0)

    def gap() -> Tensor:
        """From the server's to the mean of the clients'."""
        own = torch.stack([memory[kept] for memory in door.memories])
        found: Tensor = state[kept] - shares @ own
        return found

    lost = torch.zeros_like(theta(problem()))
    for number in range(1, 9):
        if number == 4:
            lost = shares[1] * door.memories[1][kept]
            assert lost.norm() > 1e-3 * state[kept].norm() > 0
            door.memories[1] = {}
        state, broadcast, _ = federation.advance(state, broadcast, number)
        torch.testing.assert_close(gap(), lost, rtol=0, atol=1e-13 * state[kept].norm())


def test_a_budget_is_shared_among_those_that_report() -> None:
    spectra = {0: torch.tensor([9.0, 4.0]), 2: torch.tensor([8.0, 7.0, 1.0])}
    uploads = [{"spectrum": s, "client": m} for m, s in spectra.items()]
    parties, found = systems(EXACT), limits(uploads, 4)
    assert share([*spectra.values()], 4) == [2, 2]
    assert [limit(system, found, 99) for system in parties] == [2, 0, 2]
    assert [limit(s, limits(uploads[:1], 4), 99) for s in parties] == [4, 0, 0]


@pytest.mark.parametrize("name", ["fipa of a budget", "fipa_paper of a budget"])
def test_a_budget_holds_whoever_is_missing(name: str) -> None:
    method, parties = METHODS[name], dict(enumerate(systems(METHODS[name])))
    del parties[1]
    spent = []
    for state, broadcast, uploads in exchanges(method, parties, 3):
        own = [{k: v for k, v in u.items() if k != "client"} for u in uploads]
        if "theta" in broadcast and own:
            spent.append(sum(map(payload, own)))
        after, opening = method.renewed(state, broadcast)
        assert "limits" not in {**after, **opening}
    assert max(spent) <= 16000
    assert spent[2] > 14400


@pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if not method.pooled]
)
def test_a_method_goes_on_when_clients_leave_and_come(name: str) -> None:
    method = METHODS[name]
    door = Faulty(problem(), method, away={1: range(2, 4), 0: range(3, 5)})
    federation = Federation(problem(), method, door, Rules(min_clients=1))
    state, broadcast = method.init(theta(problem()), 0)
    for number in range(1, 7):
        state, broadcast, _ = federation.advance(state, broadcast, number)
        assert federation.roll is not None
        present = [m for m in range(3) if number not in door.away.get(m, ())]
        assert federation.roll.members == present
        assert state["theta"].isfinite().all()
