"""Every extra that is not installed is asked for in the same words."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedsciml import extras, wrappers
from fedsciml.methods import _privacy

ROOT = Path(__file__).parents[1]


def flower() -> object:
    return importlib.import_module("fedsciml.flower")


def secure() -> object:
    return wrappers.load("fipa", secure=True)


@pytest.mark.parametrize(
    ("use", "package", "asked"),
    [
        (flower, "flwr.app", "fedsciml.flower needs.*'fedsciml[flower]'"),
        (secure, "cryptography.exceptions", "Secure sums need.*'fedsciml[secure]'"),
        (_privacy._accounting, "dp_accounting", "needs.*'fedsciml[dp,secure]'"),
    ],
)
def test_what_is_not_installed_is_asked_for(
    use: Callable[[], object], package: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fedsciml

    homes = ("fedsciml.flower", "fedsciml.secure", "fedsciml.wrappers.secure")
    for name in [name for name in sys.modules if name.startswith(homes)]:
        monkeypatch.delitem(sys.modules, name)
    for parent, child in (
        (fedsciml, "flower"),
        (fedsciml, "secure"),
        (wrappers, "secure"),
    ):
        monkeypatch.delattr(parent, child, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    asked = asked.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ModuleNotFoundError, match=f"{asked}.*{package}"):
        use()


def test_no_message_asks_for_a_clone() -> None:
    for path in [*(ROOT / "fedsciml").rglob("*.py"), *(ROOT / "scripts").rglob("*.py")]:
        assert "constraints.txt -e" not in path.read_text(), path


def test_what_is_said_names_extras_of_the_package() -> None:
    names = (ROOT / "setup.cfg").read_text().partition("extras_require]")[2]
    for extra in ("dp", "flower", "secure", "loggers", "docs"):
        assert f"\n{extra} =" in names
    with (
        pytest.raises(ModuleNotFoundError) as caught,
        extras.needed("Curves need", "loggers"),
    ):
        importlib.import_module("not_there")
    assert caught.value.name == "not_there"
