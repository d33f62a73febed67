"""Flower's processes on this machine, for the demo and the tests.

A SuperLink and its SuperNodes speak TLS on free ports of the loopback interface, and
the SuperNodes are known by their keys, as between real sites (docs/deploy.md).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from fedsciml.secure.credentials import server_certificate, site_key

ROOT = Path(__file__).parents[1]

HOST = "127.0.0.1"
NAME = "fed.example.org"
"""For which alone the certificate is asked for, as in the guide."""

ENVIRONMENT = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
}
"""Nothing is reported to Flower's makers or installed; work is looked for every 0.2 s
instead of 1 s; one thread each, as the last bits depend on their number."""

PATIENCE = 60.0
"""Seconds within which a process must be up, or a command answer."""

SUPERLINK = "superlink"


class Deployment:
    """A SuperLink and SuperNodes, each a process with a log and a home of its own.

    Used as a context, it ends all processes that it started, and theirs, however the
    context is left.

    Args:
        directory: For keys and Flower's own files.
        sites: Node config of each SuperNode: ``{"partition-id": 0, "data": "a.csv"}``.
        logs: New directory for the logs.

    Raises:
        RuntimeError: If this machine has no ``ps``, by which processes are found.
    """

    def __init__(
        self, directory: Path, sites: Sequence[Mapping[str, object]], logs: Path
    ) -> None:
        if shutil.which("ps") is None:
            raise RuntimeError(
                "To end what is started here the program ps is needed; install procps."
            )
        self.directory, self.sites, self.logs = directory, sites, logs
        logs.mkdir(parents=True)
        self.port, *self.ports = free_ports(1 + len(sites))
        self.door = self.port  # where the sites knock
        self.certificate, self.key = server_certificate(directory / "keys", [NAME])
        for m in range(len(sites)):
            site_key(self.private_key(m))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        home = self._environment(SUPERLINK)["FLWR_HOME"]
        Path(home, "config.toml").write_text(
            '[superlink]\ndefault = "here"\n\n[superlink.here]\n'
            f'address = "{HOST}:{self.port}"\n'
            f"root-certificates = {json.dumps(str(self.certificate))}\n"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all: nothing that they hold is needed any more."""
        for name in list(self._processes):
            self.kill(name)

    def private_key(self, site: int) -> Path:
        """Of a site."""
        return self.directory / "keys" / f"site{site}"

    def start(self) -> None:
        """Start all, and wait until all are up.

        Raises:
            RuntimeError: If a process ends at once; the message holds the logs' ends.
            TimeoutError: If one is not up in time.
        """
        self.start_superlink()
        for m in range(len(self.sites)):
            self.register(m)
            self.start_site(m)
        self.wait("all sites to be up", lambda: self.online() == len(self.sites))

    def start_superlink(self, *flags: str) -> None:
        """Start the SuperLink and wait until it listens.

        What it knows of its sites is in a file, for when it is killed and started anew.
        """
        self.launch(
            SUPERLINK,
            "flower-superlink",
            *("--host", HOST, "--port", str(self.port)),
            *("--ssl-ca-certfile", str(self.certificate)),
            *("--ssl-certfile", str(self.certificate)),
            *("--ssl-keyfile", str(self.key)),
            *("--database", str(self.directory / "superlink.db")),
            "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
            *flags,
        )
        self.wait("the SuperLink to listen", self._listens)

    def register(self, site: int) -> None:
        """Tell the SuperLink of a site's public key."""
        key = self.private_key(site)
        self.flwr("supernode", "register", str(key.with_name(f"{key.name}.pub")))

    def start_site(self, site: int) -> None:
        """Start a site's SuperNode."""
        self.launch(
            f"site{site}",
            "flower-supernode",
            *("--superlink", f"{HOST}:{self.door}"),
            *("--host", HOST, "--port", str(self.ports[site])),
            *("--root-certificates", str(self.certificate)),
            *("--auth-supernode-private-key", str(self.private_key(site))),
            *("--node-config", _pairs(self.sites[site])),
        )

    def launch(self, name: str, *command: str) -> None:
        """Start a process that is ended with the others."""
        with (self.logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=self._environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo alone
            )

    def submit(self, app: Path, config: Mapping[str, object], *flags: str) -> str:
        """Start a run and return its number."""
        given = ["--run-config", _pairs(config), *flags]
        return str(self.flwr("run", str(app), *given)["run-id"])

    def status(self, run: str) -> str:
        """Of a run: ``running``, ``finished:completed``, ``finished:failed``, ..."""
        return str(self.flwr("list", "--run-id", run)["runs"][0]["status"])

    def ended(self, run: str) -> bool:
        """Whether a run has; cheap to ask while it goes on."""
        programs = "flwr-serverapp", "flwr-simulation"
        goes_on = any(self.running(SUPERLINK, program) for program in programs)
        return not goes_on and self.status(run).startswith("finished")

    def online(self) -> int:
        """Number of SuperNodes that the SuperLink reaches."""
        nodes = self.flwr("supernode", "list")["nodes"]
        return sum(node["status"] == "online" for node in nodes)

    def flwr(self, *arguments: str) -> dict[str, Any]:
        """What a command of ``flwr`` answers.

        Raises:
            RuntimeError: If it fails.
        """
        answer = self._ask(*arguments, "--format", "json")
        found: dict[str, Any] = json.loads(answer[answer.index("{") :])
        return found

    def log(self, run: str) -> str:
        """What the server's part of a run has printed."""
        return self._ask("log", run, "--show")

    def tails(self, lines: int = 20) -> str:
        """The last lines of every process's log."""
        logs = sorted(self.logs.iterdir())
        ends = {log: log.read_text(errors="replace").splitlines() for log in logs}
        return "\n".join(
            f"--- {log}\n" + "\n".join(end[-lines:]) for log, end in ends.items()
        )

    def wait(
        self, what: str, there: Callable[[], bool], seconds: float = PATIENCE
    ) -> None:
        """Wait for something.

        Raises:
            RuntimeError: If one of the processes ends meanwhile.
            TimeoutError: If it takes longer than ``seconds``.
        """
        end = time.monotonic() + seconds
        while not there():
            for name, process in self._processes.items():
                if process.poll() is not None:
                    raise RuntimeError(
                        f"{name} ended with {process.returncode} while waiting for "
                        f"{what}.\n{self.tails()}"
                    )
            if time.monotonic() > end:
                raise TimeoutError(
                    f"Waited {seconds:.0f} s for {what}.\n{self.tails()}"
                )
            time.sleep(0.3)

    def running(self, name: str, command: str) -> list[int]:
        """Processes with ``command`` in their command line that ``name`` started."""
        found = family(self._processes[name].pid)
        return [pid for pid, line in found.items() if command in line]

    def kill(self, name: str) -> None:
        """Kill a process and all that it started, at once (SIGKILL)."""
        kill(self._processes[name])
        del self._processes[name]

    def _listens(self) -> bool:
        with socket.socket() as door:
            return door.connect_ex((HOST, self.port)) == 0

    def _environment(self, name: str) -> dict[str, str]:
        """Of a process: its own home, and this Python's programs and modules first."""
        home = self.directory / "homes" / name
        home.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **ENVIRONMENT, "FLWR_HOME": str(home)}
        first = {"PATH": Path(sys.executable).parent, "PYTHONPATH": ROOT}
        for key, path in first.items():
            rest = os.environ.get(key)
            environment[key] = f"{path}{os.pathsep}{rest}" if rest else str(path)
        return environment

    def _ask(self, *arguments: str) -> str:
        done = subprocess.run(
            ["flwr", *arguments],
            env=self._environment(SUPERLINK),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode:
            raise RuntimeError(
                f"flwr {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}"
                f"{self.tails()}"
            )
        return done.stdout


def _pairs(config: Mapping[str, object]) -> str:
    """As Flower reads it on its command lines."""
    return " ".join(f"{key}={json.dumps(value)}" for key, value in config.items())


def free_ports(number: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    doors = [socket.create_server((HOST, 0)) for _ in range(number)]
    ports = [door.getsockname()[1] for door in doors]
    for door in doors:
        door.close()
    return ports


def family(root: int) -> dict[int, str]:
    """Command lines of a process, its children, theirs and so on, the eldest first.

    Those that have ended and were not waited for are left out.
    """
    listing = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="],
        capture_output=True,
        text=True,
        check=True,
    )
    table = {}
    for line in listing.stdout.splitlines():
        pid, parent, state, command = line.split(None, 3)
        if not state.startswith("Z"):
            table[int(pid)] = int(parent), command
    members = [root]
    for member in members:
        members += [pid for pid, (parent, _) in table.items() if parent == member]
    return {pid: table[pid][1] for pid in members if pid in table}


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started, at once (SIGKILL).

    The eldest first: who is dead starts no other. Where the process has ended nobody is
    killed: its number may be another's by now.
    """
    for pid in family(process.pid) if process.poll() is None else ():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
