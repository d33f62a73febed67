"""Runs of an experiment: those that its record lacks, each kept when it is done."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from experiments._experiment import Case, Experiment, measured, token
from experiments._record import Entry, commit, made
from fedsciml.command.jobs import results
from fedsciml.federation.files import replace_file

Only = Mapping[str, Sequence[str]]
"""Values of fields, as typed."""


def completed(
    experiment: Experiment,
    path: Path,
    only: Only | None = None,
    jobs: int = 1,
    threads: int = 1,
    fresh: bool = False,
) -> list[Entry]:
    """The record of an experiment, after the runs that it lacks.

    It is replaced after every run. A run that diverges is reported and left out; any
    other error ends the experiment at once.

    Args:
        experiment: What is run.
        path: The record.
        only: See ``chosen``.
        jobs: Runs side by side.
        threads: Of each run.
        fresh: Run again what is there.
    """
    entries = recorded(experiment, path)
    tried: set[str] = set()

    def missing() -> list[Case]:
        done = tried if fresh else tried | {_of(experiment, e) for e in entries}
        cases = chosen(experiment, entries, only or {})
        return [case for case in cases if token(case) not in done]

    while cases := missing():
        call = partial(_stamped, experiment.measure, experiment.key, commit())
        runs = results(call, cases, jobs, threads, experiment.apart)
        pause = 0.1 if sys.stderr.isatty() else 10.0  # a log needs fewer lines
        with tqdm(None, experiment.name, len(cases), mininterval=pause) as bar:
            for case, found in runs:
                bar.update()
                tried.add(token(case))
                if isinstance(found, FloatingPointError):
                    print(f"Diverged: {case}: {found}", file=sys.stderr)
                    continue
                others = [e for e in entries if _of(experiment, e) != token(case)]
                entries = others + found
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, experiment.pack(entries))
    return entries


def recorded(experiment: Experiment, path: Path) -> list[Entry]:
    """The entries of a record; none if there is no file."""
    return experiment.unpack(path.read_bytes()) if path.is_file() else []


def chosen(experiment: Experiment, entries: Sequence[Entry], only: Only) -> list[Case]:
    """The cases with these values.

    A value that no case has takes the place of those of all cases.

    Args:
        experiment: Whose cases.
        entries: Of its record.
        only: Values by field, as typed; ``0..4`` are five.

    Raises:
        ValueError: If there is no such field, or such a case cannot be made.
    """
    cases = experiment.wanted(entries)
    standard = {token(case) for case in cases}
    for name, words in only.items():
        if name not in experiment.key:
            raise ValueError(
                f"Experiment {experiment.name} has no field '{name}'; "
                f"choose one of {', '.join(experiment.key)}."
            )
        at = experiment.key.index(name)
        present = list({json.dumps(case[at]): case[at] for case in cases}.values())
        values = [value for word in words for value in _values(word, present)]
        new = [value for value in values if value not in present]
        cases = [case for case in cases if case[at] in values] + [
            (*case[:at], value, *case[at + 1 :]) for value in new for case in cases
        ]
        cases = list({token(case): case for case in cases}.values())
    for case in cases:
        if token(case) not in standard:
            experiment.refuse(case)
    return cases


def fitting(
    experiment: Experiment, entries: Sequence[Entry], only: Only
) -> list[Entry]:
    """The entries with these values."""
    return [
        entry
        for entry in entries
        if all(
            entry[name] in [v for word in words for v in _values(word, [entry[name]])]
            for name, words in only.items()
        )
    ]


def _values(word: str, present: Sequence[object]) -> list[object]:
    """What a word stands for, of the type of the values that are present."""
    first, dots, last = word.partition("..")
    if dots and first.isdigit() and last.isdigit():
        return list(range(int(first), int(last) + 1))
    try:
        value: object = json.loads(word)
    except ValueError:
        value = word
    if word in present or all(isinstance(other, str) for other in present):
        return [word]
    if isinstance(value, int) and all(isinstance(other, float) for other in present):
        return [float(value)]
    return [value]


def _stamped(
    measure: Callable[..., Entry | list[Entry]], key: Sequence[str], by: str, case: Case
) -> list[Entry] | FloatingPointError:
    """The entries of a case, with what made them; or why it diverged."""
    try:
        return [{**e, "made": made(by)} for e in measured(measure, key, case)]
    except FloatingPointError as error:
        return error


def _of(experiment: Experiment, entry: Entry) -> str:
    return token(tuple(entry[name] for name in experiment.key))
