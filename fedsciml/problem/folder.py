"""The clients' data files in one folder."""

import re
from pathlib import Path

from fedsciml.problem.outward import SiteError

SUFFIXES = (".csv", ".npz")


class MissingFileError(SiteError, FileNotFoundError):
    """A data file that is not there."""


def in_folder(folder: Path) -> list[Path]:
    """The files of the clients, by name: ``site2.csv`` comes before ``site10.csv``.

    What begins with a dot is nobody's data.

    Args:
        folder: With one ``.csv`` or ``.npz`` file per client, and nothing else.

    Raises:
        ValueError: If it is no folder, is empty, or holds anything else.
    """
    if folder.suffix.lower() in SUFFIXES:
        raise SiteError(
            f"{folder.name} is one file; give one file per client, in a list, or the "
            "folder that holds them."
        )
    if not folder.is_dir():
        raise MissingFileError(
            f"There is no folder {folder.name} with data files, one per client.",
            f"The folder would be {folder.absolute()}.",
        )
    found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    other = sorted(p.name for p in found if p.suffix.lower() not in SUFFIXES)
    other += sorted(p.name for p in found if p.name not in other and not p.is_file())
    if other:
        raise SiteError(
            f"Folder {folder.name} holds {', '.join(other[:5])}"
            f"{', ...' if len(other) > 5 else ''}. Is that a client's? A folder of "
            "data has one .csv or .npz file per client and nothing else: move it "
            "elsewhere, convert it, or give a list of the files."
        )
    if not found:
        raise SiteError(
            f"Folder {folder.name} holds no data files; put in one .csv or .npz file "
            "per client."
        )
    return sorted(found, key=_order)


def _order(path: Path) -> list[tuple[int, int, str]]:
    """Numbers in a name count as such."""
    parts = re.split(r"(\d+)", path.name)
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]
