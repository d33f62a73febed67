"""FIPA in a basis that all parties share: bytes, parties apart, and many starts.

*Bytes*: FIPA with each client's own sketches, and in the shared basis with rows and
with sums, from the same starts, taking turns round by round; beside them the averaging
methods and `gradient_only`: the record of `fipa`, and what it lacks.
*Apart*: every site forms the basis for itself, from a Jacobian with an error of its own
("noise 1e-15", relative, of each entry), or with one and two threads in turn.
*Starts*: the equations in one dimension with one, two and eight clients.

The error is the relative L2 error, of a regression the root of the mean squared one, of
heat_inverse that of the number nu. Bytes go both ways, all messages. A run in the
record has a list of what every round was. An hour of one core and a half.
"""

from collections.abc import Sequence
from itertools import product
from statistics import mean

from experiments._basis_figure import by_bytes
from experiments._basis_tables import AVERAGING, TOGETHER, tables
from experiments._drawing import Drawing
from experiments._experiment import Case, Experiment
from experiments._record import Entry, short
from experiments._runs import root
from experiments._suites import options_of, setting_of
from experiments._turns import Apart, Turns, in_turns, parties
from fedsciml import analysis, methods, problems
from fedsciml.command.suite import LINES
from fedsciml.federation.history import Round

KEY = ("problem", "run", "seed", "rounds")
WAYS: dict[str, dict[str, object]] = {
    "own": {"basis": "own"},
    "rows": {"basis": "shared"},
    "sums": {"basis": "shared", "upload": "sums"},
}
"""Options of FIPA."""

INTERLEAVED = "allen_cahn:clients=16,partition=pieces:4"
BYTES = {
    **dict.fromkeys(LINES, (3, 50)),
    "sine4": (3, 60),
    "sine8": (3, 100),
    INTERLEAVED: (3, 50),
    "heat_inverse:noise=0.01": (3, 60),
    "poisson2d": (3, 40),
    "terrain": (1, 50),
    "poisson3d": (1, 40),
}
"""By problem, the number of starts and rounds."""

DISTURBED = ("noise 1e-16", "noise 1e-15", "noise 1e-14", "threads")
APART = {"allen_cahn": 50, "sine4": 60}
"""Rounds."""

RIVALS: tuple[Case, ...] = (
    ("poisson2d", "gradient_only", 0, 200),
    (INTERLEAVED, "gradient_only", 0, 100),
    ("terrain", "gradient_only", 0, 200),
    (INTERLEAVED, "fedavg", 0, 30),
)
"""Runs that no other record has."""

STARTS = 10
SETTINGS = ("", ":clients=1", ":clients=8")
MORE = {"sine8": 100, "poisson2d": 40}

CASES: list[Case] = list(
    dict.fromkeys(
        [
            *(
                (problem, TOGETHER, seed, rounds)
                for problem, (starts, rounds) in BYTES.items()
                for seed in range(starts)
            ),
            *(
                (problem, word, seed, rounds)
                for (problem, rounds), word, seed in product(
                    APART.items(), DISTURBED, range(3)
                )
            ),
            *RIVALS,
            *(
                (problem + setting, TOGETHER, seed, 50)
                for problem, setting, seed in product(LINES, SETTINGS, range(STARTS))
            ),
            *(
                (problem, TOGETHER, seed, rounds)
                for problem, rounds in MORE.items()
                for seed in range(STARTS)
            ),
        ]
    )
)


def measure(problem: str, run: str, seed: int, rounds: int) -> list[Entry]:
    """The runs of a case, round by round."""
    made = problems.parse(problem)
    ways = {way: methods.load("fipa", **options) for way, options in WAYS.items()}
    if run == TOGETHER:
        runs = {way: Turns(made, method, seed) for way, method in ways.items()}
    elif run in AVERAGING:
        options = options_of(problem.partition(":")[0], run)
        runs = {run: Turns(made, methods.load(run, **options), seed)}
    else:
        apart = Apart(parties(run, made.clients))
        runs = {way: Turns(made, ways[way], seed, apart) for way in ("rows", "sums")}
    setting = setting_of(problem)
    quantity = setting.sought if setting and setting.sought else analysis.quantity(made)
    return [
        {
            "way": way,
            "method": way if way == run else "fipa",
            "quantity": quantity,
            "parameters": made.network.size,
            "clients": made.clients,
            **lines(history, quantity),
        }
        for way, history in in_turns(runs, rounds).items()
    ]


def lines(history: Sequence[Round], quantity: str) -> Entry:
    """What is kept of each round."""
    before = [0.0, *(line.seconds for line in history)]
    return {
        "round": [line.round for line in history],
        "error": [short(error(line, quantity)) for line in history],
        "bytes": [int(short(line.sent)) for line in history],
        "up": [int(short(line.bytes_up)) for line in history],
        "basis": [line.basis for line in history],
        "rank": [round(mean(line.ranks), 1) for line in history if line.ranks],
        "outside": [float(f"{line.outside:.1e}") for line in history if line.basis],
        "seconds": [
            float(f"{line.seconds - begin:.3g}")
            for begin, line in zip(before, history, strict=False)
        ],
        "dropped": sum(len(line.dropped) for line in history),
        "loss": float(f"{history[-1].loss:.6g}"),
    }


def error(line: Round, quantity: str) -> float:
    """That of a round."""
    found = line.errors.get(quantity)
    return root(line, quantity) if found is None else found


EXPERIMENT = Experiment(
    "basis",
    __doc__,
    KEY,
    CASES,
    measure,
    tables,
    {
        "basis-bytes": Drawing(
            by_bytes,
            "Error against the bytes that cross both ways: FIPA with own sketches, "
            "with rows and with sums in the shared basis, and all rivals; medians "
            "over the starts.",
            ("basis.json", "suite.json"),
        )
    },
)
