"""What the programs share: how they end, where they write, columns."""

import inspect
import re
import signal
import textwrap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import get_terminal_size
from types import FrameType
from typing import NoReturn

WIDEST = 100
"""Characters of a line that is still easy to read."""

LABEL = 24
"""Characters of a label that has its text beside it."""


class Terminated(KeyboardInterrupt):
    """A program was asked to end by SIGTERM."""


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends what is done meanwhile as Ctrl-C does: by an exception.

    A second one does not disturb what is saved then.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # none but the main thread may set what a signal does
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def status(error: KeyboardInterrupt) -> int:
    """The exit status of a program that a signal ended."""
    ended = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
    return 128 + ended


def new_directory(stem: str) -> Path:
    """An empty directory ``runs/STEM-1``, or with the next number that is free."""
    number = 1
    while True:
        directory = Path("runs") / f"{stem}-{number}"
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return directory


def prose(docstring: str | None) -> str:
    """What a docstring says before its sections."""
    text = inspect.cleandoc(docstring or "")
    return re.split(r"\n(?:Args|Returns|Raises):\n", text)[0].strip()


def paragraphs(text: str, width: int) -> str:
    """The text, wrapped; paragraphs with indented lines stay as they are."""
    return "\n\n".join(
        each
        if re.search(r"^ ", each, re.MULTILINE)
        else textwrap.fill(" ".join(each.split()), min(width, WIDEST))
        for each in text.split("\n\n")
    )


def columns(rows: Iterable[tuple[str, str]], width: int | None = None) -> str:
    """Labels and their texts in two columns, wrapped to the terminal's width.

    A label that is too long for its column has a line of its own.
    """
    width = min(width or get_terminal_size().columns, WIDEST)
    rows = list(rows)
    fitting = [len(label) for label, _ in rows if len(label) <= LABEL]
    indent = max(fitting, default=LABEL) + 4
    lines = []
    for label, text in rows:
        wrapped = textwrap.wrap(
            " ".join(text.split()),
            max(width - indent, 20),
            break_long_words=False,
            break_on_hyphens=False,
        )
        first = f"  {label}"
        if wrapped and len(first) + 2 <= indent:
            first = first.ljust(indent) + wrapped.pop(0)
        lines += [first, *(" " * indent + line for line in wrapped)]
    return "\n".join(lines)
