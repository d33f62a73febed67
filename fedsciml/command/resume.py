"""Continue a run that was ended, or a finished one to more rounds."""

from typing import Annotated

from cyclopts import Parameter

from fedsciml.command import manual, signature
from fedsciml.command.arguments import Caller
from fedsciml.command.execution import execute
from fedsciml.command.terminal import prose

CALLER = Caller("fedsciml resume", "fedsciml resume {}")


def resume(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> int:
    """Continue a run that was ended, or a finished one to more rounds.

    A run that was killed ends at the same bytes as one that was not. It goes on as it
    was begun; only which rounds count when clients fail may be changed.

    Returns:
        The exit status.
    """
    if manual.wanted(words):
        usage = f"Usage: {CALLER.name} DIR [--rounds K] [OPTION ...]"
        manual.show(signature.of_resume(), usage, prose(resume.__doc__))
        return 0
    return execute(words, signature.of_resume, CALLER)
