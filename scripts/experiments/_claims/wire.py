"""The prose of docs/wire.md."""

import re
from collections.abc import Iterable
from statistics import median

from experiments._basis_tables import TOGETHER, WAYS
from experiments._numbers import cell, digits, ends, number, percent, power, record
from experiments._prose import Claim, Setting
from experiments._record import select
from fedsciml.command.suite import LINES


def shown(problem: str, way: str, head: str = "MB to 1e-10") -> float:
    """A number of the table of the shared basis."""
    return number(cell("basis", (problem, way), head))


def arrived() -> list[str]:
    """Problems that get to 1e-10 from every start, by all three ways."""
    names = dict.fromkeys(e["problem"] for e in select(record("basis.json"), way="own"))
    return [p for p in names if all(_got(p, way) for way in WAYS)]


def _got(problem: str, way: str) -> bool:
    try:
        found = cell("basis", (problem, way), "MB to 1e-10")
    except KeyError:
        return False
    return found != "never" and "(" not in found


def ratios(one: str, two: str, problems: Iterable[str]) -> list[float]:
    """Bytes to 1e-10 of one way over those of another."""
    return [shown(p, one) / shown(p, two) for p in problems]


def equations() -> list[str]:
    """That get to 1e-10."""
    return [p for p in arrived() if not p.startswith("sine")]


def weight() -> float:
    """Of theta in all bytes of rows, in one dimension; a median."""
    return median(
        8 * e["parameters"] * e["clients"] * len(e["round"]) / e["bytes"][-1]
        for e in select(record("basis.json"), way="rows", run=TOGETHER)
        if e["problem"] in LINES
    )


def lead() -> str:
    """Megabytes until which a rival is ahead of rows on poisson2d."""
    found = cell("basis-rivals", "poisson2d", "ahead of rows, MB")
    return digits(max(map(float, re.findall(r"[\d.]+ to ([\d.]+) ", found))))


def apart(problem: str) -> list[str]:
    """The least and the largest last error of sites that do not compute alike."""
    found = select(record("basis.json"), problem=problem, way=WAYS[1:])
    found = [e for e in found if e["run"] != TOGETHER]
    return [power(x) for x in ends(e["error"][-1] for e in found)]


CLAIMS = [
    Claim(
        "**Why theta goes down whole**, {} of what is left in one dimension",
        lambda: [percent(weight())],
    ),
    Claim(
        "to 1e-10 they take {} to {} times fewer than own sketches, in about as many "
        "rounds, for {} to {} times the seconds.",
        lambda: [
            *(digits(x) for x in ends(ratios("own", "rows", arrived()))),
            *(
                digits(x)
                for x in ends(shown(p, "rows", "s / round") for p in arrived())
            ),
        ],
    ),
    Claim(
        "They take {} to {} times the bytes of rows on the equations, {} times on "
        "sine4 and {} times on sine8, whose eight clients know of {} of the {} "
        "directions each",
        lambda: [
            *(digits(x) for x in ends(ratios("sums", "rows", equations()))),
            *(digits(x) for x in ratios("sums", "rows", ("sine4", "sine8"))),
            *(cell("basis", ("sine8", way), "k") for way in ("own", "rows")),
        ],
    ),
    Claim(
        "for 921 parameters, k is {}. Rows then send {} of the bytes in {} times the "
        "seconds, and sums {} times the bytes.",
        lambda: [
            cell("basis", ("terrain", "rows"), "k"),
            percent(shown("terrain", "rows", "MB") / shown("terrain", "own", "MB")),
            digits(shown("terrain", "rows", "s / round")),
            digits(shown("terrain", "sums", "MB") / shown("terrain", "own", "MB")),
        ],
    ),
    Claim(
        "So does poisson3d, k = {} of p = 2273: {} MB to 1e-6 instead of {}, in {} "
        "times the seconds, but after {} rounds rows and sums are at {} and {}, own "
        "sketches at {}.",
        lambda: [
            cell("basis", ("poisson3d", "rows"), "k"),
            *(
                digits(shown("poisson3d", way, "MB to 1e-06"))
                for way in ("rows", "own")
            ),
            digits(shown("poisson3d", "rows", "s / round")),
            cell("basis", ("poisson3d", "rows"), "rounds"),
            *(
                power(shown("poisson3d", way, "error at end"))
                for way in ("rows", "sums", "own")
            ),
        ],
    ),
    Claim("on poisson2d until {} MB.", lambda: [lead()]),
    Claim("allen_cahn ends at {} to {},", lambda: apart("allen_cahn")),
    Claim("sine4 at {} to {}.", lambda: apart("sine4")),
]

SETTINGS: list[Setting] = [
    re.compile(r"^\| (?:up, a client|down|down, to bend) \|.*$", re.M),
    "five times in round 1",
    "The 21 are the loss",
    "p + r + 1 numbers up",
    "4000 measured values",
    "heat_inverse, p = 502",
    "(p = 2209) with 16 rows a client",
    "stacks up to 64 sketches",
    "batch of 64 after the other",
]
