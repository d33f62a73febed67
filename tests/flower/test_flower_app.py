"""The Flower app that users run on real sites, here in one process."""

import importlib
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

import flower_demo
import sensors
from flwr.app import Context, RecordDict

from fedsciml import load, methods, problems, run
from fedsciml.flower import LocalGrid
from fedsciml.problem import SiteError
from fedsciml.residual.fingerprint import agreement, contents
from fedsciml.wrappers.compress import Compressed

Config = dict[str, Any]

GUIDE = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The app's ``client_app``; Flower puts the app's files side by side."""
    monkeypatch.syspath_prepend(flower_demo.APP)
    return importlib.import_module("client_app")


@pytest.fixture
def defaults() -> Config:
    """The run config in the app's pyproject.toml."""
    content = tomllib.loads((flower_demo.APP / "pyproject.toml").read_text())
    found: Config = content["tool"]["flwr"]["app"]["config"]
    return found


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    """Three data files."""
    made = tmp_path / "sites"
    sensors.main(["heat_inverse", "--clients", "3", "--out", str(made)])
    return made


def trained(
    client: ModuleType, config: Config, directory: Path, **more: object
) -> Tensor:
    """Theta of three rounds of the app, on the data in ``directory/sites``."""
    out = directory / "run"
    given = config | flower_demo.run_config(3, out) | {"num-server-rounds": 3}
    given |= more
    files = sorted((directory / "sites").iterdir())
    secure = bool(given["secure"])
    nodes = flower_demo.node_configs(files, directory / "scratch", secure)
    server = importlib.import_module("server_app").app
    grid = LocalGrid(client.app, nodes, given)
    server(grid, Context(1, 1, {}, RecordDict(), given))
    return load_file(out / "model.safetensors")["theta"]


def test_the_app_on_the_sites_files_ends_with_the_theta_of_one_process(
    client: ModuleType, defaults: Config, sites: Path, tmp_path: Path
) -> None:
    found = trained(client, defaults, tmp_path)
    assert not flower_demo.difference(found, flower_demo.in_process(sites, 3))
    # The server's model comes back without anybody's data, and at a site with its own.
    back = load(tmp_path / "run")
    assert torch.equal(back.theta, found)
    assert back.terms.keys() == {"equation", "sensors"}
    first = [
        str(path) if m == 0 else None for m, path in enumerate(sorted(sites.iterdir()))
    ]
    own = problems.load("heat_inverse", clients=3, data=first)
    assert torch.equal(load(tmp_path / "run", own).theta, found)
    other = problems.load("heat_inverse", clients=3, data=first, weight=2.0)
    with pytest.raises(ValueError, match="not the one that was trained"):
        load(tmp_path / "run", other)


def test_secure_sums_of_the_app_have_the_theta_of_one_process(
    client: ModuleType, defaults: Config, sites: Path, tmp_path: Path
) -> None:
    found = trained(client, defaults, tmp_path, secure=True)
    expected = flower_demo.in_process(sites, 3, secure=True)
    assert not flower_demo.difference(found, expected)


