"""The figures are those of the committed records, all of them and no others."""

import json
import re
import zlib
from pathlib import Path

import make_figures
import matplotlib
import numpy as np
import pytest
from experiments import _drawing, _words, clients, ranks, suite
from experiments._paper import CLAIMS
from experiments._record import DATA, ROOT, Entry
from experiments._registry import experiments
from experiments._standing_figure import Standing, standing
from matplotlib.text import Text

from fedsciml import methods, problems
from fedsciml.plot import Curve, Figure, Panel, panels
from fedsciml.plot.shown import fingerprint

FIGURES = DATA.parent


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the figures of the committed records."""
    out = tmp_path_factory.mktemp("figures")
    make_figures.main(["--out", str(out), "--formats", "pdf"])
    return out


@pytest.fixture(scope="module")
def shown() -> dict[str, Figure]:
    """All figures, not rendered."""
    return {name: d.figure() for name, d in make_figures.DRAWINGS.items()}


def listed(readme: str, folder: str = "") -> set[str]:
    """What the first columns of the tables name."""
    found = re.findall(r"^\| \[([\w.-]+)\]\(([\w./-]+)\)", readme, re.MULTILINE)
    return {name for name, link in found if link.startswith("data/") == bool(folder)}


def contents(pdf: Path) -> list[bytes]:
    """The streams of a PDF; zlib's versions compress differently."""
    found = re.findall(rb"stream\n(.*?)\nendstream", pdf.read_bytes(), re.DOTALL)
    return [zlib.decompress(part) if part[:1] == b"\x78" else part for part in found]


def test_figures_and_their_list_show_the_committed_records(
    shown: dict[str, Figure],
) -> None:
    names = [*make_figures.DRAWINGS]
    readme = (FIGURES / "README.md").read_text()
    assert make_figures.readme(names, DATA) == readme, "run make figures"
    assert listed(readme) == set(names)
    known = json.loads((FIGURES / make_figures.SHOWN).read_text())
    assert set(known) == set(names)
    for name, figure in shown.items():
        found = fingerprint(figure)
        assert found == known[name], f"{name} shows something else: run make figures"


def test_what_a_figure_shows_tells_of_every_value_and_word() -> None:
    def shown(
        x: float = 1.0, label: str = "a", title: str = "b", xlabel: str = "c"
    ) -> str:
        curve = Curve(label, [1.0, 2.0], [x, 3.0])
        return fingerprint(panels([Panel(title, xlabel, "y", [curve])], 1))

    assert shown() == shown()
    changed = [shown(1.001), shown(label="z"), shown(title="z"), shown(xlabel="z")]
    assert len({shown(), *changed}) == 5


@pytest.mark.slow
def test_figures_are_redrawn_from_the_committed_records(drawn: Path) -> None:
    readme = (FIGURES / "README.md").read_text()
    assert (drawn / "README.md").read_text() == readme, "run make figures"
    names = {path.stem for path in drawn.glob("*.pdf")}
    assert names == set(make_figures.DRAWINGS)
    for name in names:
        committed, again = FIGURES / f"{name}.pdf", drawn / f"{name}.pdf"
        assert len(contents(again)) > 3
        if f"Matplotlib v{matplotlib.__version__}".encode() in committed.read_bytes():
            assert contents(committed) == contents(again), f"{name}: run make figures"


def test_no_figure_is_left_that_nothing_draws() -> None:
    names = set(make_figures.DRAWINGS)
    for suffix in (".pdf", ".png"):
        assert {path.stem for path in FIGURES.glob(f"*{suffix}")} == names


def test_every_claim_has_its_figures_tables_and_commands() -> None:
    names = [claim.name for claim in CLAIMS]
    asked = "exactness bytes privacy robustness classification personalisation"
    assert set(asked.split()) <= set(names)
    assert len(set(names)) == len(names)
    known = experiments()
    for claim in CLAIMS:
        assert all((claim.figures, claim.tables, claim.experiments))
        assert set(claim.figures) <= set(make_figures.DRAWINGS)
        for place in claim.tables:
            page, _, name = place.partition("#")
            text = (ROOT / page).read_text()
            assert f"<!-- {name} -->" in text
        assert all(known[name].cases for name in claim.experiments)
        assert not re.search(r"\d", claim.says)


def test_figures_show_words_and_fit_on_a_page(shown: dict[str, Figure]) -> None:
    codes = set(problems.names()) | set(methods.names())
    coded = {name for name in codes if "_" in name or name[-1].isdigit()}
    for name, figure in shown.items():
        width, height = figure.get_size_inches()
        assert max(width / 7, height / 9) <= 1, name
        texts = [text.get_text() for text in figure.findobj(Text)]
        words = " ".join(text for text in texts if "$" not in text)
        assert "_" not in words, name
        assert not coded & set(re.findall(r"[\w.]+", words)), name


def test_problems_and_their_options_have_words() -> None:
    assert set(problems.names()) <= set(_words.TITLES)
    assert _words.title("poisson2d") == "Poisson, 2-D"
    assert _words.title("heat:points=4") == "Heat, 4-fold points"
    assert _words.title("my_own:wide_open=2,fast=true") == "My own, wide open 2, fast"
    assert _words.named("line_search:cutoff=1e-8") == "Line search, cut-off 1e-8"
    assert _words.partition("pieces:4") == "4 pieces each"


