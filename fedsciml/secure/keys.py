"""Keys, streams and seals, all from ``cryptography``.

identity    Ed25519: a site's own for years; it signs the keys of its sessions
session     X25519: made for one set of sites; two of them agree on a secret
derived     HKDF-SHA256: a key for each purpose from an agreed secret
stream      AES-256 in counter mode: masks; every key is used for one stream
seal        ChaCha20-Poly1305: what one site writes to another; one text for a key
"""

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedsciml.secure.ring import BYTES, Numbers

KEY = 32
"""Bytes of a key, secret or public."""

SIGNATURE = 64
"""Bytes of a signature."""

TAG = 16
"""Bytes by which a sealed text is longer."""

_NONCE = bytes(12)
"""No key seals twice, so none needs a nonce."""


def digest(*parts: bytes) -> bytes:
    """SHA-256 of parts, each with its length before it: no two lists have the same."""
    whole = sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "big") + part)
    return whole.digest()


def identity() -> tuple[bytes, bytes]:
    """A new identity: its private and its public key, ``KEY`` bytes each."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def signed(private: bytes, text: bytes) -> bytes:
    """The signature of an identity, ``SIGNATURE`` bytes."""
    return Ed25519PrivateKey.from_private_bytes(private).sign(text)


def verified(public: bytes, text: bytes, signature: bytes) -> bool:
    """Whether it is that identity's signature of the text."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def session() -> tuple[bytes, bytes]:
    """A new key of a session: private and public, ``KEY`` bytes each."""
    key = X25519PrivateKey.generate()
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def public(private: bytes) -> bytes:
    """The public key of a session's private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed(private: bytes, publics: Mapping[int, bytes]) -> dict[int, bytes]:
    """The secrets of a key and the keys of others, the same from either side.

    Raises:
        ValueError: If a public key is none.
    """
    key = X25519PrivateKey.from_private_bytes(private)
    return {
        m: key.exchange(X25519PublicKey.from_public_bytes(public))
        for m, public in publics.items()
    }


def derived(secret: bytes, *purpose: bytes) -> bytes:
    """A key for a purpose, ``KEY`` bytes."""
    return HKDF(hashes.SHA256(), KEY, None, digest(*purpose)).derive(secret)


def stream(key: bytes, count: int) -> Numbers:
    """Uniform elements of the ring, shape [count, 2]."""
    made = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    data = made.update(bytes(count * BYTES))
    return np.frombuffer(data, "<u8").astype(np.uint64).reshape(count, 2)


def sealed(key: bytes, text: bytes) -> bytes:
    """The text for whoever has the key, ``TAG`` bytes longer."""
    return ChaCha20Poly1305(key).encrypt(_NONCE, text, None)


def unsealed(key: bytes, text: bytes) -> bytes | None:
    """The text; None if nobody with the key sealed it so."""
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, text, None)
    except InvalidTag:
        return None
