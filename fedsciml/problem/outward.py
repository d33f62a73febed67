"""What an error at a site may tell those outside of it."""

import traceback
from pathlib import Path

LONGEST = 300
"""Letters of what is told."""


class SiteError(ValueError):
    """What is wrong at a site, in words that may leave it.

    The message holds what the problem names (terms, columns), the name of a file,
    numbers of rows, sizes and kinds: never a value, nor other text from the data. The
    detail may hold them: it is a note, which a traceback shows, and so the site's own
    log, but ``outward`` does not.

    Args:
        message: What was needed, what came, what to do.
        detail: What else helps to find the fault at the site.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        if detail:
            self.add_note(line(detail))


def outward(error: BaseException) -> str:
    """What may leave a site of an error that was raised there.

    The message of a ``SiteError``. Any other one can hold values, whoever wrote it, so
    of it there is only the kind and the line of code.
    """
    if isinstance(error, SiteError):
        return line(str(error))
    where = [
        f" in {Path(frame.filename).name}, line {frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    return line(
        f"{type(error).__name__}{''.join(where[-1:])}. Its text can hold data and "
        "stays at the site: read the site's own log."
    )


def line(text: str, longest: int = LONGEST) -> str:
    """The text as one printable line of bounded length."""
    words = " ".join(text[: longest + 1].split())
    shown = "".join(letter if letter.isprintable() else " " for letter in words)
    return shown if len(text) <= longest else f"{shown[: longest - 4]} ..."
