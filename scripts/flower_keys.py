"""Make the certificate of a Flower server, or a key of a site.

    python scripts/flower_keys.py server keys --host fed.example.org --host 10.0.0.5
    python scripts/flower_keys.py site keys/clinic-a
    python scripts/flower_keys.py identity keys/identity-a

``server`` makes ``server.crt``, which every site needs, and ``server.key``, which stays
on the server. ``site`` makes a private key, which stays at the site, and beside it
``clinic-a.pub``, which the server registers. ``identity`` makes the key by which the
other sites know this one in secure sums, and prints the line that goes into the list of
all sites, which the sites give each other without the server. See docs/deploy.md.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from fedsciml.extras import needed

try:
    with needed("Keys need", "flower"):
        from fedsciml.secure.credentials import (
            DAYS,
            identity,
            server_certificate,
            site_key,
        )
except ModuleNotFoundError as error:
    sys.exit(str(error))


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is asked for and print the paths."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = parser.add_subparsers(dest="part", required=True)
    server = parts.add_parser("server", help="certificate and key of the server")
    server.add_argument("directory", type=Path, help="where to write both files")
    server.add_argument(
        "--host",
        action="append",
        required=True,
        help="name or IP address by which sites reach the server; may be repeated",
    )
    server.add_argument(
        "--days", type=int, default=DAYS, help=f"how long it is valid, default {DAYS}"
    )
    site = parts.add_parser("site", help="key of one site")
    site.add_argument("key", type=Path, help="private key; KEY.pub is the public one")
    own = parts.add_parser("identity", help="identity of one site in secure sums")
    own.add_argument("key", type=Path, help="private key; KEY.pub is the public one")
    given = parser.parse_args(arguments)
    try:
        if given.part == "server":
            made = server_certificate(given.directory, given.host, given.days)
        else:
            made = (site_key if given.part == "site" else identity)(given.key)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(*made, sep="\n")
    if given.part == "identity":
        print(made[0].read_text(), end="")


if __name__ == "__main__":
    main()
