"""Write all that a server and its sites need, to run a federation over Flower."""

import json
import os
import re
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from inspect import Parameter
from pathlib import Path

import fedsciml
from fedsciml import problems
from fedsciml.analysis.laplace import SENSORS
from fedsciml.extras import needed
from fedsciml.problem import Problem
from fedsciml.problems._sensors import write
from fedsciml.registry import SUFFIX

HERE = Path(__file__).parent
APP, TEMPLATES = HERE / "app", HERE / "templates"

SECURE_STEP = """6. **Identities.** In secure sums sites know each other by keys of
   their own: each sends its `identity.pub` to the others, not through the server, and
   all write the same list `identities`, a line each in the order of the sites.

"""

TRIAL = """
The sites' data are an example: measurements of a known solution, a part for each."""

IDENTITY = """   **The identity** by which the other sites know it in secure sums:

       fedsciml new key identity identity

   `identity` never leaves the site. The other sites get `identity.pub`, and give
   theirs, not through the server; the file `identities` has a line for each, in their
   order, and is the same at all sites.
"""

PORT = 9094
"""Of the first site's SuperNode, on its loopback interface; others follow."""

DATA = "data/measurements.csv"
"""Of a site, in its folder."""


def deployment(
    folder: Path,
    /,
    *,
    sites: int = 3,
    host: str = "fed.example.org",
    problem: str = "",
    secure: bool = False,
    site_keys: bool = True,
) -> int:
    """Write all that a server and its sites need, to run a federation over Flower.

    A folder for the server and one for each site: Flower's app, the run's
    configuration, certificate and keys, how to start, services, proxy, containers. The
    README in it leads through a run on this machine.

    Args:
        folder: New, or empty.
        sites: How many there are.
        host: Name or IP address by which the sites reach the server.
        problem: A name, or a FILE.py, which is copied to all; an example if none is
            given.
        secure: Have the server learn sums over the sites alone.
        site_keys: Make keys of the sites here, to try it. In earnest each site makes
            its own: --no-site-keys.

    Returns:
        The exit status.

    Raises:
        ValueError: If there are too few sites, or no such problem of so many.
        FileExistsError: If the folder is not empty.
    """
    with needed("A deployment needs", "flower"):
        from fedsciml.secure.credentials import identity, server_certificate, site_key
        from fedsciml.secure.roster import FEWEST

    least = FEWEST if secure else 1
    if sites < least:
        raise ValueError(f"A federation has at least {least} site(s), got {sites}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty. Give a new folder.")
    if not re.fullmatch(r"[\w.:-]+", host):
        raise ValueError(f"A host is a name or an IP address, got {host!r}.")
    named = problem or _default("problem")
    takes = problems.signature(named).parameters
    _check(named, takes, sites)
    made = _example(named, takes, sites) if "data" in takes else None
    file = Path(named) if named.endswith(SUFFIX) else None
    words = {
        "VERSION": fedsciml.__version__,
        "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
        "EXTRAS": "flower",
        "HOST": host,
        "ADDRESS": f"[{host}]" if ":" in host else host,
        "SITES": str(sites),
        "PROBLEM": json.dumps(file.name if file else named),
        "OPTIONS": json.dumps(f"clients={sites}" if "clients" in takes else ""),
        "SITE_DATA": json.dumps("data" in takes),
        "SECURE": json.dumps(secure),
        "SECURE_STEP": SECURE_STEP if secure else "",
        "TRIAL": TRIAL if made else "",
    }
    _together(folder, words)
    server, homes = folder / "server", [folder / f"site-{m + 1}" for m in range(sites)]
    _filled("server", server, words)
    shutil.copytree(APP, server / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (server / "sites").mkdir()
    certificate, _ = server_certificate(server / "keys", [host, "server"])
    known = list[str]()
    for m, site in enumerate(homes):
        site.mkdir(mode=0o700)  # it has private keys
        own = words | _of_site(
            m, sites, "data" in takes, made is not None, secure, site_keys
        )
        _filled("site", site, own)
        shutil.copy(certificate, site / "server.crt")
        for name in ("data", "memory"):
            (site / name).mkdir(mode=0o700)
        if site_keys:
            public, _ = site_key(site / "key")
            shutil.copy(public, server / "sites" / f"{site.name}.pub")
        if site_keys and secure:
            public, _ = identity(site / "identity")
            known.append(f"{public.read_text().strip()} {site.name}\n")
        with (folder / "compose.yaml").open("a") as compose:
            compose.write(_text(TEMPLATES / "compose-site.yaml", own))
    for place in (server, *homes):
        _filled("flower.env", place, words)
        if file:
            shutil.copy(file, place)
    for site in homes if known else ():
        (site / "identities").write_text("".join(known))
    if made:
        _write(made, homes)
    print(f"{folder}: a server and {sites} sites; {folder / 'README.md'} leads on.")
    return 0


def _together(folder: Path, words: Mapping[str, str]) -> None:
    """What is for all, and for containers."""
    for name in ("README.md", "Containerfile", "compose.yaml"):
        _filled(name, folder, words)
    (folder / "wheel").mkdir()
    (folder / "wheel" / "README").write_text("Here lies fedsciml's wheel.\n")
    (folder / ".dockerignore").write_text("*\n!wheel\n")
    (folder / ".gitignore").write_text("*.key\nkey\nidentity\nmemory\n")
    (folder / ".env").write_text(f"FEDSCIML_USER={os.getuid()}:{os.getgid()}\n")


def _of_site(
    m: int, sites: int, data: bool, example: bool, secure: bool, keys: bool
) -> dict[str, str]:
    """What is otherwise at each site."""
    config = {"partition-id": m, "num-partitions": sites}
    words: dict[str, object] = {"data": DATA} if data else {}
    words["memory"] = "memory"
    if secure:
        words |= {"identity": "identity", "identities": "identities", "secure": True}
    pairs = {**config, **words}.items()
    told = "The problem makes the points of each site; no file of its own is read."
    if data:
        told = (
            f"A CSV file `{DATA}`, whose first line names the columns\n"
            "   that the problem reads; the name of another one is given in `start`."
        )
    if example:
        told += "\n   What lies there is an example: put your own in its place."
    made = "Make it here:"
    if keys:
        made = (
            "`key` was made with this folder, so others have had it: remove it and\n"
            "   `key.pub`, and make your own."
        )
    return {
        "SITE": str(m + 1),
        "PORT": str(PORT + m),
        "NODE_CONFIG": " ".join(f"{key}={json.dumps(value)}" for key, value in pairs),
        "KEY": made,
        "DATA": told,
        "IDENTITY": IDENTITY if secure else "",
    }


def _default(key: str) -> str:
    """Of the run config of the app."""
    content = tomllib.loads((APP / "pyproject.toml").read_text())
    return str(content["tool"]["flwr"]["app"]["config"][key])


def _check(problem: str, takes: Mapping[str, Parameter], sites: int) -> None:
    """Refuse a problem that cannot be made as the server makes it.

    Raises:
        ValueError: If it has another number of sites, or as its ``make`` says.
    """
    given: dict[str, object] = {"clients": sites} if "clients" in takes else {}
    if "data" in takes:
        given["data"] = [None] * sites
    clients = problems.load(problem, **given).clients
    if clients != sites:
        raise ValueError(
            f"Problem {problem} has {clients} clients, not {sites}: give --sites "
            f"{clients}, or let its make() take clients."
        )


def _example(
    problem: str, takes: Mapping[str, Parameter], sites: int
) -> Problem | None:
    """The problem with data that it makes itself, if it does."""
    if takes["data"].default is Parameter.empty or "clients" not in takes:
        return None
    made = problems.load(problem, clients=sites)
    return made if SENSORS in [term.name for term in made.terms] else None


def _write(made: Problem, sites: Sequence[Path]) -> None:
    """Each site's data."""
    with tempfile.TemporaryDirectory() as scratch:
        write(made, Path(scratch))
        for path, site in zip(sorted(Path(scratch).iterdir()), sites, strict=True):
            shutil.copyfile(path, site / DATA)


def _filled(name: str, folder: Path, words: Mapping[str, str]) -> None:
    """Write a template, or all of a folder of templates, with the words in it."""
    source = TEMPLATES / name
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()) if source.is_dir() else [source]:
        text = _text(path, words)
        (folder / path.name).write_text(text)
        if text.startswith("#!"):
            (folder / path.name).chmod(0o755)


def _text(path: Path, words: Mapping[str, str]) -> str:
    text = path.read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text
