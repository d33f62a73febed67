"""The prose of docs/inverse.md."""

from math import pi

from experiments._numbers import digits, ends, percent, power, record, word
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments.inverse import Coverage, coverage, from_round
from fedsciml.problems.terrain import measured


def tried(problem: str) -> list[Entry]:
    """FedAvg's settings on clean data, the one of lowest error first."""
    found = select(record("inverse.json"), problem=problem, method="fedavg", noise=0.0)
    return sorted(found, key=lambda e: float(e["error"]))


def best(problem: str) -> list[str]:
    """tau and learning rate of the best setting."""
    return [str(tried(problem)[0]["tau"]), power(tried(problem)[0]["rate"])]


def too_small() -> list[str]:
    """Errors of clean data over the deviations reported, the least and the largest."""
    found = select(record("inverse.json"), method="fipa", noise=0.0, weight=1.0)
    return [digits(x) for x in ends(e["error"] / e["deviation"] for e in found)]


def sharp() -> Entry:
    """The run with the classical viscosity."""
    (found,) = select(record("inverse.json"), viscosity=0.01 / pi)
    return found


def share(width: str) -> Coverage:
    """How often intervals contain the truth."""
    return coverage(record("coverage.json"), width)


def inside(width: str) -> str:
    """How many intervals do."""
    return str(round(share(width).share * len(record("coverage.json"))))


def moved() -> float:
    """By the last third of the rounds, the most of all draws."""
    return max(e["moved"] / e["deviation"] for e in record("coverage.json"))


def terrain(method: str) -> Entry:
    """Its run; FedAvg's longest, which has the best setting."""
    found = select(record("terrain.json"), method=method)
    return max(found, key=lambda e: int(e["rounds"]))


def worse() -> float:
    """FIPA's test error over that of the pooled data, less 1."""
    return float(terrain("fipa")["test"] / terrain("gauss_newton")["test"] - 1)


CLAIMS = [
    Claim(
        "lowest error among {} (heat: tau {}, learning rate {}) and {} (Burgers: "
        "tau {}, learning rate {}; its solution is {} off).",
        lambda: [
            word(len(tried("heat_inverse"))),
            *best("heat_inverse"),
            word(len(tried("burgers_inverse"))),
            *best("burgers_inverse"),
            percent(tried("burgers_inverse")[0]["solution"]),
        ],
    ),
    Claim("the errors above are {} to {} times as large.", too_small),
    Claim(
        "nu is {} off after 100 rounds, and less than 0.1 % from round {} on.",
        lambda: [percent(sharp()["error"], 1), str(from_round(sharp()["errors"]))],
    ),
    Claim(
        "Of {} draws of points and 1 % noise the 95 % interval of `heat_inverse` "
        "contains the true diffusivity in {}",
        lambda: [str(len(record("coverage.json"))), inside("deviation")],
    ),
    Claim(
        "(a binomial share: {} to {}), and the root mean square of the errors is {} "
        "times the standard deviations reported. With `bound` it is {} draws, and {} "
        "times.",
        lambda: [
            percent(share("deviation").low, 3),
            percent(share("deviation").high, 3),
            digits(share("deviation").ratio, 3),
            inside("bound"),
            digits(share("bound").ratio),
        ],
    ),
    Claim(
        "The last third of the rounds moved the number by {} standard deviations at "
        "most.",
        lambda: [digits(moved())],
    ),
    Claim(
        "differ from their mean by {} m",
        lambda: [f"{float(measured().elevation.std()):.0f}"],
    ),
    Claim(
        "FIPA's test error is {} above that of the pooled data.",
        lambda: [percent(worse())],
    ),
    Claim(
        "the test error at the end is {} above its lowest, though it is {} larger than "
        "the training error.",
        lambda: [
            percent(terrain("fipa")["test"] / terrain("fipa")["best"] - 1, 1),
            percent(terrain("fipa")["test"] / terrain("fipa")["train"] - 1),
        ],
    ),
    Claim(
        "best setting, tau = {} and learning rate {} with",
        lambda: [
            str(terrain("fedavg")["tau"]),
            f"{terrain('fedavg')['learning_rate']:g}",
        ],
    ),
]

SETTINGS: list[Setting] = [
    "From a start at 0,",
    # tests/problem/test_numbers.py
    "y' = -A y with A = 1 is found to 1e-9 in 20 rounds",
    "from the starts 0, 1e-9 and -0.5.",
    "diffusivity, 0.1 | 1 | 200 | 400 |",
    "viscosity, 0.05 / pi | 0.1 | 400 | 1000 |",
    "its standard deviation 1 % of the root mean square",
    "FedAvg has 100 rounds too",
    "The classical viscosity 0.01 / pi, a shock 1/150 wide",
    "viscosities up to 0.3.",
    "y' + (a + b) y = 0",
    "4000 of the 138 632 elevations",
    "921 parameters; 4000 others",
    "does not over-fit in 50 rounds",
    "tau = 100, made it worse",
]
