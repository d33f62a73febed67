"""Numbers and lists in words."""

import math
from collections.abc import Sequence

from fedsciml.report.markup import Html, tag


def number(value: float | None, digits: int = 3) -> str:
    """``0.125``, ``1.39e-26``; what is not finite or not known in words."""
    if value is None or math.isnan(value):
        return "not known"
    if math.isinf(value):
        return "infinite"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.{digits - 1}e}"


def raised(value: float | None, digits: int = 2) -> str:
    """The same for few and large letters: ``1.4 x 10`` with its power raised."""
    text = number(value, digits)
    mantissa, e, power = text.partition("e")
    if not e or not power.lstrip("+-").isdigit():
        return text
    up = str(int(power)).replace("-", "\N{MINUS SIGN}")
    return Html(f"{mantissa}\u2009\u00d7\u200910{tag('sup', up)}")


def seconds(value: float) -> str:
    """``0.4 s``, ``3 min 5 s``, ``2 h 4 min``."""
    if value < 60:
        return f"{value:.2g} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(n: int, what: str) -> str:
    """``1 client``, ``2 clients``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def listed(items: Sequence[str], most: int = 8) -> str:
    """``a, b and c``; of many the first ones, and how many there are."""
    if len(items) > most:
        return f"{', '.join(items[:most])} and {len(items) - most} more"
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
