"""What an experiment is."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from experiments._drawing import Drawing
from experiments._record import DATA, Entry, read, text
from experiments._table import Table
from fedsciml import problems

Case = tuple[Any, ...]
"""The values of the key of a run."""

Cases = Sequence[Case] | Callable[[Sequence[Entry]], Iterable[Case]]


def token(case: Case) -> str:
    """A case as a word, to compare; its values need not be hashable."""
    return json.dumps(case, sort_keys=True)


@dataclass(frozen=True)
class Experiment:
    """Cases, what is measured of each, where it is kept and what is made of it.

    Attributes:
        name: On the command line.
        about: What is done and why; the first line is the summary.
        key: Fields of an entry that tell the cases apart.
        cases: The values of these fields for every run, in the order of the runs. A
            function where they depend on the entries so far: it is asked again when
            its cases are done, until nothing is missing. Empty where a study is done:
            its record stays, and the commit that made it is in the provenance.
        measure: Makes a case, whose values are its arguments, and returns an entry
            without the key's fields, or several. Called in other processes too.
        tables: Made of the entries.
        drawings: Figures by name.
        page: Where the record is used that no figure is drawn from.
        record: File name in ``figures/data``; by default that of the experiment.
        check: Takes the values of a case, raises ValueError where it cannot be made.
        jobs: Runs side by side unless told otherwise.
        apart: Every run has a process of its own.
        unpack: Entries of a record's content.
        pack: Content of a record with these entries.
    """

    name: str
    about: str
    key: tuple[str, ...] = ()
    cases: Cases = ()
    measure: Callable[..., Entry | list[Entry]] = dict
    tables: Callable[[Sequence[Entry]], Sequence[Table]] = lambda entries: ()
    drawings: Mapping[str, Drawing] = field(default_factory=dict)
    page: str = ""
    record: str = ""
    check: Callable[..., object] | None = None
    jobs: int = 1
    apart: bool = False
    unpack: Callable[[bytes], list[Entry]] = read
    pack: Callable[[Sequence[Entry]], str | bytes] = text

    def __post_init__(self) -> None:
        own = (self.path.name,)
        filled = {
            n: replace(d, records=d.records or own) for n, d in self.drawings.items()
        }
        object.__setattr__(self, "drawings", filled)

    @property
    def path(self) -> Path:
        """The committed record."""
        return DATA / (self.record or f"{self.name}.json")

    def wanted(self, entries: Sequence[Entry]) -> list[Case]:
        """The cases, as far as they are known from the entries."""
        return list(self.cases(entries) if callable(self.cases) else self.cases)

    def refuse(self, case: Case) -> None:
        """Raise ValueError if a case cannot be made."""
        if "problem" in self.key:
            problem = str(case[self.key.index("problem")])
            problems.summary(problem.partition(":")[0])
        if self.check is not None:
            self.check(*case)

    def entries(self, *case: object) -> list[Entry]:
        """Measure a case."""
        return measured(self.measure, self.key, case)


def measured(
    measure: Callable[..., Entry | list[Entry]], key: Sequence[str], case: Case
) -> list[Entry]:
    """The entries of a case, with the fields of the key."""
    found = measure(*case)
    values = dict(zip(key, case, strict=True))
    return [values | e for e in (found if isinstance(found, list) else [found])]
