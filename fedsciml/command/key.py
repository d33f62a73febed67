"""Make a key of a federation over Flower, or its server's certificate."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from fedsciml.extras import needed


def key(
    kind: Literal["site", "identity", "server"],
    path: Path,
    /,
    *,
    host: Annotated[list[str] | None, Parameter(negative="")] = None,
    days: int = 365,
) -> int:
    """Make a key of a federation over Flower, or its server's certificate.

    A private key is never replaced and stays where it is made; the paths of what was
    made are printed.

    Args:
        kind: site, by which the server knows a site; identity, by which other
            sites know it in secure sums; or server.
        path: The private key; PATH.pub is the public one. Of the server a folder, for
            server.crt and server.key.
        host: Name or IP address by which sites reach the server; may be given again.
        days: How long the server's certificate is valid.

    Returns:
        The exit status.

    Raises:
        ValueError: If a server has no host.
        FileExistsError: If one of the files is there.
    """
    with needed("Keys need", "flower"):
        from fedsciml.secure.credentials import identity, server_certificate, site_key

    if kind == "server":
        made = server_certificate(path, host or [], days)
    else:
        made = {"site": site_key, "identity": identity}[kind](path)
    print(*made, sep="\n")
    return 0
