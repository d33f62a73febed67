"""Files that are whole at any moment, and directories that one process writes to."""

import os
import platform
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path

log = getLogger(__name__)

LOCK = "run.lock"
"""In a directory that is written to; without meaning when its process is gone."""

NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file so that at any moment it is the old one or the new one, whole.

    It is written beside its place, under the name with ``.tmp``, and moved there. A
    file that was there keeps its permissions; what cannot be written leaves no trace.

    Raises:
        OSError: If it cannot be written, or its place or the one beside it is a
            symbolic link: somebody could have laid it to have another file written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(path.name + ".tmp")
    for place in (path, temporary):
        refuse_link(place)
    temporary.unlink(missing_ok=True)  # of a process that was killed
    try:
        with temporary.open("xb") as file:  # never through a link that is laid now
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode) & 0o777)
        temporary.replace(path)
    except OSError as error:
        _name(path, error)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def append_to(path: Path, text: str, sync: bool = False) -> None:
    """Add to the end of a file, made if there is none.

    Args:
        path: The file.
        text: What is added.
        sync: Wait until all of the file is on the disk.

    Raises:
        OSError: As ``replace_file``.
    """
    refuse_link(path)
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK
    try:
        with os.fdopen(os.open(path, how, 0o666), "w") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        _name(path, error)
        raise


def _name(path: Path, error: OSError) -> None:
    """Of a full disk the system does not say which file did not fit."""
    if error.errno is not None and error.filename is None:
        error.filename = str(path)


def refuse_link(path: Path) -> None:
    """Raise OSError if there is a symbolic link."""
    if path.is_symlink():
        raise OSError(
            f"{path} is a symbolic link, to {path.readlink()}; nothing is written "
            "through it. Remove it, or name the file or directory that it points to."
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a directory for this process, which alone writes to it meanwhile.

    The lock is the system's and ends with the process, however that ends. Where a file
    system has none, a warning is logged and the directory is not held.

    Raises:
        BlockingIOError: If another process, or another run in this one, holds it.
    """
    path = directory / LOCK
    held = _acquired(path)
    try:
        yield
    finally:
        if sys.platform != "win32":  # there the system removes the file
            with suppress(OSError):
                path.unlink(missing_ok=True)
        os.close(held)


def _acquired(path: Path) -> int:
    """An open file that holds the lock."""
    if sys.platform == "win32":
        how = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY
        try:
            return os.open(path, how)  # gone when its process is
        except (FileExistsError, PermissionError) as error:
            raise _busy(path) from error
    import fcntl

    while True:
        held = os.open(path, os.O_CREAT | os.O_RDWR | NO_LINK, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(held)
            raise _busy(path) from error
        except OSError as error:
            log.warning(
                "%s cannot be locked (%s); do not run in it twice.", path, error
            )
            return held
        # Whoever held it before may have removed the file between our two calls.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), path.stat()):
                os.ftruncate(held, 0)
                os.write(held, f"{os.getpid()} on {platform.node()}\n".encode())
                return held
        os.close(held)


def _busy(path: Path) -> BlockingIOError:
    holder = ""
    with suppress(OSError, ValueError):
        holder = path.read_text()[:100].strip()
    return BlockingIOError(
        f"Another run is writing to {path.parent} (process {holder or 'unknown'}). "
        "Wait until it has ended, stop it, or choose another directory."
    )
