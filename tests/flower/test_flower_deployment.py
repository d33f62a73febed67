"""Federations over Flower whose sites are processes, and what happens when they die."""

import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("flwr", reason="comes with fedsciml[flower]")

import flower_demo
import sensors
from _deployment import HOST, SUPERLINK, Deployment, free_ports
from faults import Connected, Late

import fedsciml
from fedsciml import methods, problems
from fedsciml.command.deployment import TEMPLATES
from fedsciml.federation.directory import RunDirectory
from fedsciml.federation.history import Round
from fedsciml.federation.participation import Rules

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
SECONDS = 420.0
"""For a run: where the cores have other work too, an exchange takes 20 s."""

DEADLINE = 60.0
"""For an exchange, so that none is late by itself."""

CLIENT = "flwr-clientapp"


@contextmanager
def federation(directory: Path) -> Iterator[Deployment]:
    """Three sites, each with a data file of its own; not started."""
    made = directory / "sites"
    sensors.main([flower_demo.PROBLEM, "--clients", "3", "--out", str(made)])
    sites = flower_demo.node_configs(sorted(made.iterdir()), directory)
    with Deployment(directory / "flower", sites, directory / "logs") as deployment:
        yield deployment


def begin(
    deployment: Deployment, directory: Path, *flags: str, **config: object
) -> str:
    """Start a run of two rounds that is recorded in ``directory/run``."""
    given = {key.replace("_", "-"): value for key, value in config.items()}
    ours = flower_demo.run_config(3, directory / "run") | {"num-server-rounds": 2}
    return deployment.submit(flower_demo.APP, ours | given, *flags)


def finish(deployment: Deployment, run: str, status: str = "completed") -> str:
    """Wait until a run has ended as expected; the server's log."""
    deployment.wait(f"run {run} to end", lambda: deployment.ended(run), SECONDS)
    log = deployment.log(run)
    assert deployment.status(run) == f"finished:{status}", log + deployment.tails()
    return log


def wait_for_round(
    deployment: Deployment, directory: Path, run: str, number: int
) -> int:
    """Wait until site 0 works in that round; its process."""
    found: list[int] = []

    def works() -> bool:
        assert not deployment.ended(run), deployment.log(run)
        found[:] = deployment.running("site0", CLIENT)
        return bool(found) and len(history(directory)) == number - 1

    deployment.wait(f"site 0 to work in round {number}", works, SECONDS)
    return found[0]


def online(deployment: Deployment) -> int:
    """Sites that the server reaches; not asked too often, as it takes a second."""
    time.sleep(3)
    return deployment.online()


def history(directory: Path) -> list[Round]:
    return RunDirectory(directory / "run", {}).history()


def assert_undisturbed(directory: Path, rounds: int = 2) -> None:
    """Theta is that of a run in this process in which nothing fails."""
    found = load_file(directory / "run" / "model.safetensors")["theta"]
    expected = flower_demo.in_process(directory / "sites", rounds)
    assert not flower_demo.difference(found, expected)
    assert [line.round for line in history(directory)] == [1, 2][:rounds]


