"""The console command ``fedsciml``: a module for each subcommand.

Subcommands are imported when they are asked for, torch with them: the help of all is
there at once, and how threads wait is set before torch reads it.
"""

import ast
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["main"]

COMMANDS = {
    "demo": "demo",
    "run": "run",
    "resume": "resume",
    "show": "show",
    "compare": "compare",
    "report": "report",
    "problems": "problems",
    "methods": "methods",
    "new problem": "problem",
    "new deployment": "deployment",
    "new key": "key",
    "verify": "verify",
}
"""By what is typed, the module of each here, with a function of the same name."""

HELPING = ("run", "resume")
"""Subcommands that show their help themselves: it depends on what is named."""

ABOUT = """Federated scientific machine learning: one model, data stay where they are.

Start with:
  fedsciml demo                             FIPA beside averaging, with pictures
  fedsciml run allen_cahn                   train, record and draw a problem
  fedsciml run allen_cahn --method fedavg   the same with another method
  fedsciml run --help                       its options; so for every command
  fedsciml compare runs/allen_cahn-*        both, side by side
  fedsciml new problem rod                  rod.py, an equation to change ...
  fedsciml run rod.py                       ... and to train
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    # Threads that wait must sleep: spinning makes a busy machine ten times slower.
    # OpenMP reads this when torch is imported. The matrices that scipy solves are too
    # small for several threads: with two a run took 1.3 to 3 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    words = list(sys.argv[1:] if arguments is None else arguments)
    from fedsciml.command.application import called

    return called(_app(words), words)


def _app(words: Sequence[str]) -> "App":
    """All subcommands, of which the one that is asked for may be imported."""
    from fedsciml.command.application import application

    app = application("fedsciml", ABOUT)
    groups = {
        "": app,
        "new": application("new", "Write a file or a folder to start with."),
    }
    app.command(groups["new"])
    asked = " ".join(words[:2])
    for at, (name, module) in enumerate(COMMANDS.items()):
        path = Path(__file__).with_name(f"{module}.py")
        group, _, last = name.rpartition(" ")
        about = None if f"{asked} ".startswith(f"{name} ") else _summary(path)
        flags = () if module in HELPING else app.help_flags
        where = f"{__name__}.{module}:{module}"
        groups[group].command(
            where, name=last, help=about, help_flags=flags, sort_key=at
        )
    return app


def _summary(path: Path) -> str:
    """The first line of a module's description, without importing it."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.partition("\n")[0]
