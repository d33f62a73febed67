"""Write a problem to start from, NAME.py, into the present folder."""

import re
from pathlib import Path

TEMPLATE = Path(__file__).with_name("template.py")


def problem(name: str, /) -> None:
    """Write a problem to start from, NAME.py, into the present folder.

    It is complete, and is trained by: fedsciml run NAME.py

    Args:
        name: Of the problem and its file, as rod.
    """
    stem = name.removesuffix(".py")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", stem):
        raise ValueError(
            f"A problem's name has letters, digits and underscores, as heat_pipe; got "
            f"'{name}'."
        )
    path = Path(f"{stem}.py")
    text = TEMPLATE.read_text().replace("NAME", stem)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise FileExistsError(
            f"{path} is there already and stays as it is; choose another name."
        ) from None
    print(f"Wrote {path}. Train it: fedsciml run {path}")
