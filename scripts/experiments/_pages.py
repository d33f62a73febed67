"""Pages written again from the records: tables, and the numbers of their prose."""

from experiments import _ages
from experiments._numbers import tables
from experiments._prose import prose, rewritten
from experiments._table import publish
from fedsciml.federation.files import replace_file


def rewrite() -> list[str]:
    """Write all pages; says what changed.

    Raises:
        ValueError: If a page lacks a phrase or the marks of a table.
    """
    changed = _ages.update()
    for found in (*tables().values(), _ages.tables()):
        changed += publish(found)
    for page in prose():
        text, told = rewritten(page, page.path.read_text())
        if told:
            replace_file(page.path, text)
        changed += told
    return changed
