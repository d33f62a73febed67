"""What the command says of clients' own numbers."""

from pathlib import Path

import pytest

from fedsciml import load
from fedsciml.command import main

WORDS = ("run", "gauges", "--clients", "2", "--set", "points=8", "--rounds", "1")


def test_numbers_of_the_clients_own_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, "--no-plots", "--quiet", "--out", str(out)]) == 0
    gains = [load(out).unknowns(m)["gain"] for m in (0, 1)]
    told = f"{min(gains):.4g} to {max(gains):.4g} at the clients"
    assert f"gain = {told}" in capsys.readouterr().out
    assert main(["show", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert told in said
    assert "shared, 2 of each client's own" in said
    assert "solution(points, client=0)" in said


def test_a_run_over_flower_says_where_the_clients_own_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    more = ("--backend", "flower-local", "--no-plots", "--quiet", "--out", str(out))
    assert main([*WORDS, *more]) == 0
    assert main(["show", str(out)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "memory=DIR).solution(points, client=0)" in said
