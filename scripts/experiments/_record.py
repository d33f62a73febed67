"""Records: lists of entries in JSON, an entry a line, each with what made it."""

import json
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fedsciml.federation.directory import environment

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "figures"
DATA = FIGURES / "data"

Entry = dict[str, Any]
"""What is kept of a run: plain data, with the fields of its key."""


def read(content: bytes) -> list[Entry]:
    """The entries of a record; a record may be a single object, too."""
    found = json.loads(content)
    return found if isinstance(found, list) else [found]


def text(entries: Iterable[Entry]) -> str:
    """The content of a record: a list, an entry a line, sorted."""
    return "[\n" + ",\n".join(sorted(json.dumps(e) for e in entries)) + "\n]\n"


@cache
def commit() -> str:
    """The commit that is checked out; with ``-dirty`` where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def made(by: str) -> str:
    """What made an entry: a commit, versions, machine, threads; its field ``made``."""
    return ", ".join([by, *(f"{key} {value}" for key, value in environment().items())])


def select(entries: Sequence[Entry], **wanted: object) -> list[Entry]:
    """The entries that have these values, by field; of a tuple, any of them."""
    sets = {k: v if isinstance(v, tuple) else (v,) for k, v in wanted.items()}
    return [e for e in entries if all(e.get(k) in v for k, v in sets.items())]


def grouped(entries: Iterable[Entry], *keys: str) -> dict[Any, list[Entry]]:
    """Entries by the values of these fields; by the value itself of a single field."""
    found: dict[Any, list[Entry]] = {}
    for entry in entries:
        values = tuple(entry[key] for key in keys)
        found.setdefault(values if len(keys) > 1 else values[0], []).append(entry)
    return dict(sorted(found.items()))


def short(value: float) -> float:
    """Four significant digits: enough to draw and to compare."""
    return float(f"{value:.4g}")
