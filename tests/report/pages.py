"""Runs to report on, and what a browser would make of a page."""

from dataclasses import dataclass
from html.parser import HTMLParser

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
