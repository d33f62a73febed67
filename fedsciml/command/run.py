"""Train a problem with a method and record the run."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter

from fedsciml.command import manual, signature
from fedsciml.command.arguments import Caller
from fedsciml.command.execution import execute
from fedsciml.command.terminal import prose

CALLER = Caller("fedsciml run", "fedsciml resume {}")


def run(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
) -> int:
    """Train a problem with a method and record the run.

    The run directory has the configuration, a line for each round, the model and
    pictures; the last line on the screen says where it is.

    Examples:
      fedsciml run allen_cahn
      fedsciml run poisson2d --method fedavg --clients 4 --tau 200
      fedsciml run rod.py --rounds 100 --out runs/rod

    Returns:
        The exit status.
    """
    if manual.wanted(words):
        manual.chosen(words, CALLER, prose(run.__doc__))
        return 0
    return execute(words, partial(signature.of_run, words), CALLER)
