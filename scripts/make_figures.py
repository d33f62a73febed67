"""Draw the figures in figures/ from the records in figures/data/; nothing is trained.

Every figure is written as PDF and as PNG, the same bytes from the same records, and
figures/README.md lists what was drawn, figures/shown.json has a hash of what it shows.
A figure whose record is missing is named and left out; the exit status is then 1.

    python scripts/make_figures.py
    python scripts/make_figures.py --only spectra ranks-front   # the others stay
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import _common  # before torch, see there
from experiments._drawing import drawn, written
from experiments._paper import listed
from experiments._record import DATA, FIGURES
from experiments._registry import experiments

EXPERIMENTS = experiments().values()
DRAWINGS = {name: d for e in EXPERIMENTS for name, d in e.drawings.items()}
SHOWN = "shown.json"
"""Beside the figures: what each of them shows, as a hash."""

PROVENANCE = FIGURES / "provenance.json"
"""Commit and program that made each record, where its entries do not say so, and the
page where it is used, if no experiment makes it any more and no figure is drawn."""

HEAD = """# Figures

Each figure is here as vector PDF and as PNG, as wide as a page of two columns (7 in),
with text of 8 pt. `make figures` draws them from the records in `data/` and trains
nothing. This list is written by the same program. `provenance.json` names the commit
that made a record; entries made since then name it themselves, with versions (`made`).

## Claims of the paper

{claims}
A table stands on its page between the marks `<!-- NAME -->` and `<!-- end of NAME -->`.

## All figures

| figure | shows | data | script | command |
|---|---|---|---|---|
"""


RECORDS = """
## Records

| record | made by | used in |
|---|---|---|
"""


def makers() -> dict[str, tuple[str, str]]:
    """What makes each record, and where it is used without figure; by record."""
    past = json.loads(PROVENANCE.read_text())
    found = {name: (told["by"], told.get("page", "")) for name, told in past.items()}
    for e in reversed([*EXPERIMENTS]):
        if e.cases:
            found[e.path.name] = (f"python -m scripts.experiments {e.name}", e.page)
    return dict(sorted(found.items()))


def readme(drawn: Sequence[str], data: Path) -> str:
    """The list of the figures drawn and of the records in a directory."""
    figures, records = "", RECORDS
    used: dict[str, list[str]] = {}
    for name, drawing in DRAWINGS.items():
        for record in drawing.records:
            used.setdefault(record, []).append(f"[{name}]({name}.pdf)")
        if name in drawn:
            sources = ", ".join(f"[{r}](data/{r})" for r in drawing.records)
            script = drawing.draw.__module__.replace(".", "/") + ".py"
            command = f"python scripts/make_figures.py --only {name}"
            figures += f"| [{name}]({name}.pdf) | {drawing.shows} | {sources} "
            figures += f"| [{Path(script).name}](../scripts/{script}) | `{command}` |\n"
    for record, (maker, page) in makers().items():
        if (data / record).exists():
            where = ", ".join(used.get(record, [])) or page
            records += f"| [{record}](data/{record}) | `{maker}` | {where} |\n"
    return HEAD.format(claims=listed()) + figures + records


def draw(job: tuple[str, Path, Path, Sequence[str]]) -> tuple[str, str]:
    """``written`` in another process: name, directories of records and figures."""
    name, data, out, formats = job
    return written(DRAWINGS[name], data, out, name, formats)


def main(arguments: list[str] | None = None) -> int:
    """Draw, and say what is missing."""
    parser = _common.parser(__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=list(DRAWINGS), metavar="NAME", help="of a figure"
    )
    parser.add_argument("--data", type=Path, default=DATA, help=f"default {DATA}")
    parser.add_argument("--out", type=Path, default=FIGURES, help=f"default {FIGURES}")
    parser.add_argument(
        "--formats", nargs="+", default=["pdf", "png"], help="default pdf png"
    )
    parser.add_argument(
        "--jobs", type=int, help="processes that draw all figures; default a core each"
    )
    todo = parser.parse_args(arguments)
    todo.out.mkdir(parents=True, exist_ok=True)
    wanted = todo.only or [*DRAWINGS]
    jobs = [(name, todo.data, todo.out, todo.formats) for name in wanted]
    if todo.only:
        found = [*map(draw, jobs)]
    else:
        with ProcessPoolExecutor(todo.jobs, get_context("spawn")) as pool:
            found = [*pool.map(draw, jobs)]
    shown = drawn(dict(zip(wanted, found, strict=True)))
    known = todo.out / SHOWN
    others = json.loads(known.read_text()) if todo.only and known.exists() else {}
    if shown:
        known.write_text(json.dumps(others | shown, indent=1, sort_keys=True) + "\n")
    if not todo.only:
        (todo.out / "README.md").write_text(readme([*shown], todo.data))
    return int(len(shown) < len(wanted))


if __name__ == "__main__":
    sys.exit(main())
