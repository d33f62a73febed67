"""List the problems, or say what one is and which options it has."""

from fedsciml import problems as known
from fedsciml.command import manual, signature
from fedsciml.command.terminal import columns, prose


def problems(name: str | None = None, /) -> None:
    """List the problems, or say what one is and which options it has.

    Args:
        name: Of a problem, or the path of a file with one.
    """
    if name is None:
        print(columns((each, known.summary(each)) for each in known.names()))
        print("\nOptions of one: fedsciml problems heat.")
        print("Your own: fedsciml new problem NAME.")
        return
    usage = f"Usage: fedsciml run {name} [OPTION ...]"
    manual.show(signature.problem_options(name), usage, prose(known.about(name)))
