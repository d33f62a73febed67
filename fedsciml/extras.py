"""Packages that not everybody needs, and what is said where they are not installed."""

from collections.abc import Iterator
from contextlib import contextmanager


def install(*extras: str) -> str:
    """What to type for these extras: ``pip install 'fedsciml[flower]'``."""
    return f"pip install 'fedsciml[{','.join(extras)}]'"


@contextmanager
def needed(what: str, *extras: str) -> Iterator[None]:
    """Says how to install extras where something that they bring is not there.

        with needed("Secure sums need", "secure"):
            from fedsciml.wrappers.secure import Secure

    Args:
        what: Subject and verb of what is said.
        extras: That bring what is imported.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        names = f"extra{'s' if extras[1:] else ''} {' and '.join(extras)}"
        raise ModuleNotFoundError(
            f"{what} the {names}, which is not installed: {install(*extras)} "
            f"({error}).",
            name=error.name,
        ) from error