def left_behind(mark: Path) -> list[str]:
    """Processes whose environment names a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:  # it has ended, or is not ours
            continue
        if str(mark).encode() in environment and state != "Z":
            found.append((process / "cmdline").read_text())
    return found


def demo(directory: Path, *flags: str) -> subprocess.Popen[str]:
    """The demo, started there; all that it starts is marked by that directory."""
    environment = {**os.environ, "TMPDIR": str(directory), "PYTHONPATH": str(ROOT)}
    program = [sys.executable, str(ROOT / "scripts" / "flower_demo.py"), "--rounds=2"]
    program += flags
    return subprocess.Popen(
        program,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("flags", [(), ("--secure",)])
def test_the_demo_ends_with_the_theta_of_one_process_and_nothing_left_behind(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    process = demo(tmp_path, *flags)
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    assert "round 2 of 2: loss" in output
    assert "bit for bit" in output
    assert not left_behind(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = demo(tmp_path)
    end = time.monotonic() + SECONDS
    while not any(CLIENT in command for command in left_behind(tmp_path)):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + number, output
    time.sleep(1)  # a process just begun looks for its parent every 0.2 s
    assert not left_behind(tmp_path)


def test_a_client_that_is_killed_in_a_round_comes_back_to_the_same_theta(
    tmp_path: Path,
) -> None:
    with federation(tmp_path) as deployment:
        deployment.start()
        run = begin(deployment, tmp_path, deadline=DEADLINE, patience=240.0)
        os.kill(wait_for_round(deployment, tmp_path, run, 2), signal.SIGKILL)
        finish(deployment, run)
    assert_undisturbed(tmp_path)


def test_a_site_that_is_killed_and_started_again_comes_back_to_the_same_theta(
    tmp_path: Path,
) -> None:
    with federation(tmp_path) as deployment:
        deployment.start()
        run = begin(deployment, tmp_path, deadline=DEADLINE, patience=240.0)
        wait_for_round(deployment, tmp_path, run, 2)
        deployment.kill("site0")
        deployment.wait("the server to miss it", lambda: online(deployment) == 2, 120)
        deployment.start_site(0)
        finish(deployment, run)
    assert_undisturbed(tmp_path)


def test_the_others_go_on_without_a_site_that_is_killed_for_good(
    tmp_path: Path,
) -> None:
    with federation(tmp_path) as deployment:
        deployment.start()
        run = begin(deployment, tmp_path, deadline=DEADLINE, min_available_nodes=2)
        wait_for_round(deployment, tmp_path, run, 2)
        deployment.kill("site0")
        begun = time.monotonic()
        log = finish(deployment, run)
    # One deadline for the round, one for the loss at the end, and the round itself.
    assert time.monotonic() - begun < 2 * DEADLINE + 60
    assert "without client 0" in log
    first, second = history(tmp_path)
    assert not first.dropped
    assert list(second.dropped) == ["0"]
    assert "client 0" in second.dropped["0"]
    theta = load_file(tmp_path / "run" / "model.safetensors")["theta"]
    assert torch.isfinite(theta).all()


def test_a_site_that_is_started_after_the_run_takes_part_as_in_one_process(
    tmp_path: Path,
) -> None:
    rounds = 4
    with federation(tmp_path) as deployment:
        deployment.start_superlink()
        for m in range(3):
            deployment.register(m)
        for m in (0, 1):
            deployment.start_site(m)
        deployment.wait("two sites", lambda: online(deployment) == 2)
        config = {"min_available_nodes": 2, "join": 45.0, "deadline": DEADLINE}
        run = begin(deployment, tmp_path, num_server_rounds=rounds, **config)
        deployment.wait("a round", lambda: bool(history(tmp_path)), SECONDS)
        deployment.start_site(2)
        finish(deployment, run)
    lines = history(tmp_path)
    (came,) = (line.round for line in lines if "2" in line.joined)
    assert [line.round for line in lines if "2" in line.dropped] == [*range(1, came)]
    torch.set_num_threads(1)
    problem, method = flower_demo.problem(tmp_path / "sites"), methods.load("fipa")
    clients = Connected(Late(problem, method, {2: came}))
    given = {"backend": clients, "rules": Rules(min_clients=2)}
    expected = fedsciml.run(problem, method, rounds, **given)
    found = load_file(tmp_path / "run" / "model.safetensors")["theta"]
    assert not flower_demo.difference(found, expected.theta)


def test_a_run_whose_server_is_killed_in_a_round_is_resumed_to_the_same_theta(
    tmp_path: Path,
) -> None:
    with federation(tmp_path) as deployment:
        deployment.start()
        run = begin(deployment, tmp_path)
        wait_for_round(deployment, tmp_path, run, 2)
        deployment.kill(SUPERLINK)
        assert len(history(tmp_path)) == 1
        deployment.start_superlink()
        deployment.wait("the sites", lambda: online(deployment) == 3)
        finish(deployment, begin(deployment, tmp_path, resume=True))
    assert_undisturbed(tmp_path)


def test_a_site_without_readable_data_is_named_and_may_come_again_with_them(
    tmp_path: Path,
) -> None:
    with federation(tmp_path) as deployment:
        deployment.start()
        path = tmp_path / "sites" / "site002.csv"
        data = path.read_text()
        path.unlink()
        log = finish(deployment, begin(deployment, tmp_path, out=""), "failed")
        assert "Client 1" in log
        assert f"There is no data file {path.name}" in log
        assert str(path) not in log
        site = tmp_path / "logs" / "site1.log"
        assert str(path) in site.read_text()

        path.write_text(data + "0.5,0.5,warm\n")
        log = finish(deployment, begin(deployment, tmp_path, out=""), "failed")
        assert "Client 1" in log
        assert f"{path.name}, row {len(data.splitlines())}, column 'u': the text" in log
        assert "warm" not in log
        assert "It is 'warm'" in site.read_text()

        path.write_text(data)
        finish(deployment, begin(deployment, tmp_path, num_server_rounds=1))
    assert_undisturbed(tmp_path, rounds=1)


def test_a_site_whose_key_is_not_known_is_refused(tmp_path: Path) -> None:
    sites = [{"partition-id": 0, "num-partitions": 1}]
    with Deployment(tmp_path, sites, tmp_path / "logs") as deployment:
        deployment.start_superlink()
        deployment.start_site(0)  # without deployment.register(0)
        with pytest.raises(RuntimeError, match="site0 ended"):
            deployment.wait("nothing", lambda: False)
        assert "Exit Code: 305" in (tmp_path / "logs" / "site0.log").read_text()
        assert deployment.online() == 0


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_behind_the_proxy_sites_work_and_nobody_starts_a_run(tmp_path: Path) -> None:
    server = (TEMPLATES / "server" / "nginx.conf").read_text()
    (door,) = free_ports(1)
    with federation(tmp_path) as deployment:
        deployment.door = door
        for here, there in {
            "listen 443": f"listen {HOST}:{door}",
            "127.0.0.1:8000": f"{HOST}:{deployment.port}",
            "/srv/fedsciml/server/keys": str(deployment.certificate.parent),
        }.items():
            assert here in server
            server = server.replace(here, there)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = " ".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; error_log stderr; events {{}}"
            f"http {{ access_log off; {own} {server} }}"
        )
        deployment.launch("nginx", "nginx", "-c", str(tmp_path / "nginx.conf"))
        deployment.start()
        trusted = ssl.create_default_context(cafile=str(deployment.certificate))
        for path, passes in {
            "/v1/fleet/pull-messages": True,
            "/v1/control/start-run": False,
            "/v1/fleet/../control/start-run": False,
            "/v1/fleet/%2e%2e/control/start-run": False,
            "/v1/runtime/pull-messages": False,
            "/": False,
        }.items():
            connection = HTTPSConnection(HOST, door, context=trusted, timeout=30)
            connection.request("POST", path, headers={"Content-Type": "text/plain"})
            assert (connection.getresponse().status != 403) == passes, path
            connection.close()
        finish(deployment, begin(deployment, tmp_path, num_server_rounds=1))
    assert_undisturbed(tmp_path, rounds=1)


def test_the_simulation_engine_finds_the_same_theta(tmp_path: Path) -> None:
    with Deployment(tmp_path / "flower", [], tmp_path / "logs") as deployment:
        deployment.start_superlink("--simulation")
        run = begin(
            deployment,
            tmp_path,
            "--federation-config=num-supernodes=3",
            site_data=False,
        )
        finish(deployment, run)
    found = load_file(tmp_path / "run" / "model.safetensors")["theta"]
    problem = problems.load(flower_demo.PROBLEM, clients=3)
    expected = fedsciml.run(problem, methods.load("fipa"), 2).theta
    assert not flower_demo.difference(found, expected)
