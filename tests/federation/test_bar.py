"""Who is told of a run while it goes on."""

import sys
from io import StringIO
from types import ModuleType, SimpleNamespace

import pytest
from cases import scalar

from fedsciml import methods
from fedsciml.federation import Round, progress, run
from fedsciml.federation.progress import Progress, shown, watched

FIPA = methods.load("fipa")


class Terminal(StringIO):
    """Somebody looks on."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar is drawn from the beginning."""
    monkeypatch.setattr(progress, "DELAY", 0.0)


@pytest.mark.parametrize(
    ("wanted", "stream", "bar"),
    [
        (None, Terminal(), True),
        (None, StringIO(), False),
        (True, StringIO(), True),
        (False, Terminal(), False),
    ],
)
def test_a_bar_is_drawn_where_a_person_looks_on_or_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: Progress,
    stream: StringIO,
    bar: bool,
) -> None:
    stream.seek(0)
    stream.truncate()
    monkeypatch.setattr(sys, "stderr", stream)
    run(scalar(), FIPA, 2, progress=wanted)
    assert ("scalar fipa" in stream.getvalue()) == bar
    assert ("2/2" in stream.getvalue()) == bar
    assert capsys.readouterr().out == ""


def test_a_bar_tells_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    with shown(True, "a label", 9) as show:
        show(Round(7, loss=1e-3, ranks=(3, 4)))
        show(Round(8, loss=1e-3, relative_l2=0.5))
    told = stream.getvalue().split("\r")
    first, second = (next(t for t in told if f"{k}/9" in t) for k in (7, 8))
    assert "loss=1.0e-03, rank=3/4" in first
    assert "error" not in first
    assert "error=5.0e-01" in second


def test_a_bar_tells_the_accuracy_first(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    with shown(True, "digits fipa", 100) as show:
        show(Round(99, loss=1e-3, metrics={"accuracy": 0.9814}, ranks=(30, 40)))
    told = next(t for t in stream.getvalue().split("\r") if "99/100" in t)
    assert "accuracy=98.1%, loss=1.0e-03" in told[:80]


def test_a_bar_of_80_columns_has_error_and_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "OFTEN", 0.0)
    with shown(True, "allen_cahn fipa", 100) as show:
        show(Round(99, loss=1e-3, relative_l2=0.5, ranks=(30, 40)))
    told = next(t for t in stream.getvalue().split("\r") if "99/100" in t)
    assert "error=5.0e-01, loss=1.0e-03" in told[:80]


def test_a_function_is_told_each_line() -> None:
    seen = list[Round]()
    result = run(scalar(), FIPA, 3, progress=seen.append)
    assert seen == result.history


def test_a_notebook_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    python = ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", python)
    assert not watched(StringIO())
    python.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    assert watched(StringIO())
    python.get_ipython = lambda: SimpleNamespace()  # type: ignore[attr-defined]
    assert not watched(StringIO())


def test_nobody_looks_at_a_stream_that_is_not_there() -> None:
    closed = StringIO()
    closed.close()
    assert not watched(closed)
    assert not watched(None)  # type: ignore[arg-type]
