"""The messages on the pages of first errors, written by what raises them.

    python docs/_errors.py     # write those of errors.md; a test holds the page to them

Every program of ``errors.md`` that is followed by a text block must fail; the text is
its message. Those before it that are not, run first. The long list, which the build
writes, is of the cases that the tests have.
"""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parent / "errors.md"
PAIR = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def rewritten(page: str) -> str:
    """The page with the messages as they are now.

    Raises:
        ValueError: If a program that should fail does not.
    """
    known: dict[str, object] = {"__name__": "page"}

    def checked(match: re.Match[str]) -> str:
        program, told = match.groups()
        if told is None:
            exec(program, known)
            return match[0]
        return f"```python\n{program}```\n\n```text\n{message(program, known)}\n```\n"

    put: Callable[[re.Match[str]], str] = checked
    return PAIR.sub(put, page)


def message(program: str, known: dict[str, object]) -> str:
    """What a program ends with, in lines of at most 84 letters."""
    try:
        exec(program, {**known})
    except Exception as error:
        whole = f"{type(error).__name__}: {error}"
        return textwrap.fill(whole, 84, break_long_words=False, break_on_hyphens=False)
    raise ValueError(f"This program should fail:\n{program}")


def catalogue() -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """All cases of the tests, in groups: title, program, message, program mended."""
    from first_errors import PARTS, PRELUDE, RESIDUALS, RUNS

    known: dict[str, object] = {"__name__": "page"}
    exec(PRELUDE, known)
    groups = {"Residuals": RESIDUALS, "Problems, terms, networks": PARTS, "Runs": RUNS}
    return [
        (group, [(c.title, c.wrong, message(c.wrong, known), c.right) for c in cases])
        for group, cases in groups.items()
    ]


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
