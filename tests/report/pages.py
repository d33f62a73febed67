"""Runs to report on, and what a browser would make of a page."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

from cases import theta

from fedsciml import Problem, federation, report, wrappers
from fedsciml.federation import Result, Round
from fedsciml.report.story import of_result

Attributes = list[tuple[str, str | None]]

VOID = {"meta", "input", "br", "link", "img"}


@dataclass
class Element:
    """A part of a page."""

    name: str
    attributes: dict[str, str | None]
    parents: tuple[str, ...]
    text: str = ""


class Page(HTMLParser):
    """A page taken apart; raises where elements are not closed as they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source, self.elements, self.text = text, list[Element](), ""
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, [e.name for e in self._open]

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:
        names = [key for key, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        parents = tuple(e.name for e in self._open)
        element = Element(tag, dict(attrs), parents)
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: Attributes) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].name == tag, (tag, [e.name for e in self._open])
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not any(e.name == "style" for e in self._open):
            self.text += data
        for element in self._open:
            element.text += data

    def all(self, name: str) -> list[Element]:
        """Elements of a name."""
        return [e for e in self.elements if e.name == name]

    def having(self, attribute: str) -> list[str]:
        """Values of an attribute, wherever it is."""
        return [
            e.attributes[attribute] or ""
            for e in self.elements
            if attribute in e.attributes
        ]


MOST = 2_000_000
"""Bytes of a report."""

Panels = Mapping[str, str]
"""Text of each panel, by name."""


def checked(text: str) -> Page:
    """A page that is complete in itself, all of whose panels could be made."""
    assert len(text.encode()) < MOST
    page = Page(text)
    ids = page.having("id")
    assert len(ids) == len(set(ids))
    for attribute in ("href", "src", "xlink:href", "action", "data", "srcset"):
        for link in page.having(attribute):
            assert link.startswith("data:image/png;base64,") or link[1:] in ids, link
    for link in re.findall(r"url\(([^)]*)\)", text):
        assert link[:1] == "#", link
        assert link[1:] in ids, link
    assert not re.search(r"https?:|@import", text)
    for name in ("script", "link", "iframe", "object", "embed", "base", "form", "img"):
        assert not page.all(name)
    assert not [k for e in page.elements for k in e.attributes if re.match("on", k)]
    for drawing in page.all("svg"):
        assert drawing.attributes["role"] == "img"
        assert drawing.attributes["aria-label"]
    assert "could not be made" not in page.text
    return page


def sections(page: Page) -> Panels:
    return {str(e.attributes["id"]): e.text for e in page.all("section")}


def told(result: Result, /, **changes: object) -> Panels:
    """What the report of a result says."""
    return sections(checked(report.page(replace(of_result(result), **changes))))


def trained(problem: Problem, out: Path, rounds: int = 3, **options: str) -> Result:
    method = wrappers.load("fipa", **options)
    return federation.run(problem, method, rounds, out=out)


def of(problem: Problem, finished: Result) -> Result:
    """The result as if it were of another problem."""
    return replace(finished, problem=problem, theta=theta(problem))


def rounds(n: int, clients: int) -> list[Round]:
    """A history in which everything happens."""
    return [
        Round(
            k,
            loss=math.nan if k == 2 else 10.0 ** -(k % 300),
            step=0.0 if k % 3 else 1.0,
            ranks=(k,) * clients,
            losses={str(m): math.inf if m == k else 1.0 / k for m in range(clients)},
            relative_l2=math.nan if k % 7 == 0 else 0.0 if k == 5 else 1 / k,
            mse=1 / k,
            bytes_up=10 ** min(k, 12),
            bytes_down=k,
            seconds=0.1 * k,
            dropped={"1": "it is <late> & gone"} if k % 2 else {},
            joined={"2": [9]} if k == 6 else {},
            stale={"1": 2} if k % 4 == 1 else {},
            suspects={"0": 3.0} if k == 4 else {},
            against=(0,) if k == 3 else (),
            basis=k,
            outside=0.1 / k,
            condition=math.nan if k == 2 else 3.0,
            held_out=1.0 / k if k % 10 == 0 or k == 1 else None,
            gn_gap=1e-3,
        )
        for k in range(1, n + 1)
    ]
