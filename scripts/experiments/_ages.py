"""How old records are: the commits that made their entries, and what changed since.

``figures/ages.json`` has the changes that matter, oldest first, with the commit from
which on each is there, and of every commit that made an entry its date and the first
change that it lacks. It is written where git is, so that nothing else needs git.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments._numbers import unpacked
from experiments._record import DATA, FIGURES, ROOT
from experiments._table import Cell, Table
from fedsciml.federation.files import replace_file

AGES = FIGURES / "ages.json"
PROVENANCE = FIGURES / "provenance.json"
PAGE = "docs/reproduce.md"
PRESENT = "present"
"""Code that has all changes."""

Ages = dict[str, Any]
"""The content of ``ages.json``."""


def made(path: Path, past: Mapping[str, Any]) -> Counter[str]:
    """How many entries of a record each commit made; ``-dirty`` counts as its commit.

    Args:
        path: The record; one that is no JSON counts as one entry.
        past: The commits of entries that do not tell it, by record.
    """
    entries = unpacked(path) if path.suffix == ".json" else [{}]
    commits = Counter(
        entry["made"].partition(",")[0].removesuffix("-dirty")
        if "made" in entry
        else past[path.name]["commit"]
        for entry in entries
    )
    return Counter(dict(sorted(commits.items())))


def records() -> dict[str, Counter[str]]:
    """The commits of each record."""
    past = json.loads(PROVENANCE.read_text())
    return {path.name: made(path, past) for path in sorted(DATA.iterdir())}


def known() -> Ages:
    """What ``ages.json`` has."""
    found: Ages = json.loads(AGES.read_text())
    return found


def tables() -> list[Table]:
    """A row per record; a row per change.

    Raises:
        KeyError: If a commit has no age yet.
    """
    content = known()
    ages, changes = content["commits"], content["changes"]
    order = [*(change["name"] for change in changes), PRESENT]
    rows: list[list[Cell]] = []
    for name, commits in records().items():
        if missing := set(commits) - set(ages):
            raise KeyError(
                f"{name} has entries by {', '.join(sorted(missing))}, of which "
                f"{AGES.name} does not know the age: run make pages where git is."
            )
        lacks = Counter[str]()
        for commit, count in commits.items():
            lacks[ages[commit]["lacks"]] += count
        several = len(lacks) > 1
        code = [
            (f"{count}: " if several else "")
            + (PRESENT if word == PRESENT else f"before {word}")
            for word, count in sorted(lacks.items(), key=lambda x: order.index(x[0]))
        ]
        by = [f"{c} ({n})" if len(commits) > 1 else c for c, n in commits.items()]
        oldest = min(ages[commit]["date"] for commit in commits)
        rows.append([name, commits.total(), ", ".join(by), oldest, ", ".join(code)])
    heads = ["record", "entries", "made by commit (entries)", "oldest", "code"]
    shown = [[change[key] for key in ("name", "commit", "now")] for change in changes]
    what = ["change", "commit", "since then"]
    return [
        Table("ages", "The age of each record.", heads, rows, PAGE),
        Table("changes", "What changed since.", what, shown, PAGE),
    ]


def update() -> list[str]:
    """Ask git for the age of every commit that made an entry; says what changed.

    A clone without the history changes nothing.
    """
    ages = known()
    if _git("rev-parse", "--is-shallow-repository") != "false":
        return []
    told = ages["commits"]
    names = {commit: name for name, of in records().items() for commit in of}
    found = {
        commit: _age(commit, names[commit], ages["changes"], told.get(commit, {}))
        or told.get(commit)
        for commit in sorted(names)
    }
    new = {**ages, "commits": {c: age for c, age in found.items() if age}}
    if new == ages:
        return []
    replace_file(AGES, _text(new))
    return [AGES.relative_to(ROOT).as_posix()]


def _age(
    commit: str, record: str, changes: list[dict[str, str]], before: Ages
) -> Ages | None:
    """Date and first change that it lacks; None if git does not know.

    A commit that is not there any more is as old as the first one whose record names
    it, which is kept as ``seen``.
    """
    seen = before.get("seen", commit)
    if _git("cat-file", "-e", f"{seen}^{{commit}}") is None:
        file = f"figures/data/{record}"
        log = ("log", "--reverse", "--format=%h", f'-S"made": "{commit}', "--", file)
        seen = (_git(*log) or "").partition("\n")[0]
    date = seen and _git("show", "-s", "--format=%cs", seen)
    if not date:
        return None
    lacks = (
        change["name"]
        for change in changes
        if _git("merge-base", "--is-ancestor", change["commit"], seen) is None
    )
    age = {"date": date, "lacks": next(lacks, PRESENT)}
    return age if seen == commit else {**age, "seen": seen}


def _git(*words: str) -> str | None:
    """What git says; None if it fails."""
    command = ["git", "-C", str(ROOT), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _text(ages: Ages) -> str:
    """A line for each change and commit."""
    changes = ",\n".join(f"  {json.dumps(change)}" for change in ages["changes"])
    commits = ",\n".join(
        f"  {json.dumps(commit)}: {json.dumps(age)}"
        for commit, age in ages["commits"].items()
    )
    return f'{{\n "changes": [\n{changes}\n ],\n "commits": {{\n{commits}\n }}\n}}\n'
