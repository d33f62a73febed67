"""The folder that ``fedsciml new deployment`` writes: complete, and what it runs."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

import flower_demo
from flwr.app import Context, RecordDict

import fedsciml
from fedsciml.command import main
from fedsciml.command.deployment import APP, DATA
from fedsciml.flower import LocalGrid

Config = dict[str, Any]

ROOT = Path(__file__).parents[2]

HOME = "/srv/fedsciml/"
"""Where the folders lie in earnest, and in containers."""


def made(directory: Path, *words: str) -> Path:
    """A new folder."""
    folder = directory / "fed"
    assert main(["new", "deployment", str(folder), *words]) == 0
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With secure sums and two sites more than three."""
    directory = tmp_path_factory.mktemp("deployment")
    return made(directory, "--secure", "--sites", "5", "--host", "fed.lab.net")


def here(folder: Path, path: str) -> Path:
    """A path on the server, a site, or in a container as it is in the folder."""
    assert path.startswith(HOME), path
    return folder / path.removeprefix(HOME)


def started(script: Path) -> list[str]:
    """The command in the last lines of a script, with its arguments."""
    _, _, command = script.read_text().partition("\nexec ")
    return shlex.split(command.replace("\\\n", " "))


def node_config(site: Path) -> Config:
    words = started(site / "start")
    given = words[words.index("--node-config") + 1]
    return {
        key: json.loads(value)
        for key, value in re.findall(r'([\w-]+)=("[^"]*"|\S+)', given)
    }


