"""Keys and certificates in files, as a federation over Flower needs them.

    server     a certificate (X.509) and its private key
    site       a key pair by which the server knows the site
    identity   a key pair by which the other sites know it, in secure sums

The pairs are as ``ssh-keygen`` makes them, with ``-t ecdsa -b 384`` and ``-t ed25519``.
"""

import ipaddress
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

log = getLogger(__name__)

DAYS = 365

LOOPBACK = ("localhost", "127.0.0.1")
"""What the server's own programs call it."""


def server_certificate(
    directory: Path, hosts: Sequence[str], days: int = DAYS
) -> tuple[Path, Path]:
    """Make a server's certificate (X.509, P-384), signed by its own key.

    It is its own root: sites trust this one certificate and no other, and there is no
    authority whose key could be lost.

    Args:
        directory: Where to write; made for its owner alone if it is missing. A warning
            tells of one that others can read or write.
        hosts: Names and IP addresses by which sites reach the server. It is valid for
            these and for ``LOOPBACK``, by which the SuperLink's own part reaches it.
        days: How long it is valid, at least 1.

    Returns:
        Paths of the certificate ``server.crt`` and the private key ``server.key``.

    Raises:
        ValueError: If there is no host or no day.
        FileExistsError: If one of the files is there; none is replaced.
    """
    if not hosts or days < 1:
        raise ValueError(
            "A certificate needs at least one host and one day, got hosts "
            f"{list(hosts)} and {days} days."
        )
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fedsciml server")])
    start = datetime.now(UTC) - timedelta(hours=1)  # a site's clock may be behind
    public = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    named = [_named(host) for host in dict.fromkeys([*hosts, *LOOPBACK])]
    signed = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName(named), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(public, False)
        .sign(key, hashes.SHA384())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _private(directory)
    return _write(
        directory / "server.crt",
        signed.public_bytes(Encoding.PEM),
        directory / "server.key",
        private,
    )


def site_key(path: Path) -> tuple[Path, Path]:
    """Make a site's key pair (P-384, OpenSSH format) by which the server knows it.

    Returns:
        Paths of the public key, with the suffix ``.pub``, and the private one.

    Raises:
        FileExistsError: If one of the files is there; none is replaced.
    """
    return _pair(path, ec.generate_private_key(ec.SECP384R1()))


def identity(path: Path) -> tuple[Path, Path]:
    """Make a site's identity in secure sums (Ed25519, OpenSSH format).

    Returns:
        As ``site_key``; the line in the public file is the site's in the list of all.

    Raises:
        FileExistsError: As ``site_key``.
    """
    return _pair(path, Ed25519PrivateKey.generate())


def _pair(
    path: Path, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey
) -> tuple[Path, Path]:
    """Write the halves of a key."""
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    _private(path.parent)
    return _write(path.with_name(f"{path.name}.pub"), public + b"\n", path, private)


def _private(directory: Path) -> None:
    """Make the directory of private keys, for its owner alone."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        mode = directory.stat().st_mode & 0o777
        if mode & 0o077:
            log.warning(
                "%s holds private keys, but others have rights there (mode %04o). Take "
                "these away: chmod 700 %s",
                *(directory.resolve(), mode, shlex.quote(str(directory))),
            )


def _named(host: str) -> x509.GeneralName:
    """A host as certificates name it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(
    public: Path, shown: bytes, private: Path, secret: bytes
) -> tuple[Path, Path]:
    """Write both halves, the private one for its owner alone."""
    for path in (public, private):
        if path.exists():
            wide = path == private and path.stat().st_mode & 0o077
            raise FileExistsError(
                f"{path} is there already and is not replaced. Choose another place, "
                "or remove both halves."
                + (f" It is open to others: chmod 600 {path}" if wide else "")
            )
    for path, data, mode in ((private, secret, 0o600), (public, shown, 0o644)):
        # Made with its mode: a key is not readable by others even for a moment.
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(number, "wb") as file:
            file.write(data)
    return public, private
