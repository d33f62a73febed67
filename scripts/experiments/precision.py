"""What stops each problem of the suite where it stops: rounding, or something else.

A study that is done: centralised Gauss-Newton trained every problem, then the causes
were told apart, each by an experiment that takes away one of them and nothing else:
exact arithmetic, twice the points, wider layers, and the least damping from the start.
The verdict is the experiment that lowers the error at least threefold, and the most.
"""

from collections.abc import Sequence
from math import hypot

from experiments._experiment import Experiment
from experiments._record import Entry
from experiments._table import Cell, Table
from fedsciml.command.suite import SUITE

GAIN = 3.0
"""An experiment that lowers the error so much has found the cause."""

FAR = 100.0
"""A residual so many times its rounding level is not stopped by rounding."""

PARTS = ("rounding_jets", "rounding_targets", "rounding_theta")


def rounding(state: Entry) -> float:
    """Level of r: jets, targets and theta together."""
    return hypot(*(state[key] for key in PARTS))


def helped(entry: Entry) -> dict[str, float]:
    """By what factor each experiment lowered the error of the default."""
    state = entry["default"]
    error = state["error"]
    word = "not converged" if state["residual"] > FAR * rounding(state) else "rounding"
    gains = {"not converged": entry["earlier"] / error}
    gains[word] = max(gains.get(word, 0.0), error / state["refined"]["error"])
    gains["damping"] = error / entry["floored"]["error"]
    for key, word in (("points", "quadrature"), ("width", "capacity")):
        gains[word] = error / entry[key]["error"]
    return gains


def rounded(state: Entry) -> str:
    """What is at the level of rounding; nothing if nothing is."""
    if state["error"] < GAIN * state["rounding_u"]:
        return "rounding of u"
    return "rounding of r" if state["residual"] < GAIN * rounding(state) else ""


def verdict(entry: Entry) -> str:
    """What stopped the default."""
    gains = helped(entry)
    best = max(gains, key=lambda word: gains[word])
    found = best if gains[best] >= GAIN else "unclear"
    return rounded(entry["default"]) or found


def then(entry: Entry) -> str:
    """What stops the run with the least damping."""
    state = entry["floored"]
    if state["fresh"] > GAIN:
        return rounded(state) or "quadrature"
    gained = state["error"] / state["refined"]["error"] >= GAIN
    return rounded(state) or ("not converged" if gained else "damping")


def shown(*values: float) -> str:
    """Numbers in a cell."""
    return ", ".join(f"{value:.1e}" for value in values)


def table(entries: Sequence[Entry]) -> Table:
    """A row for each problem."""
    heads = ["problem", "error", r"\|r\|", "rounding of r: jets, targets, theta"]
    heads += ["fresh / train", "reducible, rest", "exact arithmetic", "points x 2"]
    heads += ["width x 1.5", "least damping", r"its \|r\|", "its rounding of r, u"]
    rows: list[list[Cell]] = []
    for e in sorted(entries, key=lambda e: SUITE.index(e["problem"])):
        state, floored = e["default"], e["floored"]
        row: list[Cell] = [e["problem"], f"**{state['error']:.1e}**"]
        row += [shown(state["residual"]), shown(*(state[key] for key in PARTS))]
        row += [f"{state['fresh']:.2f}", shown(state["inside"], state["outside"])]
        row += [shown(state["refined"]["error"])]
        row += [shown(e[key]["error"]) for key in ("points", "width")]
        row += [f"**{floored['error']:.1e}**", shown(floored["residual"])]
        row += [shown(rounding(floored), floored["rounding_u"])]
        rows.append([*row, verdict(e), then(e)])
    caption = "What stops each problem."
    heads += ["stopped by", "then by"]
    return Table("precision", caption, heads, rows, "docs/scoreboard.md")


EXPERIMENT = Experiment("precision", __doc__, tables=lambda entries: [table(entries)])
