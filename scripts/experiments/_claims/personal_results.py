"""The prose of docs/personal_results.md."""

from experiments._numbers import (
    ceiling,
    cell,
    column,
    digits,
    number,
    part,
    percent,
    record,
    word,
)
from experiments._personal_tables import FOUR, OURS, reported
from experiments._prose import Claim, Setting

GAUSS_NEWTON = "local, Gauss-Newton"
RANKS = (
    *("FedSA-LoRA", "FedAvg, magnitudes personal", "FedLoRA-Optimizer, together"),
    "FedLoRA-Optimizer as published",
)
"""Rivals that train factors of low rank."""

AIM = 0.6
"""Ours over a rival."""

FAR = 0.3
"""Error at a new site that its points do not tell."""


def over(*labels: str, table: str = "personal-noisy") -> list[float]:
    """Our error in that of others."""
    found = column(table, "ours over it")
    return [float(found[label]) for label in labels]


def met() -> list[str]:
    """Rivals for which the aim is met, and all."""
    rivals = [x for x in column("personal-noisy", "method") if x not in (OURS, FOUR)]
    return [word(sum(x <= AIM for x in over(*rivals))), word(len(rivals))]


def soon(label: str) -> str:
    """Median rounds to a mean of 1e-8: ``16 (10)``, of ten, is 16."""
    return cell("personal-exact", label, "rounds to a mean of 1e-8").partition(" ")[0]


def everywhere() -> list[str]:
    """Families with every site below 1e-8, and all: of ``10 of 10``."""
    found = cell("personal-exact", OURS, "families with all sites below 1e-8")
    return found.split(" of ")


def beginners() -> str:
    """Ours at a new site in the best other by its median error."""
    several = reported(record("personal.json"), "new")
    known = next(iter(several)), "data alone"
    return cell("personal-new", known, "ours over it")


def lost() -> list[str]:
    """Families whose new site is far off, all, and the largest error."""
    runs = reported(record("personal.json"), "noisy")[FOUR]
    errors = [float(e["new"]) for e in runs]
    far = sum(x > FAR for x in errors)
    return [word(far), word(len(errors)), digits(max(errors))]


def gaps(way: str) -> list[str]:
    """The largest gaps of both networks, in per cent."""
    both = (("magnitudes", way), ("waves, head", way))
    return [percent(number(cell("personal-gap", row, "largest gap"))) for row in both]


def gap(network: str) -> str:
    """The largest of own sketches."""
    return ceiling(
        number(cell("personal-gap", (network, "own sketches"), "largest gap"))
    )


def bytes_of(way: str) -> str:
    """In those of own sketches, with waves."""
    sent = [
        float(cell("personal-gap", ("waves, head", w), "kB from a site"))
        for w in (way, "own sketches")
    ]
    return percent(sent[0] / sent[1])


def stages() -> list[str]:
    """What magnitudes of B alone gain, and training all together."""
    error = column("personal-stages", "error")
    last = cell("personal-stages", "own magnitudes of B", "gain %")
    begin, end = (
        number(error[name]) for name in ("averaged", "the same split trained together")
    )
    return [percent(float(last) / 100, 1), percent(1 - end / begin)]


CLAIMS = [
    Claim("usual, {} of {} families", everywhere),
    Claim(
        "is there after {} rounds (median), by the centralised joint step after {}.",
        lambda: [soon(OURS), soon("Gauss-Newton, centralised")],
    ),
    Claim(
        "they are at {} after 200 rounds",
        lambda: [digits(number(cell("personal-exact", "FedPer", "error")))],
    ),
    Claim("it is met for {} of {}.**", met),
    Claim(
        "is at {} of Gauss-Newton of each site alone, at {} of FedPer, at {} of "
        "FedRep, and at {} or less",
        lambda: [
            *(f"{x:.2f}" for x in over(GAUSS_NEWTON, "FedPer", "FedRep")),
            f"{max(over(*RANKS)):.2f}",
        ],
    ),
    Claim("it is at {}: twelve", lambda: [f"{over('local, Adam')[0]:.2f}"]),
    Claim(
        "the four runs send {} MB from a site, FedRep sends {}.",
        lambda: [cell("personal-noisy", m, "MB from a site") for m in (FOUR, "FedRep")],
    ),
    Claim(
        "Adam at each site it is {}, and of FedPer {}.",
        lambda: [
            part(x) for x in over("local, Adam", "FedPer", table="personal-equation")
        ],
    ),
    Claim("ours is at {} of the best other", lambda: [beginners()]),
    Claim("in {} families of {} the error is above 0.3, and up to {}, as", lost),
    Claim(
        "ours is at {} of Gauss-Newton at",
        lambda: [
            cell("personal-new", (GAUSS_NEWTON, "with the equation"), "ours over it")
        ],
    ),
    Claim(
        "the joint ones to {} with six personal parameters and to {} with 53",
        lambda: [gap("magnitudes"), gap("waves, head")],
    ),
    Claim("steps are {} and {} off", lambda: gaps("shared basis, rows")),
    Claim("in sums {} and {}, as", lambda: gaps("sums")),
    Claim(
        "rows and sums take {} and {} of the bytes",
        lambda: [bytes_of("shared basis, rows"), bytes_of("sums")],
    ),
    Claim("cannot mend it: {}, against {} where", stages),
    Claim(
        "by a factor of {} here",
        lambda: [cell("personal-variation", "magnitude", "B over A")],
    ),
]

SETTINGS: list[Setting] = [
    "on 0 to 2 s",
    "a rate from 0.2 to 1 and",
    "from 3 to 8 1/s",
    "12 measurements",
    "families 100 and 101",
    "1e-2, and 30 rounds of 20 steps",
    "every site below 1e-8",
    "hidden layers of 20",
    "one of 50 sines",
    "of rank 2",
    "The aim was 0.6",
    "Of 600 steps",
    "8 sites with 40 measurements",
    "8 sensors with offset and gain; 1 % noise",
    "and 25 of gauges",
    "damping is 1e-6",
    "Rounds are 100, 50 and 50",
    "and 41 there",  # arXiv 2510.11274
]
