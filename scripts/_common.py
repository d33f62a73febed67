"""What the programs share: how threads wait, names of problems and methods."""

import argparse
import os

# Threads that wait must sleep: spinning makes a busy machine ten times slower. OpenMP
# reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for small matrices

from fedsciml.command.tuning import LIKE_FEDAVG

TUNED = ("fedavg", "fedprox", "scaffold", *LIKE_FEDAVG, "fedpm")
"""The methods whose options are searched for."""


def parser(about: str | None) -> argparse.ArgumentParser:
    """A command line whose help shows a docstring as it is."""
    return argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
