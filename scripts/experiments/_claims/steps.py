"""The prose of docs/steps.md."""

from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from math import hypot, inf
from statistics import median

from experiments._numbers import (
    cell,
    column,
    digits,
    ends,
    number,
    percent,
    power,
    record,
    word,
)
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments._runs import longest
from experiments.steps import KEY
from experiments.steps import SETTINGS as PARTITIONS
from fedsciml.command.suite import LINES

RIVALS = "1e-6 in 100"


def stalls(start: int) -> Entry:
    """The start that stalls, 1, or that converges, 2."""
    name = ("stalled", "converging")[start - 1]
    found: Entry = record("stall.json")[0][name]
    return found


def explaining(share: float) -> int:
    """Directions that explain so much of the loss from both starts."""
    return max(
        1 + next(k for k, x in enumerate(stalls(m)["explained"]) if x >= share)
        for m in (1, 2)
    )


def least(start: int, step: str) -> float:
    """The loss at the best length of a step, over that before."""
    return float(min(stalls(start)["along"][step]["actual"]))


def creeping() -> list[float]:
    """The first lengths from start 2."""
    return [*takewhile(lambda t: t < 1e-2, stalls(2)["cut"]["step"])]


def rounds_to(error: float) -> int:
    """From start 2."""
    errors = stalls(2)["cut"]["relative_l2"]
    return 1 + next(k for k, x in enumerate(errors) if x <= error)


def deepest() -> Entry:
    """Of the steps out of a deep stall that of the least Theta."""
    rows: list[Entry] = [r for along in deep()["along"].values() for r in along]
    return min(rows, key=lambda row: float(row["contraction"]))


def deep() -> Entry:
    """The stall of sine8."""
    found: Entry = record("stall.json")[0]["deep"]
    return found


def returns(losses: Sequence[float]) -> list[int]:
    """Rounds from a rise by six orders until the loss is lower than ever."""
    found, best, since = list[int](), inf, 0
    for k, loss in enumerate(losses):
        if not since and loss > 1e6 * best:
            since = k
        elif loss < best:
            found += [k - since] if since else []
            best, since = loss, 0
    return found


@cache
def settled() -> list[Entry]:
    """Runs of the default policy; of a start the longest."""
    natural = select(record("steps.json"), policy="natural")
    return longest(natural, KEY[:-1], lambda e: e["rounds"])


def reaching() -> list[str]:
    """How many runs reach 1e-6, of how many in up to three dimensions."""
    mine = [e for e in settled() if e["problem"] != "poisson5d"]
    costs = [e["reached"]["1e-06"] for e in mine]
    there = sum(cost is not None and cost["rounds"] <= 100 for cost in costs)
    return [str(there), str(len(mine))]


def at(problem: str, setting: str, head: str) -> str:
    """Of the default, problem by problem, as the other numbers of pages."""
    return shown(cell("natural", (problem, setting), head))


def shown(text: str) -> str:
    """``5.2e-15``."""
    first, _, exponent = text.partition("e")
    return f"{first}e{int(exponent)}"


def lines() -> list[str]:
    """The least and the largest error at round 100 on equations in one dimension."""
    found = [at(p, s, "at 100") for p in LINES for s in PARTITIONS]
    low, high = ends(map(float, found))
    return [f"{low:.1e}", f"{high:.1e}"]


def rivals() -> list[str]:
    """Shares of the runs that reach 1e-6: of the best rival, and of the others."""
    shares = column("scoreboard-central", RIVALS)
    *others, best = sorted(
        (text for name, text in shares.items() if not name.startswith("`natural")),
        key=number,
    )
    return [best, others[0], others[-1]]


def damped() -> list[str]:
    """The largest share of runs with a fixed damping that get to 1e-10."""
    policies = [f"`line_search:damping={mu},cutoff=0`" for mu in ("1e-6", "1e-8")]
    shares = [cell("scoreboard-central", p, "1e-10 in 100") for p in policies]
    return [max(shares, key=number)]


