"""The pages that the build writes into ``generated/``: API reference and figures."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from _docstrings import escaped, text
from _errors import catalogue
from _public import Name, known, modules, names

from fedsciml import methods, policies, problems
from fedsciml.registry import REQUIRED, UNSTATED, Option

FIGURES = Path(__file__).parents[1] / "figures"
PLAIN = (bool, int, float, str, tuple)
"""Values of constants that are shown, if they are short."""


class Listed(NamedTuple):
    """What is chosen by name.

    Attributes:
        title: Of its page.
        names: Of all entries.
        options: Those of an entry.
        about: What to say of all.
    """

    title: str
    names: Callable[[], list[str]]
    options: Callable[[str], Mapping[str, Option]]
    about: str


LISTED = {
    "methods": Listed(
        "Methods by name",
        methods.names,
        methods.options,
        '``methods.load("fipa", rank="20")``, or ``--method fipa --rank 20``.',
    ),
    "policies": Listed(
        "Step policies by name",
        policies.names,
        policies.options,
        '``methods.load("fipa", policy="line_search:memory=5")``, or '
        "``--policy line_search:memory=5``.",
    ),
    "problems": Listed(
        "Problems by name",
        problems.names,
        problems.options,
        '``problems.load("heat", clients=4)``, or ``heat --set clients=4``.',
    ),
}


def pages() -> dict[str, Callable[[], str]]:
    """What makes each page in reStructuredText, by its path in ``generated/``."""
    found = {"figures": figures, "errors": errors, "api/index": index}
    for module in modules():
        found[f"api/{module}"] = partial(module_page, module)
    for name in names():
        found[f"api/{name.page}"] = partial(name_page, name)
    for package, listed in LISTED.items():
        found[f"api/{package}/index"] = partial(list_page, package, listed)
        for entry in listed.names():
            page = partial(entry_page, package, entry, listed)
            found[f"api/{package}/{entry}"] = page
    return found


def write(out: Path) -> None:
    """Write the pages that have changed, and remove what is no page any more."""
    written = {(out / f"{path}.rst"): make() for path, make in pages().items()}
    for old in {*out.glob("api/**/*.rst")} - set(written):
        old.unlink()
    for path, content in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != content:
            path.write_text(content)


def index() -> str:
    """The first page of the reference."""
    rows = [(f":doc:`{m} <{m}>`", _summary(m)) for m in modules()]
    by_name = [(f":doc:`{it.title} <{p}/index>`", it.about) for p, it in LISTED.items()]
    return "\n".join(
        [
            *_title("API reference"),
            "Everything that is exported, from the docstrings. ``fedsciml`` itself has "
            "what most programs need.",
            "",
            *_table(rows),
            "What is chosen by name, with its options:",
            "",
            *_table(by_name),
            *_toctree([*modules(), *(f"{p}/index" for p in LISTED)]),
        ]
    )


def module_page(module: str) -> str:
    """A module's docstring and a line for each name."""
    mine = [name for name in names() if name.module == module]
    rows = [(f":doc:`{n.name} <{n.page}>`", escaped(n.summary)) for n in mine]
    others = [n for n in modules()[module] if n not in {name.name for name in mine}]
    return "\n".join(
        [
            *_title(module),
            f".. automodule:: {module}",
            "   :no-members:",
            "",
            *_table(
                [
                    *rows,
                    *(
                        (f":doc:`{n} <fedsciml.{n}>`", _summary(f"{module}.{n}"))
                        for n in others
                    ),
                ]
            ),
        ]
    )


def name_page(name: Name) -> str:
    """The description of a public name."""
    first, body = known(name), list[str]()
    if not getattr(name.found, "__module__", "fedsciml").startswith("fedsciml"):
        body = [f".. py:{name.kind}:: {name.full}", ""]
        body += [f"   ``{name.found.__module__}.{name.name}``"]
    elif first != name:
        body = [f".. py:{name.kind}:: {name.full}", ""]
        body += [f"   The same as :py:obj:`{first.full}`."]
    elif name.kind == "data":
        value = name.found
        shown = isinstance(value, PLAIN) and len(repr(value)) < 70
        body = [f".. py:data:: {name.full}", *[f"   :value: {value!r}"] * shown, ""]
        body += [f"   {line}" for line in text(name.remark).splitlines()]
    else:
        members = ["   :members:"] * (name.kind != "function")
        body = [text(name.remark), "", f".. auto{name.kind}:: {name.full}", *members]
    return "\n".join([*_leaf(name.name, name.module), *body, ""])


