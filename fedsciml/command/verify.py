"""Is FIPA's step that of centralised Gauss-Newton? Checks it, on a few problems."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fedsciml.command.jobs import results
from fedsciml.command.joint import joint
from fedsciml.command.suite import FAMILIES, SUITE
from fedsciml.command.verification import Check, brief, entry, table, verified
from fedsciml.federation.files import replace_file
from fedsciml.federation.progress import watched

FEW = ("sine2", "poisson1d", "allen_cahn")
"""Checked if nothing is said: one regression, a linear and a nonlinear equation."""


def verify(
    *names: str,
    every: Annotated[
        bool, Parameter(name="--all", negative="", show_default=False)
    ] = False,
    full: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    record: Annotated[Path | None, Parameter(name="--json")] = None,
    jobs: int = 2,
) -> int:
    """Is FIPA's step that of centralised Gauss-Newton? Checks it, on a few problems.

    The steps of FIPA, of the published rule and of averaging are compared with an
    independent solution of the pooled least-squares problem, at the start of a run
    and in it. Where clients have parameters of their own, those of FIPA with the least-
    squares problem of all parameters. The exit status is 1 if a tolerance is missed.

    Args:
        names: Problems (default sine2, poisson1d, allen_cahn).
        every: All problems of the suite; takes minutes.
        full: Show every number, as a table in Markdown.
        record: Write the checks there, as JSON; - for standard output.
        jobs: Problems side by side.
    """
    chosen = SUITE if every else names or FEW
    known = (*SUITE, *FAMILIES)
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(
            f"There is nothing to compare '{unknown[0]}' by; choose one of "
            f"{', '.join(known)}."
        )
    return told(chosen, jobs, record, full)


def checked(name: str) -> list[Check]:
    """All checks of a problem."""
    return joint(name) if name in FAMILIES else verified(name)


def told(
    names: Sequence[str], jobs: int, record: Path | None, full: bool = True
) -> int:
    """Check, print, and say by the exit status whether a tolerance was missed.

    Args:
        names: Of problems of the suite.
        jobs: Problems side by side, each in a process of its own.
        record: File for the checks, as JSON; ``-`` is standard output.
        full: Whether every number is printed, or the largest of each place.
    """
    backwards = names[::-1]  # those that take longest are the last of the suite
    found: dict[str, list[Check]] = {}
    for name, those in results(checked, backwards, jobs, threads=1):
        found[name] = those
        if watched(sys.stderr):
            print(f"{name}: {len(those)} checks", file=sys.stderr)
    checks = [check for name in names for check in found[name]]
    missed = [check for check in checks if not check.ok]
    if record is not None:
        text = json.dumps([entry(check) for check in checks], indent=1) + "\n"
        if str(record) == "-":
            sys.stdout.write(text)
        else:
            replace_file(record, text)
    if str(record) != "-":
        print(table(checks) if full else brief(checks))
        print(f"\n{len(checks)} checks, {len(missed)} missed.")
    return 1 if missed else 0
