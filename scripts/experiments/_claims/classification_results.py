"""The prose of docs/classification_results.md."""

from math import inf

from experiments._classes import PLAN
from experiments._classes_tables import OURS
from experiments._numbers import cell, column, digits, ends, number
from experiments._prose import Claim, Setting

ALPHAS = ("0.1", "0.05")
SKETCHES, LAZY, _, LAZIEST = OURS
MNIST = {
    "lazy": ("fipa", "rank 20, every 5"),
    "50": ("fipa", "rank 50, with the gradient"),
}


def bare(text: str) -> str:
    """A cell without the number of starts that got there."""
    return text.partition(" ")[0]


def spent(method: str, head: str) -> list[str]:
    """To an accuracy, at both alphas."""
    return [bare(cell(f"digits-{a}", method, head)) for a in ALPHAS]


def least(head: str) -> list[str]:
    """The least of all rivals, at both alphas; those that never get there are late."""
    found = []
    for alpha in ALPHAS:
        each = [x for m, x in column(f"digits-{alpha}", head).items() if m in PLAN]
        found.append(min(inf if x.startswith("never") else number(x) for x in each))
    return [f"{x:.3g}" for x in found]


def lazier() -> list[str]:
    """The least of ours to 97 %, at both alphas."""
    found = []
    for alpha in ALPHAS:
        each = column(f"digits-{alpha}", "p up to 97%")
        found.append(min(number(each[name]) for name in OURS))
    return [f"{x:.3g}" for x in found]


def shot(method: str) -> str:
    """Points of accuracy above FedAvg after one round."""
    found = column("digits-one-shot", "median %")
    return digits(float(found[f"FedFisher, {method}"]) - float(found["FedAvg"]))


def after(rounds: int, trained: str, head: str, how: str = "lazy") -> str:
    """A cell of the table of warm-ups."""
    return cell("digits-warm-up", (str(rounds), trained, how), head)


ALONE = "FedAvg's best %, equal rounds"


def everything() -> list[str]:
    """The best of all parameters after a warm-up, and of FedAvg."""
    rows = [(k, "all") for k in (5, 10, 20, 40)]
    ours = [float(after(*row, "best %")) for row in rows]
    others = [float(after(*row, h)) for row in rows for h in (ALONE, "equal uploads")]
    return [f"{x:.1f}" for x in (*ends(ours), max(others))]


def classifier() -> list[str]:
    """Uploads of a round in those of FedAvg; the best after 40 and 20 rounds."""
    sent = (float(after(40, "classifier", "p up")) - 40) / 20
    both = (after(k, "classifier", h) for k in (40, 20) for h in ("best %", ALONE))
    return [digits(sent), *both]


def images() -> list[str]:
    """Of rank 50 and of FedAvg at round 10."""
    ours, theirs = (
        [cell("mnist5k", row, head) for head in ("10", "p up at 10", "CPU s at 10")]
        for row in (MNIST["50"], "fedavg")
    )
    sent, seconds = (float(ours[k]) / float(theirs[k]) for k in (1, 2))
    return [ours[0], theirs[0], ours[1], digits(sent), digits(seconds)]


def lazily() -> list[str]:
    """Lazy sketches and FedAvg, after 15 rounds and up to 92 %."""
    rows = (MNIST["lazy"], "fedavg")
    last = [cell("mnist5k", row, "15") for row in rows]
    sent = [bare(cell("mnist5k", row, "p up to 92%")) for row in rows]
    return [*last, *sent]


CLAIMS = [
    Claim(
        "FIPA is at 98 % after {} rounds at alpha 0.1 and after {} at alpha 0.05",
        lambda: spent(SKETCHES, "rounds to 98%"),
    ),
    Claim("the soonest rival takes {} and {},", lambda: least("rounds to 98%")),
    Claim(
        "in every eighth round, take {} and {}.", lambda: spent(LAZY, "rounds to 98%")
    ),
    Claim(
        "Lazy sketches take {} and {} p numbers to 98 %, the rival that sends least {} "
        "and {}.",
        lambda: [*spent(LAZY, "p up to 98%"), *least("p up to 98%")],
    ),
    Claim(
        "averaging needs fewer: {} and {}, against {} and {} of our laziest",
        lambda: [*least("p up to 97%"), *lazier()],
    ),
    Claim("FIPA sends {} and {} to 98 %.", lambda: spent(SKETCHES, "p up to 98%")),
    Claim(
        "factors gain {} points, sketches of rank 50 gain {}, the latter for {} p",
        lambda: [
            *(shot(name) for name in ("kfac", "sketch")),
            cell("digits-one-shot", "FedFisher, sketch", "p up"),
        ],
    ),
    Claim(
        "parameters: {} to {} % at best after any warm-up, where FedAvg gets to {}.",
        everything,
    ),
    Claim(
        "rounds send {} of one of FedAvg, it gets to {} % after 40 rounds of warm-up, "
        "FedAvg to {}; after 20 rounds to {}, FedAvg to {}.",
        classifier,
    ),
    Claim(
        "is then at {} %, FedAvg at {}. It sends {} p numbers for that, {} times what "
        "FedAvg sends, and computes for {} times as long",
        images,
    ),
    Claim(
        "rank 20 are at {} % after 15 rounds, FedAvg at {}; up to 92 % they take {} p "
        "numbers, FedAvg {}.",
        lazily,
    ),
]

SETTINGS: list[Setting] = [
    "the 1797 *digits* of 8 x 8 pixels (a network of p = 2410 parameters)",
    "on starts 0 and 1 at alpha 0.1",
    "Its rank is 20",
    "10 in every eighth round, or 5 in every fifth",
    "By rank 20 FIPA",
    "rank 10 in every eighth",
    "Up to 97 % averaging",
    "With rank 20 FIPA",
    "wins up to 97 %",
    "a rate of 1 and",
    "our rounds to 98 %",
    "On starts 5 to 8, which are not reported, at alpha 0.05",
    "at alpha 0.5 **FIPA",
    "up to 97 % and, where FedAvg gets there, up to 98 %",
    "Rounds to 97 % by alpha",
    "Uploads to 97 % by alpha",
    "/ 20, with the leading 20",
    "then 20 rounds of FIPA",
    "the 330 of the last layer",
    "at most 60 rounds",
    "After 5 and 10 rounds",
    "22,658 parameters, 2000 digits",
    "alpha 0.1, relu",
    "aimed for 92 % after 10 rounds: FIPA of rank 50",
    "on starts 0 and 1; local",
]
