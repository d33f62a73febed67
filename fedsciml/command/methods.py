"""List the methods, or say what one is and which options it has."""

from fedsciml import methods as known
from fedsciml.command import manual, signature
from fedsciml.command.terminal import columns, prose


def methods(name: str | None = None, /) -> None:
    """List the methods, or say what one is and which options it has.

    Args:
        name: Of a method, or the path of a file with one.
    """
    if name is None:
        print(columns((each, known.summary(each)) for each in known.names()))
        print("\nOptions of one: fedsciml methods fipa.")
        return
    usage = f"Usage: fedsciml run PROBLEM --method {name} [OPTION ...]"
    manual.show(signature.method_options(name), usage, prose(known.about(name)))
