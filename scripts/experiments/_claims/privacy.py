"""The prose of docs/privacy.md."""

import re
from collections.abc import Iterable
from math import sqrt

from experiments._claims.observer import ONE, better, least, seen, share, value, worst
from experiments._numbers import cell, digits, ends, number, power, record, word
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments._secure_tables import METHODS
from experiments.privacy import DELTA, gaussian_epsilon
from experiments.secure import DEATHS
from fedsciml.methods._privacy import Privacy

SUM = "the sum of all"
SINE = "sine4, 1e4 points"


def opened(points: int, head: str = "row space") -> str:
    """A cell of what the sum over four sites of so many points each tells."""
    return cell("secure-observer", (str(points), SUM), head)


def gone(points: int, moved: str, sums: int = 1) -> str:
    """What is read by the row space of a site that drops out, predicted."""
    row = (str(points), "4 x 100", moved, str(sums), "predicted")
    return cell("secure-difference", row, "row space")


def spent(head: str, clients: Iterable[int], methods: Iterable[str] = METHODS) -> str:
    """The most that secure sums take of plain ones."""
    return digits(max(weighed(head, clients, methods)))


def weighed(
    head: str, clients: Iterable[int], methods: Iterable[str] = METHODS
) -> list[float]:
    """Cells of the table of costs."""
    several = [*methods]
    return [
        float(cell("secure-cost", (method, str(m)), head))
        for m in clients
        for method in several
    ]


def costs(head: str, *clients: int) -> list[str]:
    """The least and the most of a column."""
    return [digits(x) for x in ends(weighed(head, clients))]


def later() -> str:
    """Rounds to 1e-10 that deaths cost at most, from any start."""
    found = select(record("secure.json"), kind="killed")
    base = {e["seed"]: e["to"] for e in select(found, case="nobody")}
    deaths = select(found, case=tuple(DEATHS))
    return word(max(0, *(round(e["to"] - base[e["seed"]]) for e in deaths)))


def lies(head: str) -> list[float]:
    """A column of the table of lies, a number of each start or of all."""
    absent = ("nobody", "the liar is absent")
    rows = dict.fromkeys(e["case"] for e in select(record("secure.json"), kind="liar"))
    return [
        number(x)
        for row in rows
        if row not in absent
        for x in cell("secure-liar", row, head).split(", ")
    ]


def other(epsilon: float) -> str:
    """How well it is hidden which of two points is there: as by half the noise."""
    privacy = Privacy(epsilon, DELTA)
    return digits(gaussian_epsilon(2 * sqrt(privacy.releases) / privacy.multiplier), 3)


def noisy(setting: str, *epsilons: float | None) -> list[Entry]:
    """Runs at these epsilons."""
    return select(record("privacy.json"), setting=setting, epsilon=epsilons)


def last(setting: str, *epsilons: float | None) -> list[float]:
    """Their last errors, ascending."""
    return sorted(e["error"][-1] for e in noisy(setting, *epsilons))


def told(points: int, epsilon: str) -> list[str]:
    """The median error of sine4, and its quartiles."""
    text = cell("privacy", ("sine4", str(points), epsilon), "error [quartiles]")
    return [power(float(x)) for x in re.findall(r"[\d.]+e-?\d+", text)]


def audit(noise: str, head: str) -> str:
    """A cell of the audit."""
    return cell("privacy-audit", noise, head)


