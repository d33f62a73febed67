"""The pages of docs/: their programs run, their links lead somewhere, none is lost."""

import ast
import re
from pathlib import Path

import pytest
import torch

from fedsciml.command import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]*)?\)")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules of docs/ can be imported, as when the site is built."""
    monkeypatch.syspath_prepend(str(DOCS))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory; one thread."""
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


PROGRAMS = {
    page.stem: programs
    for page in PAGES
    if (programs := re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
}
ELSEWHERE = {"errors", "deploy"}
"""Pages whose programs another test runs."""


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("page", sorted(PROGRAMS.keys() - ELSEWHERE))
def test_programs_of_a_page_run_one_after_the_other(page: str) -> None:
    known: dict[str, object] = {"__name__": "page"}
    for program in PROGRAMS[page]:
        if "torch.export" not in program:  # takes seconds; see tests/network
            exec(program, known)


@pytest.mark.usefixtures("elsewhere", "site")
def test_the_page_of_first_errors_has_the_messages_that_come() -> None:
    import _errors

    page = _errors.PAGE.read_text()
    assert page.count("```text") >= 10
    assert _errors.rewritten(page) == page, "run python docs/_errors.py"


def exported() -> set[str]:
    """Every name in an ``__all__`` of the library, read from the source."""
    found = set()
    for path in (ROOT / "fedsciml").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(path.read_text()).body:
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"
            ):
                names = ast.literal_eval(node.value)
                found |= {f"{module.removesuffix('.__init__')}.{n}" for n in names}
    return found


@pytest.mark.usefixtures("site")
def test_every_public_name_and_registered_entry_has_its_page() -> None:
    import _pages
    import _public

    paths = _pages.pages()
    described = {name.full for name in _public.names() if f"api/{name.page}" in paths}
    assert not [name.full for name in _public.names() if not name.summary]
    modules = {name for name in exported() if f"api/{name}" in paths}
    assert exported() - described - modules == set()
    assert len(described) > 200
    for folder in ("methods", "policies"):
        entries = {p.stem for p in (ROOT / "fedsciml" / folder).glob("[a-z]*.py")}
        assert {f"api/{folder}/{entry}" for entry in entries} <= set(paths)
    problems = {p.stem for p in (ROOT / "problems").glob("[a-z]*.py")}
    assert {f"api/problems/{entry}" for entry in problems} <= set(paths)


def test_every_command_on_the_pages_is_one() -> None:
    known = {words.split()[0] for words in COMMANDS}
    text = "\n".join(page.read_text() for page in [*PAGES, ROOT / "README.md"])
    found = set(re.findall(r"(?:^    |`)fedsciml ([a-z]+)", text, re.MULTILINE))
    assert len(found) >= 5
    assert found <= known


def test_every_page_is_in_the_table_of_contents() -> None:
    trees = re.findall(r"```{toctree}\n(.*?)```", (DOCS / "index.md").read_text(), re.S)
    listed = [line for tree in trees for line in tree.splitlines() if line[:1] != ":"]
    assert {page.stem for page in PAGES} - {"index"} == {
        entry for entry in listed if entry and "/" not in entry
    }


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_links_of_a_page_lead_to_files(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_tutorial_checks_its_number() -> None:
    tutorials = sorted((DOCS / "tutorials").glob("*.py"))
    assert len(tutorials) >= 6
    for tutorial in tutorials:
        text = tutorial.read_text()
        assert re.search(r"^ *assert .*[<>]", text, re.MULTILINE), tutorial.name
        assert re.search(r"save\(.*png", text), tutorial.name
    index = (DOCS / "index.md").read_text() + (ROOT / "README.md").read_text()
    assert all(tutorial.name in index for tutorial in tutorials)
