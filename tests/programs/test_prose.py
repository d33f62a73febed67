"""Every number of README and docs is told by a record, or is a setting of its page."""

import json
import re
from pathlib import Path

import pytest
from experiments import _ages, _numbers, _prose
from experiments._prose import Claim, Prose, faults, rewritten
from experiments._record import FIGURES, ROOT

PAGES = ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
HELD = {page.page: page for page in _prose.prose()}

GENERATED = re.compile(r"^<!-- (?!end of )(.*?) -->\n(.*?)\n<!-- end of", re.M | re.S)


@pytest.mark.parametrize("page", HELD)
def test_every_number_of_a_page_is_told_by_a_record_or_set(page: str) -> None:
    assert page in PAGES
    found = faults(HELD[page], (ROOT / page).read_text())
    assert not found, "\n".join(found)


def test_every_page_is_held() -> None:
    assert {*PAGES} == {*HELD}


def test_every_generated_block_is_what_its_record_makes() -> None:
    made = {
        (table.page, table.name): table
        for found in (*_numbers.tables().values(), _ages.tables())
        for table in found
        if table.page
    }
    texts = {page: (ROOT / page).read_text() for page in PAGES}
    shown = {
        (page, name): block
        for page, text in texts.items()
        for name, block in GENERATED.findall(text)
    }
    assert set(shown) == set(made)
    for place, table in made.items():
        assert shown[place] == table.markdown(), f"{place}: run make pages"
        if table.tex:
            file = FIGURES / "tables" / f"{table.name}.tex"
            assert file.read_text() == table.latex(), f"{file}: run make pages"


def test_an_entry_is_as_old_as_its_commit(tmp_path: Path) -> None:
    record = tmp_path / "a.json"
    entries = [{"made": "abc1234-dirty, torch 2"}, {"made": "abc1234, torch 2"}, {}]
    record.write_text(json.dumps(entries))
    past = {"a.json": {"commit": "0123456"}, "b.npz": {"commit": "0123456"}}
    assert _ages.made(record, past) == {"0123456": 1, "abc1234": 2}
    assert _ages.made(tmp_path / "b.npz", past) == {"0123456": 1}
    with pytest.raises(KeyError):
        _ages.made(record, {})


def test_a_commit_without_an_age_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = _ages.known()
    gone = content["commits"].popitem()[0]
    (tmp_path / "ages.json").write_text(json.dumps(content))
    monkeypatch.setattr(_ages, "AGES", tmp_path / "ages.json")
    with pytest.raises(KeyError, match=f"{gone}.*run make pages where git is"):
        _ages.tables()


TEXT = """# 3 of 4

A round takes 44
ms, to `x = 5` within 50 rounds (arXiv 2601.13608, 2-D, L2, sine4); it is
asked for 1e-6 and gets a
fifth.

    seeds = 9

<!-- t -->
A round takes 7 ms.
<!-- end of t -->

[link 8](page-7.md)
"""


def told(*numbers: str) -> Prose:
    """A page that says how long a round takes."""
    claims = [
        Claim("A round takes {}, to", lambda: numbers[:1]),
        Claim("gets {}.", lambda: numbers[1:]),
    ]
    return Prose("page.md", claims, ["asked for 1e-6", "link 8"])


def test_numbers_are_held_across_lines_and_only_where_they_are_measured() -> None:
    assert faults(told("44 ms", "a fifth"), TEXT) == []
    (found,) = faults(told("45 ms", "a fifth"), TEXT)
    assert found.startswith("page.md says 44 ms, the record 45 ms: A round takes {}")
    text = TEXT.replace("asked for 1e-6", "asked for 1e-7, 12 times,")
    dead, *loose = faults(told("44 ms", "a fifth"), text)
    assert dead == "page.md has no such number any more: asked for 1e-6"
    assert [line.split(" is ")[0] for line in loose] == [
        "page.md:5: 1e-7",
        "page.md:5: 12",
    ]
    first, *loose = faults(told("44 ms", "a fifth"), TEXT + "A round takes 44 ms, to\n")
    assert first == "page.md has 2 times: A round takes {}, to"
    where = [line.split(" is ")[0] for line in loose]
    assert where == ["page.md:3: 44", "page.md:15: 44"]


def test_a_page_is_written_again_where_a_number_changed_and_only_there() -> None:
    text, changed = rewritten(told("1.2 s", "an eighth"), TEXT)
    assert text == TEXT.replace("44\nms", "1.2\ns").replace("a\nfifth", "an\neighth")
    assert len(changed) == 2
    assert faults(told("1.2 s", "an eighth"), text) == []
    assert rewritten(told("1.2 s", "an eighth"), text) == (text, [])
    with pytest.raises(ValueError, match="has 0 times"):
        rewritten(told("1", "2"), "Nothing.")


def test_what_reads_like_a_measurement_is_no_exception() -> None:
    page = Prose("page.md", [], [])
    for text in ("in 18 rounds", "1.2 MB", "after 18 rounds", "2048 rows", "3e-5 on x"):
        assert len(faults(page, text)) == 1, text


def test_numbers_are_printed_as_pages_have_them() -> None:
    assert [_numbers.digits(x) for x in (0.394, 44.4, 1234.0, 0.996)] == [
        "0.39",
        "44",
        "1200",
        "1.0",
    ]
    assert [_numbers.power(x) for x in (7.1e-16, 9.7e-4)] == ["7e-16", "1e-3"]
    assert [_numbers.ceiling(x) for x in (4.1e-22, 5e-22, 0.65)] == [
        "5e-22",
        "5e-22",
        "0.7",
    ]
    assert _numbers.percent(0.876) == "88 %"
    assert [_numbers.duration(x) for x in (0.0438, 1.83)] == ["44 ms", "1.8 s"]
    assert [_numbers.part(x) for x in (0.21, 0.12)] == ["a fifth", "an eighth"]
    assert [_numbers.word(x) for x in (7, 13)] == ["seven", "13"]
