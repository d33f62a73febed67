"""Identities in files: OpenSSH's Ed25519 keys, as ``ssh-keygen -t ed25519`` makes them.

A site's private key is in a file of its own. The public keys of all sites are in a list
of which every site has a copy, one line a site in the order of their numbers:

    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI... hospital a

Lines that are empty or begin with # do not count.
"""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)

from fedsciml.problem import SiteError


def read(path: Path) -> bytes:
    """The private key in a file, as ``keys.identity`` makes one.

    Raises:
        SiteError: If there is none.
    """
    try:
        key = load_ssh_private_key(_content(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SiteError(
            f"{path.name} holds no Ed25519 key without passphrase, in OpenSSH's "
            "format. Make one with: fedsciml new key identity FILE"
        )
    return key.private_bytes_raw()


def listed(path: Path) -> dict[int, bytes]:
    """The public keys in a list, by the numbers of the sites.

    Raises:
        SiteError: If a line is none, or two are the same.
    """
    found: dict[int, bytes] = {}
    for number, line in enumerate(_content(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            key = load_ssh_public_key(line.strip())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise SiteError(
                f"Line {number} of {path.name} is no Ed25519 key in OpenSSH's format: "
                "it takes a line of a site's .pub file, 'ssh-ed25519 AAAA...'."
            )
        raw = key.public_bytes_raw()
        if raw in found.values():
            raise SiteError(
                f"Line {number} of {path.name} is the key of another line, too. Each "
                "site needs an identity of its own."
            )
        found[len(found)] = raw
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SiteError(
            f"{path.name} cannot be read ({type(error).__name__}). Is its path right?"
        ) from error
