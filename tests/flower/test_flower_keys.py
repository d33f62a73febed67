"""Certificates and keys of a federation over Flower."""

import importlib
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="comes with fedsciml[flower]")

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_ssh_private_key,
    load_ssh_public_key,
)
from flower_keys import identity, main, server_certificate, site_key

from fedsciml.secure import keys
from fedsciml.secure.identity import listed, read


@pytest.fixture
def open_umask() -> Iterator[None]:
    """New files may be read and written by all."""
    before = os.umask(0)
    yield
    os.umask(before)


def handshake(certificate: Path, key: Path, host: str, trusted: Path) -> None:
    """TLS in memory, as strict as Python 3.13 is, with one certificate trusted."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    site = client.wrap_bio(down, up, server_hostname=host)
    other = server.wrap_bio(up, down, server_side=True)
    for end in 3 * [site, other]:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    site.do_handshake()  # raises if it is not complete


def test_a_site_that_has_the_certificate_reaches_the_server_by_any_of_its_hosts(
    tmp_path: Path,
) -> None:
    hosts = ["fed.example.org", "10.0.0.5", "::1"]
    certificate, key = server_certificate(tmp_path, hosts)
    for host in [*hosts, "localhost", "127.0.0.1"]:  # where a SuperLink finds itself
        handshake(certificate, key, host, trusted=certificate)


def test_a_server_is_not_believed_to_be_another(tmp_path: Path) -> None:
    certificate, key = server_certificate(tmp_path, ["fed.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(certificate, key, "example.org", trusted=certificate)
    other, _ = server_certificate(tmp_path / "other", ["fed.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError, match="self.signed"):
        handshake(certificate, key, "fed.example.org", trusted=other)


def test_a_site_s_halves_belong_together(tmp_path: Path) -> None:
    public, private = site_key(tmp_path / "keys" / "clinic.a")
    assert public.name == "clinic.a.pub"
    key = load_ssh_private_key(private.read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp384r1"
    assert load_ssh_public_key(public.read_bytes()) == key.public_key()


@pytest.mark.usefixtures("open_umask")
def test_private_halves_are_their_owner_s_alone(tmp_path: Path) -> None:
    for public, private in (
        server_certificate(tmp_path, ["localhost"]),
        site_key(tmp_path / "site"),
        identity(tmp_path / "identity"),
    ):
        assert private.stat().st_mode & 0o777 == 0o600
        assert public.stat().st_mode & 0o777 == 0o644


@pytest.mark.usefixtures("open_umask")
def test_the_directory_of_keys_is_its_owner_s_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server_certificate(tmp_path / "new" / "server", ["localhost"])
    site_key(tmp_path / "other" / "site")
    for made in ("new/server", "other"):
        assert (tmp_path / made).stat().st_mode & 0o777 == 0o700
    site_key(tmp_path / "other" / "second")
    assert not caplog.text
    wide = tmp_path / "wide one"
    wide.mkdir(mode=0o750)
    site_key(wide / "site")
    said = caplog.text
    assert (
        f"{wide} holds private keys, but others have rights there (mode 0750)" in said
    )
    assert f"chmod 700 '{wide}'" in said
    (wide / "site.pub").unlink()
    (wide / "site").chmod(0o644)
    with pytest.raises(FileExistsError, match="open to others: chmod 600"):
        site_key(wide / "site")


def test_no_key_is_replaced(tmp_path: Path) -> None:
    made = [*server_certificate(tmp_path, ["localhost"]), *site_key(tmp_path / "site")]
    before = [path.read_bytes() for path in made]
    for make in (
        lambda: server_certificate(tmp_path, ["localhost"]),
        lambda: site_key(tmp_path / "site"),
    ):
        with pytest.raises(FileExistsError, match="not replaced"):
            make()
    assert [path.read_bytes() for path in made] == before


def test_a_certificate_for_nobody_or_no_time_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one host"):
        server_certificate(tmp_path, [])
    with pytest.raises(ValueError, match="0 days"):
        server_certificate(tmp_path, ["localhost"], days=0)


def test_the_program_prints_what_it_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["site", str(tmp_path / "a")])
    main(["server", str(tmp_path), "--host", "localhost"])
    made = list(map(Path, capsys.readouterr().out.split()))
    assert sorted(made) == sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        main(["site", str(tmp_path / "a")])
    assert "not replaced" in capsys.readouterr().err


def test_an_identity_in_the_list_is_that_of_its_private_half(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "a"
    main(["identity", str(private)])
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [f"{private}.pub", str(private)]
    other, _ = identity(tmp_path / "b")
    everyone = tmp_path / "all"
    everyone.write_text(f"# sites\n\n{other.read_text()}{shown[2]} hospital a\n")
    known = listed(everyone)
    assert list(known) == [0, 1]
    signature = keys.signed(read(private), b"text")
    assert keys.verified(known[1], b"text", signature)
    assert not keys.verified(known[0], b"text", signature)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
def test_an_identity_may_be_made_by_ssh_keygen(tmp_path: Path) -> None:
    private = tmp_path / "a"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(private)]
    subprocess.run(make, check=True)
    public = listed(private.with_suffix(".pub"))[0]
    assert keys.verified(public, b"text", keys.signed(read(private), b"text"))


def test_without_what_comes_with_flower_the_program_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "flower_keys")
    monkeypatch.delitem(sys.modules, "fedsciml.secure.credentials")
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SystemExit, match=r"pip install .*\[flower\]"):
        importlib.import_module("flower_keys")
