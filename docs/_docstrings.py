"""Docstrings as reStructuredText.

They are written to be read as they stand: text, ``code``, sections such as ``Args:``,
and indented blocks, which are formulas, tables and programs. Nothing else is markup.
"""

import re

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
CODE = re.compile(r"(``.+?``)", re.DOTALL)
MARKUP = re.compile(r"[\\|*`]|(?<=\w)_(?!\w)")
BULLET = re.compile(r"^(\s*)\\\*( )", re.MULTILINE)


def text(docstring: str) -> str:
    """The reStructuredText of a docstring, for napoleon to read.

    A block that is indented more than the line before the blank one is set as it is.
    Of the rest the letters that reStructuredText takes for markup are escaped.
    """
    parts: list[str] = []
    prose: list[str] = []
    outer: int | None = None  # indentation of what stands before an indented block
    last = ""
    for line in docstring.splitlines():
        depth = len(line) - len(line.lstrip())
        if outer is not None and line.strip() and depth <= outer:
            parts.append("")  # ends a block
            outer = None
        above = len(last) - len(last.lstrip())
        blank = not (prose or parts or [""])[-1].strip()
        opens = line.strip() and blank and last and depth > above
        if outer is None and opens and not SECTION.fullmatch(last.strip()):
            parts += [escaped("\n".join(prose)), f"{' ' * above}::", ""]
            prose, outer = [], above
        if outer is None:
            prose.append(line)
        else:
            parts.append(line)
        last = line if line.strip() else last
    return "\n".join([*parts, escaped("\n".join(prose))])


def escaped(prose: str) -> str:
    """Text in which nothing is markup but ``code`` and bullets."""
    pieces = CODE.split(prose)
    pieces[::2] = [
        BULLET.sub(r"\1*\2", MARKUP.sub(r"\\\g<0>", piece)) for piece in pieces[::2]
    ]
    return "".join(pieces)
