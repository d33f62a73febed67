"""The command ``python -m scripts.experiments``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments._drawing import drawn, written
from experiments._experiment import Experiment
from experiments._record import FIGURES, ROOT
from experiments._registry import experiments
from experiments._runner import chosen, completed, fitting, recorded
from experiments._table import publish
from fedsciml.command.terminal import status, terminable

PROGRAM = "python -m scripts.experiments"
SHOWN = 8
"""Values of a field that are listed."""


@terminable()
def main(arguments: Sequence[str] | None = None) -> int:
    """Run an experiment, or list them; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["pages"]:
        from experiments._pages import rewrite  # the claims need every experiment

        print("\n".join(rewrite()) or "Nothing changed.")
        return 0
    known = experiments()
    if words and words[0] in known:
        try:
            return _experiment(known[words[0]], words[1:])
        except KeyboardInterrupt as error:
            print("Interrupted; the same command goes on.", file=sys.stderr)
            return status(error)
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Run what a record of figures/data lacks, and write and print its "
        "tables.",
        epilog="experiments:\n"
        + "".join(
            f"  {name:14} {e.about.splitlines()[0]}\n" for name, e in known.items()
        )
        + f"\n{PROGRAM} NAME --help tells more of one.\n{PROGRAM} pages writes "
        "tables and numbers of all records into the pages.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=known, metavar="NAME", help="see below")
    parser.parse_args(words)
    return 0


def _experiment(experiment: Experiment, words: Sequence[str]) -> int:
    parser = _parser(experiment)
    todo = parser.parse_args(words)
    only: dict[str, list[str]] = {}
    for word in todo.only:
        name, equals, value = word.partition("=")
        if not equals:
            parser.error(f"--only takes FIELD=VALUE, got '{word}'")
        only.setdefault(name, []).append(value)
    if (todo.table or todo.figure) and not todo.out.is_file():
        parser.error(f"There is no record {todo.out}; leave --table and --figure out.")
    try:
        chosen(experiment, recorded(experiment, todo.out), only)
    except ValueError as error:
        parser.error(str(error))
    if todo.table or todo.figure:
        entries = recorded(experiment, todo.out)
    else:
        entries = completed(
            experiment, todo.out, only, todo.jobs, todo.threads, todo.fresh
        )
    standard = todo.out.resolve() == experiment.path
    if todo.figure:
        data = todo.out.parent
        out, figures = FIGURES if standard else data, experiment.drawings
        found = {name: written(d, data, out, name) for name, d in figures.items()}
        return int(len(drawn(found)) < len(figures))
    if standard:
        publish(experiment.tables(entries))
    for table in experiment.tables(fitting(experiment, entries, only)):
        print(f"\n{table.caption}\n\n{table.markdown()}")
    print(f"\n{todo.out}: {len(entries)} entries")
    return 0


def _parser(experiment: Experiment) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} {experiment.name}",
        description=experiment.about,
        epilog=_fields(experiment),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--only",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="the runs with these values, several of a field for any of them",
    )
    jobs = experiment.jobs
    add("--jobs", type=int, default=jobs, help=f"runs side by side; default {jobs}")
    add("--threads", type=int, default=1, help="threads of each run; default 1")
    add("--fresh", action="store_true", help="run again what is there")
    add("--table", action="store_true", help="run nothing, only the tables")
    add("--figure", action="store_true", help="run nothing, only draw the figures")
    usual = experiment.path.relative_to(ROOT)
    add("--out", type=Path, default=ROOT / usual, help=f"the record; default {usual}")
    return parser


def _fields(experiment: Experiment) -> str:
    """The runs, and a line for each field of ``--only``."""
    cases = experiment.wanted([])
    lines = f"{len(cases)} runs; the fields of --only, and their usual values:\n"
    for at, name in enumerate(experiment.key):
        values = list(dict.fromkeys(str(case[at]) for case in cases))
        more = f", ... ({len(values)})" if len(values) > SHOWN else ""
        lines += f"  {name:12} {', '.join(values[:SHOWN])}{more}\n"
    return (
        f"{lines}Another value takes the place of the usual ones; 0..4 stands for "
        "0, 1, 2, 3, 4."
    )