def list_page(package: str, listed: Listed) -> str:
    """All entries, a line each."""
    summary = import_module(f"fedsciml.{package}").summary
    rows = [(f":doc:`{n} <{n}>`", escaped(summary(n))) for n in listed.names()]
    return "\n".join([*_title(listed.title), listed.about, "", *_table(rows)])


def entry_page(package: str, entry: str, listed: Listed) -> str:
    """The docstring and the options of an entry."""
    rows = [
        (f"``{key}``", _kind(option), _default(option), escaped(option.help))
        for key, option in listed.options(entry).items()
    ]
    body = [*_leaf(entry, "index"), f".. automodule:: fedsciml.{package}.{entry}", ""]
    if rows:
        body += ["Options:", "", *_table(rows, "option", "kind", "default", "meaning")]
    else:
        body += ["It has no options.", ""]
    return "\n".join(body)


def errors() -> str:
    """Every first error that the tests know: what was written, said, and is right."""
    from first_errors import PRELUDE

    body = _title("All first errors")
    body += ["Each program comes after this one:", "", *_block("python", PRELUDE)]
    for group, cases in catalogue():
        body += [group, "-" * len(group), ""]
        for title, wrong, said, right in cases:
            body += [title, "~" * len(title), "", *_block("python", wrong)]
            body += [*_block("text", said), "Write:", "", *_block("python", right)]
    return "\n".join(body)


def figures() -> str:
    """The gallery: every figure with what it shows and its command."""
    import make_figures  # with all experiments: takes seconds

    body = _title("Figures")
    body += ["Drawn from the records in ``figures/data``; nothing is trained.", ""]
    for name, drawing in make_figures.DRAWINGS.items():
        place = f"../../figures/{name}"
        body += [name, "-" * len(name), "", escaped(drawing.shows), ""]
        body += [f".. image:: {place}.png", f"   :alt: {name}", ""]
        body += [f"``python scripts/make_figures.py --only {name}``;"]
        body += [f":download:`as PDF <{place}.pdf>`.", ""]
    return "\n".join(body)


def _leaf(words: str, above: str) -> list[str]:
    """The head of a page that is too small for the table of contents."""
    up = f"../{above}" if above != "index" else above
    return [":orphan:", "", *_title(words), f":doc:`{up}`", ""]


def _title(words: str) -> list[str]:
    return [words, "=" * len(words), ""]


def _summary(module: str) -> str:
    documented = import_module(module).__doc__ or ""
    return escaped(documented.partition("\n")[0])


def _table(rows: Iterable[tuple[str, ...]], *heads: str) -> list[str]:
    rows = [heads, *rows] if heads else list(rows)
    lines = [".. list-table::", f"   :header-rows: {int(bool(heads))}", ""]
    for row in rows:
        for cell, mark in zip(row, ("* -", *["  -"] * len(row)), strict=False):
            lines.append(f"   {mark} {cell}".rstrip())
    return [*lines, ""]


def _block(language: str, text: str) -> list[str]:
    lines = [f"   {line}".rstrip() for line in text.splitlines()]
    return [f".. code-block:: {language}", "", *lines, ""]


def _toctree(entries: Iterable[str]) -> list[str]:
    return [".. toctree::", "   :hidden:", "", *(f"   {e}" for e in entries), ""]


def _kind(option: Option) -> str:
    if option.choices:
        return " ".join(f"``{choice}``" for choice in option.choices)
    return escaped(str(getattr(option.kind, "__name__", option.kind)))


def _default(option: Option) -> str:
    if option.default is REQUIRED:
        return "must be given"
    return "its own" if option.default is UNSTATED else f"``{option.default!r}``"