CLAIMS = [
    Claim(
        "its own model | 20 points: {}, values to {} |",
        lambda: [
            share(seen(20, ONE[0], "row space")),
            value(seen(20, ONE[0], "row space")),
        ],
    ),
    Claim(
        "from fewer numbers | 20 points: {} |",
        lambda: [share(seen(20, ONE[1], "row space"))],
    ),
    Claim(
        "nothing is cut off | 20 points: {}; 60 points: {} |",
        lambda: [share(better(n, ONE[2])) for n in (20, 60)],
    ),
    Claim(
        "The sum over four sites: of 80 points {}, of 400 about chance. Of a site that "
        "drops out: {} |",
        lambda: [share(opened(20)), least(gone(n, "2%") for n in (5, 20))],
    ),
    Claim(
        "in all {} or more of them are found, values to {} at least, although",
        lambda: [least(opened(n) for n in (5, 20)), worst(opened(n) for n in (5, 20))],
    ),
    Claim(
        "* **{} or more of the points of a site of 5 or of 20, among 400",
        lambda: [least(gone(n, "2%") for n in (5, 20))],
    ),
    Claim(
        "with three later sums they are read, too, to {} at least.",
        lambda: [worst(gone(n, "2%", 3) for n in (5, 20))],
    ),
    Claim(
        "Of a site of 20 points {} are read after a move of 20 %, and {} after one of"
        " 100 %.",
        lambda: [share(gone(20, moved)) for moved in ("20%", "100%")],
    ),
    Claim(
        "up, a round is {} to {} times as large, with 100 sites up to {} times. Down "
        "it is {} times at most. Both ways together it is {} to {} times as much, in "
        "the first round of 100 sites up to {} times.",
        lambda: [
            *costs("up", 4, 20),
            spent("up", (100,)),
            spent("down", (4, 20, 100)),
            *costs("ratio", 4, 20, 100),
            spent("ratio, first round", (100,)),
        ],
    ),
    Claim(
        "With 100 sites letters are {} of FIPA's bytes",
        lambda: [share(cell("secure-cost", ("fipa", "100"), "letters"))],
    ),
    Claim(
        "With 4 sites a round of FIPA takes {} times the seconds, with 100 {} times; "
        "`gradient_only`, which does little else, {} and {} times,",
        lambda: [
            digits(x, 3)
            for method in ("fipa", "gradient_only")
            for x in weighed("seconds", (4, 100), (method,))
        ],
    ),
    Claim("It costs {} rounds more to 1e-10 at most", lambda: [later()]),
    Claim(
        "The liar is found in round {} at the latest with each of these lies",
        lambda: [digits(max(lies("found in round")), 1)],
    ),
    Claim(
        "To 1e-10 it is {} rounds more than without the liar.",
        lambda: [
            word(
                round(
                    max(lies("rounds to 1e-10"))
                    - number(
                        cell("secure-liar", "the liar is absent", "rounds to 1e-10")
                    )
                )
            )
        ],
    ),
    Claim(
        "at delta 1e-5 with epsilon {} where 1 is stated, {} where 3 is, {} where 10 "
        "is.",
        lambda: [other(epsilon) for epsilon in (1, 3, 10)],
    ),
    Claim(
        "rounds without a look end at {} in the median",
        lambda: told(10_000, "no noise")[:1],
    ),
    Claim(
        "epsilon 3 ends at {}, the worst of ten starts at {}. **epsilon 1 costs more,"
        " in bad cases much more**: the median is {}, half of the starts are between "
        "{} and {}, the worst two end at {} and {}.",
        lambda: [
            told(10_000, "3")[0],
            power(max(last(SINE, 3.0))),
            *told(10_000, "1"),
            *(power(x) for x in last(SINE, 1.0)[-2:]),
        ],
    ),
    Claim(
        "the worst start with noise ended at {}.",
        lambda: [power(max(last("sine4, 1e5 points", 1.0, 3.0, 10.0)))],
    ),
    Claim(
        "With the noise that is due he is right in {} of the runs",
        lambda: [audit("as due", "guesses right")],
    ),
    Claim(
        "**Half the noise the plain bound does not find**: it shows {} where 3 is "
        "stated. The bound that takes the noise to be Gaussian, as it is, shows {}, "
        "and finds it.",
        lambda: [audit("0.5 of it", h) for h in ("epsilon shown", "if Gaussian")],
    ),
]

SETTINGS: list[Setting] = [
    re.compile(r"^[1-6]\. ", re.M),
    "measured values are about 0.5, their own noise 0.1",
    "with 20 or 80 points",
    "Of 400 points",
    "moved by 2 % of its length",
    '"0 %" is what sites refuse',
    "after a move of 2 %",
    "sqrt(1 - c / M)",
    "16 bytes each in place of 8",
    "rounded 70 bits below",
    "in round 8",
    "rounds to 1e-10 beyond those",
    "with epsilon 1 nothing is more than 2.7 times as likely",
    "with 3 than 20 times, with 10 than 22 000 times",
    "epsilon 1 is strict, 3 usual, 10 loose",
    "40 rounds (`releases=K`)",
    "more than 1.5 times (`clip`)",
    "at 2.5 times (`follow`)",
    "about 1, as at the anchors",
    "k^2 / 2 numbers",
    "with 10,000 points, three of the others",
    "at epsilon 1 their median",
    "Without noise 40 rounds",
    "With 10,000 points",
    "their way after 40",
    "At 0.3 little is left",
    "With 100,000 points the medians, of three starts, are about the same from "
    "epsilon 1",
    "left at epsilon 3",
]
"""With epsilon nothing is more than e^epsilon times as likely."""
