"""Write the report of a recorded run, report.html, anew."""

import sys
from pathlib import Path

from fedsciml import report as reports
from fedsciml.saved import load


def report(directory: Path, /) -> None:
    """Write the report of a recorded run, report.html, anew.

    Args:
        directory: Of the run, finished or not.
    """
    try:
        result = load(directory)
    except (ValueError, OSError) as error:
        path = reports.unfinished(directory)
        print(f"warning: a report without the model: {error}", file=sys.stderr)
    else:
        path = reports.write(result)
    print(path)
