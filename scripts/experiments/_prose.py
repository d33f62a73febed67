"""Numbers in the prose of pages: each is told by a record, or is a setting."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

from experiments import _claims
from experiments._numbers import UNITS, WORDS
from experiments._record import ROOT

NUMBER = r"\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-+]?\d+)?"
MEASURED = rf"((?:≤\s)?(?:[-+]?{NUMBER}(?:\s(?:{UNITS})(?!\w))?|{WORDS}))"
"""What stands for ``{}``: a number with its unit, or a small number as a word."""

LOOSE = re.compile(rf"(?<![\w.])[-+]?{NUMBER}")
"""A number; ``L2``, ``sine4`` and ``float64`` are names."""

NEVER = (
    r"arXiv[:\s]\d{4}\.\d{4,5}",
    r"\b\d-D\b",
    r"[\w)|]\^-?\d+",
    r"(?<=[(,\s])(?:19[5-9]|20[0-2])\d(?=[),;])",
    r"\b(?:Table|Figure|Section|Theorem|Lemma|Algorithm|Python|start|seed)\s\d[\d.]*",
    r"\b(?:[Aa]fter|within|for|of|over)\s(?:the\s)?[1-9]\d*0\srounds",
)
"""What no page measures: papers, dimensions, powers, years, counted things, and so many
rounds where they are asked for, as round numbers."""

GENERATED = r"^<!-- (?!end of )(?P<name>.*?) -->\n.*?^<!-- end of (?P=name) -->"
CODE = (
    r"^```.*?^```",
    r"(?:(?<=\n\n)|\A)(?: {4}.*\n|[ \t]*\n(?= {4}))+",
    r"^#.*$",
    r"(`+)(?:[^`\n]|\n(?!\n))+\1",
    r"\]\([^)]*\)",
    r"^\[[^\]]*\]:.*$",
    r"<!--.*?-->",
    r"https?://\S*",
)
"""Programs, headings, code, links and comments have no measured numbers."""

Told = Callable[[], Sequence[str]]
"""The texts of the numbers of a phrase, of the records."""


@dataclass(frozen=True)
class Claim:
    """A phrase of a page with measured numbers.

    Attributes:
        phrase: As on the page, once, with ``{}`` for each number and its unit; a line
            break is a space.
        told: What is to stand there, for each ``{}``.
    """

    phrase: str
    told: Told

    def numbers(self) -> list[str]:
        """What the records tell.

        Raises:
            ValueError: If it is not a text for each ``{}``.
        """
        found = list(self.told())
        if len(found) != self.phrase.count("{}"):
            raise ValueError(f"'{self.phrase}' is told {found}: one for each {{}}.")
        return found

    def found(self, text: str) -> list[re.Match[str]]:
        """Where the phrase is."""
        words = [_literal(part) for part in self.phrase.split("{}")]
        return [*re.finditer(_edged(MEASURED.join(words)), text)]


Setting = str | re.Pattern[str]
"""A phrase, or an expression, with numbers that are not measured."""


class Prose(NamedTuple):
    """The numbers of a page."""

    page: str
    claims: Sequence[Claim]
    settings: Sequence[Setting]

    @property
    def path(self) -> Path:
        """The page."""
        return ROOT / self.page


def prose() -> Iterator[Prose]:
    """That of every page that has a module in ``_claims``."""
    for module in iter_modules(_claims.__path__):
        of = import_module(f"{_claims.__name__}.{module.name}")
        page = "README.md" if module.name == "readme" else f"docs/{module.name}.md"
        yield Prose(page, of.CLAIMS, of.SETTINGS)


def faults(page: Prose, text: str) -> list[str]:
    """What is not as the records tell it, and numbers that nobody tells.

    Args:
        page: Its claims and settings.
        text: Of the page.
    """
    shown = _without(text, [GENERATED])
    bare = _without(shown, CODE)
    wrong: list[str] = []
    held: list[tuple[int, int]] = []
    for claim in page.claims:
        places = claim.found(shown)
        if len(places) != 1:
            wrong.append(f"{page.page} has {len(places)} times: {claim.phrase}")
            continue
        (place,) = places
        held.append(place.span())
        for said, told in zip(place.groups(), claim.numbers(), strict=True):
            if _words(said) != told:
                wrong.append(
                    f"{page.page} says {_words(said)}, the record {told}: "
                    f"{claim.phrase}; run python -m scripts.experiments pages"
                )
    held += [m.span() for rule in NEVER for m in re.finditer(rule, bare)]
    loose = [m for m in LOOSE.finditer(bare) if not _in(m, held)]
    settings: list[tuple[int, int]] = []
    for setting in page.settings:
        if isinstance(setting, str):
            named, rule = setting, re.compile(_edged(_literal(setting)))
        else:
            named, rule = setting.pattern, setting
        spans = [m.span() for m in rule.finditer(shown)]
        if not any(_in(m, spans) for m in loose):
            wrong.append(f"{page.page} has no such number any more: {named}")
        settings += spans
    for m in loose:
        if not _in(m, settings):
            line = text.count("\n", 0, m.start())
            wrong.append(
                f"{page.page}:{line + 1}: {m[0]} is neither claimed nor a setting in "
                f"scripts/experiments/_claims: {text.splitlines()[line].strip()}"
            )
    return wrong


def rewritten(page: Prose, text: str) -> tuple[str, list[str]]:
    """The page with the numbers of the records, and what changed.

    Raises:
        ValueError: If a phrase is not on the page once.
    """
    changed: list[str] = []
    for claim in page.claims:
        places = claim.found(_without(text, [GENERATED]))
        if len(places) != 1:
            raise ValueError(f"{page.page} has {len(places)} times: {claim.phrase}")
        (place,) = places
        numbers = claim.numbers()
        for at, told in reversed([*enumerate(numbers, 1)]):
            if _words(place[at]) != told:
                changed.insert(0, f"{page.page}: {place[at]} is {told}: {claim.phrase}")
                begin, end = place.span(at)
                text = text[:begin] + _spaced(told, place[at]) + text[end:]
    return text, changed


def _literal(phrase: str) -> str:
    """An expression for a phrase, with any white space between words."""
    return r"\s+".join(re.escape(part) for part in re.split(r"\s+", phrase))


def _edged(rule: str) -> str:
    """Of which no number is cut through at the ends."""
    return rf"(?<![\d.]){rule}(?!\d|\.\d|e-?\d)"


def _without(text: str, rules: Sequence[str]) -> str:
    """The text with these parts blank, every character where it was."""
    for rule in rules:
        text = re.sub(
            rule,
            lambda m: re.sub(r"[^\n]", "\0", m[0]),
            text,
            flags=re.DOTALL | re.MULTILINE if rule in (GENERATED, CODE[0]) else re.M,
        )
    return text


def _in(match: re.Match[str], spans: Sequence[tuple[int, int]]) -> bool:
    return any(a <= match.start() and match.end() <= b for a, b in spans)


def _words(text: str) -> str:
    return " ".join(text.split())


def _spaced(new: str, old: str) -> str:
    """New words, with the white space of the old ones where they are as many."""
    words, gaps = new.split(" "), re.findall(r"\s+", old)
    if len(words) != len(gaps) + 1:
        return new
    return "".join(w + g for w, g in zip(words, [*gaps, ""], strict=True))
