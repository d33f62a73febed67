"""A federation of three sites, each a process of its own: ``make flower-demo``.

Three sites hold sensors' data of a heated rod, each in a file of its own, and look for
its diffusivity. They talk to the server as hospitals would over the internet: TLS, and
a key for every site. With ``--secure`` the server learns sums over the three sites
alone, and of none what it told. Then the same is done in one process: theta is the
same, bit for bit. All processes that are started here are ended here.
"""

import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

import _common  # before torch, see there
import torch
from _deployment import Deployment
from safetensors.torch import load_file
from torch import Tensor

from fedsciml import problems, run, wrappers
from fedsciml.command.terminal import new_directory
from fedsciml.extras import install
from fedsciml.federation.directory import RunDirectory
from fedsciml.problem import Problem
from fedsciml.problems._sensors import write
from fedsciml.secure.credentials import identity

APP = Path(__file__).parent / "flower_app"
PROBLEM, SITES = "heat_inverse", 3
SECONDS = 600.0
"""After which the demo gives up."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = _common.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--secure", action="store_true", help="secure sums")
    given = parser.parse_args(arguments)
    if find_spec("flwr") is None:
        parser.error(f"The demo needs Flower: {install('flower')}.")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    out = new_directory("flower-demo")
    (out / "sites").mkdir()
    write(problems.load(PROBLEM, clients=SITES), out / "sites")
    try:
        apart = over_processes(out, given.rounds, given.secure)
    except (RuntimeError, TimeoutError) as error:
        print(f"{error}\nThe whole logs are in {out / 'logs'}.", file=sys.stderr)
        return 1
    together = in_process(out / "sites", given.rounds, given.secure)
    if wrong := difference(apart, together):
        print(f"theta is not what one process finds: {wrong}", file=sys.stderr)
        return 1
    print(f"theta [{len(apart)}] is what one process finds, bit for bit; see {out}")
    return 0


def over_processes(out: Path, rounds: int, secure: bool = False) -> Tensor:
    """Theta [p] of a run whose sites are processes; the data are in ``out/sites``."""
    files = sorted((out / "sites").iterdir())
    with (
        tempfile.TemporaryDirectory(prefix="fedsciml-") as scratch,
        Deployment(
            Path(scratch), node_configs(files, Path(scratch), secure), out / "logs"
        ) as deployment,
    ):
        print(f"Starting a server and {len(files)} sites; logs in {deployment.logs}")
        deployment.start()
        config = run_config(len(files), out / "run")
        config |= {"num-server-rounds": rounds, "secure": secure}
        number = deployment.submit(APP, config)
        follow(deployment, number, out / "run", rounds)
    return load_file(out / "run" / "model.safetensors")["theta"]


def in_process(sites: Path, rounds: int, secure: bool = False) -> Tensor:
    """Theta [p] of the same run here, on all files of a directory."""
    torch.set_num_threads(1)  # as the processes: the last bits depend on it
    return run(problem(sites), wrappers.load("fipa", secure=secure), rounds).theta


def problem(sites: Path) -> Problem:
    """With the data of all sites."""
    return problems.load(PROBLEM, clients=SITES, data=str(sites))


def node_configs(
    files: Sequence[Path], scratch: Path, secure: bool = False
) -> list[dict[str, object]]:
    """What each site is told when it is started.

    Args:
        files: The data of each.
        scratch: For what the sites remember, and their identities in secure sums.
        secure: Whether they take part in these alone.
    """
    configs: list[dict[str, object]] = [
        {
            "partition-id": m,
            "num-partitions": len(files),
            "data": str(file.resolve()),
            "memory": str(scratch / f"memory{m}"),
        }
        for m, file in enumerate(files)
    ]
    if secure:
        # Sites give each other the list, for instance by mail: not through the server.
        pairs = [
            identity(scratch / "identities" / f"site{m}") for m in range(len(files))
        ]
        known = scratch / "identities" / "all"
        known.write_text("".join(public.read_text() for public, _ in pairs))
        for config, (_, private) in zip(configs, pairs, strict=True):
            config |= {
                "secure": True,
                "identity": str(private),
                "identities": str(known),
            }
    return configs


def run_config(sites: int, out: Path) -> dict[str, object]:
    """What is run, on the data of so many sites, and where it is recorded."""
    return {
        "problem": PROBLEM,
        "problem-options": f"clients={sites}",
        "site-data": True,
        "out": str(out.resolve()),
    }


def follow(deployment: Deployment, number: str, directory: Path, rounds: int) -> None:
    """Show the rounds of a run as they are recorded, until it has ended.

    Raises:
        RuntimeError: If it fails.
    """
    record = RunDirectory(directory, {})
    shown = 0

    def ended() -> bool:
        nonlocal shown
        for line in record.history()[shown:]:
            told = f"loss {line.loss:.3e}, {line.seconds:.0f} s"
            print(f"round {line.round} of {rounds}: {told}", flush=True)
            shown += 1
        return deployment.ended(number)

    deployment.wait(f"run {number} to end", ended, SECONDS)
    (deployment.logs / "server.log").write_text(deployment.log(number))
    if deployment.status(number) != "finished:completed":
        raise RuntimeError(f"The run failed.\n{deployment.tails()}")


def difference(one: Tensor, other: Tensor) -> str:
    """Where two tensors differ; nothing if they are the same bit for bit."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{one.dtype} {[*one.shape]} is not {other.dtype} {[*other.shape]}"
    bits = torch.int64 if one.dtype == torch.float64 else torch.int32
    (where,) = (one.view(bits) != other.view(bits)).nonzero(as_tuple=True)
    if not len(where):
        return ""
    i = int(where[0])
    return (
        f"{len(where)} of {len(one)} numbers differ, first number {i}: "
        f"{one[i].item()!r} is not {other[i].item()!r}"
    )


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """End the program, and first what it started; a second signal does not disturb."""
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
