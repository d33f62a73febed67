"""Draw the figures in figures/ from the records in figures/data/; nothing is trained.

Every figure is written as PDF and as PNG, the same bytes from the same records, and
figures/README.md lists what was drawn. A figure whose record is missing is named and
left out; the exit status is then 1.

    python scripts/make_figures.py
    python scripts/make_figures.py --only spectra ranks-front   # the others stay
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import _common  # noqa: F401  before torch, see there
import _figures_consistency
import _figures_inverse
import _figures_ranks
import _figures_steps
import _figures_stragglers
import _figures_studies
import _figures_suite
import _figures_wire
from _figures import DATA, Drawing, MissingRecordError

from fedsciml import plot

FIGURES = DATA.parent
DRAWINGS: dict[str, Drawing] = {
    **_figures_suite.DRAWINGS,
    **_figures_consistency.DRAWINGS,
    **_figures_ranks.DRAWINGS,
    **_figures_studies.DRAWINGS,
    **_figures_steps.DRAWINGS,
    **_figures_inverse.DRAWINGS,
    **_figures_wire.DRAWINGS,
    **_figures_stragglers.DRAWINGS,
}
MAKERS = {
    "allen_cahn-fedavg.jsonl": "make demo",
    "allen_cahn-fipa.jsonl": "make demo",
    "allen_cahn-gauss_newton.jsonl": "make demo",
    "backends.json": "python scripts/benchmark_backends.py",
    "balance.json": "python scripts/benchmark_steps.py --out figures/data/balance.json "
    "--policies 'natural balance=terms' 'natural balance=clients'",
    "clients.json": "python scripts/benchmark_clients.py",
    "compression.json": "python scripts/benchmark_compression.py",
    "cost.json": "python scripts/benchmark_cost.py",
    "coverage.json": "python scripts/study_coverage.py",
    "deepxde.json": "python scripts/benchmark_deepxde.py",
    "extra.json": "python scripts/benchmark.py extra",
    "fedpinn.json": "python scripts/benchmark.py fedpinn",
    "inverse.json": "python scripts/study_inverse.py",
    "observer.json": "python scripts/study_observer.py",
    "outliers.json": "python scripts/study_outliers.py",
    "partitions.json": "python scripts/partitions.py",
    "paths.json": "python scripts/benchmark_paths.py",
    "published.json": "the program of the authors of arXiv 2601.13608",
    "precision.json": "python scripts/precision.py",
    "ranks.json": "python scripts/benchmark_ranks.py",
    "solutions.npz": "python scripts/solutions.py",
    "spectra.json": "python scripts/study_spectra.py",
    "speed.json": "make speed",
    "stall.json": "python scripts/stall.py",
    "steps-search.json": "python scripts/benchmark_steps.py "
    "--problems allen_cahn sine4 --seeds 1 --rounds 60 "
    "--out figures/data/steps-search.json",
    "steps.json": "make steps",
    "stragglers.json": "python scripts/study_stragglers.py",
    "suite.json": "python scripts/benchmark.py fipa",
    "terrain.json": "python scripts/study_terrain.py",
    "trajectory.json": "make study",
    "tuning.json": "make tune",
    "verify.json": "python scripts/verify_gn.py --json figures/data/verify.json",
}
"""What makes each record."""

TABLES = {
    "balance.json": "docs/scoreboard.md",
    "deepxde.json": "docs/deepxde.md",
    "observer.json": "docs/wire.md",
    "outliers.json": "docs/stragglers.md",
    "paths.json": "README.md",
    "published.json": "docs/benchmark.md",
    "precision.json": "docs/scoreboard.md",
    "speed.json": "README.md",
    "steps-search.json": "scripts/benchmark_steps.py",
    "terrain.json": "docs/inverse.md",
    "tuning.json": "the options of the baselines",
    "verify.json": "docs/consistency.md",
}
"""Where records are used that no figure is drawn from."""


HEAD = """# Figures

Each figure is here as vector PDF and as PNG, as wide as a page of two columns (7 in),
with text of 8 pt. `make figures` draws them from the records in `data/` and trains
nothing. This list is written by the same program.

| figure | shows | data | script | command |
|---|---|---|---|---|
"""


def readme(drawn: Sequence[str], data: Path) -> str:
    """The list of the figures drawn and of the records in a directory."""
    figures, records = "", "\n| record | made by | used in |\n|---|---|---|\n"
    used: dict[str, list[str]] = {}
    for name, drawing in DRAWINGS.items():
        for record in drawing.records:
            used.setdefault(record, []).append(f"[{name}]({name}.pdf)")
        if name in drawn:
            sources = ", ".join(f"[{r}](data/{r})" for r in drawing.records)
            script = Path(drawing.draw.__code__.co_filename).name
            command = f"python scripts/make_figures.py --only {name}"
            figures += f"| [{name}]({name}.pdf) | {drawing.shows} | {sources} "
            figures += f"| [{script}](../scripts/{script}) | `{command}` |\n"
    for record, maker in MAKERS.items():
        if (data / record).exists():
            where = ", ".join(used.get(record, [])) or TABLES[record]
            records += f"| [{record}](data/{record}) | `{maker}` | {where} |\n"
    return HEAD + figures + records


def main(arguments: list[str] | None = None) -> int:
    """Draw, and say what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", nargs="+", choices=list(DRAWINGS), metavar="NAME", help="of a figure"
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"default {DATA}")
    parser.add_argument("--out", type=Path, default=FIGURES, help=f"default {FIGURES}")
    parser.add_argument(
        "--formats", nargs="+", default=["pdf", "png"], help="default pdf png"
    )
    todo = parser.parse_args(arguments)
    todo.out.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name in todo.only or DRAWINGS:
        try:
            figure = DRAWINGS[name].figure(todo.data)
        except MissingRecordError as error:
            print(f"{name} not drawn: {error}", file=sys.stderr)
            continue
        for form in todo.formats:
            plot.save(figure, todo.out / f"{name}.{form}")
        drawn.append(name)
    if not todo.only:
        (todo.out / "README.md").write_text(readme(drawn, todo.data))
    return int(len(drawn) < len(todo.only or DRAWINGS))


if __name__ == "__main__":
    sys.exit(main())
