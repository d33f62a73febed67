"""One run: train a problem with a method and record it; as ``fedsciml run`` does.

Examples:
  run.py allen_cahn
  run.py poisson2d --method fedavg --clients 4 --tau 200 --learning-rate 1e-3
  run.py sine8 --method fipa --warmup fedavg:10 --out runs/eight --json
  run.py --resume runs/eight
  run.py --resume runs/eight --rounds 100
"""

import sys
from collections.abc import Sequence
from functools import partial

import _common  # noqa: F401 - before torch, see there

from fedsciml.command import manual, signature
from fedsciml.command.arguments import Caller
from fedsciml.command.execution import execute

CALLER = Caller("run.py", "python scripts/run.py --resume {}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if manual.wanted(words):
        manual.everything(CALLER, __doc__ or "")
        return 0
    return execute(words, partial(signature.of_run, words, script=True), CALLER)


if __name__ == "__main__":
    sys.exit(main())
