"""Names that users write, and what they may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(name: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` with the nearest known name; empty if none is near."""
    near = get_close_matches(name, list(known), 1, cutoff=0.4)
    return f" Did you mean '{near[0]}'?" if near else ""
