"""HTML from parts; what is no ``Html`` is text, and is escaped."""

from collections.abc import Iterable, Sequence
from html import escape

SHORT = 10
"""Rows of a table that stands beside a drawing."""

VOID = ("input", "meta", "br")
"""Elements without content."""


class Html(str):
    """HTML as it is."""

    __slots__ = ()


def tag(name: str, /, *content: str, **attributes: str | int | bool | None) -> Html:
    """An element.

    Args:
        name: Its name.
        content: What is in it, in this order.
        attributes: By name, with ``_`` for ``-`` and after a word of Python's, as
            ``class_``. True stands alone; False and None are left out.
    """
    head = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        head += f" {key}" if value is True else f' {key}="{escape(str(value))}"'
    if name in VOID:
        return Html(f"<{head}>")
    return Html(f"<{head}>{joined(content)}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """All parts, one after the other."""
    between = between if isinstance(between, Html) else escape(between)
    return Html(between.join(p if isinstance(p, Html) else escape(p) for p in parts))


def paragraphs(*texts: str) -> Html:
    """A paragraph of each text that is not empty."""
    return joined(tag("p", text) for text in texts if text)


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1
) -> Html:
    """A table that is scrolled where the page is narrow.

    Args:
        caption: What it holds.
        columns: Heads of the columns.
        rows: Cells; the first one is the head of its row.
        words: Columns, from the left, that hold words and no numbers.
    """
    kinds = [None if k < words else "number" for k in range(len(columns))]
    heads = [
        tag("th", text, scope="col", class_=kind)
        for text, kind in zip(columns, kinds, strict=True)
    ]
    body = []
    for first, *others in rows:
        cells = [
            tag("td", text, class_=kind)
            for text, kind in zip(others, kinds[1:], strict=True)
        ]
        body.append(tag("tr", tag("th", first, scope="row"), *cells))
    content = tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", *heads)),
        tag("tbody", *body),
    )
    return tag(
        "div", content, class_="scroll", role="region", aria_label=caption, tabindex=0
    )


def details(summary: str, *content: str) -> Html:
    """What is shown when it is asked for."""
    return tag("details", tag("summary", summary), *content)


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and what they stand for."""
    return tag(
        "dl",
        *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs),
        class_="facts",
    )


def code(text: str, about: str) -> Html:
    """Lines of a program or a file, and what they are."""
    return tag("pre", tag("code", text), tabindex=0, role="region", aria_label=about)


def picture(
    drawing: str, caption: str, told: str, legend: Sequence[tuple[str, int, int]] = ()
) -> Html:
    """A drawing with its caption and legend; nothing if there is no drawing.

    Args:
        drawing: SVG, as ``fedsciml.plot`` makes it.
        caption: What is drawn, for all.
        told: What is seen, in words, for those who cannot see it.
        legend: Label, colour and dash of each curve; indices as of ``plot.Curve``.
    """
    if not drawing:
        return Html()
    told = escape(f"{caption}. {told}".strip())
    shown = drawing.replace('role="img"', f'role="img" aria-label="{told}"', 1)
    keys = [
        tag("li", tag("span", class_=f"key c{colour % 8} d{dash}"), label)
        for label, colour, dash in legend
    ]
    return tag(
        "figure",
        tag("figcaption", caption),
        Html(shown),
        tag("ul", *keys, class_="legend") if keys else Html(),
    )


def pictures(*drawn: Html, columns: int = 3) -> Html:
    """Drawings, or what explains them, side by side where there is room, if any."""
    kept = [part for part in drawn if part]
    if not kept:
        return Html()
    return tag("div", *kept, class_=f"pictures of{min(columns, len(kept))}")


def beside(drawing: Html, content: Html, rows: int) -> Html:
    """A drawing and its table: beside it where that is short, else below on demand."""
    if rows <= SHORT:
        return pictures(drawing, content, columns=2)
    return joined([pictures(drawing), details("As numbers", content)])
