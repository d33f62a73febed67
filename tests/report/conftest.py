"""A run to report on, and reports without drawings."""

import pytest
from cases import CASES
from pages import trained

from fedsciml import plot
from fedsciml.federation import Result


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a drawing says is tested elsewhere, and takes a while."""
    empty = '<svg class="chart" viewBox="0 0 1 1" role="img"></svg>'
    for name in ("chart", "coloured"):
        monkeypatch.setattr(plot, name, lambda *_: empty)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A small run of three clients."""
    return trained(CASES["scalar"](), tmp_path_factory.mktemp("run") / "scalar")
