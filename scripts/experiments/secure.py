"""Secure sums: what they cost and hide; what becomes of clients that fail or lie.

*errors*: FIPA with secure sums beside FIPA with plain ones, from the same starts, in
turns round by round. *cost*: bytes by what they are and CPU seconds of a round, of FIPA
with sums, FedAvg and `gradient_only`. *killed*: of five clients one or two die after
their masked numbers were sent, in round 8, and are back in the next one or five later.
*liar*: one of nine clients adds a lie. *observer*: sensors in the unit square as in
experiment `observer`; points are read from the masked message of one client and from
the sum over all. *difference*: of a client that drops out, from the sum over five less
that over the four others, once the model was moved. 35 minutes of one core.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from statistics import median
from typing import Any

import torch
from torch import Tensor

from experiments import _secure_seen, basis, observer
from experiments._absent import Patchy
from experiments._drawing import Drawing
from experiments._experiment import Case, Experiment
from experiments._reading import Observed, fitted, guessed
from experiments._record import Entry, short
from experiments._runs import first
from experiments._secure_clients import LIES, Counted, Death, Killed, Liars
from experiments._secure_figure import dearer, left
from experiments._secure_tables import BOTH, METHODS, read_words, reading, tables
from experiments._suites import options_of, setting_of
from experiments._turns import Turns, in_turns
from fedsciml import analysis, methods, problems
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules
from fedsciml.methods import Method
from fedsciml.problem import Problem
from fedsciml.wrappers.secure import Secure

KEY = ("kind", "setting", "case", "seed", "rounds")

ERRORS = {
    "allen_cahn:clients=4": (3, 50),
    "poisson2d:clients=4": (1, 30),
    "heat_inverse:noise=0.01": (3, 60),
    "sine8": (2, 100),
    "terrain": (1, 20),
}
"""By problem, the number of starts and rounds."""

SIZES = (4, 20, 100)
"""Clients of which a round is weighed."""

FEW = 6
"""Rounds in which it is; the first one has the keys."""

DEATH, AWAY = 8, 5
"""Round in which clients die; rounds in which they are away afterwards, or none."""

WHO = {"one": (2,), "two": (1, 3)}
DEATHS = {
    f"{who}, sum {number}, {back}": Death(WHO[who], DEATH, number, away)
    for who, number, (back, away) in product(
        WHO, (1, 2), (("back", 0), (f"{AWAY} rounds", AWAY))
    )
}
FIVE, NINE = "allen_cahn:clients=5", "allen_cahn:clients=9"
LIAR, ROUNDS, STARTS = 4, 40, 3
ABSENT = "the liar is absent"

GAMES = 400
"""Messages of which it is to be told who of two wrote them."""

FAR = ("0 x 1", "0.02 x 1", "0.02 x 3", "0.2 x 1", "1.0 x 1")
"""Distance between the two points in |theta|, and sums over the four others."""


def cases() -> Iterator[Case]:
    """All of them."""
    for problem, (starts, rounds) in ERRORS.items():
        yield from (("errors", problem, BOTH, seed, rounds) for seed in range(starts))
    for clients, method in product(SIZES, METHODS):
        yield "cost", f"allen_cahn:clients={clients}", method, 0, FEW
    for word, seed in product(("nobody", *DEATHS), range(STARTS)):
        yield "killed", FIVE, word, seed, ROUNDS
    for word, seed in product(("nobody", ABSENT, *LIES), range(STARTS)):
        yield "liar", NINE, word, seed, ROUNDS
    for points, seed in product((5, 20, 100), range(STARTS)):
        if points == 20:
            yield "observer", reading(20, 20, 4), "masked", seed, _secure_seen.ROUND
        yield "observer", reading(points, points, 4), "opened", seed, _secure_seen.ROUND
    for points, word, seed in product((5, 20), FAR, range(STARTS)):
        if points == 20 or word.startswith(("0 ", "0.02")):
            yield "difference", reading(points, 100, 5), word, seed, _secure_seen.ROUND


def measure(
    kind: str, setting: str, case: str, seed: int, rounds: int
) -> Entry | list[Entry]:
    """One case of a kind."""
    kinds: dict[str, Callable[..., Entry | list[Entry]]] = {
        "errors": errors,
        "cost": cost,
        "killed": killed,
        "liar": liar,
        "observer": observed,
        "difference": difference,
    }
    return kinds[kind](setting, case, seed, rounds)


def sums() -> Method:
    """FIPA with sums, in the open."""
    return methods.load("fipa", basis="shared", upload="sums")


def errors(problem: str, word: str, seed: int, rounds: int) -> list[Entry]:
    """Plain and secure sums in turns."""
    made = problems.parse(problem)
    setting = setting_of(problem)
    sought = setting.sought if setting and setting.sought else ""
    quantity = sought or analysis.quantity(made)
    runs = {
        "plain": Turns(made, sums(), seed),
        "secure": Turns(made, Secure(sums()), seed),
    }
    return [
        {"way": way, "quantity": quantity, "clients": made.clients}
        | basis.lines(history, quantity)
        for way, history in in_turns(runs, rounds).items()
    ]


def cost(problem: str, word: str, seed: int, rounds: int) -> list[Entry]:
    """Bytes of the first round and of a later one, by what they are, and seconds."""
    made = problems.parse(problem)
    options = {} if word == "fipa" else options_of("allen_cahn", word)
    plain = sums() if word == "fipa" else methods.load(word, **options)
    counted = {
        way: Counted(made, method.bound(made))
        for way, method in (("plain", plain), ("secure", Secure(plain)))
    }
    runs = {
        way: Turns(made, clients.method, seed, clients)
        for way, clients in counted.items()
    }
    found = []
    for way, history in in_turns(runs, rounds).items():
        spent = [line.seconds for line in history]
        seconds = [b - a for a, b in pairwise(spent)]
        entry: Entry = {"way": way, "clients": made.clients}
        entry |= {"parameters": made.network.size, "seconds": short(median(seconds))}
        for name, number in (("first", 1), ("round", 2)):
            entry[name] = dict(counted[way].bytes[number])
        found.append(entry | {"up": counted[way].up[2], "down": counted[way].down[2]})
    return found


def killed(problem: str, word: str, seed: int, rounds: int) -> Entry:
    """A run in which clients die in a sum."""
    made = problems.parse(problem)
    death = DEATHS.get(word, Death((), DEATH, 1, 0))
    history = Killed(made, Secure(sums()), death).run(
        rounds, seed, Rules(min_clients=3)
    )
    return told(history) | {
        "steps": [line.step for line in history[DEATH - 1 : DEATH + AWAY + 2]],
        "dropped": {
            line.round: sorted(line.dropped) for line in history if line.dropped
        },
    }


def liar(problem: str, word: str, seed: int, rounds: int) -> Entry:
    """A run in which one client lies, or is absent."""
    made, method = problems.parse(problem), Secure(sums())
    clients: Patchy = Patchy(made, method, {LIAR: range(rounds + 1)})
    if word != ABSENT:
        who = LIAR if word in LIES else -1
        clients = Liars(made, method, who, LIES.get(word, LIES["-G"]))
    history = clients.run(rounds, seed, Rules(min_clients=3))
    dropped = [line for line in history if line.dropped]
    found = [int(m) for line in dropped for m in line.dropped]
    return told(history) | {
        "found": dropped[0].round - 1 if dropped else None,
        "who": sorted(set(found)),
        "still": sum(line.step == 0 for line in history[:10]),
    }


def told(history: Sequence[Round]) -> Entry:
    """Errors of a run."""
    error = [short(line.relative_l2) for line in history]
    rounds = [line.round for line in history]
    line = {"method": "fipa", "round": rounds, "error": error}
    return {
        "error": error,
        "end": error[-1],
        "to": first(line, "round", 1e-10),
        "seconds": short(history[-1].seconds),
    }


def observed(setting: str, word: str, seed: int, rounds: int) -> Entry:
    """What is read from a masked message, or from the opened sum."""
    points, others, clients = read_words(setting)
    problem = observer.federation(points, seed, others, clients)
    wire = _secure_seen.wire(problem, seed, GAMES if word == "masked" else 0)
    if word == "masked":
        return {"right": wire.right} | scored(wire.masked, problem, 1)
    return scored(wire.opened, problem, clients)


def difference(setting: str, word: str, seed: int, rounds: int) -> list[Entry]:
    """What is read of the client that dropped out."""
    points, others, clients = read_words(setting)
    problem = observer.federation(points, seed, others, clients)
    far, _, number = word.partition(" x ")
    found = _secure_seen.differences(problem, seed, float(far), int(number))
    return [
        {"way": way, "gramian": float(f"{of.error:.1e}")} | scored(of.seen, problem, 1)
        for way, of in found.items()
    ]


def scored(seen: Observed, problem: Problem, clients: int) -> Entry:
    """Points found, by two attacks, of the first clients."""
    truths = [shard.rows[0] for shard in problem.shards()[:clients]]
    x = torch.cat([truth.points for truth in truths])
    y = torch.cat([t.flatten() for of in truths if (t := of.target) is not None])
    found: dict[str, Any] = {"points": len(x), "k": seen.sketch.factor.shape[1]}
    attacks: dict[str, Callable[[Observed], tuple[Tensor, Tensor]]] = {
        "": guessed,
        "fitted_": fitted,
    }
    for name, attack in attacks.items():
        score = observer.compared(*attack(seen), x, y)
        found |= {f"{name}{key}": value for key, value in score.items()}
    return found


EXPERIMENT = Experiment(
    "secure",
    __doc__,
    KEY,
    [*cases()],
    measure,
    tables,
    {
        "secure-sums": Drawing(
            left,
            "Points of a site that dropped out which are found from the difference of "
            "two sums, against how far the model was moved between them.",
        ),
        "secure-bytes": Drawing(
            dearer, "Bytes of a round with secure sums over those with plain ones."
        ),
    },
)
