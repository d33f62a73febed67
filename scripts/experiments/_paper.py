"""What a paper claims, and where each claim is shown: figures, tables, commands."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments._record import FIGURES


class Claim(NamedTuple):
    """A claim and its evidence.

    Attributes:
        name: In a word.
        says: The claim in a sentence, without numbers that were measured.
        figures: Names of figures.
        tables: Marks on pages, ``PAGE#NAME``.
        experiments: Names of those that make the records.
    """

    name: str
    says: str
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    experiments: tuple[str, ...]


CLAIMS = (
    Claim(
        "exactness",
        "A round of FIPA at full rank is a step of centralised Gauss-Newton, and what "
        "clients cut off does not show in the errors that runs reach.",
        ("trajectory-gap", "suite-pde-1d"),
        ("docs/consistency.md#verify", "docs/results.md#overview"),
        ("trajectory", "fipa"),
    ),
    Claim(
        "bytes",
        "In a shared basis an accuracy costs fewer bytes than with own sketches; "
        "rivals that send less a round stop at larger errors.",
        ("basis-bytes", "ranks-front", "wire-compression"),
        ("docs/basis.md#basis", "docs/compression.md#compression"),
        ("basis", "ranks", "compression"),
    ),
    Claim(
        "privacy",
        "What can be read from a message is measured; secure sums hide the parts of "
        "clients, and noise bounds what the sums tell of a point.",
        ("wire-observer", "secure-sums", "secure-bytes", "privacy-epsilon"),
        ("docs/observer.md#observed", "docs/privacy.md#privacy"),
        ("observer", "secure", "privacy"),
    ),
    Claim(
        "robustness",
        "Runs go on without clients that are missing; what clients do to a run that do "
        "not follow the protocol is measured, with and without defences.",
        ("stragglers",),
        (
            "docs/stragglers.md#stragglers",
            "docs/attacks.md#attacks-allen_cahn",
            "docs/attacks.md#honest",
        ),
        ("stragglers", "attacks", "honest"),
    ),
    Claim(
        "classification",
        "On classes that clients have unevenly FIPA takes fewer rounds to an accuracy "
        "than tuned rivals; what it sends and computes for it stands beside that.",
        (
            "classes-rounds",
            "classes-uploads",
            "classes-seconds",
            "classes-alpha-rounds",
        ),
        (
            "docs/classification_results.md#digits-alpha",
            "docs/classification_results.md#mnist5k",
        ),
        ("classification",),
    ),
    Claim(
        "personalisation",
        "Parameters of each site's own are eliminated before anything is sent, and the "
        "sites' errors fall below those of tuned rivals that average; sites that train "
        "alone stand beside.",
        ("personal-rounds",),
        (
            "docs/personal_results.md#personal-exact",
            "docs/personal_results.md#personal-noisy",
            "docs/personal_results.md#personal-equation",
        ),
        ("personal",),
    ),
    Claim(
        "speed",
        "How the seconds of a round grow with parameters, rows and clients is "
        "measured, beside a centralised decomposition.",
        ("round-cost", "wire-clients"),
        ("docs/results.md#cost", "docs/wire.md#scaling"),
        ("cost", "backends"),
    ),
    Claim(
        "unknown numbers",
        "Numbers in an equation are found from the data of several sites, with "
        "intervals that hold what they promise.",
        ("inverse", "inverse-coverage", "suite-inverse"),
        ("docs/problems.md#extra", "docs/deepxde.md#deepxde-unknowns"),
        ("inverse", "coverage", "extra"),
    ),
)


def listed(claims: Sequence[Claim] = CLAIMS) -> str:
    """The claims as a table for ``figures/README.md``."""
    heads = ("claim", "figures", "tables", "command of the record", "of the figure")
    lines = [heads, ("---",) * len(heads)]
    for claim in claims:
        figures = [f"[{name}]({name}.pdf)" for name in claim.figures]
        tables = [_table(*place.split("#")) for place in claim.tables]
        makers = [f"`python -m scripts.experiments {e}`" for e in claim.experiments]
        drawn = f"`python scripts/make_figures.py --only {' '.join(claim.figures)}`"
        says = f"**{claim.name.capitalize()}.** {claim.says}"
        cells = (*map(", ".join, (figures, tables, makers)), drawn)
        lines.append((says, *cells))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _table(page: str, name: str) -> str:
    """A link to the page that has a table, and to what LaTeX reads, if it is kept."""
    kept = (FIGURES / "tables" / f"{name}.tex").exists()
    tex = f" ([LaTeX](tables/{name}.tex))" if kept else ""
    return f"[{name}](../{page}){tex}"
