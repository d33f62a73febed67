"""Processes with all that they started, as ``ps`` knows them."""

import os
import signal
import subprocess
from contextlib import suppress


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
