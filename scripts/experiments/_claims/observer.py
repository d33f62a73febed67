"""The prose of docs/observer.md."""

from collections.abc import Iterable, Sequence
from statistics import median

from experiments._numbers import ceiling, cell, digits, ends, power, record
from experiments._prose import Claim, Setting
from experiments._record import select
from experiments.observer import NAMES

ATTACKS = ("row space", "gramian")
ONE = tuple(NAMES[word] for word in ("default", "rows", "sums"))
"""Messages of one client."""

CROWD, ALIKE = NAMES["all"], NAMES["all, alike"]
FEW = (1, 5, 20)
"""Points of a client that are read nearly all."""


def seen(points: int, what: str, head: str) -> str:
    """A cell of the table of both attacks."""
    return cell("observed", (str(points), what), head)


def cut(points: int, way: str) -> str:
    """A cell of the table of own sketches, without its rank."""
    return cell("observer", str(points), way).partition(": ")[2]


def rank(points: int, way: str) -> str:
    """Of own sketches."""
    return cell("observer", str(points), way).partition(":")[0].removeprefix("k ")


def share(text: str) -> str:
    """``92 %``, of ``92%, 2e-11``."""
    return text.partition("%")[0] + " %"


def value(text: str) -> str:
    """``2e-11``, of ``92%, 2e-11``."""
    return power(float(text.partition(", ")[2]))


def least(texts: Iterable[str]) -> str:
    """The least share."""
    return min(map(share, texts), key=lambda text: float(text.split()[0]))


def worst(texts: Iterable[str]) -> str:
    """A bound of the errors."""
    return ceiling(max(float(value(text)) for text in texts))


def better(points: int, what: str) -> str:
    """What the better attack reads."""
    found = [seen(points, what, attack) for attack in ATTACKS]
    return max(found, key=lambda text: float(share(text).split()[0]))


def between(texts: Iterable[str]) -> list[str]:
    """The least and the largest."""
    return [digits(x) for x in ends(map(float, texts))]


def shares(texts: Iterable[str]) -> list[str]:
    """The least and the largest share."""
    low, high = ends(float(share(text).split()[0]) for text in texts)
    return [f"{low:g} %", f"{high:g} %"]


def rounded(points: Sequence[int]) -> list[str]:
    """Errors of the client's model from sketches in bfloat16, medians."""
    found = select(record("observer.json"), sketch="default, bfloat16")
    return between(
        str(median(e["model"] for e in select(found, points=n))) for n in points
    )


CLAIMS = [
    Claim(
        "up to 20 of them: {} or more are read, values to {} at least",
        lambda: [
            least(seen(n, what, ATTACKS[0]) for n in FEW for what in ONE),
            worst(seen(n, what, ATTACKS[0]) for n in FEW for what in ONE),
        ],
    ),
    Claim(
        "What is truncated ({} rows of its own, {} in the basis) gives away {} and {}, "
        "values to {} and {}. **Sums give away {}**, values to {}:",
        lambda: [
            *(seen(60, what, "r of k").partition(" of ")[0] for what in ONE[:2]),
            *(share(better(60, what)) for what in ONE[:2]),
            *(value(better(60, what)) for what in ONE[:2]),
            share(better(60, ONE[2])),
            value(better(60, ONE[2])),
        ],
    ),
    Claim(
        "Sums do, {} against {}, but values",
        lambda: [share(better(400, ONE[2])), share(seen(400, ONE[2], "by chance"))],
    ),
    Claim(
        "of four sites with 5 points each {} are read, values to {}, of four with 20 "
        "points each {}, of four with 60 points each {}, against {} by chance.",
        lambda: [
            share(better(5, ALIKE)),
            value(better(5, ALIKE)),
            share(better(20, ALIKE)),
            share(better(60, ALIKE)),
            share(seen(60, ALIKE, "by chance")),
        ],
    ),
    Claim(
        "not safe: {} to {} of all points are found, against {} to {} by chance.",
        lambda: [
            *shares(better(n, CROWD) for n in FEW),
            *shares(seen(n, CROWD, "by chance") for n in FEW),
        ],
    ),
    Claim(
        "**A client's own model** is off by {} to {} from the field",
        lambda: between(seen(n, w, "model") for n in (*FEW, 60, 400) for w in ONE),
    ),
    Claim(
        "comes the model of all instead, off by {} to {} where there are many points",
        lambda: between(
            seen(n, what, "model")
            for what, many in ((CROWD, (*FEW, 60, 400)), (ALIKE, (60, 400)))
            for n in many
        ),
    ),
    Claim(
        "Up to **20 points everything is read**: {} or more of the points, values to "
        "{} at least, from sketches as FIPA cuts them. float32 leaves values to {}.",
        lambda: [
            least(cut(n, "default") for n in FEW),
            worst(cut(n, "default") for n in FEW),
            worst(cut(n, "default, float32") for n in FEW),
        ],
    ),
    Claim(
        "the default sketch (k = {}) still gives away {} of them, with values to {}. "
        "It stops working where k falls to about half of n: {} at k = {}, and {} at "
        "k = {}, where {} is chance.",
        lambda: [
            rank(60, "default"),
            share(cut(60, "default")),
            value(cut(60, "default")),
            share(cut(60, "cut at 1e-4")),
            rank(60, "cut at 1e-4"),
            share(cut(60, "first round")),
            rank(60, "first round"),
            share(cell("observer", "60", "by chance")),
        ],
    ),
    Claim(
        "For 20 points that is a cut at 1e-2 (k = {}, {}); bfloat16 helps little there "
        "({}).",
        lambda: [
            rank(20, "cut at 1e-2"),
            share(cut(20, "cut at 1e-2")),
            share(cut(20, "default, bfloat16")),
        ],
    ),
    Claim(
        "hardly more is found than by chance ({} and {} of the whole sketch):",
        lambda: [share(cell("observer", "400", "by chance")), share(cut(400, "whole"))],
    ),
    Claim("in bfloat16 it is off by {} to {}, as D", lambda: rounded((60, 400))),
]

SETTINGS: list[Setting] = [
    "so 60 points as surely as 20",
    "network 2-16-16-1 (p = 337)",
    "others have 100 points each",
    "a grid of 100 x 100",
    "k (k + 1) / 2 moments",
    "found within 0.01",
    "measured values are about 0.5, noise 0.1",
    "With **60 points**",
    "With **400 points**",
    "Among 300 points of others",
    "with one sensor, or with 20",
    "With 400 points at one site",
    "of 60 and 400 points",
    "of the 400 points in one draw",
    "10 sensors and 500 collocation points",
]