def test_the_problem_of_the_guide_ends_with_the_theta_of_one_process(
    client: ModuleType, defaults: Config, sites: Path, tmp_path: Path
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    path = tmp_path / "rod.py"
    path.write_text(program)
    found = trained(client, defaults, tmp_path, problem=str(path))
    problem = problems.load(str(path), data=list(map(str, sorted(sites.iterdir()))))
    expected = run(problem, methods.load("fipa"), 3).theta
    assert not flower_demo.difference(found, expected)


def test_a_site_reads_its_own_file_and_the_server_none(
    client: ModuleType, defaults: Config, sites: Path, tmp_path: Path
) -> None:
    config = defaults | flower_demo.run_config(3, tmp_path / "run")
    files = sorted(sites.iterdir())
    node = flower_demo.node_configs(files, tmp_path)[1]
    for other in (files[0], files[2]):
        other.unlink()
    site, server = client.problem_of(config, node), client.problem_of(config, {})
    lines = len(files[1].read_text().splitlines()) - 1
    assert [site.counts(m)[1] for m in range(3)] == [0, lines, 0]
    assert [server.counts(m)[1] for m in range(3)] == [0, 0, 0]
    assert agreement(site) == agreement(server)


def test_a_site_s_file_is_read_as_its_node_config_says(
    client: ModuleType, defaults: Config, sites: Path, tmp_path: Path
) -> None:
    config = defaults | flower_demo.run_config(3, tmp_path / "run")
    files = sorted(sites.iterdir())
    node = flower_demo.node_configs(files, tmp_path)[1]
    plain = client.problem_of(config, node)
    text = files[1].read_text().replace(",", ";").replace(".", ",")
    files[1].write_text(text + "NA;-999;0\n;1;1\n")
    with pytest.raises(SiteError, match="give delimiter=';'"):
        client.problem_of(config, node)
    node |= {"delimiter": ";", "decimal": ",", "missing": ",NA,-999"}
    found = client.problem_of(config, node)
    assert contents(found.shard(1)) == contents(plain.shard(1))
    assert agreement(found) == agreement(client.problem_of(config, {}))
    none = client.problem_of(config, node | {"data": ""})
    assert none.counts(1)[1] == 0


def test_a_site_without_a_file_or_a_run_without_a_number_of_sites_is_refused(
    client: ModuleType, defaults: Config
) -> None:
    config = defaults | {"site-data": True}
    with pytest.raises(ValueError, match="node config has no data"):
        client.problem_of(config, {"partition-id": 0})
    with pytest.raises(ValueError, match="how many sites"):
        client.problem_of(config | {"problem-options": "seed=1"}, {})


@pytest.mark.parametrize(("number", "sites"), [(7, 3), (3, 3), (-1, 3), (0, 4)])
def test_a_site_whose_number_is_none_of_the_problem_s_is_refused(
    client: ModuleType, defaults: Config, number: int, sites: int
) -> None:
    config = defaults | {"site-data": True, "problem-options": "clients=3"}
    node = {"partition-id": number, "num-partitions": sites, "data": "a.csv"}
    said = f"from 0 to 2; this one has num-partitions={sites} and partition-id={number}"
    with pytest.raises(ValueError, match=said):
        client.problem_of(config, node)


def test_the_defaults_of_the_run_config_are_those_of_the_method(
    client: ModuleType, defaults: Config
) -> None:
    assert client.method_of(defaults) == methods.load("fipa")


def test_options_of_the_run_config_are_those_of_the_method(
    client: ModuleType, defaults: Config
) -> None:
    given = {"method": "fedavg", "local-epochs": 7, "learning-rate": 0.5}
    config = defaults | given | {"method-options": "local=sgd momentum=0.9"}
    expected = methods.load(
        "fedavg", tau=7, learning_rate=0.5, local="sgd", momentum=0.9
    )
    assert client.method_of(config) == expected
    config |= {"compression": "bfloat16,feedback"}
    assert client.method_of(config) == Compressed(expected, "bfloat16", feedback=True)
    with pytest.raises(ValueError, match="no option 'rank'"):
        client.method_of(config | {"rank": "50"})


def test_options_are_json_or_words(client: ModuleType) -> None:
    expected = {"clients": 3, "edges": [0, 0.5, 1], "partition": "strips", "data": None}
    text = "clients=3 edges=[0,0.5,1] partition=strips data=null"
    assert client.pairs(text) == expected
    with pytest.raises(ValueError, match="'three' is not KEY=VALUE"):
        client.pairs("clients=3 three")


def test_without_flower_the_demo_says_how_to_install_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    with pytest.raises(SystemExit):
        flower_demo.main([])
    assert "needs Flower: pip install" in capsys.readouterr().err


def test_the_demo_says_where_two_thetas_differ() -> None:
    theta = torch.arange(4, dtype=torch.float64)
    other = theta.clone()
    assert not flower_demo.difference(theta, other)
    other[2] = torch.nextafter(other[2], torch.tensor(9.0, dtype=torch.float64))
    assert "1 of 4 numbers differ, first number 2" in flower_demo.difference(
        theta, other
    )
    assert "[3] is not" in flower_demo.difference(theta[:3], theta)
    assert flower_demo.difference(torch.zeros(1), -torch.zeros(1))  # of other bits