def first_bytes() -> float:
    """Until allen_cahn with two clients is at 1e-8."""
    mine = select(settled(), problem="allen_cahn", setting="2")
    return median(e["reached"]["1e-08"]["bytes"] for e in mine)


def published(head: str) -> str:
    """Of the published rule on allen_cahn."""
    return cell("published", "allen_cahn", head)


CLAIMS = [
    Claim(
        "from start 2 it gets to 1e-10 in {} rounds", lambda: [str(rounds_to(1e-10))]
    ),
    Claim(
        "Of {} directions {} explain 99 % of the loss",
        lambda: [str(len(stalls(1)["singular_values"])), word(explaining(0.99))],
    ),
    Claim(
        "the undamped step is long, |D| = {} and {} (start 1, start 2)",
        lambda: [digits(hypot(*stalls(m)["contributions"])) for m in (1, 2)],
    ),
    Claim(
        "Its curvature |r''[D, D]| / 2 is {} and {} times |r|, that of the step in the "
        "first five directions {} and {} times",
        lambda: [digits(stalls(m)["curvature"][k]) for k in (-1, 4) for m in (1, 2)],
    ),
    Claim(
        "the loss is {} (start 1) and {} (start 2) times what it was",
        lambda: [power(stalls(m)["along"]["cut"]["actual"][0]) for m in (1, 2)],
    ),
    Claim(
        "the gain is {} and {} of the loss",
        lambda: [percent(1 - least(m, "cut")) for m in (1, 2)],
    ),
    Claim(
        "Start 2 creeps at t = {} to {} for {} rounds,",
        lambda: [*map(power, ends(creeping())), word(len(creeping()))],
    ),
    Claim(
        "start 1 then loses {} of its loss in one step, start 2 {}.",
        lambda: [percent(1 - least(m, "damped")) for m in (1, 2)],
    ),
    Claim("([scoreboard](scoreboard.md)) {} of the runs get to 1e-10", damped),
    Claim(
        "raises the loss, to {} times where Theta is least (first figure, left; sine8, "
        "start 6, at a loss of {}), while Theta falls to {}:",
        lambda: [
            power(deepest()["loss"]),
            power(deep()["history"]["loss"][deep()["round"] - 1]),
            digits(deepest()["contraction"]),
        ],
    ),
    Claim(
        "bring the loss back, here in {} to {} rounds",
        lambda: [str(k) for k in ends(returns(deep()["history"]["loss"]))],
    ),
    Claim("regressions included, {} of {} runs reach 1e-6", reaching),
    Claim("poisson5d is then at {};", lambda: [at("poisson5d", "2", "at 100")]),
    Claim(
        "are {} to {} on the equations in one dimension, with 2 clients {} on "
        "poisson2d and {} on poisson3d;",
        lambda: [*lines(), *(at(p, "2", "at 100") for p in ("poisson2d", "poisson3d"))],
    ),
    Claim(
        "is at {} after 150 steps, from the worst start at {};",
        lambda: [
            at("poisson_square", "central", head) for head in ("at 150", "worst at end")
        ],
    ),
    Claim("the best reaches 1e-6 in {} of its runs, the others in {} to {};", rivals),
    Claim(
        "is at 1e-8 after {}, both ways; the published rule is at its best, {}, after "
        "{} ([benchmark]",
        lambda: [
            f"{digits(first_bytes() / 1e6)} MB",
            published("published rule's best"),
            f"{published('round / MB / s').split(' / ')[1]} MB",
        ],
    ),
]

SETTINGS: list[Setting] = [
    "a hard cut-off at 1e-10 s_1 and the best of the lengths 1, 1/2, ..., 2^-11",
    "at t = 1",
    "at a fixed 1e-6 or 1e-8",
    # Of `natural`: levels times lengths, and its other options.
    "their losses at 20 candidates (52 in the",
    "Theta <= 1 - t/4",
    "a factor 100 of mu",
    "by t^2/2 r''",
    "theta + t D + t^2/2 D_2",
    "with 2 and 8 clients",
    "reach 1e-6 within 100 rounds",
    "errors at round 100",
    "allen_cahn with 2 clients",
]
