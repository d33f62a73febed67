"""``python -m scripts.experiments``; ``--help`` lists the experiments."""

import sys
from pathlib import Path

# The directory of the programs, as for ``python scripts/run.py``.
sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments._command import main

if __name__ == "__main__":
    sys.exit(main())
