"""The prose of docs/consistency.md."""

from experiments._numbers import cell, digits, ends, record
from experiments._prose import Claim, Setting
from experiments._record import Entry, select
from experiments.spectra import POOLED
from fedsciml.command.verification import DAMPINGS, PROMISED, TOLERANCE


def promised() -> list[Entry]:
    """How far FIPA's steps are off, for the dampings of which 1e-10 is promised."""
    columns = tuple(f": fipa, mu = {mu:g}" for mu in DAMPINGS if mu >= PROMISED)
    return [e for e in record("verify.json") if e["check"].endswith(columns)]


def excused() -> list[str]:
    """How many are not, of how many, the worst, and after which rounds.

    Raises:
        ValueError: If they are not all after as many rounds.
    """
    found = promised()
    missed = [e for e in found if e["value"] > TOLERANCE]
    places = {e["check"].partition(", round ")[2].partition(":")[0] for e in missed}
    (rounds,) = places
    worst = max(float(e["value"]) for e in missed)
    return [str(len(missed)), str(len(found)), f"{worst:.1e}", rounds]


def spectra(problem: str, rounds: int) -> tuple[Entry, list[Entry]]:
    """Of all rows, and of each client."""
    found = select(record("spectra.json"), problem=problem, round=rounds)
    (whole,) = select(found, client=POOLED)
    return whole, [e for e in found if e is not whole]


def ranks(problem: str, rounds: int) -> list[int]:
    """Directions of each client above the cut-off in use."""
    return [int(e["above"]) for e in spectra(problem, rounds)[1]]


def largest(rounds: int) -> str:
    """s_1 of all rows of Allen-Cahn."""
    return digits(spectra("allen_cahn", rounds)[0]["singular_values"][0])


CLAIMS = [
    Claim(
        "needed by {} of {} steps, of which the worst is off by {}: after {} rounds,",
        excused,
    ),
    Claim(
        "of {} checks {} are missed",
        lambda: [
            str(len(record("verify.json"))),
            str(sum(not e["ok"] for e in record("verify.json"))),
        ],
    ),
    Claim("(q = {})", lambda: [cell("theorem", "`sine2`", "contraction q")]),
    Claim("s_1 from {} to {} on Allen-Cahn", lambda: [largest(0), largest(50)]),
    Claim(
        "rank grows from at most {} to {} there",
        lambda: [str(max(ranks("allen_cahn", k))) for k in (0, 50)],
    ),
    Claim(
        "at round 50 on Allen-Cahn {}, fewer than the {} of both clients together,",
        lambda: [
            str(spectra("allen_cahn", 50)[0]["above"]),
            str(sum(ranks("allen_cahn", 50))),
        ],
    ),
    Claim(
        "on sine8 {}, and a client {} to {}.",
        lambda: [
            str(spectra("sine8", 50)[0]["above"]),
            *(str(k) for k in ends(ranks("sine8", 50))),
        ],
    ),
]

SETTINGS: list[Setting] = [
    "all 12 problems of the suite",
    "after 5 and 20 rounds of a run, for dampings mu from 1e-2 to 1e-10",
    "[J; sqrt(mu) I] D ~ [-r; 0]",
    "status 1",
    "1e-10 for mu >= 1e-6",
    "at mu = 0",
    "poisson3d and poisson5d take 5 and 2 % of their points",
    "half steps, 30 rounds",
    "O(1/K)",
    "like 1/k",
    "for K from 32 to 512",
    "the 1/K line",
    "falls like 1/K",
    "at K = 32",
    "the published limit of 200 steps",
    "the published C = 1",
]
