"""Hold the built site to what it promises: every link, every public name.

    python docs/_check.py docs/_build/html

A link to a file of the site, or to a place on a page, must lead somewhere; every public
name must be in the inventory, on a page of its own. Pages elsewhere are not asked for:
that is ``make links``.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.util.inventory import InventoryFile

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _public import names


class Page(HTMLParser):
    """The links of a page, and the places that may be linked to.

    Attributes:
        links: To files and places.
        places: Names of its parts.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.places: set[str] = {""}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element links to, and what it is called."""
        for key, value in attrs:
            if key in ("href", "src") and value:
                self.links.add(value)
            elif key in ("id", "name") and value:
                self.places.add(value)


def broken(site: Path) -> list[str]:
    """Links that lead nowhere, with their pages."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve()
            target = place if parts.path else path
            there = target.exists() and (
                target not in pages or unquote(parts.fragment) in pages[target].places
            )
            if not there:
                found.append(f"{path.relative_to(site.resolve())}: {link}")
    return found


def missing(site: Path) -> list[str]:
    """Public names without a page of their own in the inventory."""
    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="")
    pages = {
        name: item.uri.partition("#")[0]
        for kind, items in inventory.data.items()
        if kind.startswith("py:")
        for name, item in items.items()
    }
    return [
        name.full
        for name in names()
        if pages.get(name.full) != f"generated/api/{name.page}.html"
    ]


def main(arguments: list[str]) -> int:
    """Say what is wrong; the exit status is 1 if anything is."""
    site = Path(arguments[0])
    wrong = [f"broken link: {link}" for link in broken(site)]
    wrong += [f"no page in the reference: {name}" for name in missing(site)]
    print(*wrong, sep="\n", file=sys.stderr)
    if not wrong:
        print(f"{len(names())} public names have their page, and no link is broken.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