def test_standings_are_a_row_per_problem_and_a_mark_per_method() -> None:
    rows = [
        Standing("heat", "FIPA", 1e-9, (1e-10, 1e-8)),
        Standing("heat", "FedAvg", 0.0),
        Standing("poisson2d", "FIPA", 1e-12),
        Standing("poisson2d", "FedAvg", None),
    ]
    figure = standing(rows)
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["Heat", "Poisson, 2-D"]
    drawn = {line.get_label(): line for line in axes.lines}
    assert drawn["FIPA"].get_xdata().tolist() == [1e-9, 1e-12]
    assert drawn["FedAvg"].get_xdata().tolist() == [_drawing.LEAST]
    assert drawn["asked"].get_xdata().tolist() == [1e-6, 1e-6]
    assert axes.get_xscale() == "log"
    assert axes.yaxis_inverted()
    below, above = drawn["FIPA"].get_ydata()[:1], drawn["FedAvg"].get_ydata()
    assert abs(below - above) < 1
    with pytest.raises(_drawing.MissingRecordError):
        standing([Standing("heat", "FIPA", None)])


def test_every_record_is_listed_with_what_it_is_for() -> None:
    readme = (FIGURES / "README.md").read_text()
    assert listed(readme, "data") == {path.name for path in DATA.iterdir()}
    used = {name for d in make_figures.DRAWINGS.values() for name in d.records}
    makers = make_figures.makers()
    shown = {record for record, (_, page) in makers.items() if page}
    assert used | shown == set(makers)
    assert not used & shown


def test_every_record_tells_the_commit_that_made_it() -> None:
    past = json.loads(make_figures.PROVENANCE.read_text())
    for path in DATA.iterdir():
        if path.name not in past:
            assert all(entry["made"] for entry in json.loads(path.read_text()))
    assert all(re.fullmatch("[0-9a-f]{7,}", told["commit"]) for told in past.values())
    assert set(past) <= {path.name for path in DATA.iterdir()}


def test_a_missing_record_is_named_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert make_figures.main([*arguments, "--only", "steps-stall", "spectra"]) == 1
    assert "steps-stall not drawn: stall.json is not there" in capsys.readouterr().err
    (tmp_path / "suite.json").write_text("[]")
    assert make_figures.main([*arguments, "--only", "suite-sine"]) == 1
    assert "suite.json has no entries" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_every_method_looks_different() -> None:
    looks = [look[1:] for look in _drawing.METHODS.values()]
    assert len(set(looks)) == len(looks)


def test_a_spread_is_the_median_and_quartiles_of_the_logarithms() -> None:
    x = [1.0, 10.0, 100.0]
    runs = [{"x": x, "error": [1.0, 10.0**-k, 10.0 ** (-3 * k)]} for k in range(1, 6)]
    curve = _drawing.spread(runs, "x")
    np.testing.assert_allclose(curve.x, x)
    np.testing.assert_allclose(curve.y, [1, 1e-3, 1e-9], rtol=1e-12)
    assert curve.band is not None
    np.testing.assert_allclose(curve.band[0], [1, 1e-4, 1e-12], rtol=1e-12)
    np.testing.assert_allclose(curve.band[1], [1, 1e-2, 1e-6], rtol=1e-12)


def test_runs_of_other_lengths_are_interpolated_and_keep_their_last_error() -> None:
    long = {"x": [1, 2, 4, 8], "error": [1e-1, 1e-2, float("nan"), 1e-4]}
    short = {"x": [2, 4], "error": [1e-2, 0.0]}
    curve = _drawing.spread([long, short], "x")
    np.testing.assert_allclose(curve.x, [2, 4, 8])
    zero = _drawing.LEAST
    expected = [1e-2, (1e-3 * zero) ** 0.5, (1e-4 * zero) ** 0.5]
    np.testing.assert_allclose(curve.y, expected, rtol=1e-12)
    assert _drawing.spread([long], "x").band is None


def test_a_rival_is_credited_with_its_lowest_error_so_far() -> None:
    entry: Entry = {"method": "fedavg", "error": [3.0, 1.0, 2.0], "bytes": [1e6] * 3}
    assert suite.credited(entry)["error"] == [3, 1, 1]
    assert suite.credited({**entry, "method": "fipa"})["error"] == [3, 1, 2]


def test_the_front_is_the_least_error_for_so_many_bytes() -> None:
    early = Curve("", [1.0, 10.0], [1e-1, 1e-2])
    late = Curve("", [4.0, 40.0, 400.0], [1.0, 1e-8, 1e-6])
    found = ranks.front([early, late])
    np.testing.assert_allclose(found.x, [1, 4, 10, 40, 400])
    between = 10.0 ** (-8 * np.log10(2.5))  # on the steep line from 4 to 40
    least = [1e-1, 10 ** (-1 - np.log10(4)), min(1e-2, between), 1e-8, 1e-8]
    np.testing.assert_allclose(found.y, least, rtol=1e-12)


def test_a_study_of_clients_shows_medians_extremes_and_the_central_level() -> None:
    runs = [
        {"method": "fipa", "clients": m, "error": 10.0**-k * m}
        for m in (4, 2)
        for k in (1, 2, 3)
    ]
    central = [{"method": "gauss_newton", "clients": 1, "error": 7.0}]
    fipa, level = clients.against(runs, "clients", "error", central)
    assert (fipa.x, fipa.y) == ([2, 4], [0.02, 0.04])
    assert fipa.band == ([0.002, 0.004], [0.2, 0.4])
    assert (level.x, level.y) == ([2, 4], [7, 7])


@pytest.mark.parametrize(
    ("schedule", "family", "setting"),
    [
        ("20", "fixed", "20"),
        ("cutoff", "cutoff", ""),
        ("bytes:400000", "bytes", "0.4 MB"),
        ("energy:0.9999999999", "energy", "1 - 1e-10"),
        ("predictive:0.01", "predictive", "0.01"),
    ],
)
def test_a_schedule_is_named_by_family_and_setting(
    schedule: str, family: str, setting: str
) -> None:
    assert ranks.family(schedule) == family
    assert ranks.setting(schedule) == setting
