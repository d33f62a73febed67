"""Columns of an ``.npz`` file, whose sizes are read before its numbers."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from fedsciml.problem._table import Form, Table, columns, fault, few
from fedsciml.problem.outward import SiteError


def read_npz(path: Path, wanted: Sequence[str], form: Form) -> Table:
    """The wanted columns of a NumPy archive.

    Raises:
        SiteError: If it cannot be read; no value in it.
    """
    if not zipfile.is_zipfile(path):
        raise fault(
            path,
            "is not a NumPy archive; write it with numpy.savez(path, x=..., u=...).",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _table(path, archive, wanted, form)
    except (SiteError, OSError, MemoryError):
        raise
    except Exception as error:  # damaged bytes raise anything
        raise _damaged(path) from error


def _table(
    path: Path, archive: zipfile.ZipFile, wanted: Sequence[str], form: Form
) -> Table:
    members = archive.namelist()
    columns(path, [name.removesuffix(".npy") for name in members], wanted)
    found: list[np.ndarray] = []
    for name in wanted:
        try:
            found.append(_column(path, archive, name, form))
        except (SiteError, MemoryError):
            raise
        except Exception as error:  # of the system, of zipfile, zlib, lzma, struct
            raise _damaged(path, name) from error
        if len(found[-1]) != len(found[0]):
            raise fault(
                path,
                f"has {len(found[-1])} rows, but column '{wanted[0]}' has "
                f"{len(found[0])}.",
                column=name,
            )
    values = np.stack(found, axis=1)
    return Table(values, np.zeros(values.shape, bool), range(1, len(values) + 1))


def _column(path: Path, archive: zipfile.ZipFile, name: str, form: Form) -> np.ndarray:
    """A column in float64; nothing is read of one that is too long or of objects."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        if npy.read_magic(member) != (1, 0):  # others are for names of fields
            raise ValueError("no plain array")
        shape, _, dtype = npy.read_array_header_1_0(member)
        if dtype.hasobject:
            raise fault(
                path,
                "holds pickled objects, which are not loaded because they can run "
                "code. Save plain arrays of numbers.",
                column=name,
            )
        if len(shape) != 1 or dtype.kind not in "fiu":
            axes = f"shape {shape}" if len(shape) < 5 else f"{len(shape)} axes"
            raise fault(
                path,
                f"has {axes} and type {dtype.name}; it must be one array [n] of real "
                "numbers.",
                column=name,
            )
        few(path, shape[0], form)
        size = shape[0] * dtype.itemsize
        if shape[0] < 0 or member.tell() + size != info.file_size:
            raise ValueError("another size than it says")
        data = member.read(size)
        if len(data) != size or member.read(1):
            raise ValueError("another size than it says")
    return np.frombuffer(data, dtype).astype(np.float64)


def _damaged(path: Path, column: str | None = None) -> SiteError:
    what = "is damaged: it cannot be read. Write it again with numpy.savez."
    return fault(path, what, column=column)