def run_config(folder: Path) -> Config:
    """What the run has: the app's defaults, and what run.toml changes."""
    content = tomllib.loads((folder / "server" / "app" / "pyproject.toml").read_text())
    defaults: Config = content["tool"]["flwr"]["app"]["config"]
    given = tomllib.loads((folder / "server" / "run.toml").read_text())
    # Of another key, or of another type, Flower begins no run.
    assert given.keys() <= defaults.keys()
    assert all(type(given[key]) is type(defaults[key]) for key in given)
    return defaults | given


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The app's ``client_app``; Flower puts the app's files side by side."""
    monkeypatch.syspath_prepend(APP)
    return importlib.import_module("client_app")


@pytest.mark.reported
@pytest.mark.parametrize("secure", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_folder_s_run_is_that_of_one_process(
    secure: bool, client: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, *["--secure"][: secure or 0])
    config, nodes = run_config(folder), list[Config]()
    for m in range(3):
        site = folder / f"site-{m + 1}"
        node = node_config(site)
        for key in {"data", "memory", "identity", "identities"} & node.keys():
            node[key] = str(site / node[key])  # a process of its own starts there
        nodes.append(node)
    config |= {"num-server-rounds": 2}
    monkeypatch.chdir(folder / "server")
    server = importlib.import_module("server_app").app
    server(
        LocalGrid(client.app, nodes, config), Context(1, 1, {}, RecordDict(), config)
    )
    run = folder / "server" / "runs" / "1"
    assert (run / "report.html").is_file()
    found = load_file(run / "model.safetensors")["theta"]
    data = tmp_path / "data"
    data.mkdir()
    for m in range(3):
        text = (folder / f"site-{m + 1}" / DATA).read_text()
        (data / f"{m}.csv").write_text(text)
    assert not flower_demo.difference(found, flower_demo.in_process(data, 2, secure))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readme_s_commands_run_a_federation_on_this_machine(tmp_path: Path) -> None:
    folder = made(tmp_path)
    readme = (folder / "README.md").read_text()
    block, *_ = re.findall(r"((?:^ {4}.+\n)+)", readme, re.M)
    assert len(block.splitlines()) == 5
    settings = folder / "server" / "run.toml"
    few = re.sub(r"(num-server-rounds) = \d+", r"\1 = 1", settings.read_text())
    settings.write_text(few)
    first = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{first}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        ["bash", "-c", f"{block}\nkill $(jobs -p); wait"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert "Round 1 of 1: loss" in done.stdout, done.stdout + done.stderr
    assert (folder / "server" / "runs" / "1" / "report.html").is_file()


def test_every_file_and_command_of_the_compose_file_is_there(folder: Path) -> None:
    text = (folder / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert list(services) == ["server", "proxy", *(f"site-{m}" for m in range(1, 6))]
    known = dict(
        line.split("=", 1) for line in (folder / ".env").read_text().splitlines()
    )
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= known.keys()
    for name, service in services.items():
        for volume in service["volumes"]:
            source, target, *_ = volume.split(":")
            assert (folder / source).exists(), volume
            assert target == HOME + source[2:] or name == "proxy"
        for other in service.get("depends_on", []):
            assert other in services
        if name == "proxy":
            continue
        assert (folder / service["build"]["dockerfile"]).is_file()
        (words,) = [shlex.split(service["command"])]
        program = here(folder, words[0])
        assert program.stat().st_mode & 0o111
        # A site sees its own folder alone.
        own = [volume.split(":")[1] for volume in service["volumes"]]
        assert own == [HOME + name]
        assert words[0].startswith(own[0] + "/")
    kind, _, whose = services["proxy"]["network_mode"].partition(":")
    assert (kind, whose) == ("service", "server")
    assert services["site-1"]["environment"]["SUPERLINK"] == "server:443"


def test_the_container_recipe_installs_this_version_with_its_extra(
    folder: Path,
) -> None:
    lines = (folder / "Containerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY"):
            assert (folder / line.split()[1]).is_dir()
            assert (
                f"!{line.split()[1].rstrip('/')}"
                in (folder / ".dockerignore").read_text().splitlines()
            )
    (asked,) = [line for line in lines if line.startswith("ARG FEDSCIML=")]
    assert asked == f'ARG FEDSCIML="fedsciml[flower]=={fedsciml.__version__}"'
    assert "\nflower =\n" in (ROOT / "setup.cfg").read_text()


def test_every_path_in_what_is_written_is_there(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or APP.name in path.parts:
            continue
        text = path.read_text()
        assert not re.search(r"@[A-Z_]+@", text), path
        for found in re.findall(rf"{HOME}((?:server|site-\d)[\w/.-]*)", text):
            there = folder / found.rstrip(".")
            assert there.exists(), (path, found)
        assert all(len(line) <= 100 for line in text.splitlines()) or path.suffix in (
            ".pub",
            ".csv",
            "",
        )


def test_scripts_are_shell_and_name_files_that_are_there(folder: Path) -> None:
    scripts = [path for path in folder.rglob("*") if path.is_file()]
    scripts = [path for path in scripts if path.read_bytes().startswith(b"#!/bin/sh")]
    assert len(scripts) == 4 + 5
    for script in scripts:
        assert script.stat().st_mode & 0o111
        subprocess.run(["sh", "-n", str(script)], check=True)
        for word in started(script):
            if re.fullmatch(r"[\w./]+\.(crt|key|toml)|key", word):
                assert (script.parent / word).is_file(), (script, word)
    ports = {started(folder / f"site-{m}" / "start")[-3] for m in range(1, 6)}
    assert len(ports) == 5


def test_private_keys_are_their_owner_s_alone_and_no_other_site_s(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    private = [
        path
        for path in folder.rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    ]
    names = {"server.key", "key", "identity"}
    assert {path.name for path in private} == names
    assert len(private) == 1 + 2 * 5
    for path in private:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not caplog.text
    listed = {(folder / f"site-{m}" / "identities").read_text() for m in range(1, 6)}
    (text,) = listed
    for m, line in enumerate(text.splitlines(), 1):
        own = (folder / f"site-{m}" / "identity.pub").read_text().strip()
        assert line == f"{own} site-{m}"
        key = (folder / f"site-{m}" / "key.pub").read_bytes()
        assert (folder / "server" / "sites" / f"site-{m}.pub").read_bytes() == key


def test_without_keys_of_sites_these_are_told_how_to_make_them(tmp_path: Path) -> None:
    folder = made(tmp_path, "--no-site-keys", "--secure")
    names = {path.name for path in (folder / "site-1").iterdir()}
    assert not names & {"key", "key.pub", "identity", "identity.pub", "identities"}
    assert not list((folder / "server" / "sites").iterdir())
    readme = (folder / "site-1" / "README.md").read_text()
    for line in re.findall(r"^ {7}(fedsciml .+)$", readme, re.M):
        *words, name = shlex.split(line)[1:]
        assert main([*words, str(folder / "site-1" / name)]) == 0
    names = {path.name for path in (folder / "site-1").iterdir()}
    assert names >= {"key", "key.pub", "identity", "identity.pub"}


def test_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("mine")
    assert main(["new", "deployment", str(tmp_path)]) == 2
    assert main(["new", "deployment", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err.count("is not empty. Give a new folder.") == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


OWN = '''"""One equation."""

import torch

from fedsciml import MLP, Problem, Term, load_points
from fedsciml.collocation import equal, strips


def make(data, clients=2):
    """The problem."""
    points = load_points(data, ["x"], ["u"])
    terms = [Term("data", lambda u, row: u.value - row.target, *points)]
    return Problem("own", MLP((1, 4, 1)), terms, strips(equal(0, 1, clients)),
                   partial=True)
'''


def test_a_problem_of_one_s_own_is_in_every_folder(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    folder = made(tmp_path, "--problem", str(tmp_path / "own.py"), "--sites", "2")
    for name in ("server", "site-1", "site-2"):
        assert (folder / name / "own.py").read_text() == OWN
    config = run_config(folder)
    assert config["problem"] == "own.py"
    assert config["problem-options"] == "clients=2"
    assert config["site-data"]
    assert not list((folder / "site-1" / "data").iterdir())
    assert node_config(folder / "site-2")["partition-id"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sites", "0"], "at least 1 site"),
        (["--host", "$(id)"], "A host is a name or an IP address"),
        (["--sites", "2", "--secure"], "at least 3 site"),
        (["--problem", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "deployment", str(tmp_path / "fed"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "fed").exists()


def test_a_problem_without_data_runs_without(tmp_path: Path) -> None:
    folder = made(tmp_path, "--problem", "allen_cahn")
    assert not run_config(folder)["site-data"]
    assert "data" not in node_config(folder / "site-1")
