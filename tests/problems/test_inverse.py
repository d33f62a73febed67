"""Inverse problems: sensors' data, made and from files, and what is found from them."""

import json
from math import nan, pi
from pathlib import Path

import numpy as np
import pytest
import run as run_script
import sensors
import torch
from scipy.special import ive

from fedsciml import methods, problems, run
from fedsciml.problem import Problem
from fedsciml.problems._sensors import write


def measured(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    """Points and values of the sensors."""
    rows = problem.pooled().rows[1]
    assert rows.target is not None
    return rows.points, rows.target


def test_clean_sensors_read_the_exact_solution() -> None:
    points, values = measured(problems.load("heat_inverse"))
    x, t = points.unbind(1)
    exact = torch.exp(-0.1 * pi**2 * t) * torch.sin(pi * x)
    torch.testing.assert_close(values, exact, rtol=1e-14, atol=0)


def test_noise_has_the_standard_deviation_asked_for() -> None:
    clean, noisy = (
        measured(problems.load("heat_inverse", noise=noise, measurements=20000))
        for noise in (0.0, 0.01)
    )
    assert torch.equal(clean[0], noisy[0])
    errors = noisy[1] - clean[1]
    size = float(clean[1].square().mean().sqrt())
    # The standard deviation of 20000 numbers is off by 1/200; the mean by 1/141.
    assert float(errors.std()) == pytest.approx(0.01 * size, rel=0.02)
    assert abs(float(errors.mean())) < 0.03 * 0.01 * size


def test_every_site_has_the_sensors_of_its_strip() -> None:
    problem = problems.load("heat_inverse", clients=3)
    for site, shard in enumerate(problem.shards()):
        x = shard.rows[1].points[:, 0]
        assert len(x) > 0
        assert float((x - (site + 0.5) / 3).abs().max()) <= 1 / 6


def test_a_run_on_the_files_is_a_run_on_the_data_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "sites"
    sensors.main(["heat_inverse", "--noise", "0.01", "--out", str(data)])
    assert "4 files" in capsys.readouterr().out
    assert [path.name for path in sorted(data.iterdir())] == [
        f"site00{k}.csv" for k in (1, 2, 3, 4)
    ]
    with pytest.raises(SystemExit):
        sensors.main(["heat_inverse", "--out", str(data)])
    assert "is there already; give a new directory" in capsys.readouterr().err
    made = problems.load("heat_inverse", noise=0.01)
    read = problems.load("heat_inverse", data=str(data))
    one, other = (run(p, methods.load("fipa"), rounds=2) for p in (made, read))
    assert torch.equal(one.theta, other.theta)
    assert read.truth == {}
    assert read.reference is None
    words = ["heat_inverse", "--set", f"data={data}", "--rounds", "2", "--quiet"]
    assert run_script.main([*words, "--json", "--out", str(tmp_path / "run")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["unknowns"]["nu"]["value"] == one.unknowns()["nu"]
    assert said["relative_l2"] is None  # no solution is known
    assert (tmp_path / "run" / "solution.png").exists()


def test_the_script_says_what_it_found_and_how_surely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "heat_inverse",
        "--set",
        "noise=0.01",
        "--rounds",
        "3",
        "--no-plots",
        "--quiet",
        "--out",
    ]
    assert run_script.main([*words, str(tmp_path / "a")]) == 0
    assert ", nu = " in (said := capsys.readouterr().out)
    assert " +- " in said
    assert run_script.main([*words, str(tmp_path / "b"), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert set(content["unknowns"]) == {"nu"}
    assert content["unknowns"]["nu"]["deviation"] > 0
    assert content["unknowns"]["nu"]["determined"] is True
    assert content["unknowns"]["nu"]["mixed_with"] == []


@pytest.mark.slow
def test_the_script_says_what_two_measurements_do_not_determine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["heat_inverse", "--set", "measurements=2", "--set", "points=50"]
    words += ["--clients", "1", "--rounds", "30", "--no-plots", "--quiet", "--out"]
    assert run_script.main([*words, str(tmp_path / "a")]) == 0
    said = capsys.readouterr().out
    assert " not determined (mixed with the network) (relative error" in said
    assert run_script.main(["--resume", str(tmp_path / "a"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["unknowns"]["nu"]
    assert found["deviation"] is None
    assert found["determined"] is False
    assert found["mixed_with"] == ["the network"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"clients": 0}, "at least 1 site, got 0"),
        ({"noise": -0.1}, "at least 0; got -0.1"),
        ({"noise": float("nan")}, "at least 0; got nan"),
        ({"data": "nowhere"}, "There is no folder nowhere with data"),
        ({"data": "nowhere", "noise": 0.1}, "leave out one of them"),
    ],
)
def test_impossible_sensors_are_refused(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        problems.load("heat_inverse", **parameters)


def test_diffusivity_is_found_within_a_thousandth_from_clean_data() -> None:
    problem = problems.load("heat_inverse", measurements=60, points=150)
    result = run(problem, methods.load("fipa"), rounds=40)
    assert result.unknowns()["nu"] == pytest.approx(0.1, rel=1e-3)


def test_made_data_have_the_viscosity_asked_for() -> None:
    first, other = (
        problems.load("burgers_inverse", measurements=50, **given)
        for given in ({}, {"viscosity": 0.2})
    )
    assert first.truth == {"nu": 0.05 / pi}
    assert other.truth == {"nu": 0.2}
    assert other.parameters["viscosity"] == 0.2
    # Thick fluid has lost more of its motion.
    assert measured(other)[1].norm() < 0.9 * measured(first)[1].norm()
    for viscosity in (0.001, 0.31, nan):
        with pytest.raises(ValueError, match=f"0.0031 and up to 0.3, .*{viscosity}"):
            problems.load("burgers_inverse", viscosity=viscosity)


@pytest.mark.parametrize(("viscosity", "error"), [(0.1, 1e-10), (0.3, 3e-8)])
def test_made_data_are_of_the_bessel_fourier_series(
    viscosity: float, error: float
) -> None:
    # u = -2 nu phi_x / phi, phi = exp(-cos(pi x) / (2 pi nu)) diffused (Cole, 1951).
    points, values = measured(problems.load("burgers_inverse", viscosity=viscosity))
    x, t = points.numpy().T
    n = np.arange(1, 40)[:, None]
    argument = 1 / (2 * pi * viscosity)
    wave = 2.0 * (-1.0) ** n * ive(n, argument) * np.exp(-viscosity * (n * pi) ** 2 * t)
    phi = ive(0, argument) + (wave * np.cos(n * pi * x)).sum(0)
    slope = -(n * pi * wave * np.sin(n * pi * x)).sum(0)
    # Measured at 3000 points: 1.7e-11 and 1.7e-8, the quadrature's.
    assert np.abs(values.numpy() + 2 * viscosity * slope / phi).max() < error


def test_a_folder_gives_as_many_sites_as_it_has_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sites").mkdir()
    write(problems.load("heat_inverse", clients=3), tmp_path / "sites")
    monkeypatch.chdir(tmp_path)
    problem = problems.load("heat_inverse", data=Path("sites"))
    assert problem.clients == 3
    assert problem.parameters["data"] == str(tmp_path / "sites")
    assert problem.parameters["clients"] == 3
    with pytest.raises(ValueError, match="There are 3 data files, but 4 clients were"):
        problems.load("heat_inverse", data="sites", clients=4)
